# SPDX-License-Identifier: Apache-2.0
"""Trials, their jobs and pods as objects that nobody runs, tokens of those pods, and a service of
ours as a process that asks the cluster who calls.

For a cluster without a controller manager: it would delete pods that claim an owner falsely before
anybody could use them.
"""

import base64
import json
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cluster_client import Json
from running_cluster import Cluster

AUDIENCE = "tunesmith.dev/observation"
SYSTEM = "kubeflow"
OBSERVATION_RULES: Sequence[Json] = (
    {
        "apiGroups": ["authentication.k8s.io"],
        "resources": ["tokenreviews"],
        "verbs": ["create"],
    },
    {"apiGroups": [""], "resources": ["pods"], "verbs": ["get", "list"]},
    {"apiGroups": ["batch"], "resources": ["jobs"], "verbs": ["get"]},
    {"apiGroups": ["kubeflow.org"], "resources": ["trials"], "verbs": ["get"]},
)
"""All that the observation service may, but for other kinds of jobs."""
SUGGESTION_RULES = OBSERVATION_RULES[:1]


@dataclass(frozen=True)
class Objects:
    """Makes objects of one namespace."""

    cluster: Cluster
    namespace: str

    @classmethod
    def new(cls, cluster: Cluster, namespace: str) -> "Objects":
        cluster.create_namespace(namespace)
        accounts = f"/api/v1/namespaces/{namespace}/serviceaccounts"
        cluster.api.request("POST", accounts, {"metadata": {"name": "default"}})
        return cls(cluster, namespace)

    def create(self, group: str, plural: str, body: Json) -> Json:
        path = f"/{group}/namespaces/{self.namespace}/{plural}"
        return self.cluster.api.request("POST", path, body)

    def trial(self, name: str, attempt: int, kind: str = "Job") -> Json:
        """As the controller has it when the attempt is about to start."""
        run_spec = {"apiVersion": "batch/v1" if kind == "Job" else "v1", "kind": kind}
        body = {
            "apiVersion": "kubeflow.org/v1beta1",
            "kind": "Trial",
            "metadata": {"name": name},
            "spec": {"runSpec": run_spec},
        }
        trial = self.create("apis/kubeflow.org/v1beta1", "trials", body)
        return self.record(trial, attempt, "")

    def record(self, trial: Json, attempt: int, job_uid: str) -> Json:
        name = trial["metadata"]["name"]
        path = f"/apis/kubeflow.org/v1beta1/namespaces/{self.namespace}/trials/{name}/status"
        run = {"attempt": attempt, "jobUID": job_uid}
        return self.cluster.api.request("PATCH", path, {"status": {"run": run}})

    def job(self, name: str, owner: Json | None, annotations: dict[str, str]) -> Json:
        container = {"name": "main", "image": "none", "command": ["train"]}
        template = {"spec": {"restartPolicy": "Never", "containers": [container]}}
        metadata: Json = {"name": name, "annotations": annotations}
        if owner is not None:
            metadata["ownerReferences"] = [reference(owner)]
        body = {"metadata": metadata, "spec": {"suspend": True, "template": template}}
        return self.create("apis/batch/v1", "jobs", body)

    def attempt(self, trial: Json, attempt: int) -> Json:
        """The job of an attempt, which the Trial records."""
        marks = marks_of(trial, attempt)
        job = self.job(trial["metadata"]["name"], trial, marks)
        self.record(trial, attempt, job["metadata"]["uid"])
        return job

    def pod(
        self,
        name: str,
        owner: Json | None = None,
        annotations: dict[str, str] | None = None,
        **spec: Any,
    ) -> Json:
        """`owner` is a whole reference, or an object."""
        metadata: Json = {"name": name, "annotations": annotations or {}}
        if owner is not None:
            found = owner if "controller" in owner else reference(owner)
            metadata["ownerReferences"] = [found]
        containers = [{"name": "main", "image": "none"}]
        spec = {"containers": containers, "automountServiceAccountToken": False, **spec}
        return self.create("api/v1", "pods", {"metadata": metadata, "spec": spec})

    def runs_at(self, pod: str, address: str, phase: str = "Running") -> None:
        path = f"/api/v1/namespaces/{self.namespace}/pods/{pod}/status"
        status = {"phase": phase, "podIP": address, "podIPs": [{"ip": address}]}
        self.cluster.api.request("PATCH", path, {"status": status})

    def token(self, pod: str | None = None, audience: str | None = AUDIENCE) -> str:
        return self.cluster.service_account_token(self.namespace, "default", audience, pod)


def reference(owner: Json) -> Json:
    return {
        "apiVersion": owner["apiVersion"],
        "kind": owner["kind"],
        "name": owner["metadata"]["name"],
        "uid": owner["metadata"]["uid"],
        "controller": True,
    }


def marks_of(trial: Json, attempt: int) -> dict[str, str]:
    """The annotations of an attempt's job and pods."""
    uid = trial["metadata"]["uid"]
    return {"tunesmith.dev/trial-uid": uid, "tunesmith.dev/attempt": str(attempt)}


def may(cluster: Cluster, account: str, rules: Sequence[Json]) -> Path:
    """A kubeconfig of a service account of the installation, with exactly these rights."""
    config = cluster.kubeconfig_of(SYSTEM, account)
    rbac = "rbac.authorization.k8s.io"
    subject = {"kind": "ServiceAccount", "namespace": SYSTEM, "name": account}
    cluster.apply(
        [
            {
                "apiVersion": f"{rbac}/v1",
                "kind": "ClusterRole",
                "metadata": {"name": account},
                "rules": list(rules),
            },
            {
                "apiVersion": f"{rbac}/v1",
                "kind": "ClusterRoleBinding",
                "metadata": {"name": account},
                "roleRef": {"apiGroup": rbac, "kind": "ClusterRole", "name": account},
                "subjects": [subject],
            },
        ]
    )
    return config


@contextmanager
def service(*words: str, ports: Sequence[int], log: Path) -> Iterator[None]:
    """`tunesmith WORDS...` until the end, once it listens on these ports."""
    with log.open("wb") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", "tunesmith", *words], stdout=out, stderr=subprocess.STDOUT
        )
    try:
        deadline = time.monotonic() + 60
        while not all(map(_is_open, ports)):
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.05)
        yield
    finally:
        process.terminate()
        assert process.wait(30) == 0, log.read_text()


def _is_open(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def forged(token: str, **claims: Any) -> str:
    """The token with other claims and the signature that it had."""
    head, payload, signature = token.split(".")
    said = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    text = base64.urlsafe_b64encode(json.dumps({**said, **claims}).encode()).decode()
    return ".".join((head, text.rstrip("="), signature))
