# SPDX-License-Identifier: Apache-2.0
"""The picture of a run: header, progress by state, running trials, the best ones, the way there.

Pure: what is drawn depends on the experiment, its trials and the size alone (and on the time, for
those that run). Drawn by `run_view.LiveView`.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

from rich.text import Text

from tunesmith.cli.tables import (
    COLOURS,
    counts_of,
    duration,
    elapsed,
    number,
    state_text,
    trials_table,
)
from tunesmith.views import ExperimentView, TrialView, state_word

_SPARKS = "▁▂▃▄▅▆▇█"
_ROWS = 20
_BEST_ROWS = 5
_FAILED_ROWS = 3
_BAR = 30
_ECHO = 2
"""Columns left free for the "^C" that a terminal writes behind the last line: in the last column
it would begin a new line, which nobody erases."""
_AROUND_TABLE = 8
"""Lines of the screen that are not rows of trials."""


def run_screen(
    experiment: ExperimentView, trials: Sequence[TrialView], width: int = 80, height: int = 40
) -> Text:
    """Lines that fit the size."""
    rows = max(min(_ROWS, height - _AROUND_TABLE), 3)
    chosen = chosen_trials(experiment, trials, rows)
    spark = sparkline(experiment, trials)
    table = trials_table(chosen, experiment.metric, width=width - _ECHO)
    parts = [
        _header(experiment, trials),
        _progress(experiment),
        *_waiting(experiment, trials),
        *((Text(), table) if chosen else ()),
        *((Text(), Text.assemble("best so far  ", (spark, "green"))) if spark else ()),
    ]
    screen = Text("\n", no_wrap=True, overflow="ellipsis").join(parts)
    screen.no_wrap, screen.overflow = True, "ellipsis"
    return screen


def _header(experiment: ExperimentView, trials: Sequence[TrialView]) -> Text:
    best = experiment.best
    figure = "none yet" if best is None else f"{best.metric}={number(best.value)}"
    left = remaining(experiment, trials)
    return Text.assemble(
        (experiment.name, "bold"),
        f"  {experiment.algorithm}  ",
        state_text(state_word(experiment)),
        f"  {elapsed(experiment.start_time, experiment.completion_time)}",
        "" if left is None else f", about {duration(left)} left",
        "  best ",
        (figure, "bold green"),
    )


def remaining(experiment: ExperimentView, trials: Sequence[TrialView]) -> float | None:
    """Seconds until the budget is used up, from the mean duration of a trial; None when unknown."""
    took = [
        (trial.completion_time - trial.start_time).total_seconds()
        for trial in trials
        if trial.completion_time is not None and trial.start_time is not None
    ]
    if experiment.is_over or experiment.paused or experiment.budget is None or not took:
        return None
    left = max(experiment.budget - experiment.ended, 0)
    return sum(took) / len(took) * left / min(experiment.parallel, max(left, 1))


def _progress(experiment: ExperimentView) -> Text:
    counts = Text("  ").join(
        Text(f"{count} {state}", COLOURS.get(state, ""))
        for state, count in counts_of(experiment).items()
    )
    done = f"  {experiment.ended}/{experiment.budget or '-'}  "
    return Text.assemble(progress_bar(experiment), done, counts)


def progress_bar(experiment: ExperimentView, width: int = _BAR) -> Text:
    """The budget as a bar, a part for each state; without a budget, what there is fills it."""
    total = max(experiment.budget or 0, sum(experiment.counts.values()), 1)
    bar, drawn, seen = Text(), 0, 0
    for state, count in experiment.counts.items():
        if state in ("Running", "Pending"):
            continue
        seen += count
        end = seen * width // total
        bar.append("━" * (end - drawn), COLOURS.get(state, ""))
        drawn = end
    return bar.append("─" * (width - drawn), "dim")


def _waiting(experiment: ExperimentView, trials: Sequence[TrialView]) -> list[Text]:
    """Why nothing or less than wanted runs, in a line; nothing when all is well."""
    if experiment.is_over:
        return []
    if experiment.waiting:
        return [Text(experiment.waiting, "yellow")]
    reasons = Counter(
        trial.waiting.partition(" (")[0] for trial in trials if trial.waiting and not trial.is_over
    )
    return [
        Text(f"{count} {'trial' if count == 1 else 'trials'}: {reason}", "yellow")
        for reason, count in reasons.most_common(1)
    ]


def chosen_trials(
    experiment: ExperimentView, trials: Sequence[TrialView], rows: int = _ROWS
) -> list[TrialView]:
    """The running trials, then the best, then the newest failures; at most `rows`.

    Some room is kept for the best ones, however many run.
    """
    best = best_trials(experiment, trials)[:_BEST_ROWS]
    failed = [t for t in trials if t.state in ("Failed", "MetricsUnavailable")][-_FAILED_ROWS:]
    running = [trial for trial in trials if trial.state == "Running"]
    kept = running[: max(rows - len(best) - len(failed), rows // 2)]
    return [*kept, *best, *failed][:rows]


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
    last = len(best) - 1
    count = min(len(best), width)
    points = [best[round(i * last / (count - 1))] for i in range(count)]
    low, high = points[0], points[-1]
    if math.isinf(high - low):
        return ""
    scale = (len(_SPARKS) - 1) / (high - low) if high > low else 0.0
    return "".join(_SPARKS[round((point - low) * scale)] for point in points)
