# SPDX-License-Identifier: Apache-2.0
"""medianstop: a trial whose best value is worse than what half of its peers averaged by then stops.

The median stopping rule of Golovin et al., "Google Vizier: A Service for Black-Box Optimization"
(KDD 2017, section 3.2.2), judged at every report. With `statistic: mean` and `horizon: start` the
threshold is Katib's, which takes an arithmetic mean for a median and never looks past the first
`start_step` reports.
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from operator import itemgetter
from typing import Final

from tunesmith_api.problem import Direction
from tunesmith_api.stopping import GO_ON, StopDecision, StopProblem
from tunesmith_earlystopping.protocol import Comparison, TrialRule
from tunesmith_earlystopping.settings import Setting, read_settings, setting_problems

MAX_STEPS: Final = 1_000
"""Reports of a peer that are looked at; its mean of the first thousand stands for later ones."""

SETTINGS: Final = (
    Setting(
        "min_trials_required",
        3,
        "Succeeded trials that must have values before any trial is judged.",
        at_least=1,
    ),
    Setting(
        "start_step",
        4,
        "The first report at which a trial is judged, counted from 1.",
        at_least=1,
    ),
    Setting(
        "statistic",
        "median",
        "What of the peers' means is the threshold; Katib's medianstop takes the mean.",
        choices=("median", "mean"),
    ),
    Setting(
        "horizon",
        "step",
        "Over what a peer's mean goes: its reports up to the judged one (step), or its first "
        "start_step ones, as in Katib (start).",
        choices=("step", "start"),
    ),
)


@dataclass(frozen=True, slots=True)
class _Chosen:
    min_trials: int
    start_step: int
    is_median: bool
    is_running: bool


class MedianStop:
    """Values that are not finite never count: not as a trial's best, not in a peer's mean. A trial
    with none but those is worse than every peer; a peer with none but those, up to the judged
    report, is no peer there. One shorter than the judged trial contributes its full mean."""

    name = "medianstop"
    settings = SETTINGS

    def validate(self, problem: StopProblem) -> Sequence[str]:
        return setting_problems(self.name, SETTINGS, problem.settings)

    def digest(self, problem: StopProblem, curve: Sequence[float]) -> Sequence[float]:
        """The mean of the first k values, for every k up to MAX_STEPS; of the first start_step only
        with horizon start."""
        chosen = _chosen(problem)
        if chosen.is_running:
            means = _running_means(curve[:MAX_STEPS])
            return means if means and not math.isnan(means[-1]) else ()
        finite = [value for value in curve[: chosen.start_step] if math.isfinite(value)]
        return (_mean(finite),) if finite else ()

    def judge(
        self, problem: StopProblem, curve: Sequence[float], peers: Sequence[Sequence[float]]
    ) -> StopDecision:
        chosen, step = _chosen(problem), len(curve)
        if step < chosen.start_step:
            return GO_ON
        means = _at(peers, step)
        if len(means) < chosen.min_trials:
            return GO_ON
        threshold = _statistic(chosen, means)
        best = _best(problem.direction, curve)
        if best is not None and not _is_worse(problem.direction, best, threshold):
            return GO_ON
        found = StopDecision(True, "", best, threshold, step, len(means))
        return replace(found, why=_why(problem, chosen, found))

    def katib_rules(
        self, problem: StopProblem, peers: Sequence[Sequence[float]]
    ) -> Sequence[TrialRule]:
        """The threshold at start_step: a trial that carries it is judged there, and only there."""
        chosen = _chosen(problem)
        means = _at(peers, chosen.start_step)
        if len(means) < chosen.min_trials:
            return ()
        is_low = problem.direction is Direction.MAXIMIZE
        worse = Comparison.LESS if is_low else Comparison.GREATER
        threshold = _statistic(chosen, means)
        return (TrialRule(problem.metric, worse, threshold, chosen.start_step),)


# ---- settings -----------------------------------------------------------------------------------


def _chosen(problem: StopProblem) -> _Chosen:
    return _chosen_of(tuple(problem.settings.items()))


@lru_cache(maxsize=256)
def _chosen_of(settings: tuple[tuple[str, str], ...]) -> _Chosen:
    values = read_settings(MedianStop.name, SETTINGS, dict(settings))
    return _Chosen(
        min_trials=int(values["min_trials_required"]),
        start_step=int(values["start_step"]),
        is_median=values["statistic"] == "median",
        is_running=values["horizon"] == "step",
    )


# ---- arithmetic ---------------------------------------------------------------------------------


def _running_means(curve: Iterable[float]) -> array[float]:
    """The mean of the finite ones of the first k values, for every k; NaN before the first.

    Held between the lowest and the highest value: rounding must not make the mean of equal values
    better than they are, nor a sum that overflows an infinite mean.
    """
    means = array("d")
    total, count, low, high, mean = 0.0, 0, math.inf, -math.inf, math.nan
    for value in curve:
        if math.isfinite(value):
            total, count = total + value, count + 1
            low, high = min(low, value), max(high, value)
            mean = min(max(total / count, low), high)
        means.append(mean)
    return means


def _mean(values: Sequence[float]) -> float:
    """The same in whatever order the values come, and between the lowest and the highest."""
    try:
        mean = math.fsum(values) / len(values)
    except OverflowError:
        mean = math.fsum(value / len(values) for value in values)
    return min(max(mean, min(values)), max(values))


def _median(values: Iterable[float]) -> float:
    ordered = sorted(values)
    low, high = ordered[(len(ordered) - 1) // 2], ordered[len(ordered) // 2]
    return min(max(low / 2 + high / 2, low), high)


def _statistic(chosen: _Chosen, means: Sequence[float]) -> float:
    return _median(means) if chosen.is_median else _mean(means)


def _at(peers: Sequence[Sequence[float]], step: int) -> list[float]:
    """The peers' means at a step. Peers that all reach it, the usual case, take a tenth of the time
    of the general one."""
    try:
        means = list(map(itemgetter(step - 1), peers))
    except IndexError:
        means = [peer[min(step, len(peer)) - 1] for peer in peers if peer]
    return [mean for mean in means if not math.isnan(mean)] if math.isnan(sum(means)) else means


def _best(direction: Direction, curve: Sequence[float]) -> float | None:
    pick = min if direction is Direction.MINIMIZE else max
    return pick((value for value in curve if math.isfinite(value)), default=None)


def _is_worse(direction: Direction, value: float, than: float) -> bool:
    return value > than if direction is Direction.MINIMIZE else value < than


# ---- words --------------------------------------------------------------------------------------


def _why(problem: StopProblem, chosen: _Chosen, found: StopDecision) -> str:
    statistic = "median" if chosen.is_median else "mean"
    until = found.step if chosen.is_running else chosen.start_step
    whose = f"the {statistic} of the means of {found.peers} succeeded trials over their first "
    whose += f"{until} reports"
    metric, threshold = problem.metric, f"{found.threshold:.6g}"
    if found.value is None:
        return f"{metric} had no finite value in {found.step} reports; {whose} is {threshold}"
    side = "above" if problem.direction is Direction.MINIMIZE else "below"
    best = f"{metric} was at best {found.value:.6g} in {found.step} reports"
    return f"{best}, {side} {threshold}, {whose}"
