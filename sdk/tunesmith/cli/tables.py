# SPDX-License-Identifier: Apache-2.0
"""Tables as lines of text. Nothing wraps: a table for a terminal is cut to its width, any other
is complete, whatever its width."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from rich.cells import cell_len
from rich.text import Text

from tunesmith.views import ExperimentView, Number, TrialView, state_word, trial_word

COLOURS: Mapping[str, str] = {
    "Succeeded": "green",
    "Running": "cyan",
    "Failed": "red",
    "MetricsUnavailable": "yellow",
    "EarlyStopped": "magenta",
    "Killed": "magenta",
    "Paused": "yellow",
    "Held": "yellow",
    "Stopping": "magenta",
    "Restarting": "cyan",
}
_GAP = "  "
_CUTS = (24, 12)
"""Cells are cut to the first length if that is enough, else to the second."""


@dataclass(frozen=True, slots=True)
class Column:
    """A column; `right` aligns it. One that is not `firm` may be cut or left out."""

    title: str
    cells: Sequence[Text]
    right: bool = False
    firm: bool = True

    @property
    def width(self) -> int:
        return max(cell_len(self.title), *(cell.cell_len for cell in self.cells), 0)

    def cut(self, width: int) -> Column:
        """The column with every longer text cut short."""
        title = Text(self.title)
        title.truncate(width, overflow="ellipsis")
        cells = [cell.copy() for cell in self.cells]
        for cell in cells:
            cell.truncate(width, overflow="ellipsis")
        return replace(self, title=title.plain, cells=cells)


def column(title: str, texts: Sequence[str], *, right: bool = False, firm: bool = True) -> Column:
    return Column(title, [Text(" ".join(text.split())) for text in texts], right, firm)


def fitted(columns: Sequence[Column], width: int | None) -> list[Column]:
    """The columns that fit: long texts cut, then the last columns replaced by "+3"."""
    if width is None:
        return list(columns)
    loose = sum(not found.firm for found in columns)
    tries = [(_CUTS[0], 0), *((_CUTS[1], hidden) for hidden in range(loose + 1))]
    for longest, hidden in tries:
        cut = [found if found.firm else found.cut(longest) for found in columns]
        kept = _without_last(cut, hidden)
        if _width(kept) <= width:
            break
    return kept


def _without_last(columns: Sequence[Column], hidden: int) -> list[Column]:
    if not hidden:
        return list(columns)
    loose = [found for found in columns if not found.firm][-hidden:]
    rows = len(columns[0].cells)
    return [
        *(found for found in columns if all(found is not gone for gone in loose)),
        column(f"+{hidden}", [""] * rows),
    ]


def _width(columns: Sequence[Column]) -> int:
    return sum(found.width for found in columns) + len(_GAP) * (len(columns) - 1)


def lines(columns: Sequence[Column]) -> Text:
    """The table, a line a row."""
    widths = [found.width for found in columns]
    rows = [[Text(found.title, "bold") for found in columns]]
    rows += [list(row) for row in zip(*(found.cells for found in columns), strict=True)]
    return Text("\n").join(_line(row, columns, widths) for row in rows)


def _line(cells: Sequence[Text], columns: Sequence[Column], widths: Sequence[int]) -> Text:
    line = Text(no_wrap=True, overflow="ellipsis")
    for index, (cell, found, width) in enumerate(zip(cells, columns, widths, strict=True)):
        room = " " * (width - cell.cell_len)
        line.append(_GAP if index else "")
        line = line.append(room).append(cell) if found.right else line.append(cell).append(room)
    line.rstrip()
    return line


# ---- cells --------------------------------------------------------------------------------------


def number(value: Number | None) -> str:
    """Short for people: six significant digits."""
    if value is None:
        return ""
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def short(text: str) -> str:
    """A parameter's text, shortened when it is a long number."""
    try:
        return f"{float(text):.6g}" if len(text) > 8 else text
    except ValueError:
        return text


