# SPDX-License-Identifier: Apache-2.0
"""Reads a batch/v1 Job as a program to start on this machine, or says why that cannot be.

`process.py` calls `plan` once per attempt. What a Job can ask for and a local process cannot give
is refused with a sentence that names the place in the template and the cluster mode; nothing is
quietly left out that would change a result.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tunesmith_controller.ports import Invalid, Json, TrialRun
from tunesmith_controller.workloads import container_limits, containers, environment
from tunesmith_controller.workloads.attempt_folder import AttemptFolder
from tunesmith_controller.workloads.container_limits import Abilities
from tunesmith_controller.workloads.redirect import redirection
from tunesmith_controller.workloads.slots import cpu_millis

FOLDER_ANNOTATION = "tunesmith.dev/folder"
PATH_ANNOTATION = "tunesmith.dev/path"

_POD = "trialSpec.spec.template.spec"
_DEFAULT_PATH = "/usr/local/bin:/usr/bin:/bin"


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a plan depends on beside the Job: the controller's environment, the attempt's files,
    what runs it ("process", or a container runtime) and what that can limit."""

    environ: Mapping[str, str]
    metrics: Path
    work: Path
    runtime: str = "process"
    able: Abilities = field(default_factory=Abilities)

    @property
    def files(self) -> AttemptFolder:
        return AttemptFolder(self.metrics.parent)


@dataclass(frozen=True, slots=True)
class Plan:
    """A program to start. `cpu_millis` is what the template asks for, more than there is or not;
    `grace_seconds` and `deadline_seconds` are None when the template leaves them open."""

    executable: str
    argv: tuple[str, ...]
    env: Mapping[str, str]
    cwd: str
    cpu_millis: int
    grace_seconds: float | None
    deadline_seconds: int | None
    image: str
    wants_gpu: bool
    restarts: int = 0
    container: str = ""


def plan(run: TrialRun, around: Surroundings) -> Plan:
    """Reads the Job of `run`; looks at the disk for its folder and its command only.

    Invalid: it can never run in process mode as it is; the message is for the user.
    """
    _check_kind(run.spec)
    pod = _mapping(_at(run.spec, "spec", "template", "spec"), _POD)
    container, where = _primary(run, pod)
    _check_emulable(run.spec, pod, container, where)
    identity = environment.identity(run, around.metrics)
    declared: Mapping[str, str] = environment.declared(
        run, _sequence(container.get("env"), f"{where}.env"), where, identity
    )
    if around.runtime == "process":
        declared = _with_own_file(run, around, declared)
    started = _process if around.runtime == "process" else _contained
    executable, argv, env, cwd = started(run, around, container, where, declared, identity)
    limits = _limits(container, where)
    return Plan(
        executable=executable,
        argv=argv,
        env=_passable(env, where),
        cwd=cwd,
        restarts=_restarts(run.spec, pod),
        container=""
        if around.runtime == "process"
        else containers.container_name(run.trial_uid, run.attempt),
        cpu_millis=_cpus(limits, where),
        grace_seconds=_grace(pod),
        deadline_seconds=_deadline(run.spec, pod),
        image=str(container.get("image") or ""),
        wants_gpu=any("gpu" in name for name in limits),
    )


_Start = tuple[str, tuple[str, ...], dict[str, str], str]
"""Executable, argv, environment, folder."""


def _process(  # noqa: PLR0917 - what is known of the container
    run: TrialRun,
    around: Surroundings,
    container: Json,
    where: str,
    declared: Mapping[str, str],
    identity: Mapping[str, str],
) -> _Start:
    env = _environment(run, around, declared, identity)
    argv = _argv(container, where, {**declared, **identity})
    if run.collector == "File":
        argv = tuple(map(_own_file(run, around), argv))
    cwd = _folder(run, container, where, around)
    return _executable(argv[0], cwd, env["PATH"], where), argv, env, cwd


def _contained(  # noqa: PLR0917 - what is known of the container
    run: TrialRun,
    around: Surroundings,
    container: Json,
    where: str,
    declared: Mapping[str, str],
    identity: Mapping[str, str],
) -> _Start:
    """The client of a container runtime, which runs the container."""
    values = {"PYTHONUNBUFFERED": "1", **declared, **identity}
    words = {name: _words(container, name, where, values) for name in ("command", "args")}
    wanted = containers.Container(
        image=str(container.get("image") or ""),
        command=words["command"],
        args=words["args"],
        values=values,
        working_dir=str(container.get("workingDir") or ""),
        pull_policy=str(container.get("imagePullPolicy") or ""),
        limits=_limit_options(container, where, around.able),
    )
    own = client_environment(around.environ)
    argv, env = containers.client_command(around.runtime, run, wanted, around.files, own)
    executable = container_client(around.runtime, around.environ)
    return executable, argv, env, str(around.files.path)


