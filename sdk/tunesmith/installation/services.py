# SPDX-License-Identifier: Apache-2.0
"""Deployments and Services of the three parts of an installation. Pure.

Every pod passes Pod Security "restricted": no root, no privileges, nothing written but where a
volume is.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final

from tunesmith.installation.options import (
    CONTROLLER,
    DATABASE_SECRET,
    DB_MANAGER,
    OBSERVATION,
    PART_OF,
    SUGGESTION,
    Database,
    Installation,
)

Json = dict[str, Any]

USER: Final = 65532
RESTRICTED: Final = {
    "allowPrivilegeEscalation": False,
    "capabilities": {"drop": ["ALL"]},
    "readOnlyRootFilesystem": True,
    "runAsNonRoot": True,
    "seccompProfile": {"type": "RuntimeDefault"},
}
_SCRAPED: Final = {
    "prometheus.io/scrape": "true",
    "prometheus.io/scheme": "http",
    "prometheus.io/port": "8080",
}
"""As on Katib's Service, for the series of the same names."""
_TOKEN: Final = "/var/run/secrets/tunesmith"  # noqa: S105 - a folder
_TLS: Final = "/var/run/tunesmith/tls"
_STATE: Final = "/var/lib/tunesmith"
_PASSWORD: Final = "/var/run/tunesmith/database"  # noqa: S105 - a folder
_HERE: Final = "$(NAMESPACE)"
"""Replaced by kubelet, so that whoever uses kustomize may choose another namespace."""
AUDIENCE: Final = "tunesmith.dev/observation"


def labels(name: str) -> dict[str, str]:
    return {**PART_OF, "app.kubernetes.io/name": name}


def deployments(installation: Installation) -> Iterator[Json]:
    yield _controller(installation)
    yield _suggestion(installation)
    yield _observation(installation)


def services(installation: Installation) -> Iterator[Json]:
    ports = {"webhooks": (443, 8443)} if installation.has_webhooks else {}
    controller = _service(installation, CONTROLLER, CONTROLLER, {**ports, "metrics": (8080, 8080)})
    controller["metadata"]["annotations"] = _SCRAPED
    yield controller
    yield _service(installation, SUGGESTION, SUGGESTION, {"suggestions": (6789, 6789)})
    yield _service(installation, OBSERVATION, OBSERVATION, {"observations": (6790, 6790)})
    if installation.katib_listener:
        yield _service(installation, DB_MANAGER, OBSERVATION, {"api": (6789, 6789)})


def claim(installation: Installation, name: str, size: str = "2Gi") -> Json:
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": _metadata(installation, name),
        "spec": {
            "accessModes": ["ReadWriteOnce"],
            "resources": {"requests": {"storage": size}},
        },
    }


def database_url(installation: Installation) -> str:
    """Without a password."""
    match installation.database:
        case Database.POSTGRES:
            return "postgresql+pg8000://tunesmith@tunesmith-postgres:5432/tunesmith"
        case Database.MYSQL:
            return "mysql+pymysql://tunesmith@tunesmith-mysql:3306/tunesmith"
        case Database.SQLITE:
            return f"sqlite:///{_STATE}/observations.db"
        case Database.EXTERNAL:
            return installation.database_url


# ---- the parts ----------------------------------------------------------------------------------


def _controller(installation: Installation) -> Json:
    args = ["--cluster", "--namespace", _HERE, "--image", installation.image]
    args += ["--token-file", f"{_TOKEN}/token"]
    args += ["--certificates", _TLS if installation.cert_manager else "own"]
    args += ["--webhooks"] if installation.has_webhooks else []
    args += _only(installation)
    ports = {"metrics": 8080, "health": 18080, "webhooks": 8443}
    container = _container(installation, "controller", args, ports)
    container |= {
        "livenessProbe": _http("/healthz", period=20, failures=6),
        "readinessProbe": _http("/readyz", period=5, failures=3),
        "resources": _resources("100m", "256Mi", "2Gi"),
    }
    volumes = [_token(container), _scratch(container)]
    if installation.cert_manager:
        volumes.append(_tls(container, CONTROLLER))
    apart: Json = {"labelSelector": {"matchLabels": labels(CONTROLLER)}}
    apart |= {"topologyKey": "kubernetes.io/hostname"}
    affinity = {
        "podAntiAffinity": {
            "preferredDuringSchedulingIgnoredDuringExecution": [
                {"weight": 100, "podAffinityTerm": apart}
            ]
        }
    }
    return _deployment(
        installation, CONTROLLER, container, volumes, installation.replicas, affinity=affinity
    )


def _suggestion(installation: Installation) -> Json:
    args = ["--cluster", "--namespace", _HERE, "--listen", "0.0.0.0:6789"]
    container = _container(installation, "suggestion", [*args, *_tls_args()], {"suggestions": 6789})
    container |= _probes("suggestions") | {"resources": _resources("100m", "256Mi", "2Gi")}
    volumes = [_scratch(container), _tls(container, SUGGESTION)]
    return _deployment(installation, SUGGESTION, container, volumes, 1)


