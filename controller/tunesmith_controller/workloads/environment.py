# SPDX-License-Identifier: Apache-2.0
"""The environment of a trial's program in process mode, and Kubernetes' `$(NAME)` in it.

`job_spec.py` calls it. A program gets, later ones winning: a few variables of the controller's own
environment (below; none that carries a secret by custom), the PATH of whoever submitted the
experiment, the container's `env`, and last what names the trial, which a template cannot change.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tunesmith_controller.ports import Invalid, TrialRun
from tunesmith_controller.workloads.attempt_folder import AttemptFolder
from tunesmith_controller.workloads.stragglers import METRICS_VARIABLE

# Who and where one is, languages, certificates, caches of models, libraries and devices. Not
# inherited on purpose: tokens and passwords of any name, proxies (their URLs carry passwords),
# PYTHONPATH and VIRTUAL_ENV (the controller's own, not the submitter's).
_INHERITED = frozenset(
    (
        *("HOME", "LOGNAME", "SHELL", "TMPDIR", "TZ", "USER"),
        *("LANG", "LANGUAGE"),
        *("XDG_CACHE_HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME", "XDG_RUNTIME_DIR"),
        *("CURL_CA_BUNDLE", "REQUESTS_CA_BUNDLE"),
        *("HF_HOME", "KERAS_HOME", "NLTK_DATA", "TORCH_HOME"),
        *("DYLD_FALLBACK_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "LD_LIBRARY_PATH"),
        *("HIP_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES"),
        *("MKL_NUM_THREADS", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"),
    )
)
_INHERITED_PREFIXES = ("LC_", "SSL_CERT_", "CUDA_", "NVIDIA_")

_TRIAL_UID, _ATTEMPT = "TUNESMITH_TRIAL_UID", "TUNESMITH_ATTEMPT"
_TRIAL_NAME, _KATIB_TRIAL_NAME = "TUNESMITH_TRIAL_NAME", "KATIB_TRIAL_NAME"
_CHECKPOINT, _STOP = "TUNESMITH_CHECKPOINT_DIR", "TUNESMITH_STOP_FILE"
_METRICS_PATH = "TUNESMITH_METRICS_PATH"
RESERVED = (
    *(_TRIAL_UID, _ATTEMPT, _TRIAL_NAME, _KATIB_TRIAL_NAME),
    *(METRICS_VARIABLE, _METRICS_PATH, _CHECKPOINT, _STOP),
)

_FIELDS: Mapping[str, Callable[[TrialRun, str], str]] = {
    "metadata.name": lambda run, job_name: job_name,
    "metadata.namespace": lambda run, job_name: run.trial.namespace,
}
_DOLLAR = re.compile(r"\$(\$|\(([^)]*)\))", re.DOTALL)


def inherited(environ: Mapping[str, str]) -> dict[str, str]:
    """What a trial may have of the controller's environment."""
    return {
        name: value
        for name, value in environ.items()
        if name in _INHERITED or name.startswith(_INHERITED_PREFIXES)
    }


def identity(run: TrialRun, metrics: Path) -> dict[str, str]:
    """What tells a program, and whoever looks for its processes, whose it is, and where its files
    are. `metrics` is in the attempt's folder."""
    files = AttemptFolder(metrics.parent)
    own = {_METRICS_PATH: str(files.target(run.metrics_path))} if run.collector == "File" else {}
    return {
        **own,
        _CHECKPOINT: str(files.checkpoint),
        _STOP: str(files.stop_word),
        _KATIB_TRIAL_NAME: run.trial.name,
        _TRIAL_NAME: run.trial.name,
        _TRIAL_UID: run.trial_uid,
        _ATTEMPT: str(run.attempt),
        METRICS_VARIABLE: str(metrics),
    }


def declared(
    run: TrialRun, entries: Sequence[Any], where: str, given: Mapping[str, str]
) -> dict[str, str]:
    """The container's `env` list, `$(NAME)` expanded with `given` and earlier entries.

    Invalid: an entry that is no name and value, or takes its value from what only a cluster has,
    or would change who the trial is.
    """
    values: dict[str, str] = {}
    for number, entry in enumerate(entries):
        place = f"{where}.env[{number}]"
        name = entry.get("name") if isinstance(entry, Mapping) else None
        if not isinstance(name, str) or not name or "=" in name or "\0" in name:
            raise Invalid(f"{place}: an entry needs a name without '='; it is {entry!r}")
        if name in RESERVED:
            raise Invalid(
                f"{place} sets {name}, which tunesmith sets itself to tell trials apart; remove it"
            )
        value = _value(run, entry, place)
        values[name] = expand(value, {**given, **values})
    return values


def expand(text: str, values: Mapping[str, str]) -> str:
    """`$(NAME)` becomes the value, or stays when there is none; `$$` is a dollar sign.

    As Kubernetes does it in command, args and env (k8s.io/kubernetes third_party/forked/golang/
    expansion); the result is not expanded again.
    """

    def replace(matched: re.Match[str]) -> str:
        if matched[1] == "$":
            return "$"
        return values.get(matched[2], matched[0])

    return _DOLLAR.sub(replace, text)


def _value(run: TrialRun, entry: Mapping[str, Any], place: str) -> str:
    source = entry.get("valueFrom")
    if source is not None:
        return _from_field(run, source, place)
    value = entry.get("value")
    if value is None:
        return ""
    if not isinstance(value, str):
        raise Invalid(f"{place}.value is {value!r}, which is no text; put it in quotes")
    return value


def _from_field(run: TrialRun, source: Any, place: str) -> str:
    reference = source.get("fieldRef") if isinstance(source, Mapping) else None
    path = reference.get("fieldPath") if isinstance(reference, Mapping) else None
    field = _FIELDS.get(str(path))
    if field is None:
        kind = path or (next(iter(source), "") if isinstance(source, Mapping) else source)
        raise Invalid(
            f"{place}.valueFrom takes its value from {kind}, which exists on a cluster only; in "
            f"process mode give a value, or one of {', '.join(_FIELDS)}, or use the cluster mode"
        )
    metadata = run.spec.get("metadata") or {}
    return field(run, str(metadata.get("name") or run.trial.name))
