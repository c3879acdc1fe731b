# SPDX-License-Identifier: Apache-2.0
"""The Job's container as a container on this machine: one `podman run` (or `docker run`).

`job_spec.py` calls it in place of looking for a program. The client is what the supervisor runs, so
everything else is as with a process: output, exit code, stop, adoption. Files that both sides need
are mounted under the very path that they have here, so that the variables which name them hold.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Final

from tunesmith_controller.ports import Invalid, TrialRun
from tunesmith_controller.workloads.attempt_folder import AttemptFolder

RUNTIMES: Final = ("process", "podman", "docker")
"""What may run trials."""
START_FAILED: Final = range(125, 128)
"""Exit codes of the client itself: it or the container's program could not be started."""

_TRIES: Final = 3

_PULL: Final[Mapping[str, str]] = {"Always": "always", "Never": "never", "IfNotPresent": "missing"}
_OF_THE_CLIENT: Final = ("PATH", "HOME", "TMPDIR", "XDG_RUNTIME_DIR", "LD_LIBRARY_PATH")
_SETTINGS: Final = ("CONTAINERS_CONF", "CONTAINERS_STORAGE_CONF", "DOCKER_HOST", "XDG_RUNTIME_DIR")


@dataclass(frozen=True, slots=True)
class Container:
    """What the Job says of its container; `values` is its whole environment."""

    image: str
    command: Sequence[str]
    args: Sequence[str]
    values: Mapping[str, str]
    working_dir: str
    pull_policy: str


def container_name(trial_uid: str, attempt: int) -> str:
    """The same for the same attempt, and for no other."""
    return f"tunesmith-{trial_uid}-{attempt}"


def client_argv(runtime: str, run: TrialRun, wanted: Container, files: AttemptFolder) -> list[str]:
    """The client's command line. Values stay in its environment, out of sight of `ps`, except
    where a variable of that name is the client's own. Raises Invalid."""
    if not wanted.image:
        raise Invalid("the container has no image, which --runtime needs; write one")
    argv = [runtime, "run", "--rm", "--name", container_name(run.trial_uid, run.attempt)]
    argv += ["--pull", _PULL.get(wanted.pull_policy, "missing")]
    for source, target in _mounts(run, files):
        argv += ["--volume", f"{source}:{target}"]
    for name, value in wanted.values.items():
        argv += ["--env", f"{name}={value}" if name in _OF_THE_CLIENT else name]
    if wanted.working_dir:
        argv += ["--workdir", wanted.working_dir]
    # Kubernetes' rule: `command` takes the place of ENTRYPOINT, `args` that of CMD.
    words = [*wanted.command[1:], *wanted.args]
    if wanted.command:
        argv += ["--entrypoint", wanted.command[0]]
    return [*argv, wanted.image, *words]


def client_environment(environ: Mapping[str, str]) -> dict[str, str]:
    """What the client itself needs to find its settings."""
    return {name: environ[name] for name in _SETTINGS if name in environ}


def _mounts(run: TrialRun, files: AttemptFolder) -> list[tuple[str, str]]:
    same = (files.metrics, files.shared, files.checkpoint)
    mounts = [(str(path), str(path)) for path in same]
    if run.collector == "File" and run.metrics_path:
        folder = PurePosixPath(run.metrics_path).parent
        mounts.append((str(files.target(run.metrics_path).parent), str(folder)))
    for source, target in mounts:
        if ":" in source + target:
            raise Invalid(f"the path {source} or {target} has a colon, which no volume can have")
    return mounts


def prepare(files: AttemptFolder) -> None:
    """The mounted files exist, and whatever user an image has may write them; the folders above
    keep others of this machine out. Raises OSError."""
    files.metrics.touch(mode=0o666)
    for path, mode in (
        (files.metrics, 0o666),
        (files.shared, 0o777),
        (files.shared / "metrics", 0o777),
        (files.checkpoint, 0o777),
    ):
        os.chmod(path, mode)


def remove(runtime: str, name: str, environ: Mapping[str, str]) -> None:
    """Ends and forgets a container that its client could not; nothing when there is none. Raises
    OSError when that does not work."""
    said = ""
    for _ in range(_TRIES):
        # podman first notices, by failing, that a container whose monitor was killed has ended.
        ran = _client([runtime, "rm", "--force", name], environ)
        if not ran.returncode or "no such container" in ran.stderr.lower():
            return
        said = ran.stderr.strip()
    raise OSError(f"{runtime} cannot remove container {name}: {said[-300:]}")


def _client(argv: Sequence[str], environ: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(
            argv,
            env=dict(environ),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=30,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise OSError(f"{' '.join(argv)} does not end") from error
