# SPDX-License-Identifier: Apache-2.0
"""What the exit record of an attempt means as the state of its Job; `process.py` asks."""

from __future__ import annotations

import os

from tunesmith_controller.ports import JobLost, JobState, TrialRun
from tunesmith_controller.workloads import containers
from tunesmith_controller.workloads.attempt_folder import AttemptFolder, Ending, Exit, exit_code
from tunesmith_controller.workloads.job_manifest import JobEnd, exit_code_message, job

_LAST_BYTES = 2000


def last_words(folder: AttemptFolder, ended: Exit) -> str | None:
    """What was printed last before the client of a container exited as when it could not start it;
    None for any other end."""
    if ended.ending is not Ending.EXITED or ended.code not in containers.START_FAILED:
        return None
    if not (folder.is_accepted and folder.launch().container):
        return None
    with open(folder.output, "rb") as output:
        output.seek(max(0, os.fstat(output.fileno()).st_size - _LAST_BYTES))
        lines = output.read().decode("utf-8", "replace").strip().splitlines()
    return lines[-1][:500] if lines else "it printed nothing"


def ended_state(run: TrialRun, ended: Exit, last_words: str | None = None) -> JobState:
    """How the end of an attempt's process shows as the end of its Job. `last_words`: of a client
    that seems not to have started its container."""
    if ended.ending in (Ending.LOST, Ending.INTERRUPTED) or ended.ended_at is None:
        return JobLost(ended.message or "its supervisor was told to end, as at a shutdown")
    code = _exit_code(ended)
    reason, message = _reason(ended, code)
    if last_words is not None:
        reason = "StartFailed"
        message = f"its container, or a command in it, could not be started: {last_words}"
    if ended.leftovers:
        message += f"; {ended.leftovers} of its processes could not be ended"
        message += f" ({ended.message})" if ended.message else ""
    succeeded = ended.ending is Ending.EXITED and code == 0
    return job(
        run,
        ended.started_at,
        JobEnd(succeeded, ended.ended_at, reason, message, code, ended.restarts),
    )


def _exit_code(ended: Exit) -> int | None:
    if ended.ending is Ending.START_FAILED:
        return None
    return exit_code(ended.code, ended.signal)


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
