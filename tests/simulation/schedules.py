# SPDX-License-Identifier: Apache-2.0
"""Random runs from a seed, what they must satisfy, and the smallest faults that still break them.

`check(setting)` is the oracle of every simulation test; `schedule(seed)` draws a scenario and its
faults; `shrink` drops faults while a run still fails, for the message.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from faults import Fault, Kind, Place
from invariants import Violation
from scenarios import Scenario, duration
from verdict import differences
from world import SETTINGS, Report, Setting, managed, remembering, simulate

STEPS_BEFORE: Final = 30
STEPS_A_TRIAL: Final = 42
"""Roughly how many steps a run takes: faults are spread over them."""
PATIENCE_S: Final = 60.0
PATIENCE_A_FAULT_S: Final = 35.0
"""How long a run may take beyond its trials, in all and per fault; less than a resync, because
nothing may have to wait for that."""

_WEIGHTS: Final = {
    Kind.CRASH: 4,
    Kind.ERROR: 6,
    Kind.CONFLICT: 4,
    Kind.DELAY: 4,
    Kind.DUPLICATE: 2,
    Kind.LATE: 2,
    Kind.OVERLAP: 1,
    Kind.DROP: 3,
    Kind.EXPIRE: 2,
    Kind.LOSE_JOB: 2,
    Kind.VANISH_JOB: 1,
    Kind.FORGET: 2,
    Kind.PAUSE: 1,
    Kind.PARALLEL: 2,
    Kind.STOP: 1,
    Kind.DELETE_TRIAL: 1,
}


@dataclass(frozen=True, slots=True)
class Checked:
    """A run and all that is wrong with it."""

    report: Report
    violations: tuple[Violation, ...]


def check(setting: Setting, undisturbed: Report | None = None) -> Checked:
    """Runs a setting; compares with the undisturbed run where that is defined (parallel 1)."""
    report = simulate(setting)
    found = list(report.violations)
    if not found:
        found += _late(setting, report)
    if not found and undisturbed is not None and report.final != undisturbed.final:
        found += [Violation("G3", d) for d in differences(report.final, undisturbed.final)]
    return Checked(report, tuple(found))


def _late(setting: Setting, report: Report) -> list[Violation]:
    faults = len(report.plan.fired)
    scenario = setting.scenario
    runs = sum(duration(k) for k in range(scenario.trials + scenario.extended_by))
    lost = sum(f.kind in (Kind.LOSE_JOB, Kind.VANISH_JOB) for f, _ in report.plan.fired)
    delays = sum(f.seconds for f, _ in report.plan.fired)
    slow = 0.0 if setting.seed is None else 0.05 * len(report.plan.steps)
    may = runs + 5 * lost + delays + slow + PATIENCE_S + PATIENCE_A_FAULT_S * faults
    if report.ended_at <= may:
        return []
    return [Violation("G5", f"took {report.ended_at:.0f} s, {may:.0f} s would have been enough")]


def has_one_ending(setting: Setting) -> bool:
    """Whether faults may not change anything at the end: one trial at a time, a seed that is not
    drawn, one controller, no trial that a person takes away, none that loses its job too often."""
    kinds = [fault.kind for fault in setting.faults]
    losses = kinds.count(Kind.LOSE_JOB) + kinds.count(Kind.VANISH_JOB)
    return (
        setting.scenario.parallel == 1
        and setting.scenario.random_state is not None
        and setting.scenario.ceiling is None
        and setting.scenario.deadline is None
        and setting.scenario.trial_deadline is None
        and not _WITH_SEVERAL_ENDINGS.intersection(kinds)
        and losses <= SETTINGS.lost_retries
    )


_WITH_SEVERAL_ENDINGS: Final = frozenset(
    {Kind.DELETE_TRIAL, Kind.OVERLAP, Kind.PARALLEL, Kind.STOP}
)

# ---- drawing ------------------------------------------------------------------------------------


def schedule(seed: int) -> Setting:
    """The same for the same seed; every other one as in a cluster."""
    chance = random.Random(f"schedule {seed}")
    scenario = _scenario(chance)
    if scenario.algorithm != "sensitive":
        scenario = replace(scenario, points=None)
    controller = remembering if seed % 2 else managed
    return Setting(scenario, _faults(chance, scenario), seed, controller)


def _scenario(chance: random.Random) -> Scenario:
    trials = chance.randint(2, 9)
    return Scenario(
        trials=trials,
        parallel=chance.randint(1, 5),
        algorithm=chance.choice(("sensitive", "sensitive", "random")),
        failing=_some(chance, trials, 0.15),
        silent=_some(chance, trials, 0.1),
        max_failed=chance.choice((None, None, 1, 2, 3)),
        goal=chance.choice((None, None, None, 1.2, 2.0)),
        random_state=chance.choice((None, 1, 2)),
        points=chance.choice((None, None, None, None, max(1, trials - 2))),
        **_life_cycle(chance),
    )


def _life_cycle(chance: random.Random) -> dict[str, Any]:
    """What goes beyond running to the end: mostly nothing, or one or two things."""
    policy = chance.choice(("Never", "Never", "LongRunning", "FromVolume"))
    drawn: dict[str, Any] = {
        "at_end": chance.choice(("", "Finish")),
        "ceiling": chance.choice((2.0, 4.0)),
        "enqueued": chance.randint(1, 3),
        "deadline": chance.choice((6, 15)),
        "trial_deadline": chance.choice((2, 4)),
    }
    kept = chance.sample(sorted(drawn), chance.choice((0, 0, 1, 2)))
    extended = 0 if policy == "Never" else chance.choice((0, 2))
    return {"resume_policy": policy, "extended_by": extended} | {k: drawn[k] for k in kept}


def _some(chance: random.Random, trials: int, share: float) -> frozenset[int]:
    return frozenset(k for k in range(trials) if chance.random() < share)


def _faults(chance: random.Random, scenario: Scenario) -> tuple[Fault, ...]:
    """A third of all runs know one kind of fault only."""
    kinds = list(_WEIGHTS)
    if chance.random() < 1 / 3:
        kinds = [chance.choice(kinds)]
    weights = [_WEIGHTS[kind] for kind in kinds]
    steps = STEPS_BEFORE + STEPS_A_TRIAL * scenario.trials
    drawn = chance.choices(kinds, weights, k=chance.randint(1, 14))
    if {Kind.LATE, Kind.OVERLAP}.intersection(drawn):
        # A start that is long under way when its job is gone without a trace is not held back.
        apart = (Kind.VANISH_JOB, Kind.DELETE_TRIAL, Kind.STOP)
        drawn = [kind for kind in drawn if kind not in apart]
    if scenario.deadline is not None:
        # Which of two ends comes first would depend on the moment.
        drawn = [kind for kind in drawn if kind is not Kind.STOP]
    return tuple(_fault(chance, kind, chance.randint(1, steps)) for kind in drawn)


def _fault(chance: random.Random, kind: Kind, at: int) -> Fault:
    match kind:
        case Kind.CRASH:
            return Fault(at, kind, chance.choice(tuple(Place)))
        case Kind.ERROR:
            return Fault(at, kind, chance.choice((Place.BEFORE, Place.LOST)))
        case Kind.DELAY | Kind.PAUSE | Kind.STOP | Kind.LATE | Kind.OVERLAP:
            return Fault(at, kind, seconds=chance.choice((0.1, 1.0, 8.0)))
        case _:
            return Fault(at, kind)


# ---- failing well -------------------------------------------------------------------------------


def shrink(setting: Setting, fails: Callable[[Setting], bool]) -> Setting:
    """The setting with as few of its faults as still make it fail, dropping one at a time."""
    faults = list(setting.faults)
    position = 0
    while position < len(faults):
        fewer = replace(setting, faults=(*faults[:position], *faults[position + 1 :]))
        if fails(fewer):
            del faults[position]
        else:
            position += 1
    return replace(setting, faults=tuple(faults))


def failure(setting: Setting, checked: Checked, name: str) -> str:
    """What to print: how to repeat it, what broke, the faults that matter, the last steps."""
    small = shrink(setting, lambda fewer: bool(check(fewer, _undisturbed(fewer)).violations))
    again = check(small, _undisturbed(small))
    return "\n".join(
        [
            f"{name}: {setting.scenario}, seed {setting.seed}",
            *(f"  broken: {violation}" for violation in checked.violations[:5]),
            f"  faults that matter ({len(small.faults)} of {len(setting.faults)}):",
            *(
                f"    Fault({f.at}, Kind.{f.kind.name}, Place.{f.place.name}, {f.seconds})"
                for f in small.faults
            ),
            *(f"  then broken: {violation}" for violation in again.violations[:5]),
            f"  {len(again.report.plan.steps)} steps; the last:",
            again.report.trace(),
        ]
    )


def _undisturbed(setting: Setting) -> Report | None:
    quiet = replace(setting, faults=())
    return simulate(quiet) if has_one_ending(setting) else None


def run_all(settings: Sequence[tuple[str, Setting]]) -> list[str]:
    """Checks settings; the messages of those that fail, two at most."""
    failures: list[str] = []
    for name, setting in settings:
        checked = check(setting, _undisturbed(setting))
        if checked.violations:
            failures.append(failure(setting, checked, name))
        if len(failures) == 2:
            break
    return failures
