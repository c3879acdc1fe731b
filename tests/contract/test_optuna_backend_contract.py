# SPDX-License-Identifier: Apache-2.0
"""`backend: optuna` keeps the same contract: answers depend on the request alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest

from tunesmith_suggestion.algorithms.multivariate_tpe import MultivariateTpe
from tunesmith_suggestion.algorithms.tpe import BACKEND, Tpe
from tunesmith_suggestion.protocol import Algorithm
from tunesmith_suggestion.settings import Setting
from tunesmith_suggestion.testing import AlgorithmContract

pytest.importorskip("optuna")


def with_optuna(settings: Sequence[Setting]) -> Sequence[Setting]:
    return [replace(s, default="optuna") if s.name == BACKEND.name else s for s in settings]


class OptunaTpe(Tpe):
    settings = with_optuna(Tpe.settings)


class OptunaMultivariateTpe(MultivariateTpe):
    settings = with_optuna(MultivariateTpe.settings)


class TestTpeOnOptuna(AlgorithmContract):
    max_cpu_s = 2.0
    most_trials = 2000

    @pytest.fixture
    def algorithm(self) -> Algorithm:
        return OptunaTpe()


class TestMultivariateTpeOnOptuna(AlgorithmContract):
    max_cpu_s = 2.0
    most_trials = 2000

    @pytest.fixture
    def algorithm(self) -> Algorithm:
        return OptunaMultivariateTpe()
