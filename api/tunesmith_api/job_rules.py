# SPDX-License-Identifier: Apache-2.0
"""The rules of the job in a trial template: what Kubernetes itself would refuse, or drop without a
word, is found before the first trial. Called by template_rules.

Fields are those of Kubernetes 1.34; below a container's own fields, and in volumes, affinity and
the like, everything is taken as it is.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from tunesmith_api import kinds, template
from tunesmith_api.field_errors import (
    FieldError,
    Path,
    did_you_mean,
    field_text,
    listed,
    shown,
)

HERE: Final[Path] = ("spec", "trialTemplate", "trialSpec")
_PRIMARY: Final[Path] = ("spec", "trialTemplate", "primaryContainerName")
_POD: Final[Path] = ("spec", "template", "spec")


@dataclass(frozen=True, slots=True)
class _Fields:
    """The fields of an object by what they hold; `below` are objects and lists of objects."""

    noun: str
    others: frozenset[str]
    numbers: frozenset[str] = frozenset()
    flags: frozenset[str] = frozenset()
    below: Mapping[str, _Fields] = field(default_factory=dict)

    @property
    def known(self) -> list[str]:
        return sorted({*self.others, *self.numbers, *self.flags, *self.below})


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_CONTAINER: Final = _Fields(
    "a container",
    _words(
        "args command envFrom image imagePullPolicy lifecycle livenessProbe name ports "
        "readinessProbe resizePolicy restartPolicy restartPolicyRules securityContext startupProbe "
        "terminationMessagePath terminationMessagePolicy volumeDevices workingDir"
    ),
    flags=_words("stdin stdinOnce tty"),
    below={
        "env": _Fields("an environment variable", _words("name value valueFrom")),
        "resources": _Fields("a container's resources", _words("limits requests claims")),
        "volumeMounts": _Fields(
            "a volume mount",
            _words("mountPath mountPropagation name recursiveReadOnly subPath subPathExpr"),
            flags=_words("readOnly"),
        ),
    },
)
_POD_FIELDS: Final = _Fields(
    "a pod",
    _words(
        "affinity dnsConfig dnsPolicy ephemeralContainers hostAliases hostname hostnameOverride "
        "imagePullSecrets nodeName nodeSelector os overhead preemptionPolicy priorityClassName "
        "readinessGates resourceClaims resources restartPolicy runtimeClassName schedulerName "
        "schedulingGates securityContext serviceAccount serviceAccountName subdomain tolerations "
        "topologySpreadConstraints volumes"
    ),
    numbers=_words("activeDeadlineSeconds priority terminationGracePeriodSeconds"),
    flags=_words(
        "automountServiceAccountToken enableServiceLinks hostIPC hostNetwork hostPID hostUsers "
        "setHostnameAsFQDN shareProcessNamespace"
    ),
    below={"containers": _CONTAINER, "initContainers": _CONTAINER},
)
_JOB_SPEC: Final = _Fields(
    "a Job's spec",
    _words("completionMode managedBy podFailurePolicy podReplacementPolicy selector successPolicy"),
    numbers=_words(
        "activeDeadlineSeconds backoffLimit backoffLimitPerIndex completions maxFailedIndexes "
        "parallelism ttlSecondsAfterFinished"
    ),
    flags=_words("manualSelector suspend"),
    below={
        "template": _Fields("a pod template", _words("metadata"), below={"spec": _POD_FIELDS}),
    },
)
_JOB: Final = _Fields("a Job", _words("apiVersion kind metadata status"), below={"spec": _JOB_SPEC})


def job(job: Mapping[str, Any], primary: str) -> Iterator[FieldError]:
    """Every fault of a template's job, whose primary container has the name `primary`."""
    for key in ("apiVersion", "kind"):
        value = job.get(key)
        if not isinstance(value, str) or not value:
            given = f", this is {shown(value)}" if key in job else ""
            yield FieldError((*HERE, key), f"must be given as text{given}")
    metadata = job.get("metadata")
    if metadata is not None and not isinstance(metadata, Mapping):
        yield FieldError((*HERE, "metadata"), f"must be a mapping, this is {shown(metadata)}")
    elif metadata:
        for key in ("name", "namespace"):
            if metadata.get(key):
                yield FieldError(
                    (*HERE, "metadata", key), "is set for each trial; remove it from the template"
                )
    if (job.get("apiVersion"), job.get("kind")) == kinds.JOB:
        yield from _fields(job, _JOB, HERE)
        yield from _batch_job(job, primary)


