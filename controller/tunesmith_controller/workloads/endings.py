# SPDX-License-Identifier: Apache-2.0
"""What the exit record of an attempt means as the state of its Job; `process.py` asks."""

from __future__ import annotations

from tunesmith_controller.ports import JobLost, JobState, TrialRun
from tunesmith_controller.workloads import containers
from tunesmith_controller.workloads.attempt_folder import Ending, Exit
from tunesmith_controller.workloads.job_manifest import JobEnd, exit_code_message, job


def ended_state(run: TrialRun, ended: Exit, *, contained: bool = False) -> JobState:
    """How the end of an attempt's process shows as the end of its Job. `contained`: the process
    was the client of a container."""
    if ended.ending in (Ending.LOST, Ending.INTERRUPTED) or ended.ended_at is None:
        return JobLost(ended.message or "its supervisor was told to end, as at a shutdown")
    code = _exit_code(ended)
    reason, message = _reason(ended, code)
    if contained and ended.ending is Ending.EXITED and code in containers.START_FAILED:
        reason = "StartFailed"
        message = f"its container could not be started (code {code}); its log says why"
    if ended.leftovers:
        message += f"; {ended.leftovers} of its processes could not be ended"
    succeeded = ended.ending is Ending.EXITED and code == 0
    return job(
        run,
        ended.started_at,
        JobEnd(succeeded, ended.ended_at, reason, message, code, ended.restarts),
    )


def _exit_code(ended: Exit) -> int | None:
    if ended.ending is Ending.START_FAILED:
        return None
    return ended.code if ended.signal is None else 128 + ended.signal


def _reason(ended: Exit, code: int | None) -> tuple[str, str]:
    match ended.ending:
        case Ending.STOPPED:
            return "Stopped", "stopped on request"
        case Ending.STOPPED_BEFORE_START:
            return "Stopped", "stopped before it started"
        case Ending.DEADLINE_EXCEEDED:
            return "DeadlineExceeded", "it ran longer than activeDeadlineSeconds allows"
        case Ending.START_FAILED:
            return "StartFailed", f"the command could not be started: {ended.message}"
    message = exit_code_message(code or 0)
    if code and ended.restarts:
        return "BackoffLimitExceeded", f"it failed {ended.restarts + 1} times; the last: {message}"
    return ("CommandFailed", message) if code else ("CompletionsReached", message)
