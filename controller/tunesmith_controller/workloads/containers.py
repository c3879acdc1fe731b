# SPDX-License-Identifier: Apache-2.0
"""The Job's container as a container on this machine: one `podman run` (or `docker run`).

`job_spec.py` calls it in place of looking for a program. The client is what the supervisor runs, so
everything else is as with a process: output, exit code, stop, adoption. Files that both sides need
are mounted under the very path that they have here, so that the variables which name them hold.
"""

from __future__ import annotations

import os
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

_PULL: Final[Mapping[str, str]] = {"Always": "always", "Never": "never", "IfNotPresent": "missing"}
# What the client goes by: where it finds its storage, its registries, its daemon, its proxy.
_SETTINGS: Final = frozenset(
    (
        *("DBUS_SESSION_BUS_ADDRESS", "REGISTRY_AUTH_FILE"),
        *("ALL_PROXY", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY"),
    )
)
_SETTINGS_PREFIXES: Final = ("CONTAINER", "DOCKER_", "STORAGE_")
# What would change the client itself where a template meant its own program.
_CHANGING_PREFIXES: Final = ("LD_", "DYLD_", "XDG_", "SSL_", "BUILDAH_", "PODMAN_", "_CONTAINERS")
_CHANGING: Final = frozenset(
    (
        *("PATH", "HOME", "TMPDIR", "NOTIFY_SOCKET", "LISTEN_FDS", "LISTEN_PID"),
        *("GODEBUG", "GOGC", "GOMAXPROCS", "GOMEMLIMIT", "GOTRACEBACK"),
    )
)


@dataclass(frozen=True, slots=True)
class Container:
    """What the Job says of its container; `values` is its whole environment, `limits` are options
    of the client."""

    image: str
    command: Sequence[str]
    args: Sequence[str]
    values: Mapping[str, str]
    working_dir: str
    pull_policy: str
    limits: Sequence[str] = ()


def container_name(trial_uid: str, attempt: int) -> str:
    """The same for the same attempt, and for no other."""
    return f"tunesmith-{trial_uid}-{attempt}"


def client_command(
    runtime: str, run: TrialRun, wanted: Container, files: AttemptFolder, own: Mapping[str, str]
) -> tuple[tuple[str, ...], dict[str, str]]:
    """The client's command line and environment, of which `own` is what it needs itself. Values for
    the container stay in that environment, out of sight of `ps`, except where the client has a
    variable of that name or goes by it. Raises Invalid."""
    quiet = {
        name: value
        for name, value in wanted.values.items()
        if name not in own and not _changes_client(name)
    }
    return tuple(_argv(runtime, run, wanted, files, quiet)), {**quiet, **own}


def _argv(
    runtime: str, run: TrialRun, wanted: Container, files: AttemptFolder, quiet: Mapping[str, str]
) -> list[str]:
    if not wanted.image:
        raise Invalid("the container has no image, which --runtime needs; write one")
    argv = [runtime, "run", "--rm", "--name", container_name(run.trial_uid, run.attempt)]
    argv += ["--pull", _PULL.get(wanted.pull_policy, "missing")]
    if runtime == "podman":
        argv += ["--http-proxy=false"]  # proxies are for pulls; they can carry passwords
    for source, target in _mounts(run, files):
        argv += ["--volume", f"{source}:{target}:Z"]  # Z: readable in there under SELinux too
    for name, value in wanted.values.items():
        argv += ["--env", name if name in quiet else f"{name}={value}"]
    argv += wanted.limits
    if wanted.working_dir:
        argv += ["--workdir", wanted.working_dir]
    # Kubernetes' rule: `command` takes the place of ENTRYPOINT, `args` that of CMD.
    words = [*wanted.command[1:], *wanted.args]
    if wanted.command:
        argv += ["--entrypoint", wanted.command[0]]
    return [*argv, wanted.image, *words]


def client_settings(environ: Mapping[str, str]) -> dict[str, str]:
    """What the client itself needs to find its storage, daemon, registries and proxy."""
    return {name: value for name, value in environ.items() if _is_setting(name)}


def _is_setting(name: str) -> bool:
    return name.upper() in _SETTINGS or name.startswith(_SETTINGS_PREFIXES)


def _changes_client(name: str) -> bool:
    return name in _CHANGING or _is_setting(name) or name.startswith(_CHANGING_PREFIXES)


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
