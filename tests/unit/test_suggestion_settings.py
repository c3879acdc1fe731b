# SPDX-License-Identifier: Apache-2.0
"""Algorithm settings: what users read when one is wrong, and what algorithms read."""

from __future__ import annotations

import pytest

from tunesmith_suggestion.algorithms.random import RandomSearch
from tunesmith_suggestion.algorithms.tpe import Tpe
from tunesmith_suggestion.settings import Setting, SettingType, read_settings, setting_problems
from tunesmith_suggestion.testing import a_problem


def tpe_problems(**settings: str) -> list[str]:
    return list(Tpe().validate(a_problem("tpe", settings=settings)))


def test_katibs_settings_with_their_values_are_accepted_in_both_spellings() -> None:
    katib = {"gamma": "0.25", "prior_weight": "1.0", "n_EI_candidates": "24", "random_state": "10"}
    optuna = {"n_startup_trials": "5", "n_ei_candidates": "30", "random_state": "0"}
    assert tpe_problems(**katib) == tpe_problems(**optuna) == []


def test_unset_settings_have_their_defaults() -> None:
    values = read_settings("tpe", Tpe.settings, {"n_ei_candidates": "7"})
    assert values.integer("n_EI_candidates") == 7
    assert values.integer("n_startup_trials") == 10
    assert values.number("prior_weight") == 1.0
    assert values.optional_integer("random_state") is None
    assert values.flag("dedupe") is False


@pytest.mark.parametrize(
    ("name", "text", "allowed"),
    [
        ("gamma", "1", "a number > 0 and < 1"),
        ("gamma", "0", "a number > 0 and < 1"),
        ("gamma", "nan", "a number > 0 and < 1"),
        ("prior_weight", "0", "a number > 0"),
        ("n_EI_candidates", "0", "an integer > 0"),
        ("n_ei_candidates", "2.5", "an integer > 0"),
        ("n_startup_trials", "-1", "an integer >= 0"),
        ("random_state", "-3", "an integer >= 0"),
        ("dedupe", "yes", "true or false"),
    ],
)
def test_a_bad_value_names_setting_value_and_range(name: str, text: str, allowed: str) -> None:
    assert tpe_problems(**{name: text}) == [f"setting {name!r} is {text!r}; it must be {allowed}"]


def test_an_unknown_setting_lists_the_known_ones_and_guesses() -> None:
    found = setting_problems("random", RandomSearch.settings, {"random_sate": "1"})
    assert found == [
        "unknown setting 'random_sate' for algorithm 'random'; did you mean 'random_state'? "
        "(known: dedupe, random_state)"
    ]


def test_two_spellings_of_one_setting_are_refused() -> None:
    (found,) = tpe_problems(n_EI_candidates="3", n_ei_candidates="4")
    assert "two spellings" in found


def test_every_problem_is_told_at_once() -> None:
    assert len(tpe_problems(gamma="2", prior_weight="x", sigma="1")) == 3


STRATEGY = Setting(
    "restart_strategy", SettingType.CHOICE, "none", "How to go on.", choices=("none", "ipop")
)


@pytest.mark.parametrize("text", ["ipop", "IPOP", " Ipop "])
def test_a_choice_is_read_as_it_is_declared(text: str) -> None:
    values = read_settings("any", [STRATEGY], {"restart_strategy": text})
    assert values.choice("restart_strategy") == "ipop"


def test_another_choice_is_refused_with_those_there_are() -> None:
    found = setting_problems("any", [STRATEGY], {"restart_strategy": "bipop"})
    assert found == ["setting 'restart_strategy' is 'bipop'; it must be one of none, ipop"]
