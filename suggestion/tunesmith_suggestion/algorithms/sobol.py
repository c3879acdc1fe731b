# SPDX-License-Identifier: Apache-2.0
"""`sobol`: points of a scrambled Sobol sequence, which fill the space more evenly than random ones.

The point of ordinal k is the k-th of the sequence, so it depends on (seed, k) only, however the
ordinals were batched. The sequence is SciPy's (Joe and Kuo's direction numbers, SIAM J. Sci.
Comput. 30, 2008), scrambled with a random linear matrix and a digital shift (Matousek, J.
Complexity 14, 1998), where Katib's goptuna gives every experiment the same points. The first
2**m points share the space out evenly, for every m.

A coordinate becomes a value through the parameter's own distribution and step, which goptuna
ignores; a list is cut into equal cells. Points come as they are: in a small finite space they may
repeat.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from tunesmith_api.problem import Exhausted, History, Problem, Proposal
from tunesmith_api.search_space import SpaceError
from tunesmith_suggestion.chance import raw_bits
from tunesmith_suggestion.settings import (
    RANDOM_STATE,
    Setting,
    read_settings,
    setting_problems,
)
from tunesmith_suggestion.space import compile_space

Words = npt.NDArray[np.uint64]

MOST_DIMENSIONS: Final = 21201
"""SciPy has direction numbers for so many."""
_DIGITS: Final = 32
"""Of a coordinate of the sequence; it has 2**32 points."""
_BITS: Final = 53
"""Of a scrambled coordinate: what a double holds below 1."""


class SobolSearch:
    """Katib's `sobol`."""

    name = "sobol"
    version = "1"
    settings: Sequence[Setting] = (RANDOM_STATE,)

    def validate(self, problem: Problem) -> Sequence[str]:
        problems = setting_problems(self.name, self.settings, problem.settings)
        try:
            compile_space(problem.space)
        except SpaceError as error:
            problems.append(str(error))
        if len(problem.space) > MOST_DIMENSIONS:
            problems.append(
                f"{self.name} has sequences for at most {MOST_DIMENSIONS} parameters, "
                f"got {len(problem.space)}"
            )
        return problems

    def reads_history(self, problem: Problem) -> bool:
        return False

    def suggest(
        self, problem: Problem, history: History, ordinals: range, recorded: str
    ) -> Proposal | Exhausted:
        settings = read_settings(self.name, self.settings, problem.settings)
        given = settings.optional_integer("random_state")
        seed = problem.seed if given is None else given
        axes = compile_space(problem.space).axes
        words = _sequence(len(axes), ordinals)
        rows = np.ldexp(_scrambled(words, raw_bits(self.name, self.version, seed)), -_BITS)
        return Proposal(
            tuple({a.name: a.at(float(u)) for a, u in zip(axes, row, strict=True)} for row in rows)
        )


def _sequence(dimensions: int, ordinals: range) -> Words:
    """The sequence before scrambling, as digits behind the point: ordinals x dimensions.

    Point k is the exclusive or of the directions of the digits of k's Gray code (Antonov and
    Saleev, USSR Comput. Math. Math. Phys. 19, 1979): any point at the same cost.
    """
    directions = _directions(dimensions)
    found = np.zeros((len(ordinals), dimensions), dtype=np.uint64)
    for row, k in enumerate(ordinals):
        gray = k ^ (k >> 1)
        for digit in range(min(gray.bit_length(), _DIGITS)):
            if gray >> digit & 1:
                found[row] ^= directions[digit]
    return found << np.uint64(_BITS - _DIGITS)


@lru_cache(maxsize=64)
def _directions(dimensions: int) -> Words:
    """Direction numbers by Bratley and Fox's recurrence (Algorithm 659, ACM TOMS 14, 1988) from
    Joe and Kuo's primitive polynomials and initial numbers: digits x dimensions."""
    polynomials, initial = _joe_kuo()
    found = np.ones((_DIGITS, dimensions), dtype=np.uint64)
    for d in range(1, dimensions):
        polynomial = int(polynomials[d])
        degree = polynomial.bit_length() - 1
        numbers = [int(initial[d, j]) for j in range(degree)]
        for j in range(degree, _DIGITS):
            number = numbers[j - degree]
            for k in range(1, degree + 1):
                if polynomial >> (degree - k) & 1:
                    number ^= numbers[j - k] << k
            numbers.append(number)
        found[:, d] = numbers[:_DIGITS]
    return found << np.arange(_DIGITS - 1, -1, -1, dtype=np.uint64)[:, None]


def _joe_kuo() -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """SciPy's table, without loading `scipy.stats`: that takes longer than the whole service."""
    found = find_spec("scipy")
    if found is None or found.origin is None:
        raise ModuleNotFoundError("scipy is not installed", name="scipy")
    folder = Path(found.origin).parent
    with np.load(folder / "stats" / "_sobol_direction_numbers.npz") as table:
        return table["poly"], table["vinit"]


def _scrambled(words: Words, bits: np.random.Philox) -> Words:
    """Every digit plus a random combination of the digits before it, plus a random shift.

    Done here and not by SciPy, so that its next release gives the same points.
    """
    dimensions = words.shape[1]
    drawn = bits.random_raw((_BITS + 1) * dimensions).reshape(_BITS + 1, dimensions)
    drawn >>= np.uint64(64 - _BITS)
    found = np.broadcast_to(drawn[_BITS], words.shape).copy()
    for digit in range(_BITS - _DIGITS, _BITS):
        place = np.uint64(1) << np.uint64(digit)
        column = (drawn[digit] & (place - np.uint64(1))) | place
        found ^= np.where(words & place, column, np.uint64(0))
    return found
