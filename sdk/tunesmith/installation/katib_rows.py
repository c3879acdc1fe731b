# SPDX-License-Identifier: Apache-2.0
"""The Job that copies rows out of Katib's database, as Katib installs it (MySQL or PostgreSQL with
a Secret beside)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from tunesmith.installation.cluster_objects import ClusterObjects
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
        "resources": {"requests": {"cpu": "100m", "memory": "128Mi"}},
        "volumeMounts": [
            {"name": "katib", "mountPath": _THEIRS, "readOnly": True},
            {"name": "tunesmith", "mountPath": _OURS, "readOnly": True},
        ],
    }
    pod = {
        "restartPolicy": "OnFailure",
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
        # Until both databases answer, a try fails within seconds; copying goes on where it was.
        "spec": {"backoffLimit": 20, "template": {"metadata": {"labels": own}, "spec": pod}},
    }
