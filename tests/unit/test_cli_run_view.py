# SPDX-License-Identifier: Apache-2.0
"""What `run` shows while it goes on: the live screen, the lines, and what an interrupt asks."""

from __future__ import annotations

import asyncio
import io
import os
import pty
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import given
import pytest
from rich.cells import cell_len
from rich.console import Console

from tunesmith.cli import run_command, run_screen, run_view
from tunesmith.follower import Wish
from tunesmith.following import RunResult
from tunesmith.views import (
    SERVICE_NOT_STARTED,
    ExperimentView,
    TrialView,
    experiment_view,
    trial_view,
)
from tunesmith_controller.trial.decide import PAUSED


def an_experiment(state: str = "Running", **status: Any) -> ExperimentView:
    conditions = given.conditions("Created", state)
    return experiment_view(given.experiment(conditions=conditions, **status))


def a_trial(ordinal: int, state: str, **changes: object) -> TrialView:
    view = trial_view(given.trial(ordinal, state, loss=1.0 if state == "Succeeded" else None))
    return replace(view, **changes)  # type: ignore[arg-type]


# ---- the screen ---------------------------------------------------------------------------------


def screen(
    experiment: ExperimentView, trials: Sequence[TrialView], width: int = 80, height: int = 24
) -> list[str]:
    return run_screen.run_screen(experiment, trials, width, height).plain.split("\n")


@pytest.mark.parametrize(("width", "height"), [(80, 24), (120, 40), (60, 12)])
def test_the_screen_fits_however_many_trials_run(width: int, height: int) -> None:
    many = [a_trial(n, "Running") for n in range(50)]
    many += [a_trial(n, "Succeeded", value=float(n)) for n in range(50, 90)]
    wide = [replace(t, parameters={f"parameter-{n}": "0.5" for n in range(30)}) for t in many]
    lines = screen(an_experiment(trialsRunning=50, trialsSucceeded=40), wide, width, height)
    assert len(lines) < height
    # The header and the counts may be longer: they are cut where they are drawn.
    assert max(map(cell_len, lines[3:])) < width
    assert any("Succeeded" in line for line in lines[2:]), "the best have room beside the running"


def test_the_bar_has_a_part_for_each_state() -> None:
    bar = run_screen.progress_bar(
        an_experiment(trialsSucceeded=2, trialsFailed=1, trialsRunning=1), 8
    )
    assert bar.plain == "━━━━━━──"
    assert [bar.plain[s.start : s.end] for s in bar.spans] == ["━━━━", "━━", "──"]


def test_without_a_budget_there_is_a_count_and_no_time_left() -> None:
    endless = replace(an_experiment(trialsSucceeded=2), budget=None)
    lines = screen(endless, [a_trial(0, "Succeeded")])
    assert "2/-" in lines[1] and "left" not in lines[0]


def test_the_time_left_follows_from_how_long_trials_took() -> None:
    took = {"start_time": given.NOW, "completion_time": given.NOW + timedelta(seconds=60)}
    trials = [a_trial(n, "Succeeded", **took) for n in range(2)]
    experiment = replace(an_experiment(trialsSucceeded=2), budget=12, parallel=5)
    assert run_screen.remaining(experiment, trials) == 120
    assert run_screen.remaining(replace(experiment, budget=3), trials) == 60
    assert run_screen.remaining(experiment, []) is None


def test_the_screen_says_why_nothing_runs() -> None:
    waits = replace(an_experiment("Created"), waiting="the suggestion service was killed")
    assert "the suggestion service was killed" in screen(waits, [])
    queued = [a_trial(n, "Created", waiting=f"waiting for 1 CPU ({n} ahead)") for n in range(3)]
    assert "3 trials: waiting for 1 CPU" in screen(an_experiment(), queued)


def test_failures_are_on_the_screen() -> None:
    assert any("Failed" in line for line in screen(an_experiment(), [a_trial(0, "Failed")])[2:])


def test_the_sparkline_ends_at_the_best_and_survives_huge_values() -> None:
    rising = [a_trial(n, "Succeeded", value=-float(n)) for n in range(100)]
    spark = run_screen.sparkline(an_experiment(), rising)
    assert (len(spark), spark[0], spark[-1]) == (40, "▁", "█")
    flat = [a_trial(n, "Succeeded") for n in range(5)]
    assert set(run_screen.sparkline(an_experiment(), flat)) == {"▁"}
    huge = [a_trial(n, "Succeeded", value=v) for n, v in enumerate([1.7e308, 0.0, -1.7e308])]
    assert run_screen.sparkline(an_experiment(), huge) == ""


