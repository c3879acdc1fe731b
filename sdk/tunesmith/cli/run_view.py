# SPDX-License-Identifier: Apache-2.0
"""What `run` shows: a live table on a terminal, a line per change elsewhere."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from tunesmith.cli.output import (
    COLOURS,
    args_text,
    console,
    elapsed,
    number,
    state_text,
    trials_table,
)
from tunesmith.views import ExperimentView, TrialView

_SPARKS = "▁▂▃▄▅▆▇█"
_ROWS = 20
_BEST_ROWS = 5


class RunView(Protocol):
    """Shows a run; used as a context manager around it."""

    def __enter__(self) -> RunView: ...

    def __exit__(self, *_: object) -> None: ...

    def update(self, experiment: ExperimentView, trials: Sequence[TrialView]) -> None: ...

    def notice(self, sentence: str) -> None: ...


def run_view() -> RunView:
    """The view that fits stdout."""
    out = console()
    return LiveView(out) if out.is_terminal else LineView()


class LineView:
    """One line per change: for files, pipes and CI."""

    def __init__(self) -> None:
        self._states: dict[str, tuple[str, str]] = {}
        self._state = ""

    def __enter__(self) -> LineView:
        return self

    def __exit__(self, *_: object) -> None:
        return None

    def notice(self, sentence: str) -> None:
        print(f"note: {sentence}", flush=True)

    def update(self, experiment: ExperimentView, trials: Sequence[TrialView]) -> None:
        for trial in trials:
            told = (trial.state, trial.waiting)
            if self._states.get(trial.name) == told:
                continue
            changed = self._states.get(trial.name, ("", ""))[0] != trial.state
            self._states[trial.name] = told
            if changed and trial.state not in ("Pending", "Created"):
                print(self._line(experiment, trial), flush=True)
        if experiment.state != self._state and experiment.is_over:
            self._state = experiment.state
            message = f"{experiment.reason}: {experiment.message}"
            print(f"experiment {experiment.name} {experiment.state.lower()} {message}", flush=True)

    def _line(self, experiment: ExperimentView, trial: TrialView) -> str:
        if trial.state == "Running":
            return f"trial {trial.name} running {args_text(trial.parameters)}"
        done = f"({experiment.ended}/{experiment.budget or '-'})"
        if trial.value is not None:
            figure = f"{experiment.metric}={number(trial.value)}"
            return f"trial {trial.name} {trial.state.lower()} {figure} {done}"
        return f"trial {trial.name} {trial.state.lower()} {trial.message} {done}"


class LiveView:
    """A table that is drawn again, at most a few times a second."""

    def __init__(self, out: Console) -> None:
        self._out = out
        self._live = Live(console=out, refresh_per_second=4, transient=True)
        self._last: tuple[ExperimentView, Sequence[TrialView]] | None = None

    def __enter__(self) -> LiveView:
        self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()

    def notice(self, sentence: str) -> None:
        self._live.console.print(Text(f"note: {sentence}", "dim"))

    def pause(self) -> None:
        """Leaves the terminal to a prompt."""
        self._live.stop()

    def resume(self) -> None:
        self._live.start()

    def update(self, experiment: ExperimentView, trials: Sequence[TrialView]) -> None:
        self._last = (experiment, trials)
        self._live.update(self)

    def __rich__(self) -> RenderableType:
        """Drawn on every refresh, so that elapsed times move."""
        if self._last is None:
            return Text("starting...")
        return run_screen(*self._last)


def run_screen(experiment: ExperimentView, trials: Sequence[TrialView]) -> RenderableType:
    """Header, progress by state, running trials and the best ones."""
    parts: list[RenderableType] = [_header(experiment), _progress(experiment), Text("")]
    chosen = chosen_trials(experiment, trials)
    if chosen:
        parts.append(trials_table(chosen, experiment.metric))
    spark = sparkline(experiment, trials)
    if spark:
        parts += [Text(""), Text.assemble("best so far  ", (spark, "green"))]
    return Group(*parts)


def _header(experiment: ExperimentView) -> Text:
    best = experiment.best
    figure = "none yet" if best is None else f"{best.metric}={number(best.value)}"
    return Text.assemble(
        (experiment.name, "bold"),
        f"  {experiment.algorithm}  ",
        state_text(experiment.state),
        f"  {elapsed(experiment.start_time, experiment.completion_time)}  best ",
        (figure, "bold green"),
    )


def _progress(experiment: ExperimentView) -> RenderableType:
    counts = Text("  ").join(
        Text(f"{count} {state}", COLOURS.get(state, ""))
        for state, count in experiment.counts.items()
    )
    grid = Table.grid(padding=(0, 2))
    total = experiment.budget or max(experiment.ended, 1)
    grid.add_row(
        ProgressBar(total=total, completed=experiment.ended, width=30),
        Text(f"{experiment.ended}/{experiment.budget or '-'}"),
        counts,
    )
    return grid


def chosen_trials(experiment: ExperimentView, trials: Sequence[TrialView]) -> list[TrialView]:
    """The running trials, then the best, then the newest failures; at most twenty."""
    running = [trial for trial in trials if trial.state == "Running"]
    best = best_trials(experiment, trials)[:_BEST_ROWS]
    failed = [t for t in trials if t.state in ("Failed", "MetricsUnavailable")][-3:]
    return [*running, *best, *failed][:_ROWS]


def best_trials(experiment: ExperimentView, trials: Sequence[TrialView]) -> list[TrialView]:
    """Trials with an objective, best first."""
    sign = 1.0 if experiment.direction == "minimize" else -1.0
    scored = [(sign * t.value, t.ordinal, t) for t in trials if t.value is not None]
    return [trial for _, _, trial in sorted(scored, key=lambda row: row[:2])]


def sparkline(experiment: ExperimentView, trials: Sequence[TrialView], width: int = 40) -> str:
    """The best value after each ended trial, higher is better; empty for fewer than three."""
    sign = -1.0 if experiment.direction == "minimize" else 1.0
    best: list[float] = []
    for trial in trials:
        if trial.value is not None:
            score = sign * trial.value
            best.append(max(score, best[-1]) if best else score)
    if len(best) < 3:
        return ""
    points = best if len(best) <= width else [best[i * len(best) // width] for i in range(width)]
    low, high = min(points), max(points)
    scale = (len(_SPARKS) - 1) / (high - low) if high > low else 0.0
    return "".join(_SPARKS[round((point - low) * scale)] for point in points)
