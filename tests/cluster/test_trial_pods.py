# SPDX-License-Identifier: Apache-2.0
"""Trial pods on a real node: sidecar, launcher and kubelet, and a service that gets their rows."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from statistics import median
from typing import Any

import pytest
from authorities import Authority, authority
from node_files import NODE_ADDRESS
from running_cluster import Cluster

from tunesmith_api.metrics import counted
from tunesmith_api.observations import SourceState
from tunesmith_controller.admission.collection import CollectionPlan, mark
from tunesmith_controller.admission.pods import InjectionSettings, inject
from tunesmith_metrics_collector.collector import AttemptName
from tunesmith_metrics_collector.unsent import deliver, read
from tunesmith_observation.sql import SqlObservationLog

pytestmark = [pytest.mark.integration, pytest.mark.timeout(600)]

Json = dict[str, Any]
PORT = 16790
SIDECAR = "metrics-logger-and-collector"
SETTINGS = InjectionSettings(
    image="test.local/tunesmith:1", observation_address=f"{NODE_ADDRESS}:{PORT}"
)
RESTRICTED: Json = {
    "allowPrivilegeEscalation": False,
    "capabilities": {"drop": ["ALL"]},
    "runAsNonRoot": True,
    "runAsUser": 1000,
    "seccompProfile": {"type": "RuntimeDefault"},
}
RUNS_OF_A_KIND = 40 if os.environ.get("TUNESMITH_LONG") else 4


@dataclass
class Observed:
    """A cluster in whose network an observation service listens."""

    cluster: Cluster
    trusted: Authority
    database: str
    argv: list[str]
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self.process = subprocess.Popen(self.argv, stdout=subprocess.PIPE)
        assert self.process.stdout is not None
        assert b"listening" in self.process.stdout.readline()

    def stop(self) -> None:
        if self.process is not None:
            self.process.terminate()
            self.process.wait()
            assert self.process.stdout is not None
            self.process.stdout.close()
        self.process = None

    def namespace(self) -> str:
        """With the CA in it, and for restricted pods only."""
        name = self.cluster.namespace_of_test()
        level = "pod-security.kubernetes.io/enforce=restricted"
        self.cluster.kubectl("label", "namespace", name, level)
        metadata = {"name": "tunesmith-ca", "namespace": name}
        data = {"ca.crt": self.trusted.pem.decode()}
        config_map = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data}
        self.cluster.apply(config_map)
        return name

    def rows(self, uid: str) -> list[str]:
        async def read() -> list[str]:
            log = SqlObservationLog.open(self.database)
            try:
                return [row.value for row in counted(await log.rows(uid, 1))]
            finally:
                await log.aclose()

        return asyncio.run(read())

    def sources(self, uid: str) -> dict[str, SourceState]:
        async def read() -> dict[str, SourceState]:
            log = SqlObservationLog.open(self.database)
            try:
                found = await log.sources(uid, 1)
                return {name.partition("@")[0]: state for name, state in found.items()}
            finally:
                await log.aclose()

        return asyncio.run(read())


@pytest.fixture(scope="module")
def observed(node_cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Observed]:
    folder, trusted = tmp_path_factory.mktemp("observed"), authority("tests")
    pair = trusted.issue(NODE_ADDRESS)
    (folder / "tls.crt").write_bytes(pair.certificate)
    (folder / "tls.key").write_bytes(pair.key)
    database = f"sqlite:///{folder}/o.db"
    options = {
        "--listen": f"{NODE_ADDRESS}:{PORT}",
        "--db": database,
        "--tls-cert": str(folder / "tls.crt"),
        "--tls-key": str(folder / "tls.key"),
    }
    flat = [word for pair in options.items() for word in pair]
    argv = node_cluster.enter([sys.executable, "-m", "tunesmith_observation", *flat])
    found = Observed(node_cluster, trusted, database, argv)
    found.start()
    yield found
    found.stop()


def job(
    namespace: str,
    name: str,
    argv: Sequence[str],
    others: Sequence[Json] = (),
    *,
    is_bare: bool = False,
    **spec: Any,
) -> Json:
    """A Job as the controller would make it; the trial's uid is namespace/name."""
    base = {"image": "test.local/python:1", "securityContext": RESTRICTED}
    main = {**base, "name": "main", "command": list(argv)}
    containers = [{**base, **other} for other in others]
    template: Json = {
        "metadata": {"labels": {"trial": name}},
        "spec": {"restartPolicy": "Never", "containers": [main, *containers], **spec},
    }
    if not is_bare:
        plan = CollectionPlan(name, namespace, f"{namespace}/{name}", 1, "main", ("loss",))
        template["metadata"] = mark(template["metadata"], plan)
        template = inject(template, plan, SETTINGS)
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"template": template, "backoffLimit": 0},
    }


