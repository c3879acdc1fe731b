# SPDX-License-Identifier: Apache-2.0
"""Rules by name: ours, other people's, and what is said of names that nobody has."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.metadata import EntryPoint

import pytest

from tunesmith_api.problem import Direction
from tunesmith_api.stopping import GO_ON, StopDecision, StopProblem
from tunesmith_earlystopping.core import LocalRules
from tunesmith_earlystopping.protocol import TrialRule
from tunesmith_earlystopping.registry import GROUP, Registry


class Patient:
    """A rule of somebody else: nobody is ever stopped."""

    name = "patient"
    settings = ()

    def validate(self, problem: StopProblem) -> Sequence[str]:
        return []

    def digest(self, problem: StopProblem, curve: Sequence[float]) -> Sequence[float]:
        return tuple(curve[-1:])

    def judge(
        self, problem: StopProblem, curve: Sequence[float], peers: Sequence[Sequence[float]]
    ) -> StopDecision:
        return GO_ON

    def katib_rules(
        self, problem: StopProblem, peers: Sequence[Sequence[float]]
    ) -> Sequence[TrialRule]:
        return ()


class Offered(EntryPoint):
    """An entry point of another package that is not installed here."""

    def load(self) -> type[Patient]:
        return Patient


def a_problem(rule: str) -> StopProblem:
    return StopProblem(rule, "loss", Direction.MINIMIZE)


def registry() -> Registry:
    broken = EntryPoint("broken", "no_such_module:Rule", GROUP)
    return Registry(
        others=lambda: {"patient": Offered("patient", "elsewhere:Patient", GROUP), "broken": broken}
    )


def test_rules_of_other_packages_are_found_beside_ours() -> None:
    rules = LocalRules(registry())
    assert rules.names() == ["broken", "medianstop", "patient"]
    assert rules.digest(a_problem("patient"), [3.0, 2.0]) == (2.0,)
    assert rules.judge(a_problem("patient"), [9.0] * 99, [(1.0,)] * 99) == GO_ON


def test_an_unknown_rule_is_a_sentence_when_validated_and_a_lookup_error_when_asked() -> None:
    rules = LocalRules()
    (sentence,) = rules.validate(a_problem("medianstopp"))
    assert sentence == (
        "unknown stopping rule 'medianstopp'; did you mean medianstop? (known: medianstop)"
    )
    with pytest.raises(LookupError):
        rules.judge(a_problem("medianstopp"), [1.0], [])
    with pytest.raises(LookupError):
        rules.digest(a_problem("medianstopp"), [1.0])


def test_a_rule_that_cannot_be_loaded_says_why() -> None:
    (sentence,) = LocalRules(registry()).validate(a_problem("broken"))
    assert "no_such_module:Rule" in sentence and "ModuleNotFoundError" in sentence
