# SPDX-License-Identifier: Apache-2.0
"""The nouns: what every component means by experiment, trial, search space, objective, metric.

Pure: no I/O, no clock, no chance. `search_space`, `problem` and `metrics` need the standard library
only (the sidecar imports them); `resources` and what builds on it need pydantic.
"""
