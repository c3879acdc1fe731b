# SPDX-License-Identifier: Apache-2.0
"""Tables: cut to a terminal's width without wrapping, whole for files and pipes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta

import given
import pytest
from rich.cells import cell_len

from tunesmith.cli import tables
from tunesmith.views import ExperimentView, TrialView, experiment_view, trial_view
from tunesmith_controller.trial.decide import PAUSED


def a_trial(state: str = "Succeeded", **parameters: str) -> TrialView:
    view = trial_view(given.trial(3, state, loss=0.5 if state == "Succeeded" else None))
    return replace(view, parameters=parameters or view.parameters)


def table(*trials: TrialView, width: int | None = None, wide: bool = False) -> list[str]:
    return tables.trials_table(trials, "loss", width=width, wide=wide).plain.split("\n")


def thirty() -> Mapping[str, str]:
    return {f"layer{n}-dropout-rate": f"0.{n}12345678901" for n in range(30)}


@pytest.mark.parametrize("width", [60, 80, 120])
def test_thirty_parameters_fit_and_the_rest_is_counted(width: int) -> None:
    head, row = table(a_trial(**thirty()), width=width)
    assert max(cell_len(head), cell_len(row)) <= width
    shown = head.count("layer")
    assert head.endswith(f"+{30 - shown}") and shown >= 1


def test_a_pipe_gets_every_parameter_and_whole_texts() -> None:
    text = "a long description " * 20
    head, row = table(a_trial(**thirty(), kind=text))
    assert head.count("layer") == 30
    assert text.strip() in row


def test_a_long_categorical_value_is_cut_on_a_terminal() -> None:
    view = a_trial(architecture="resnet-50 with squeeze and excitation", lr="0.1")
    head, row = table(view, width=80)
    assert "resnet-50 with squeeze …" in row
    assert head.split()[-2:] == ["architecture", "lr"]


def test_wide_characters_are_measured_as_they_are_drawn() -> None:
    lines = table(a_trial(kind="大きい" * 20, lr="0.1"), width=60)
    assert max(map(cell_len, lines)) <= 60


def test_line_breaks_in_messages_do_not_break_rows() -> None:
    view = replace(a_trial("Failed"), message="first\nsecond")
    assert len(table(view, wide=True)) == 2


def test_numbers_are_aligned_right_and_words_left() -> None:
    rows = table(a_trial(n="5", word="a"), a_trial(n="123", word="long"))
    assert [row.split()[-2:] for row in rows[1:]] == [["5", "a"], ["123", "long"]]
    assert rows[1].index(" 5 ") + 1 == rows[2].index("123") + 2
    assert rows[1].index(" a") == rows[2].index(" long")


def test_a_trial_that_a_pause_interrupted_does_not_look_as_if_it_ran() -> None:
    view = replace(a_trial("Running"), waiting=PAUSED)
    assert "Paused" in table(view)[1] and "Running" not in table(view)[1]


def an_experiment(**changes: object) -> ExperimentView:
    status = {"trialsSucceeded": 2, "trialsRunning": 1}
    return replace(experiment_view(given.experiment(**status)), **changes)  # type: ignore[arg-type]


def test_experiments_show_pauses_budgets_and_none_of_them() -> None:
    paused, endless = an_experiment(paused=True, state="Running"), an_experiment(budget=None)
    lines = tables.experiments_table([paused, endless], 80).plain.split("\n")
    assert "Paused" in lines[1] and "2/4" in lines[1]
    assert "2/-" in lines[2]


def test_a_pause_shows_in_the_counts() -> None:
    assert tables.counts_of(an_experiment()) == {"Succeeded": 2, "Running": 1}
    assert tables.counts_of(an_experiment(paused=True)) == {"Succeeded": 2, "Paused": 1}


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-5, "0s"),
        (59.9, "59s"),
        (65, "1m05s"),
        (3 * 3600 + 60, "3h01m"),
        (2 * 86400 + 3600, "2d01h"),
    ],
)
def test_durations_are_two_figures(seconds: float, text: str) -> None:
    assert tables.duration(seconds) == text


def test_elapsed_time_is_until_the_end_or_until_now() -> None:
    assert tables.elapsed(None, None) == ""
    assert tables.elapsed(given.NOW, given.NOW + timedelta(seconds=65)) == "1m05s"
    assert tables.elapsed(given.NOW, None).endswith("h")  # it began in January


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("0.1", "0.1"),
        ("0.123456789012", "0.123457"),
        ("adam", "adam"),
        ("a-long-word", "a-long-word"),
    ],
)
def test_parameters_are_shortened_only_when_they_are_long_numbers(text: str, shown: str) -> None:
    assert tables.short(text) == shown