def a_terminal() -> tuple[io.StringIO, Console]:
    out = io.StringIO()
    return out, Console(file=out, force_terminal=True, width=80, height=24, color_system=None)


def test_the_live_view_leaves_the_terminal_to_a_prompt_and_comes_back() -> None:
    out, console = a_terminal()
    with run_view.LiveView(console) as view:
        view.update(an_experiment(), [a_trial(0, "Running")])
        view.notice("a sentence")
        view.pause()
        before = out.getvalue()
        view.update(an_experiment(), [a_trial(1, "Running")])
        assert out.getvalue() == before, "nothing is drawn over the prompt"
        view.resume()
    assert "note: a sentence" in before
    assert a_trial(1, "Running").name in out.getvalue()


# ---- lines --------------------------------------------------------------------------------------

Updates = Sequence[tuple[ExperimentView, Sequence[TrialView]]]


@pytest.fixture
def lines(capsys: pytest.CaptureFixture[str]) -> Callable[[Updates], list[str]]:
    def told(updates: Updates) -> list[str]:
        view = run_view.LineView()
        for experiment, trials in updates:
            view.update(experiment, trials)
        return capsys.readouterr().out.splitlines()

    return told


def test_a_failure_is_told_whole_once(lines: Callable[[Updates], list[str]]) -> None:
    failed = [a_trial(n, "Failed", message="the command exited with code 3") for n in range(3)]
    first, second, third = lines([(an_experiment(), []), (an_experiment(), failed)])
    assert first.endswith(f"{failed[0].name} failed: the command exited with code 3 (1/4)")
    assert second.endswith(f"failed: the same as {failed[0].name} (2/4)")
    assert third.endswith("(3/4)")


def test_trials_of_an_earlier_run_are_counted_and_not_told(
    lines: Callable[[Updates], list[str]],
) -> None:
    earlier = [a_trial(n, "Succeeded") for n in range(2)]
    now = [*earlier, a_trial(2, "Succeeded")]
    note, line = lines([(an_experiment(), earlier), (an_experiment(), now)])
    assert note == "note: experiment quick exists: 2 of 4 trials have ended"
    assert line.endswith("(3/4)")


def test_waiting_is_said_once_and_only_when_it_is_unusual(
    lines: Callable[[Updates], list[str]],
) -> None:
    def waits(reason: str) -> tuple[ExperimentView, list[TrialView]]:
        return an_experiment(), [a_trial(0, "Created", waiting=reason)]

    starting: tuple[ExperimentView, list[TrialView]] = (
        replace(an_experiment(), waiting=SERVICE_NOT_STARTED),
        [],
    )
    cpus = [waits(f"waiting for 4 CPUs ({n} of 4 free)") for n in range(3)]
    assert lines([starting, waits("starting"), *cpus]) == ["note: waiting for 4 CPUs"]


def test_the_parameters_of_a_started_trial_can_be_pasted(
    lines: Callable[[Updates], list[str]],
) -> None:
    trial = a_trial(0, "Running", parameters={"opt": "a b"})
    (line,) = lines([(an_experiment(), [trial])])
    assert line == f"trial {trial.name} running '--opt=a b'"


# ---- interrupts ---------------------------------------------------------------------------------


class Person:
    """Somebody at a terminal: reads what is printed by nobody else, presses keys."""

    def __init__(self, master: int) -> None:
        self._master = master

    def types(self, text: str) -> None:
        os.write(self._master, text.encode())

    def presses_ctrl_c(self) -> None:
        signal.raise_signal(signal.SIGINT)


@pytest.fixture
def person(monkeypatch: pytest.MonkeyPatch) -> Iterator[Person]:
    master, slave = pty.openpty()
    with os.fdopen(slave, "r") as terminal, os.fdopen(master, "rb") as held:
        monkeypatch.setattr(sys, "stdin", terminal)
        yield Person(held.fileno())


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.005)