def duration(seconds: float) -> str:
    """ "12s", "1m05s", "3h20m", "2d01h"."""
    minutes, rest = divmod(max(int(seconds), 0), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    if days:
        return f"{days}d{hours:02}h"
    if hours:
        return f"{hours}h{minutes:02}m"
    return f"{minutes}m{rest:02}s" if minutes else f"{rest}s"


def elapsed(start: datetime | None, end: datetime | None) -> str:
    """The time between the two, or until now."""
    if start is None:
        return ""
    return duration(((end or datetime.now(UTC)) - start).total_seconds())


def state_text(state: str) -> Text:
    return Text(state, COLOURS.get(state, ""))


def counts_of(view: ExperimentView) -> Mapping[str, int]:
    """Trials by state; those that a pause interrupts are not told as running."""
    if view.is_over or not view.paused:
        return view.counts
    return {"Paused" if state == "Running" else state: n for state, n in view.counts.items()}


# ---- tables -------------------------------------------------------------------------------------


def trials_table(
    trials: Sequence[TrialView], metric: str, *, wide: bool = False, width: int | None = None
) -> Text:
    """Name, state, time, objective, parameters; wide adds metrics, attempts and messages."""
    columns = [
        column("TRIAL", [trial.name for trial in trials]),
        Column("STATE", [state_text(trial_word(trial)) for trial in trials]),
        column("TIME", [elapsed(t.start_time, t.completion_time) for t in trials], right=True),
        column(metric or "OBJECTIVE", [number(trial.value) for trial in trials], right=True),
        *_parameter_columns(trials),
        *(_wide_columns(trials, metric) if wide else ()),
    ]
    return lines(fitted(columns, None if wide else width))


def _parameter_columns(trials: Sequence[TrialView]) -> list[Column]:
    found = []
    for name in dict.fromkeys(name for trial in trials for name in trial.parameters):
        texts = [short(trial.parameters.get(name, "")) for trial in trials]
        found.append(column(name, texts, right=_are_numbers(texts), firm=False))
    return found


def _are_numbers(texts: Sequence[str]) -> bool:
    return all(not text or text[0] in "+-.0123456789" for text in texts)


def _wide_columns(trials: Sequence[TrialView], metric: str) -> list[Column]:
    others = list(dict.fromkeys(n for t in trials for n in t.metrics if n != metric))
    figures = [
        [number(t.metrics[name].latest) if name in t.metrics else "" for t in trials]
        for name in others
    ]
    return [
        *(column(name, texts, right=True) for name, texts in zip(others, figures, strict=True)),
        column("ATTEMPT", [str(trial.attempt) for trial in trials], right=True),
        column("MESSAGE", [trial.waiting or trial.message for trial in trials]),
    ]


def experiments_table(
    experiments: Sequence[ExperimentView], width: int | None = None, *, namespaces: bool = True
) -> Text:
    """Experiments; AGE would mislead, so TIME is how long each took or has been going."""
    found = experiments
    columns = [
        *([column("NAMESPACE", [view.namespace for view in found])] if namespaces else ()),
        column("EXPERIMENT", [view.name for view in found]),
        Column("STATE", [state_text(state_word(view)) for view in found]),
        column("DONE", [f"{view.ended}/{view.budget or '-'}" for view in found], right=True),
        column("RUNNING", [str(_running(view) or "") for view in found], right=True),
        column("TIME", [elapsed(v.start_time, v.completion_time) for v in found], right=True),
        column("ALGORITHM", [view.algorithm for view in found], firm=False),
        column("BEST", [_best(view) for view in found], firm=False),
    ]
    return lines(fitted(columns, width))


def _running(view: ExperimentView) -> int:
    return counts_of(view).get("Running", 0)


def _best(view: ExperimentView) -> str:
    return "" if view.best is None else f"{view.metric}={number(view.best.value)}"