def container_client(runtime: str, environ: Mapping[str, str]) -> str:
    """The path of podman or docker. Raises Invalid."""
    path = environ.get("PATH") or _DEFAULT_PATH
    executable = shutil.which(runtime, path=path)
    if executable is None:
        raise Invalid(
            f"{runtime} is not on the PATH of the controller ({path}); install it, or run "
            "without --runtime"
        )
    return executable


def client_environment(environ: Mapping[str, str]) -> dict[str, str]:
    """What podman or docker gets of the controller's environment."""
    path = environ.get("PATH") or _DEFAULT_PATH
    settings = containers.client_settings(environ)
    return {**environment.inherited(environ), **settings, "PATH": path}


def _limit_options(container: Json, where: str, able: Abilities) -> list[str]:
    """CPUs and memory that the container may take; requests are no limits."""
    resources = _mapping(container.get("resources"), f"{where}.resources")
    limits = _mapping(resources.get("limits"), f"{where}.resources.limits")
    try:
        return container_limits.options(limits, able)
    except ValueError as error:
        raise Invalid(f"{where}.resources.limits: {error}") from None


def _own_file(run: TrialRun, around: Surroundings) -> Callable[[str], str]:
    return redirection(run.metrics_path, str(around.files.target(run.metrics_path)))


def _with_own_file(
    run: TrialRun, around: Surroundings, declared: Mapping[str, str]
) -> Mapping[str, str]:
    if run.collector != "File":
        return declared
    own = _own_file(run, around)
    return {name: own(value) for name, value in declared.items()}


# ---- what can be run at all ---------------------------------------------------------------------


def _check_kind(spec: Json) -> None:
    kind, version = spec.get("kind"), spec.get("apiVersion")
    if (kind, version) != ("Job", "batch/v1"):
        raise Invalid(
            f"trialSpec is a {kind} of {version}; process mode runs batch/v1 Jobs only: write the "
            f"template as a Job, or use the cluster mode, which runs any kind"
        )


def _primary(run: TrialRun, pod: Json) -> tuple[Json, str]:
    where = f"{_POD}.containers"
    containers = [
        _mapping(entry, f"{where}[{number}]")
        for number, entry in enumerate(_sequence(pod.get("containers"), where))
    ]
    names = [str(container.get("name")) for container in containers]
    if run.primary_container not in names:
        present = ", ".join(names) or "none"
        raise Invalid(
            f"{where} has no container {run.primary_container!r} (there are: {present}); "
            f"primaryContainerName must be one of them"
        )
    if len(containers) > 1:
        others = ", ".join(name for name in names if name != run.primary_container)
        raise Invalid(
            f"{where}: process mode starts one program a trial, and there is also {others}; "
            f"remove it, or use the cluster mode"
        )
    number = names.index(run.primary_container)
    return containers[number], f"{where}[{number}]"


def _check_emulable(spec: Json, pod: Json, container: Json, where: str) -> None:
    job = _mapping(spec.get("spec"), "trialSpec.spec")
    refused = [
        (pod.get("initContainers"), f"{_POD}.initContainers", "containers before the program"),
        (container.get("envFrom"), f"{where}.envFrom", "values that only a cluster holds"),
        (container.get("volumeMounts"), f"{where}.volumeMounts", "paths of the container only"),
        (_above_one(job.get("parallelism")), "trialSpec.spec.parallelism", "several pods"),
        (_above_one(job.get("completions")), "trialSpec.spec.completions", "several pods"),
    ]
    for value, place, meaning in refused:
        if value:
            raise Invalid(
                f"{place} asks for {meaning}, which process mode does not have; remove it, or use "
                f"the cluster mode"
            )


def _above_one(count: object) -> bool:
    return isinstance(count, int) and count > 1


# ---- command, environment, folder ---------------------------------------------------------------


def _words(container: Json, name: str, where: str, values: Mapping[str, str]) -> tuple[str, ...]:
    """`command` or `args`, with `$(NAME)` expanded."""
    texts = _texts(container.get(name), f"{where}.{name}")
    words = tuple(environment.expand(text, values) for text in texts)
    for word in words:
        _check_passable(word, f"{where}: the argument {word[:80]!r}")
    return words


def _argv(container: Json, where: str, values: Mapping[str, str]) -> tuple[str, ...]:
    command = _words(container, "command", where, values)
    if not command:
        image = container.get("image") or "its image"
        raise Invalid(
            f"{where} has no command: it would run what {image} says, and process mode pulls no "
            f"images; write the command there, use --runtime podman, or the cluster mode"
        )
    return command + _words(container, "args", where, values)


def _environment(
    run: TrialRun, around: Surroundings, declared: Mapping[str, str], identity: Mapping[str, str]
) -> dict[str, str]:
    path = run.context.get(PATH_ANNOTATION) or around.environ.get("PATH") or _DEFAULT_PATH
    base = {**environment.inherited(around.environ), "PATH": path, "PYTHONUNBUFFERED": "1"}
    return {**base, **declared, **identity}


