# SPDX-License-Identifier: Apache-2.0
"""The command lines of etcd, kube-apiserver, kube-controller-manager and kube-scheduler.

Pure: `running_cluster.py` (API tier) and `node_tier.py` start what this says.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from cluster_client import certificate_user, kubeconfig
from cluster_keys import Authority, Pair, key_pem, new_key, public_pem

SERVICE_RANGE = "198.18.0.0/20"  # 198.18.0.0/15 is reserved for tests of networks
API_SERVICE = "198.18.0.1"
ISSUER = "https://kubernetes.default.svc"
AUDIT_POLICY = {
    "apiVersion": "audit.k8s.io/v1",
    "kind": "Policy",
    "omitStages": ["RequestReceived", "ResponseStarted"],
    "rules": [{"level": "Metadata"}],
}

ETCD, API_SERVER = "etcd", "kube-apiserver"
CONTROLLER_MANAGER, SCHEDULER = "kube-controller-manager", "kube-scheduler"


@dataclass(frozen=True, slots=True)
class Component:
    """A program of the cluster: how it is started, and when it counts as started."""

    name: str
    argv: list[str]
    ready: Callable[[], bool]
    env: dict[str, str] = field(default_factory=dict)
    keep: tuple[int, ...] = ()  # file descriptors that it inherits


@dataclass(frozen=True, slots=True)
class Ports:
    """Where the control plane listens, in the network namespace that it runs in."""

    etcd_peer: int
    api_server: int
    controller_manager: int
    scheduler: int


@dataclass(frozen=True, slots=True)
class Keys:
    """The files that components show each other. `folder` has the names used below."""

    folder: Path

    @classmethod
    def make(cls, folder: Path, names: list[str]) -> "Keys":
        """Makes them; `names` are what the API server is reached by."""
        folder.mkdir(parents=True)
        authority = Authority("test-cluster")
        authority.pair.write(folder, "ca")
        local = ["localhost", "127.0.0.1", API_SERVICE]
        service = ["kubernetes", "kubernetes.default", "kubernetes.default.svc"]
        authority.issue("kube-apiserver", None, [*local, *service, *names]).write(
            folder, "api-server"
        )
        authority.issue("admin", "system:masters").write(folder, "admin")
        authority.issue("system:node:node0", "system:nodes", ["node0", *local, *names]).write(
            folder, "kubelet"
        )
        front = Authority("test-cluster-front-proxy")
        front.pair.write(folder, "front-ca")
        front.issue("front-proxy").write(folder, "front")
        tokens = new_key()
        Pair(public_pem(tokens), key_pem(tokens)).write(folder, "tokens")  # .crt: public half
        return cls(folder)

    def file(self, name: str) -> str:
        """The path of a file, as `ca.crt`."""
        return str(self.folder / name)

    def admin_kubeconfig(self, server: str) -> str:
        """The administrator's kubeconfig for `server`."""
        user = certificate_user(self.folder / "admin.crt", self.folder / "admin.key")
        return kubeconfig(server, self.folder / "ca.crt", user)


def etcd_socket(scratch: Path) -> Path:
    """Where etcd listens: a path is its own, where a port might be another cluster's by now.

    `curl --unix-socket PATH http://etcd/v3/kv/range` reads what is stored.
    """
    return scratch / "etcd.sock"


def etcd(program: str, ports: Ports, scratch: Path) -> list[str]:
    """etcd, without syncing to disk: its data live as long as the tests."""
    client, peer = f"unix://{etcd_socket(scratch)}", f"http://127.0.0.1:{ports.etcd_peer}"
    return [
        program,
        "--name=test",
        f"--data-dir={scratch / 'etcd'}",
        "--unsafe-no-fsync",
        f"--listen-client-urls={client}",
        "--advertise-client-urls=http://127.0.0.1:1",  # wants a port; nobody asks for it
        f"--listen-peer-urls={peer}",
        f"--initial-advertise-peer-urls={peer}",
        f"--initial-cluster=test={peer}",
        "--log-level=warn",
    ]


@dataclass(frozen=True, slots=True)
class ApiServerPlace:
    """Where the API server listens and what it writes."""

    bind: str
    audit_log: Path
    scratch: Path
    node_address: str | None = None  # advertised to pods; None: nothing is advertised


def api_server(program: str, ports: Ports, keys: Keys, place: ApiServerPlace) -> list[str]:
    """kube-apiserver with Node and RBAC authorisation, tokens and an audit log."""
    policy = place.scratch / "audit-policy.json"
    policy.write_text(json.dumps(AUDIT_POLICY))
    address = (
        [f"--advertise-address={place.node_address}"]
        if place.node_address
        else ["--endpoint-reconciler-type=none"]  # a loopback address is no endpoint
    )
    return [
        program,
        f"--etcd-servers=unix://{etcd_socket(place.scratch)}",
        f"--bind-address={place.bind}",
        f"--secure-port={ports.api_server}",
        f"--service-cluster-ip-range={SERVICE_RANGE}",
        f"--client-ca-file={keys.file('ca.crt')}",
        f"--tls-cert-file={keys.file('api-server.crt')}",
        f"--tls-private-key-file={keys.file('api-server.key')}",
        "--authorization-mode=Node,RBAC",
        "--allow-privileged=true",
        f"--service-account-issuer={ISSUER}",
        f"--service-account-key-file={keys.file('tokens.crt')}",
        f"--service-account-signing-key-file={keys.file('tokens.key')}",
        f"--kubelet-client-certificate={keys.file('admin.crt')}",
        f"--kubelet-client-key={keys.file('admin.key')}",
        "--kubelet-preferred-address-types=InternalIP",
        f"--requestheader-client-ca-file={keys.file('front-ca.crt')}",
        f"--proxy-client-cert-file={keys.file('front.crt')}",
        f"--proxy-client-key-file={keys.file('front.key')}",
        "--enable-aggregator-routing=true",
        "--shutdown-watch-termination-grace-period=2s",
        f"--audit-policy-file={policy}",
        f"--audit-log-path={place.audit_log}",
        *address,
    ]


def controller_manager(program: str, ports: Ports, keys: Keys, config: Path) -> list[str]:
    """kube-controller-manager with every controller under an account of its own."""
    return [
        program,
        f"--kubeconfig={config}",
        f"--authentication-kubeconfig={config}",
        f"--authorization-kubeconfig={config}",
        "--bind-address=127.0.0.1",
        f"--secure-port={ports.controller_manager}",
        f"--tls-cert-file={keys.file('api-server.crt')}",
        f"--tls-private-key-file={keys.file('api-server.key')}",
        "--leader-elect=false",
        "--use-service-account-credentials=true",
        f"--service-account-private-key-file={keys.file('tokens.key')}",
        f"--root-ca-file={keys.file('ca.crt')}",
        f"--cluster-signing-cert-file={keys.file('ca.crt')}",
        f"--cluster-signing-key-file={keys.file('ca.key')}",
    ]


def scheduler(program: str, ports: Ports, config: Path) -> list[str]:
    """kube-scheduler."""
    return [
        program,
        f"--kubeconfig={config}",
        f"--authentication-kubeconfig={config}",
        f"--authorization-kubeconfig={config}",
        "--bind-address=127.0.0.1",
        f"--secure-port={ports.scheduler}",
        "--leader-elect=false",
    ]