def test_ctrl_c_asks_again_and_again_and_a_second_one_means_stop(
    person: Person, capsys: pytest.CaptureFixture[str]
) -> None:
    async def scenario() -> None:
        with run_view.LiveView(a_terminal()[1]) as view:
            interrupt = run_command.SignalledInterrupt(view)
            interrupt.attach(asyncio.get_running_loop())
            for answer in ("c\n", "what?\nC\n"):
                person.presses_ctrl_c()
                await until(lambda: interrupt.asking)
                person.types(answer)
                await until(lambda: not interrupt.asking)
                assert interrupt.wish is Wish.NONE
            person.presses_ctrl_c()
            await until(lambda: interrupt.asking)
            person.presses_ctrl_c()
            await until(lambda: interrupt.wish is Wish.STOP)
            assert (interrupt.asking, interrupt.signal) == (False, signal.SIGINT)
            person.presses_ctrl_c()
            await until(lambda: interrupt.wish is Wish.LEAVE)

    asyncio.run(scenario())
    assert capsys.readouterr().out.count("[c]ontinue?") == 4


@pytest.mark.parametrize(
    ("answer", "wish"), [("s\n", Wish.STOP), ("leave\n", Wish.LEAVE), ("\x04", Wish.STOP)]
)
def test_answers_to_the_prompt(person: Person, answer: str, wish: Wish) -> None:
    async def scenario() -> None:
        with run_view.LiveView(a_terminal()[1]) as view:
            interrupt = run_command.SignalledInterrupt(view)
            interrupt.attach(asyncio.get_running_loop())
            person.presses_ctrl_c()
            await until(lambda: interrupt.asking)
            person.types(answer)
            await until(lambda: interrupt.wish is wish)

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("number", "wish"),
    [(signal.SIGINT, Wish.STOP), (signal.SIGTERM, Wish.STOP), (signal.SIGHUP, Wish.LEAVE)],
)
def test_without_a_terminal_signals_are_taken_at_their_word(number: int, wish: Wish) -> None:
    async def scenario() -> None:
        interrupt = run_command.SignalledInterrupt(run_view.LineView())
        interrupt.attach(asyncio.get_running_loop())
        signal.raise_signal(number)
        await until(lambda: interrupt.wish is wish)
        assert interrupt.signal == number

    before = signal.signal(number, signal.SIG_DFL)  # whatever started the tests ignores
    try:
        asyncio.run(scenario())
    finally:
        signal.signal(number, before)


def test_a_signal_that_the_parent_ignores_stays_ignored() -> None:
    async def scenario() -> None:
        interrupt = run_command.SignalledInterrupt(run_view.LineView())
        interrupt.attach(asyncio.get_running_loop())
        signal.raise_signal(signal.SIGHUP)
        signal.raise_signal(signal.SIGTERM)
        await until(lambda: interrupt.signal != 0)
        assert interrupt.signal == signal.SIGTERM

    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as nohup does
    try:
        asyncio.run(scenario())
    finally:
        signal.signal(signal.SIGHUP, before)


# ---- the end ------------------------------------------------------------------------------------


class Ended:
    """A client whose run ends as told."""

    def __init__(self, result: RunResult) -> None:
        self.result = result

    def run(self, *_: object, **__: object) -> RunResult:
        return self.result


def concluded(result: RunResult) -> int:
    return run_command.run_experiment(Ended(result), Path("dir/a b.yaml"), fresh=False)  # type: ignore[arg-type]


@pytest.mark.parametrize(("state", "status"), [("Succeeded", 0), ("Failed", 1)])
def test_the_exit_status_is_0_only_if_the_experiment_succeeded(state: str, status: int) -> None:
    assert concluded(RunResult(an_experiment(state), ())) == status


def test_a_failed_experiment_points_to_why_and_not_to_a_best_trial(
    capsys: pytest.CaptureFixture[str],
) -> None:
    concluded(RunResult(an_experiment("Failed"), ()))
    out = capsys.readouterr().out
    assert "tunesmith why quick" in out and "tunesmith best" not in out


@pytest.mark.parametrize(
    ("wish", "waiting", "words"),
    [
        (Wish.STOP, PAUSED, "its trials are stopped"),
        (Wish.STOP, "", "1 trial still stopping"),
        (Wish.LEAVE, "", "1 trial left running"),
    ],
)
def test_an_interrupted_run_says_what_goes_on_and_how_to_continue(
    wish: Wish, waiting: str, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    trials = (a_trial(0, "Running", waiting=waiting), a_trial(1, "Succeeded"))
    assert concluded(RunResult(an_experiment(), trials, False, wish)) == 130
    out = capsys.readouterr().out
    assert words in out
    assert "tunesmith run 'dir/a b.yaml'  # continues it" in out