def conditions(cluster: Cluster, namespace: str) -> dict[str, str]:
    """Of each Job, how it ended."""
    jobs = cluster.api.request("GET", f"/apis/batch/v1/namespaces/{namespace}/jobs")["items"]
    return {
        found["metadata"]["name"]: condition["type"]
        for found in jobs
        for condition in found["status"].get("conditions", [])
        if condition["type"] in ("Complete", "Failed") and condition["status"] == "True"
    }


def finished(cluster: Cluster, namespace: str, count: int, seconds: float = 120) -> dict[str, str]:
    cluster.wait_until(
        lambda: len(conditions(cluster, namespace)) == count,
        f"{count} Jobs in {namespace} ended",
        seconds,
    )
    return conditions(cluster, namespace)


def pod_of(cluster: Cluster, namespace: str, name: str) -> Json:
    path = f"/api/v1/namespaces/{namespace}/pods?labelSelector=trial%3D{name}"
    (pod,) = cluster.api.request("GET", path)["items"]
    found: Json = pod
    return found


def log_of(cluster: Cluster, namespace: str, name: str, container: str) -> str:
    return cluster.kubectl("logs", "-n", namespace, f"job/{name}", "-c", container)


SLEEPER = {"name": "plain", "command": ["sleep", "2"]}
PROXY = {"name": "proxy", "command": ["sleep", "1000"], "restartPolicy": "Always"}
KINDS: dict[str, tuple[list[str], Json, str, list[str]]] = {
    "quick": (["sh", "-c", "echo loss=0.25"], {}, "Complete", ["0.25"]),
    "failing": (["sh", "-c", "echo loss=0.5; exit 1"], {}, "Failed", ["0.5"]),
    "silent": (["true"], {}, "Complete", []),
    "sidecar": (["sh", "-c", "echo loss=1"], {"others": [SLEEPER]}, "Complete", ["1"]),
    "proxied": (
        ["sh", "-c", "echo loss=2"],
        {"initContainers": [PROXY | {"image": "test.local/python:1"}]},
        "Complete",
        ["2"],
    ),
}


def test_short_failing_silent_and_crowded_pods_end_with_all_their_rows(observed: Observed) -> None:
    cluster, namespace = observed.cluster, observed.namespace()
    expected = {}
    for number in range(RUNS_OF_A_KIND):
        for kind, (argv, spec, end, values) in KINDS.items():
            given = dict(spec)
            if "initContainers" in given:
                given["initContainers"] = [
                    {**c, "securityContext": RESTRICTED} for c in given["initContainers"]
                ]
            name = f"{kind}-{number}"
            cluster.apply(job(namespace, name, argv, **given))
            expected[name] = (end, values)
    ended = finished(cluster, namespace, len(expected), 60 + 4 * len(expected))
    found = {name: (end, observed.rows(f"{namespace}/{name}")) for name, end in ended.items()}
    assert found == expected
    for name in expected:
        sources = observed.sources(f"{namespace}/{name}")
        assert {source: state.ended for source, state in sources.items()} == {
            "stdout": True,
            "push": True,
        }, name


def test_100_mb_of_output_are_collected_and_evict_nobody(observed: Observed) -> None:
    cluster, namespace = observed.cluster, observed.namespace()
    script = """
line = "epoch {0}: 4711 images seen, all of them fine, nothing to see, move along, please\\n"
for i in range(1000):
    print(line.format(i) * 1250 + f"loss={i}\\n", end="")
"""
    cluster.apply(job(namespace, "loud", ["python3", "-c", script]))
    assert finished(cluster, namespace, 1) == {"loud": "Complete"}
    uid = f"{namespace}/loud"
    assert observed.rows(uid) == [str(i) for i in range(1000)]
    assert observed.sources(uid)["stdout"].notes.bytes > 100_000_000
    for container in ("main", SIDECAR):
        assert log_of(cluster, namespace, "loud", container).endswith("\nloss=999\n")


