# SPDX-License-Identifier: Apache-2.0
"""What `run` shows: a live table on a terminal, a line per change elsewhere."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Protocol

from rich.console import Console, RenderableType
from rich.live import Live
from rich.text import Text

from tunesmith.cli.output import args_text, console
from tunesmith.cli.run_screen import run_screen
from tunesmith.cli.tables import number
from tunesmith.views import SERVICE_NOT_STARTED, ExperimentView, TrialView

_WORDS = {"MetricsUnavailable": "has no metrics", "EarlyStopped": "stopped early"}
_USUAL = ("", "starting", SERVICE_NOT_STARTED)
"""What everything waits for in its first second, not worth a line."""
_REFRESHES_PER_S = 2
"""Seconds tick; more would cost the trials processor time."""


class RunView(Protocol):
    """Shows a run; used as a context manager around it."""

    def __enter__(self) -> RunView: ...

    def __exit__(self, *_: object) -> None: ...

    def update(self, experiment: ExperimentView, trials: Sequence[TrialView]) -> None: ...

    def notice(self, sentence: str) -> None: ...


def run_view() -> RunView:
    """The view that fits stdout."""
    out = console()
    # Log lines on stderr (--debug) would tear a live screen apart.
    live = out.is_terminal and not out.is_dumb_terminal and "TUNESMITH_DEBUG" not in os.environ
    return LiveView(out) if live else LineView()


class LineView:
    """One line per change, said once: for files, pipes and CI."""

    def __init__(self) -> None:
        self._trials: dict[str, TrialView] = {}
        self._said: dict[str, str] = {}
        self._state = ""

    def __enter__(self) -> LineView:
        return self

    def __exit__(self, *_: object) -> None:
        return None

    def notice(self, sentence: str) -> None:
        print(f"note: {sentence}", flush=True)

    def update(self, experiment: ExperimentView, trials: Sequence[TrialView]) -> None:
        if not self._state:
            self._begin(experiment, trials)
        if not experiment.is_over:
            self._once(experiment.waiting)
        for trial in trials:
            before = self._trials.get(trial.name)
            if before is trial:
                continue
            self._trials[trial.name] = trial
            if before is None or before.state != trial.state:
                self._changed(experiment, trial)
            if not trial.is_over:
                # What is in parentheses changes with every other trial.
                self._once(trial.waiting.partition(" (")[0])
        if experiment.is_over and experiment.state != self._state:
            said = f"{experiment.state.lower()}: {experiment.message}"
            print(f"experiment {experiment.name} {said}", flush=True)
        self._state = experiment.state

    def _begin(self, experiment: ExperimentView, trials: Sequence[TrialView]) -> None:
        """Trials that ended before this run are counted, not told again."""
        over = {trial.name: trial for trial in trials if trial.is_over}
        self._trials.update(over)
        if over:
            of = f" of {experiment.budget}" if experiment.budget else ""
            self.notice(f"experiment {experiment.name} exists: {len(over)}{of} trials have ended")

    def _once(self, sentence: str) -> None:
        if sentence not in _USUAL and sentence not in self._said:
            self._said[sentence] = ""
            self.notice(sentence)

    def _changed(self, experiment: ExperimentView, trial: TrialView) -> None:
        if trial.state == "Running":
            print(f"trial {trial.name} running {args_text(trial.parameters)}", flush=True)
        elif trial.is_over:
            word = _WORDS.get(trial.state, trial.state.lower())
            over = sum(known.is_over for known in self._trials.values())
            count = f"({over}/{experiment.budget or '-'})"
            print(f"trial {trial.name} {word}{self._result(experiment, trial)} {count}", flush=True)

    def _result(self, experiment: ExperimentView, trial: TrialView) -> str:
        if trial.value is not None:
            return f" {experiment.metric}={number(trial.value)}"
        first = self._said.setdefault(trial.message, trial.name)
        return f": {trial.message}" if first == trial.name else f": the same as {first}"


class LiveView:
    """A screen that is drawn again a few times a second and leaves nothing behind."""

    def __init__(self, out: Console) -> None:
        self._out = out
        self._live: Live | None = None
        self._last: tuple[ExperimentView, Sequence[TrialView]] | None = None

    def __enter__(self) -> LiveView:
        self.resume()
        return self

    def __exit__(self, *_: object) -> None:
        self.pause()

    def notice(self, sentence: str) -> None:
        self._out.print(Text(f"note: {sentence}", "dim"))

    def pause(self) -> None:
        """Leaves the terminal to a prompt."""
        if self._live is not None:
            self._live.stop()
            self._live = None

    def resume(self) -> None:
        """A new screen below whatever was printed meanwhile."""
        if self._live is None:
            self._live = Live(
                self, console=self._out, refresh_per_second=_REFRESHES_PER_S, transient=True
            )
            self._live.start()

    def update(self, experiment: ExperimentView, trials: Sequence[TrialView]) -> None:
        self._last = (experiment, trials)

    def __rich__(self) -> RenderableType:
        """Drawn on every refresh, so that elapsed times move."""
        if self._last is None:
            return Text("starting...")
        return run_screen(*self._last, width=self._out.width, height=self._out.height)
