# SPDX-License-Identifier: Apache-2.0
"""The plot of the report as SVG, written by hand: no plotting library. Called by `efficiency`."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape
from typing import Final

from methods import METHODS, TRIALS
from report import Report, Table

_WIDTH: Final = 520
_HEIGHT: Final = 380
_MARGIN: Final = 48
_LEGEND: Final = 200
_COLOURS: Final = (
    "#7f7f7f", "#bcbd22", "#2ca02c", "#98df8a", "#1f77b4", "#9467bd", "#d62728",
    "#ff7f0e", "#ffbb78", "#8c564b", "#17becf", "#e377c2", "#aec7e8", "#c49c94", "#f7b6d2",
)  # fmt: skip


def svg(found: Report) -> str:
    """One panel a table: mean regret, on a logarithmic scale, by evaluation."""
    width, height = _WIDTH + _LEGEND, _HEIGHT * len(found.tables)
    panels = [_panel(table, i * _HEIGHT) for i, table in enumerate(found.tables)]
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
        f'font-family="sans-serif" font-size="11">'
        f'<rect width="{width}" height="{height}" fill="white"/>'
    )
    return "\n".join([head, *panels, "</svg>", ""])


def _panel(table: Table, top: float) -> str:
    values = [value for curve in table.curves.values() for value in curve if value > 0]
    low, high = math.log10(min(values)), math.log10(max(values))
    high = max(high, low + 0.1)

    def x(evaluation: float) -> float:
        return _MARGIN + (evaluation - 1) / (TRIALS - 1) * (_WIDTH - 2 * _MARGIN)

    def y(regret: float) -> float:
        share = (math.log10(max(regret, 10**low)) - low) / (high - low)
        return _HEIGHT - _MARGIN - share * (_HEIGHT - 2 * _MARGIN)

    def line(curve: Sequence[float], colour: str) -> str:
        places = " ".join(f"{x(i + 1):.1f},{y(value):.1f}" for i, value in enumerate(curve))
        return f'<polyline points="{places}" fill="none" stroke="{colour}" stroke-width="1.6"/>'

    ticks = [value for value in _ticks() if low <= math.log10(value) <= high]
    parts = [
        f'<g transform="translate(0 {top:.0f})">',
        f'<text x="{_MARGIN}" y="{_MARGIN - 18}" font-size="13">mean regret: '
        f"{escape(table.title)}, {table.runs} runs a method</text>",
        *(f'<text x="{_MARGIN - 6}" y="{y(v) + 4:.1f}" text-anchor="end">{v:g}</text>'
          f'<path d="M{_MARGIN} {y(v):.1f}H{_WIDTH - _MARGIN}" stroke="#ddd"/>' for v in ticks),
        *(f'<text x="{x(n):.1f}" y="{_HEIGHT - _MARGIN + 16}" text-anchor="middle">{n}</text>'
          for n in (1, 10, 20, 30, 40, 50, 60)),
        *(line(curve, _colour(name)) for name, curve in table.curves.items()),
        *_legend(table.curves),
        "</g>",
    ]  # fmt: skip
    return "\n".join(parts)


def _ticks() -> list[float]:
    return [digit * 10.0**power for power in range(-6, 1) for digit in (1, 2, 3, 5)]


def _colour(name: str) -> str:
    return _COLOURS[list(METHODS).index(name) % len(_COLOURS)]


def _legend(curves: Mapping[str, Sequence[float]]) -> list[str]:
    """Best at the end first."""
    names = sorted(curves, key=lambda name: curves[name][-1])
    parts = []
    for i, name in enumerate(names):
        y = _MARGIN + 18 * i
        parts.append(
            f'<path d="M{_WIDTH - 30} {y}h18" stroke="{_colour(name)}" stroke-width="3"/>'
            f'<text x="{_WIDTH - 6}" y="{y + 4}">{escape(name)} {curves[name][-1]:.3f}</text>'
        )
    return parts
