# SPDX-License-Identifier: Apache-2.0
"""The batch/v1 Job that Kubernetes would show for an attempt that runs elsewhere.

`process.py` and the scripted workloads of the tests build it; success and failure conditions are
evaluated on it. As Kubernetes' Job controller does it: `completionTime` is set on success only,
and a job that runs has neither a Complete nor a Failed condition.
"""

from __future__ import annotations

import copy
import signal
import uuid
from dataclasses import dataclass
from datetime import UTC, datetime

from tunesmith_controller.ports import JobPresent, Json, TrialRun

EXIT_CODE_ANNOTATION = "tunesmith.dev/exit-code"
_UIDS = uuid.UUID("6f0f5a0e-1d0c-5d3c-9b0e-3f6b7b0f6a51")  # ours; drawn once, never to change


@dataclass(frozen=True, slots=True)
class JobEnd:
    """How it ended. `exit_code` is None when no program has run; `restarts` are the failures
    before the last run."""

    succeeded: bool
    at: datetime
    reason: str
    message: str
    exit_code: int | None = None
    restarts: int = 0


def job_uid(run: TrialRun) -> str:
    """The same for the same trial uid and attempt, whoever asks, and different otherwise."""
    return str(uuid.uuid5(_UIDS, f"{run.trial_uid}/{run.attempt}"))


@dataclass(frozen=True, slots=True)
class Failures:
    """Of a Job that goes on: how many runs of it have failed, and how the last of them exited."""

    count: int = 0
    exit_code: int | None = None


def job(
    run: TrialRun,
    started: datetime | None,
    end: JobEnd | None = None,
    failures: Failures = Failures(),
) -> JobPresent:
    """The attempt as a Job that was started, and has ended if `end` says so."""
    metadata = copy.deepcopy(run.spec.get("metadata") or {})
    metadata.setdefault("name", run.trial.name)
    metadata |= {"namespace": run.trial.namespace, "uid": job_uid(run)}
    exit_code = failures.exit_code if end is None else end.exit_code
    if exit_code is not None:
        annotations = metadata.get("annotations") or {}
        metadata["annotations"] = annotations | {EXIT_CODE_ANNOTATION: str(exit_code)}
    status = _status(started, end, failures.count)
    manifest = copy.deepcopy(run.spec) | {"metadata": metadata, "status": status}
    return JobPresent(job_uid(run), manifest)


def exit_code_message(exit_code: int) -> str:
    """ "the command exited with code 137 (killed by SIGKILL; often out of memory)"."""
    text = f"the command exited with code {exit_code}"
    try:
        name = signal.Signals(exit_code - 128).name
    except ValueError:
        return text
    cause = "; often out of memory" if name == "SIGKILL" else ""
    return f"{text} (killed by {name}{cause})"


def _status(started: datetime | None, end: JobEnd | None, failures: int) -> Json:
    status: Json = {} if started is None else {"startTime": _time(started)}
    if end is None:
        return status | {"active": 1} | ({"failed": failures} if failures else {})
    failed = end.restarts + (0 if end.succeeded or started is None else 1)
    if failed:
        status |= {"failed": failed}
    if end.succeeded:
        status |= {"succeeded": 1, "completionTime": _time(end.at)}
    return status | {"conditions": [_condition(end)]}


def _condition(end: JobEnd) -> Json:
    return {
        "type": "Complete" if end.succeeded else "Failed",
        "status": "True",
        "reason": end.reason,
        "message": end.message,
        "lastProbeTime": _time(end.at),
        "lastTransitionTime": _time(end.at),
    }


def _time(instant: datetime) -> str:
    return instant.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