def test_argv_reaches_the_program_byte_for_byte(observed: Observed) -> None:
    cluster, namespace = observed.cluster, observed.namespace()
    show = "import sys; print([a.encode() for a in sys.argv[1:]])"
    awkward = ["a b", "'", '"', "\\", "$HOME", "$(id)", "`id`", "x\ny\t", "(;|&)", "", "ü", "--"]
    for name, is_bare in (("bare", True), ("collected", False)):
        argv = ["python3", "-c", show, *awkward]
        cluster.apply(job(namespace, name, argv, is_bare=is_bare))
    finished(cluster, namespace, 2)
    bare = log_of(cluster, namespace, "bare", "main")
    assert log_of(cluster, namespace, "collected", "main") == bare
    assert bare == f"{[text.encode() for text in awkward]}\n"
    assert log_of(cluster, namespace, "collected", SIDECAR) == bare


def test_a_sidecar_that_is_killed_is_started_again_and_loses_nothing(observed: Observed) -> None:
    cluster, namespace = observed.cluster, observed.namespace()
    script = "import time\nfor i in range(80): print(f'loss={i}', flush=True); time.sleep(0.1)"
    cluster.apply(job(namespace, "long", ["python3", "-c", script]))
    uid = f"{namespace}/long"
    cluster.wait_until(lambda: len(observed.rows(uid)) > 10, "the first rows", 60)
    pod = pod_of(cluster, namespace, "long")
    sidecar = pod["status"]["initContainerStatuses"][0]["containerID"].rpartition("/")[2]
    _kill_container(sidecar)
    assert finished(cluster, namespace, 1) == {"long": "Complete"}
    assert observed.rows(uid) == [str(i) for i in range(80)]
    status = pod_of(cluster, namespace, "long")["status"]["initContainerStatuses"][0]
    assert status["restartCount"] >= 1


def _kill_container(container: str) -> None:
    """SIGKILL to the processes of a container, found by its control group."""
    for process in Path("/proc").iterdir():
        try:
            is_in = process.name.isdigit() and container in (process / "cgroup").read_text()
        except OSError:
            continue
        if is_in:
            os.kill(int(process.name), 9)


def test_rows_of_a_pod_that_ends_in_an_outage_are_in_its_log(observed: Observed) -> None:
    cluster, namespace = observed.cluster, observed.namespace()
    observed.stop()
    try:
        argv = ["sh", "-c", "for i in 1 2 3; do echo loss=$i; done"]
        cluster.apply(job(namespace, "unheard", argv, terminationGracePeriodSeconds=8))
        assert finished(cluster, namespace, 1) == {"unheard": "Complete"}
    finally:
        observed.start()
    status = pod_of(cluster, namespace, "unheard")["status"]
    terminated = status["initContainerStatuses"][0]["state"]["terminated"]
    assert terminated["exitCode"] == 0
    assert '"unsentRows": 3' in terminated["message"]
    uid = f"{namespace}/unheard"
    lines = log_of(cluster, namespace, "unheard", SIDECAR).splitlines()
    unsent = read(lines, AttemptName(uid, 1, "unheard", namespace))
    assert unsent.is_complete

    async def report() -> None:
        log = SqlObservationLog.open(observed.database)
        await deliver(unsent, log)
        await log.aclose()

    asyncio.run(report())
    assert observed.rows(uid) == ["1", "2", "3"]
    assert all(state.ended for state in observed.sources(uid).values())


def test_what_a_collector_adds_to_the_time_of_a_pod(observed: Observed) -> None:
    """Prints figures; bounds are wide, for machines are shared."""
    cluster, namespace = observed.cluster, observed.namespace()
    argv = ["python3", "-c", "import time; print(f'began={time.time()}')"]
    figures: dict[str, list[tuple[float, float]]] = {"bare": [], "collected": []}
    for number in range(3):
        for kind, found in figures.items():
            name, applied = f"{kind}-{number}", time.time()
            cluster.apply(job(namespace, name, argv, is_bare=kind == "bare"))
            finished(cluster, namespace, sum(map(len, figures.values())) + 1)
            total = time.time() - applied
            began = float(log_of(cluster, namespace, name, "main").strip().partition("=")[2])
            found.append((began - applied, total))
    for kind, found in figures.items():
        starts, totals = zip(*found, strict=True)
        print(f"{kind}: training began {median(starts):.2f} s after create", end=", ")
        print(f"the Job was complete after {median(totals):.2f} s")
    status = pod_of(cluster, namespace, "collected-0")["status"]
    print("sidecar started", status["initContainerStatuses"][0]["state"]["terminated"])
    assert datetime.fromisoformat(status["startTime"])
    assert median(t for _, t in figures["collected"]) < median(t for _, t in figures["bare"]) + 15