def _folder(run: TrialRun, container: Json, where: str, around: Surroundings) -> str:
    """The Experiment file's folder, `workingDir` in it, or, without either, a fresh one."""
    recorded = run.context.get(FOLDER_ANNOTATION)
    wanted = container.get("workingDir")
    path = os.path.join(recorded or str(around.work), str(wanted or ""))
    if os.path.isdir(path) or (not recorded and not wanted):
        return os.path.normpath(path)
    if wanted:
        raise Invalid(
            f"{where}.workingDir: there is no folder {path} on this machine (it may exist in the "
            f"image only); remove workingDir to run in the experiment file's folder, or create it"
        )
    raise Invalid(
        f"the folder {recorded} from which the experiment was submitted is not there any more; "
        f"submit it again from where its files are"
    )


def _executable(command: str, cwd: str, path: str, where: str) -> str:
    """Looked up as execvp would, with the trial's own PATH and folder."""
    direct = os.path.join(cwd, command) if "/" in command else ""
    found = shutil.which(direct or command, path=_absolute(path, cwd))
    if found is not None:
        return found
    if direct:
        cause = "is no file that can be run" if os.path.exists(direct) else "does not exist"
        raise Invalid(
            f"{where}.command: {direct} {cause} on this machine (it may exist in the image only); "
            f"correct the path, or use the cluster mode"
        )
    raise Invalid(
        f"{where}.command: {command} is not on the PATH of this trial ({path}); install it, "
        f"activate its environment and submit again, or use the cluster mode"
    )


def _absolute(path: str, cwd: str) -> str:
    return os.pathsep.join(os.path.join(cwd, entry) for entry in path.split(os.pathsep))


def _passable(env: Mapping[str, str], where: str) -> Mapping[str, str]:
    for name, value in env.items():
        _check_passable(value, f"{where}: the value of {name}")
    return env


def _check_passable(text: str, what: str) -> None:
    """A program's arguments are bytes that end at the first zero."""
    if "\0" in text:
        raise Invalid(f"{what} holds a NUL character, which no program can be given")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise Invalid(f"{what} holds half a character (a lone surrogate)") from None


# ---- limits -------------------------------------------------------------------------------------


def _limits(container: Json, where: str) -> Mapping[str, Any]:
    """Limits, and requests where there is no limit."""
    resources = _mapping(container.get("resources"), f"{where}.resources")
    requests = _mapping(resources.get("requests"), f"{where}.resources.requests")
    return requests | _mapping(resources.get("limits"), f"{where}.resources.limits")


def _cpus(limits: Mapping[str, Any], where: str) -> int:
    try:
        return cpu_millis(limits.get("cpu", 1))
    except ValueError as error:
        raise Invalid(f"{where}.resources: cpu {error}") from None


def _grace(pod: Json) -> float | None:
    seconds = pod.get("terminationGracePeriodSeconds")
    return float(seconds) if isinstance(seconds, int) and seconds >= 0 else None


def _restarts(spec: Json, pod: Json) -> int:
    """How often a program that fails is started again. Kubernetes' own default of 6 is for pods
    that fail with their machine; here a program that fails says so at once."""
    policy, limit = pod.get("restartPolicy"), _at(spec, "spec", "backoffLimit")
    if policy not in (None, "", "Never", "OnFailure"):
        raise Invalid(f"{_POD}.restartPolicy is {policy!r}; a Job has Never or OnFailure")
    if limit is None:
        return 0
    if not isinstance(limit, int) or isinstance(limit, bool) or limit < 0:
        raise Invalid(
            f"trialSpec.spec.backoffLimit is {limit!r}; it must be a whole number, at least 0"
        )
    return limit


def _deadline(spec: Json, pod: Json) -> int | None:
    """The shorter of the Job's and the pod's; they begin together here."""
    found = []
    for seconds, place in (
        (_at(spec, "spec", "activeDeadlineSeconds"), "trialSpec.spec"),
        (pod.get("activeDeadlineSeconds"), _POD),
    ):
        if seconds is None:
            continue
        if not isinstance(seconds, int) or isinstance(seconds, bool) or seconds < 1:
            raise Invalid(
                f"{place}.activeDeadlineSeconds is {seconds!r}; it must be a whole number of "
                f"seconds, at least 1"
            )
        found.append(seconds)
    return min(found, default=None)


# ---- shapes -------------------------------------------------------------------------------------


def _at(value: Any, *path: str) -> Any:
    for name in path:
        value = value.get(name) if isinstance(value, Mapping) else None
    return value


def _mapping(value: Any, where: str) -> Json:
    if not isinstance(value, dict | None):
        raise Invalid(f"{where} is {value!r}; it must be a mapping")
    return value or {}


def _sequence(value: Any, where: str) -> Sequence[Any]:
    if not isinstance(value, list | None):
        raise Invalid(f"{where} is {value!r}; it must be a list")
    return value or []


def _texts(value: Any, where: str) -> list[str]:
    words = _sequence(value, where)
    for number, word in enumerate(words):
        if not isinstance(word, str):
            raise Invalid(f"{where}[{number}] is {word!r}, which is no text; put it in quotes")
    return list(words)
