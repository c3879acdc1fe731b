# SPDX-License-Identifier: Apache-2.0
"""A Gaussian process on NumPy and SciPy: the numbers behind `bayesianoptimization`.

Pure functions on arrays, one subject a module: `warping` (losses to targets), `trend` (means
before anything is told), `kernel` (covariances), `fitting` (hyper-parameters), `factor` (a Cholesky
factor that grows), `posterior` (mean and deviation), `acquisition` (what a point promises),
`search` (where it promises most) and `schedule` (when to fit, on what). Nothing here knows
problems, histories or settings. Rows are those of `tunesmith_suggestion.coordinates`, snapped.
"""
