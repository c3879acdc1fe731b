# SPDX-License-Identifier: Apache-2.0
"""A node with an installation of tunesmith on PostgreSQL, made as a person would, and what people
do to it."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from cluster_client import Json
from cluster_images import PYTHON, TUNESMITH, debian
from image_archive import Image
from node_tier import import_images
from running_cluster import Cluster

SYSTEM = "kubeflow"
POSTGRES = "test.local/postgres:1"
_ENDS = ("Succeeded", "Failed")
_POSTGRES_USER = 999
_POSTGRES_START = """
set -e
export PATH=$(echo /usr/lib/postgresql/*/bin):$PATH PGPASSWORD=$(cat "$POSTGRES_PASSWORD_FILE")
if [ ! -e "$PGDATA/ready" ]; then
  rm -rf "$PGDATA"
  initdb -D "$PGDATA" -U "$POSTGRES_USER" --pwfile="$POSTGRES_PASSWORD_FILE" -A scram-sha-256
  echo 'host all all all scram-sha-256' >>"$PGDATA/pg_hba.conf"
  pg_ctl -D "$PGDATA" -w -o "-k /tmp -c listen_addresses=" start
  createdb -h /tmp -U "$POSTGRES_USER" "$POSTGRES_DB"
  pg_ctl -D "$PGDATA" -w stop
  touch "$PGDATA/ready"
fi
exec postgres -D "$PGDATA" -k /tmp -c 'listen_addresses=*' -c fsync=off
"""


def postgres_image() -> Image:
    """Behaves as the public one, as far as an installation asks of it."""
    # SIGINT: it does not wait for its clients to go.
    config = {"Entrypoint": ["bash", "-c", _POSTGRES_START], "StopSignal": "SIGINT"}
    return debian(POSTGRES, ["postgresql"], config, _POSTGRES_USER)


class Installed:
    """The installation on a node."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster

    # ---- experiments ----------------------------------------------------------------------------

    def create(self, experiment: Json) -> None:
        self.cluster.apply(experiment)

    def experiment(self, namespace: str, name: str) -> Json:
        return self.cluster.api.request("GET", f"{_experiments(namespace)}/{name}")

    def trials(self, namespace: str) -> list[Json]:
        return list(self.cluster.api.request("GET", _trials(namespace))["items"])

    def ended(self, namespace: str, name: str, seconds: float = 120) -> Json:
        """The experiment, once it is over."""
        self.wait(lambda: state(self.experiment(namespace, name)) in _ENDS, f"{name} over", seconds)
        return self.experiment(namespace, name)

    def wait(self, condition: Callable[[], Any], what: str, seconds: float = 60) -> None:
        try:
            self.cluster.wait_until(condition, what, seconds)
        except Exception:
            print(self.log("controller")[-6000:])
            raise

    # ---- the parts ------------------------------------------------------------------------------

    def log(self, part: str) -> str:
        words = ["logs", "-n", SYSTEM, "--all-pods", "--tail", "40"]
        return self.cluster.kubectl(*words, f"deploy/tunesmith-{part}")

    def scale(self, what: str, replicas: int) -> None:
        """Returns when that many pods are ready, or none is left: one that ends still answers."""
        self.cluster.kubectl("scale", "-n", SYSTEM, what, "--replicas", str(replicas))
        self.until_ready(what, replicas)
        if not replicas:
            self.wait(lambda: not self._pods(what.rpartition("/")[2]), f"no pod of {what}", 90)

    @contextlib.contextmanager
    def without(self, what: str, replicas: int) -> Iterator[None]:
        """While nothing of it runs; `replicas` are back afterwards, whatever happened."""
        self.scale(what, 0)
        try:
            yield
        finally:
            self.scale(what, replicas)

    def until_ready(self, what: str, replicas: int, seconds: float = 90) -> None:
        def is_so() -> bool:
            path = "{.status.readyReplicas}/{.status.replicas}"
            said = self.cluster.kubectl("get", "-n", SYSTEM, what, "-o", f"jsonpath={path}")
            return said in ((f"{replicas}/{replicas}",) if replicas else ("/0", "/"))

        self.wait(is_so, f"{what} has {replicas} ready", seconds)

    def delete_pods(self, part: str, *words: str) -> None:
        label = f"app.kubernetes.io/name=tunesmith-{part}"
        self.cluster.kubectl("delete", "pods", "-n", SYSTEM, "-l", label, *words)

    def _pods(self, name: str) -> str:
        label = f"app.kubernetes.io/name={name}"
        return self.cluster.kubectl("get", "pods", "-n", SYSTEM, "-l", label, "-o", "name")


@contextlib.contextmanager
def installed_on(cluster: Cluster, *, database: str = "postgres") -> Iterator[Installed]:
    """Installs by the command, and waits until it says that all is ready."""
    if database == "postgres":
        import_images(cluster, [postgres_image()])
    with tempfile.TemporaryDirectory(prefix="tunesmith-volumes-") as folder:
        Path(folder).chmod(0o755)
        for number in range(3):
            place = Path(folder) / str(number)
            place.mkdir()
            place.chmod(0o777)
            cluster.apply(_volume(f"volume-{number}", place))
        run(
            cluster,
            "install",
            "--image",
            TUNESMITH,
            "--pull-policy",
            "Never",
            "--wait",
            "120",
            "--database",
            database,
            "--database-image",
            POSTGRES,
        )
        try:
            yield Installed(cluster)
        finally:
            run(cluster, "uninstall", "--yes", "--all")


def run(cluster: Cluster, *words: str) -> str:
    """What the command line prints, with the cluster's administrator."""
    argv = [sys.executable, "-m", "tunesmith", *words, "--kubeconfig", str(cluster.kubeconfig)]
    done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=180)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def _volume(name: str, place: Path) -> Json:
    spec = {
        "capacity": {"storage": "20Gi"},
        "accessModes": ["ReadWriteOnce"],
        "hostPath": {"path": str(place)},
    }
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {"name": name},
        "spec": spec,
    }


def state(obj: Json) -> str:
    conditions = (obj.get("status") or {}).get("conditions") or [{"type": ""}]
    return str(conditions[-1]["type"])


def _experiments(namespace: str) -> str:
    return f"/apis/kubeflow.org/v1beta1/namespaces/{namespace}/experiments"


def _trials(namespace: str) -> str:
    return f"/apis/kubeflow.org/v1beta1/namespaces/{namespace}/trials"


def experiment(name: str, namespace: str, command: list[str], **spec: Any) -> Json:
    """As Katib's users write it. The command gets the parameter as ${trialParameters.x}."""
    container = {"name": "training-container", "image": PYTHON, "command": command}
    pod = {"containers": [container], "restartPolicy": "Never"}
    job = {"apiVersion": "batch/v1", "kind": "Job", "spec": {"template": {"spec": pod}}}
    usual: Json = {
        "objective": {"type": "minimize", "objectiveMetricName": "loss"},
        "algorithm": {"algorithmName": "random"},
        "parallelTrialCount": 3,
        "maxTrialCount": 12,
        "maxFailedTrialCount": 3,
        "parameters": [
            {"name": "x", "parameterType": "double", "feasibleSpace": {"min": "-5", "max": "5"}}
        ],
        "trialTemplate": {
            "primaryContainerName": "training-container",
            "trialParameters": [{"name": "x", "description": "x", "reference": "x"}],
            "trialSpec": job,
        },
    }
    return {
        "apiVersion": "kubeflow.org/v1beta1",
        "kind": "Experiment",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {**usual, **spec},
    }


def python(program: str, *arguments: str) -> list[str]:
    """A command that runs a program with the parameter as its first argument."""
    return ["python3", "-c", program, "${trialParameters.x}", *arguments]


def elapsed_since(began: float) -> float:
    return time.monotonic() - began
