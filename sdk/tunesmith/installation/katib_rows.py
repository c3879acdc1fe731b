# SPDX-License-Identifier: Apache-2.0
"""The Job that copies rows out of Katib's database, as Katib installs it (MySQL or PostgreSQL with
a Secret beside). Made by `install --take-over`; `doctor` says how it fares."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any, Final

from tunesmith.installation.cluster_objects import ClusterObjects
from tunesmith.installation.findings import Finding, mended_by
from tunesmith.installation.options import (
    CONTROLLER,
    DATABASE_SECRET,
    IMPORT,
    INSTANCE,
    Database,
    Installation,
)
from tunesmith.installation.services import database_url, labels

Json = dict[str, Any]
_THEIRS: Final = "/katib"
_OURS: Final = "/tunesmith-database"
_HOPELESS: Final = 2
"""The exit status of what another try does not mend; 3 is a database that does not answer yet."""
_TOLD_LETTERS: Final = 300


@dataclass(frozen=True, slots=True)
class _Kind:
    service: str
    url: str
    secret: str
    key: str


_KATIBS: Final = (
    _Kind(
        "katib-mysql",
        "mysql://root@katib-mysql:3306/katib",
        "katib-mysql-secrets",
        "MYSQL_ROOT_PASSWORD",
    ),
    _Kind(
        "katib-postgres",
        "postgresql://katib@katib-postgres:5432/katib",
        "katib-postgres-secrets",
        "POSTGRES_PASSWORD",
    ),
)


async def import_job(objects: ClusterObjects, installation: Installation) -> Json | str:
    """Or a sentence that says why there can be none, and what to do."""
    by_hand = "tunesmith import katib-db URL --to URL --trials-of-cluster does it by hand"
    if installation.database is Database.SQLITE:
        return f"a file is the observation service's alone; {by_hand}, with that service stopped"
    namespace = installation.namespace
    for kind in _KATIBS:
        secret = await objects.get("Secret", kind.secret, namespace)
        if await objects.get("Service", kind.service, namespace) and secret:
            if kind.key in (secret.get("data") or {}):
                return _job(installation, kind)
            return f"Secret {kind.secret} has no {kind.key}; {by_hand}"
    names = " or ".join(kind.service for kind in _KATIBS)
    return f"namespace {namespace} has no {names} with its Secret; {by_hand}"


def _job(installation: Installation, kind: _Kind) -> Json:
    own = {**labels(IMPORT), INSTANCE: installation.namespace}
    args = ["import", "katib-db", kind.url, "--password-file", f"{_THEIRS}/{kind.key}"]
    args += ["--to", database_url(installation), "--to-password-file", f"{_OURS}/password"]
    args += ["--only", installation.only] if installation.only else ["--trials-of-cluster"]
    restricted: Json = {
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
        "readOnlyRootFilesystem": True,
    }
    container = {
        "name": "import",
        "image": installation.image,
        "imagePullPolicy": installation.pull_policy,
        "command": ["tunesmith"],
        "args": args,
        "securityContext": restricted,
        # `doctor` shows it.
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "resources": {"requests": {"cpu": "100m", "memory": "128Mi"}},
        "volumeMounts": [
            {"name": "katib", "mountPath": _THEIRS, "readOnly": True},
            {"name": "tunesmith", "mountPath": _OURS, "readOnly": True},
        ],
    }
    pod = {
        "restartPolicy": "Never",  # pods that failed stay, and say why
        # The controller's rights name the trials of all namespaces that it looks after.
        "serviceAccountName": CONTROLLER,
        "automountServiceAccountToken": True,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": 65532,
            "fsGroup": 65532,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [container],
        "volumes": [
            {"name": "katib", "secret": {"secretName": kind.secret}},
            {"name": "tunesmith", "secret": {"secretName": DATABASE_SECRET}},
        ],
    }
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": IMPORT, "namespace": installation.namespace, "labels": own},
        # Until both databases answer a try fails within seconds, and another follows, in the end
        # every 6 minutes.
        "spec": {
            "backoffLimit": 12,
            "podFailurePolicy": {"rules": _rules("import")},
            "template": {"metadata": {"labels": own}, "spec": pod},
        },
    }


def _rules(container: str) -> list[Json]:
    moved = {"type": "DisruptionTarget", "status": "True"}
    codes = {"containerName": container, "operator": "In", "values": [_HOPELESS]}
    return [
        {"action": "Ignore", "onPodConditions": [moved]},
        {"action": "FailJob", "onExitCodes": codes},
    ]


# ---- how it fares -------------------------------------------------------------------------------


def is_over(job: Json, how: str = "Failed") -> bool:
    """Whether the Job ended so: Failed, or Complete."""
    conditions = (job.get("status") or {}).get("conditions") or []
    return any(each["type"] == how and each["status"] == "True" for each in conditions)


async def check_import(objects: ClusterObjects, there: Installation) -> AsyncIterator[Finding]:
    """Said only where rows of a Katib are copied."""
    job = await objects.get("Job", IMPORT, there.namespace)
    if job is None:
        return
    if is_over(job, "Complete"):
        yield Finding(f"Job {IMPORT}", "the rows of Katib's database are copied")
        return
    why = await _last_words(objects, there.namespace)
    if is_over(job):
        fault = f"it gave up copying rows of Katib's database: {why or 'its pods do not say why'}"
        again = f"tunesmith install -n {there.namespace} --take-over"
        yield mended_by(again, f"Job {IMPORT}", fault)
        return
    tried = f"; it tries again after: {why}" if why else ""
    yield Finding(f"Job {IMPORT}", f"copies the rows of Katib's database{tried}")


async def _last_words(objects: ClusterObjects, namespace: str) -> str:
    """Of the newest pod of it that failed; empty without one."""
    pods = await objects.list("Pod", namespace, labels=f"batch.kubernetes.io/job-name={IMPORT}")
    failed = [pod for pod in pods if (pod.get("status") or {}).get("phase") == "Failed"]
    newest = max(failed, key=lambda pod: str(pod["metadata"]["creationTimestamp"]), default={})
    for container in (newest.get("status") or {}).get("containerStatuses") or []:
        ended = (container.get("state") or {}).get("terminated") or {}
        said = " ".join(str(ended.get("message") or ended.get("reason") or "").split())
        _, found, sentence = said.rpartition("error: ")
        return (sentence if found else said)[-_TOLD_LETTERS:]
    return ""