def _batch_job(job: Mapping[str, Any], primary: str) -> Iterator[FieldError]:
    """A Job has pods, and one of their containers is the primary one."""
    pod: Any = job
    for depth, key in enumerate(_POD):
        pod = pod.get(key)
        if not isinstance(pod, Mapping):
            place, given = (*HERE, *_POD[: depth + 1]), "" if pod is None else f", not {shown(pod)}"
            yield FieldError(place, f"must be given as a mapping{given}")
            return
    names = []
    for path, container in _containers(pod, "containers"):
        names.append(str(container.get("name")))
        yield from _container(container, path)
    for path, container in _containers(pod, "initContainers"):
        yield from _container(container, path)
    if primary and primary not in names:
        yield FieldError(
            _PRIMARY,
            f"{shown(primary)} is none of the containers in the template's {field_text(_POD)}; "
            f"there are: {listed(names)}",
            did_you_mean(primary, names),
        )


def _containers(pod: Mapping[str, Any], key: str) -> Iterator[tuple[Path, Mapping[str, Any]]]:
    found = pod.get(key)
    for index, container in enumerate(found if isinstance(found, list | tuple) else ()):
        if isinstance(container, Mapping):
            yield (*HERE, *_POD, key, index), container


def _container(container: Mapping[str, Any], path: Path) -> Iterator[FieldError]:
    """Kubernetes takes texts only in command, args and env values."""
    for key in ("command", "args"):
        words = container.get(key)
        if words is not None and not isinstance(words, list | tuple):
            yield FieldError((*path, key), f"must be a list of texts, this is {shown(words)}")
            continue
        for index, word in enumerate(words or ()):
            yield from _text((*path, key, index), word)
    env = container.get("env")
    for index, variable in enumerate(env if isinstance(env, list | tuple) else ()):
        if isinstance(variable, Mapping) and variable.get("value") is not None:
            yield from _text((*path, "env", index, "value"), variable["value"])


def _text(path: Path, value: Any) -> Iterator[FieldError]:
    if not isinstance(value, str):
        yield FieldError(path, f"must be text, this is {shown(value)}", "put it in quotes")


# ---- fields -------------------------------------------------------------------------------------


def _fields(given: Mapping[str, Any], fields: _Fields, path: Path) -> Iterator[FieldError]:
    """Katib refuses what its Job type does not have; it is nearly always a slip."""
    known = fields.known
    for key, value in given.items():
        here = (*path, key)
        if key not in known:
            message = f"is not a field of {fields.noun}: Kubernetes would drop it"
            yield FieldError(here, message, did_you_mean(key, known))
        elif key in fields.below:
            yield from _below(value, fields.below[key], here)
        elif fault := _kind_fault(key, value, fields):
            yield FieldError(here, fault)


def _below(value: Any, fields: _Fields, path: Path) -> Iterator[FieldError]:
    if isinstance(value, Mapping):
        yield from _fields(value, fields, path)
    for index, item in enumerate(value if isinstance(value, list | tuple) else ()):
        if isinstance(item, Mapping):
            yield from _fields(item, fields, (*path, index))


def _kind_fault(key: str, value: Any, fields: _Fields) -> str:
    """A placeholder may stand for a number, and for a flag too."""
    if value is None or (isinstance(value, str) and template.placeholders(value)):
        return ""
    if key in fields.numbers and (isinstance(value, bool) or not isinstance(value, int)):
        return f"must be a whole number, this is {shown(value)}"
    if key in fields.flags and not isinstance(value, bool):
        return f"must be true or false, this is {shown(value)}"
    return ""
