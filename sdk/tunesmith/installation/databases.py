# SPDX-License-Identifier: Apache-2.0
"""A database server that comes with an installation. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from tunesmith.installation.options import (
    DATABASE_SECRET,
    IMPORT,
    OBSERVATION,
    Database,
    Installation,
)
from tunesmith.installation.services import RESTRICTED, claim, labels

Json = dict[str, Any]
_PASSWORD: Final = "/var/run/tunesmith/database"  # noqa: S105 - a folder


@dataclass(frozen=True, slots=True)
class Server:
    """As its public image has it. user: the uid that it runs as."""

    name: str
    image: str
    port: int
    user: int
    data: str
    env: tuple[tuple[str, str], ...]
    writable: tuple[str, ...]


SERVERS: Final = {
    Database.POSTGRES: Server(
        name="tunesmith-postgres",
        image="docker.io/library/postgres:17-bookworm",
        port=5432,
        user=999,
        data="/var/lib/postgresql/data",
        env=(
            ("POSTGRES_USER", "tunesmith"),
            ("POSTGRES_DB", "tunesmith"),
            ("POSTGRES_PASSWORD_FILE", f"{_PASSWORD}/password"),
            ("PGDATA", "/var/lib/postgresql/data/pgdata"),
        ),
        writable=("/var/run/postgresql", "/tmp"),  # noqa: S108 - volumes
    ),
    Database.MYSQL: Server(
        name="tunesmith-mysql",
        image="docker.io/library/mariadb:11.4",
        port=3306,
        user=999,
        data="/var/lib/mysql",
        env=(
            ("MARIADB_USER", "tunesmith"),
            ("MARIADB_DATABASE", "tunesmith"),
            ("MARIADB_PASSWORD_FILE", f"{_PASSWORD}/password"),
            ("MARIADB_RANDOM_ROOT_PASSWORD", "1"),
        ),
        writable=("/run/mysqld", "/tmp"),  # noqa: S108 - volumes
    ),
}


def database(installation: Installation) -> Iterator[Json]:
    """Claim, StatefulSet, Service and who may connect; nothing for a database that is elsewhere."""
    server = SERVERS.get(installation.database)
    if server is None:
        return
    yield claim(installation, server.name, "10Gi")
    yield _stateful_set(installation, server)
    yield {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": _metadata(installation, server),
        "spec": {
            "selector": labels(server.name),
            "ports": [{"name": "sql", "port": server.port, "targetPort": "sql"}],
        },
    }
    yield _policy(installation, server)


def _policy(installation: Installation, server: Server) -> Json:
    """Only the observation service connects."""
    allowed: list[Json] = [
        {"podSelector": {"matchLabels": labels(name)}} for name in (OBSERVATION, IMPORT)
    ]
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": _metadata(installation, server),
        "spec": {
            "podSelector": {"matchLabels": labels(server.name)},
            "policyTypes": ["Ingress"],
            "ingress": [{"from": allowed, "ports": [{"port": "sql", "protocol": "TCP"}]}],
        },
    }


def _metadata(installation: Installation, server: Server) -> Json:
    return {
        "name": server.name,
        "namespace": installation.namespace,
        "labels": labels(server.name),
    }


def _stateful_set(installation: Installation, server: Server) -> Json:
    mounts = [{"name": "data", "mountPath": server.data}]
    mounts += [
        {"name": f"scratch-{n}", "mountPath": path} for n, path in enumerate(server.writable)
    ]
    secret = {"name": "password", "mountPath": _PASSWORD}
    container: Json = {
        "name": "server",
        "image": installation.database_image or server.image,
        "imagePullPolicy": installation.pull_policy,
        "env": [{"name": name, "value": value} for name, value in server.env],
        "ports": [{"name": "sql", "containerPort": server.port}],
        "readinessProbe": {"tcpSocket": {"port": "sql"}, "periodSeconds": 2},
        "resources": {
            "requests": {"cpu": "100m", "memory": "256Mi"},
            "limits": {"memory": "1Gi"},
        },
        "securityContext": RESTRICTED,
        "volumeMounts": [*mounts, {**secret, "readOnly": True}],
    }
    volumes: list[Json] = [
        {"name": "data", "persistentVolumeClaim": {"claimName": server.name}},
        {"name": "password", "secret": {"secretName": DATABASE_SECRET, "defaultMode": 0o440}},
        *({"name": f"scratch-{n}", "emptyDir": {}} for n, _ in enumerate(server.writable)),
    ]
    pod = {
        "automountServiceAccountToken": False,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": server.user,
            "runAsGroup": server.user,
            "fsGroup": server.user,
            "fsGroupChangePolicy": "OnRootMismatch",
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [container],
        "volumes": volumes,
    }
    return {
        "apiVersion": "apps/v1",
        "kind": "StatefulSet",
        "metadata": _metadata(installation, server),
        "spec": {
            "replicas": 1,
            "serviceName": server.name,
            "selector": {"matchLabels": labels(server.name)},
            "template": {"metadata": {"labels": labels(server.name)}, "spec": pod},
        },
    }
