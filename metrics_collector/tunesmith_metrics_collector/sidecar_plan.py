# SPDX-License-Identifier: Apache-2.0
"""What the sidecar of a pod is told: arguments, environment, and the plan that the controller wrote
on the pod (tunesmith_controller/admission writes all three)."""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from tunesmith_api.observations import Report, SourceKey
from tunesmith_metrics_collector.collector import AttemptName
from tunesmith_metrics_collector.fleet import CollectedAttempt, MetricsFile
from tunesmith_metrics_collector.sidecar import LAUNCHER, SHARED

PLAN_VARIABLE: Final = "TUNESMITH_COLLECTION"
POD_LOG: Final = "podLog"


class PlanError(ValueError):
    """The sidecar was started with something that it cannot use; the text says what."""


@dataclass(frozen=True, slots=True)
class SidecarOptions:
    """`mode` podLog: the program has no launcher, and the controller reads what it prints.
    `grace`: seconds from SIGTERM until the pod is killed. `pod`: a name for this pod's parts of the
    attempt's sources."""

    observation: str
    plan: Mapping[str, Any]
    shared: Path
    identity: Path
    termination_log: Path
    mode: str = "launcher"
    grace: float = 30.0
    pod: str = ""

    @property
    def output(self) -> Path:
        """What the launcher writes."""
        return self.shared / "output"

    @property
    def name(self) -> AttemptName:
        plan = self.plan
        return AttemptName(plan["trialUid"], plan["attempt"], plan["trialName"], plan["namespace"])

    def report(self, source: str) -> Report:
        """In the attempt's name, of nothing yet."""
        name = self.name
        key = SourceKey(name.trial_uid, name.attempt, source)
        return Report(key, (), 0, name.trial_name, name.namespace)

    @property
    def repeats_output(self) -> bool:
        """Katib's SDK reads a trial's output in the log of the sidecar for this kind only."""
        return self.plan.get("collector", "StdOut") == "StdOut" and self.mode != POD_LOG

    @property
    def leaves_output(self) -> bool:
        """Whether what is printed is somebody else's to report, as a part of `stdout`."""
        return self.plan.get("collector", "StdOut") == "StdOut" and self.mode == POD_LOG

    def attempt(self, part: str) -> CollectedAttempt:
        """What to collect here. Who reads the pod's log reports `stdout` himself."""
        plan, name = self.plan, self.name
        kind = plan.get("collector", "StdOut")
        is_file = kind == "File" and plan.get("metricsPath")
        return CollectedAttempt(
            trial_uid=name.trial_uid,
            attempt=name.attempt,
            trial_name=name.trial_name,
            namespace=name.namespace,
            output=self.output if self.repeats_output else None,
            metrics_file=self.shared / "metrics.jsonl",
            metrics=tuple(plan.get("metrics", ())),
            filters=tuple(plan.get("filters", ())),
            file=self._file() if is_file else None,
            part=part,
            is_shared=True,
        )

    def _file(self) -> MetricsFile:
        path = self.plan["metricsPath"]
        return MetricsFile(Path(path), self.plan.get("metricsFormat", "TEXT"), path)


def parse(arguments: Sequence[str], environment: Mapping[str, str]) -> SidecarOptions:
    """Raises PlanError; ends the process with usage for arguments that there are not."""
    parser = argparse.ArgumentParser("tunesmith_metrics_collector.sidecar")
    parser.add_argument("--observation", required=True, help="the service: HOST:PORT or unix:/PATH")
    parser.add_argument("--mode", choices=("launcher", POD_LOG), default="launcher")
    parser.add_argument("--grace", type=float, default=30.0, help="seconds from SIGTERM to SIGKILL")
    parser.add_argument("--shared", type=Path, default=Path(SHARED))
    parser.add_argument("--identity", type=Path, default=Path("/var/run/tunesmith"))
    parser.add_argument("--termination-log", type=Path, default=Path("/dev/termination-log"))
    parser.add_argument("--launcher", default=LAUNCHER, help="read before this is parsed")
    found = vars(parser.parse_args(arguments))
    del found["launcher"]
    return SidecarOptions(
        plan=_plan(environment), pod=environment.get("TUNESMITH_POD_UID", ""), **found
    )


def _plan(environment: Mapping[str, str]) -> Mapping[str, Any]:
    try:
        plan = json.loads(environment.get(PLAN_VARIABLE, ""))
    except ValueError as error:
        raise PlanError(f"{PLAN_VARIABLE} is no JSON: {error}") from None
    wanted = {"trialUid": str, "trialName": str, "namespace": str, "attempt": int}
    wrong = [k for k, kind in wanted.items() if not isinstance(plan.get(k), kind)]
    if wrong:
        raise PlanError(f"{PLAN_VARIABLE} lacks {', '.join(wrong)}")
    return dict(plan)


def part_of(options: SidecarOptions) -> str:
    """The name of this pod's parts, the same for every sidecar of it: later pods of an attempt have
    greater ones. Raises OSError."""
    place = options.shared / "part"
    try:
        return place.read_text()
    except FileNotFoundError:
        part = f"{time.time_ns() // 1_000_000:013d}-{options.pod[:8] or os.getpid()}"
    write_whole(place, part)
    return part


def write_whole(place: Path, text: str) -> None:
    """A small file that others can read, or none. Raises OSError."""
    hidden = place.with_name(f".{place.name}.new")
    hidden.write_text(text)
    hidden.chmod(0o644)
    hidden.replace(place)