def _observation(installation: Installation) -> Json:
    args = ["--cluster", "--namespace", _HERE, "--listen", "0.0.0.0:6790"]
    args += [*_tls_args(), "--db", database_url(installation)]
    ports = {"observations": 6790}
    if installation.katib_listener:
        args += ["--katib-listen", "0.0.0.0:6789"]
        ports["api"] = 6789
    args += _only(installation)
    if installation.database is not Database.SQLITE:
        args += ["--db-password-file", f"{_PASSWORD}/password", "--journal", f"{_STATE}/journal"]
    container = _container(installation, "db-manager", args, ports)
    container |= _probes("observations") | {"resources": _resources("100m", "128Mi", "1Gi")}
    volumes = [_scratch(container), _tls(container, OBSERVATION)]
    volumes.append(_claimed(container, "state", OBSERVATION, _STATE))
    if installation.database is not Database.SQLITE:
        volumes.append(_secret(container, "database", DATABASE_SECRET, _PASSWORD))
    return _deployment(installation, OBSERVATION, container, volumes, 1, recreated=True)


def _only(installation: Installation) -> list[str]:
    """The namespace that it is in is written as such."""
    if installation.only is None:
        return []
    return ["--only", _HERE if installation.only == installation.namespace else installation.only]


def _tls_args() -> list[str]:
    return ["--tls-cert", f"{_TLS}/tls.crt", "--tls-key", f"{_TLS}/tls.key"]


# ---- their parts --------------------------------------------------------------------------------


def _deployment(
    installation: Installation,
    name: str,
    container: Json,
    volumes: Sequence[Json],
    replicas: int,
    *,
    recreated: bool = False,
    affinity: Json | None = None,
) -> Json:
    pod: Json = {
        "serviceAccountName": name,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": USER,
            "runAsGroup": USER,
            "fsGroup": USER,
            "fsGroupChangePolicy": "OnRootMismatch",
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [container],
        "volumes": list(volumes),
        **({"affinity": affinity} if affinity else {}),
    }
    # A volume that one pod has at a time would keep the next one from starting.
    strategy = {"type": "Recreate" if recreated else "RollingUpdate"}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": _metadata(installation, name),
        "spec": {
            "replicas": replicas,
            "strategy": strategy,
            "selector": {"matchLabels": labels(name)},
            "template": {"metadata": {"labels": labels(name)}, "spec": pod},
        },
    }


def _container(
    installation: Installation, command: str, args: Sequence[str], ports: dict[str, int]
) -> Json:
    return {
        "name": command,
        "image": installation.image,
        "imagePullPolicy": installation.pull_policy,
        "command": ["tunesmith", command],
        "args": list(args),
        "env": [
            {"name": "HOME", "value": "/tmp"},  # noqa: S108 - a volume of its own
            {"name": "NAMESPACE", "valueFrom": {"fieldRef": {"fieldPath": "metadata.namespace"}}},
        ],
        "ports": [{"name": name, "containerPort": port} for name, port in ports.items()],
        "securityContext": RESTRICTED,
        "volumeMounts": [],
    }


def _service(
    installation: Installation, name: str, part: str, ports: dict[str, tuple[int, int]]
) -> Json:
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": _metadata(installation, name),
        "spec": {
            "selector": labels(part),
            "ports": [
                {"name": each, "port": port, "targetPort": target}
                for each, (port, target) in ports.items()
            ],
        },
    }


def _metadata(installation: Installation, name: str) -> Json:
    return {"name": name, "namespace": installation.namespace, "labels": labels(name)}


def _probes(port: str) -> Json:
    """kubelet's own gRPC probe speaks no TLS."""
    asked: Json = {"tcpSocket": {"port": port}}
    return {
        "readinessProbe": {**asked, "periodSeconds": 2},
        "livenessProbe": {**asked, "periodSeconds": 20, "failureThreshold": 6},
    }


def _http(path: str, *, period: int, failures: int) -> Json:
    return {
        "httpGet": {"path": path, "port": "health"},
        "periodSeconds": period,
        "failureThreshold": failures,
    }


def _resources(cpu: str, memory: str, most: str) -> Json:
    return {"requests": {"cpu": cpu, "memory": memory}, "limits": {"memory": most}}


# ---- volumes, each also mounted -----------------------------------------------------------------


def _mounted(container: Json, name: str, path: str, *, read_only: bool = False) -> None:
    mount = {"name": name, "mountPath": path, **({"readOnly": True} if read_only else {})}
    container["volumeMounts"].append(mount)


def _scratch(container: Json) -> Json:
    _mounted(container, "tmp", "/tmp")  # noqa: S108 - a volume of its own
    return {"name": "tmp", "emptyDir": {}}


def _token(container: Json) -> Json:
    _mounted(container, "token", _TOKEN, read_only=True)
    token = {"path": "token", "audience": AUDIENCE, "expirationSeconds": 3600}
    return {"name": "token", "projected": {"sources": [{"serviceAccountToken": token}]}}


def _tls(container: Json, part: str) -> Json:
    return _secret(container, "tls", f"{part}-tls", _TLS)


def _secret(container: Json, name: str, secret: str, path: str) -> Json:
    _mounted(container, name, path, read_only=True)
    return {"name": name, "secret": {"secretName": secret, "defaultMode": 0o440}}


def _claimed(container: Json, name: str, claim_name: str, path: str) -> Json:
    _mounted(container, name, path)
    return {"name": name, "persistentVolumeClaim": {"claimName": claim_name}}
