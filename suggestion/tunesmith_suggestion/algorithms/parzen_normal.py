# SPDX-License-Identifier: Apache-2.0
"""The standard normal distribution of many numbers at once, without loading SciPy.

`scipy.special` has both functions too, but takes longer to load than the service takes to start.
Called by `parzen`.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]


def _numbers(text: str) -> tuple[float, ...]:
    return tuple(map(float, text.split()))


_TAIL: Final = (
    _numbers(
        "0.0352624965998911 0.700383064443688 6.37396220353165 33.912866078383 "
        "112.079291497871 221.213596169931 220.206867912376"
    ),
    _numbers(
        "0.0883883476483184 1.75566716318264 16.064177579207 86.7807322029461 "
        "296.564248779674 637.333633378831 793.826512519948 440.413735824752"
    ),
)
_MIDDLE: Final = (
    _numbers(
        "2.5090809287301226727e3 3.3430575583588128105e4 6.7265770927008700853e4 "
        "4.5921953931549871457e4 1.3731693765509461125e4 1.9715909503065514427e3 "
        "1.3314166789178437745e2 3.3871328727963666080e0"
    ),
    _numbers(
        "5.2264952788528545610e3 2.8729085735721942674e4 3.9307895800092710610e4 "
        "2.1213794301586595867e4 5.3941960214247511077e3 6.8718700749205790830e2 "
        "4.2313330701600911252e1 1.0"
    ),
)
_OUTER: Final = (
    _numbers(
        "7.74545014278341407640e-4 2.27238449892691845833e-2 2.41780725177450611770e-1 "
        "1.27045825245236838258e0 3.64784832476320460504e0 5.76949722146069140550e0 "
        "4.63033784615654529590e0 1.42343711074968357734e0"
    ),
    _numbers(
        "1.05075007164441684324e-9 5.47593808499534494600e-4 1.51986665636164571966e-2 "
        "1.48103976427480074590e-1 6.89767334985100004550e-1 1.67638483018380384940e0 "
        "2.05319162663775882187e0 1.0"
    ),
)
_FAR: Final = (
    _numbers(
        "2.01033439929228813265e-7 2.71155556874348757815e-5 1.24266094738807843860e-3 "
        "2.65321895265761230930e-2 2.96560571828504891230e-1 1.78482653991729133580e0 "
        "5.46378491116411436990e0 6.65790464350110377720e0"
    ),
    _numbers(
        "2.04426310338993978564e-15 1.42151175831644588870e-7 1.84631831751005468180e-5 "
        "7.86869131145613259100e-4 1.48753612908506148525e-2 1.36929880922735805310e-1 "
        "5.99832206555887937690e-1 1.0"
    ),
)
_LEAST: Final = 1e-300
_MOST: Final = 1.0 - 2.0**-53
_FARTHEST: Final = 37.0
"""Beyond it the tail underflows."""


def _ratio(polynomials: tuple[tuple[float, ...], tuple[float, ...]], x: Floats) -> Floats:
    """The quotient of two polynomials, highest powers first (Horner)."""
    above, below = (np.full_like(x, coefficients[0]) for coefficients in polynomials)
    for factor in polynomials[0][1:]:
        above = above * x + factor
    for factor in polynomials[1][1:]:
        below = below * x + factor
    found: Floats = above / below
    return found


def cdf(z: Floats) -> Floats:
    """P(Z <= z), to an absolute error below 1e-15.

    Hart et al., "Computer Approximations" (1968), function 5666, as in West, "Better approximations
    to cumulative normal functions" (Wilmott, 2005).
    """
    distance = np.minimum(np.abs(z), _FARTHEST)
    tail = np.exp(-0.5 * distance * distance) * _ratio(_TAIL, distance)
    found: Floats = np.where(z > 0.0, 1.0 - tail, tail)
    return found


def quantile(p: Floats) -> Floats:
    """The inverse of `cdf`, to a relative error of about 1e-15; 0 and 1 give finite numbers.

    Wichura, Algorithm AS 241, Applied Statistics 37 (1988).
    """
    p = np.clip(p, _LEAST, _MOST)
    q = p - 0.5
    far = np.sqrt(-np.log(np.minimum(p, 1.0 - p)))
    tail = np.where(far <= 5.0, _ratio(_OUTER, far - 1.6), _ratio(_FAR, far - 5.0))
    middle = q * _ratio(_MIDDLE, 0.180625 - q * q)
    found: Floats = np.where(np.abs(q) <= 0.425, middle, np.copysign(tail, q))
    return found
