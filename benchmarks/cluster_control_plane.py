# SPDX-License-Identifier: Apache-2.0
"""What trials cost in a cluster: API requests, CPU of every process, sizes of objects.

    .venv/bin/python benchmarks/cluster_control_plane.py [--trials 1000] [--parallel 50] [--json]

A real etcd, API server and controller manager (tests/cluster), our controller, suggestion and
observation services as processes of their own; only the pods are left out: this program reports a
row for each Job and marks it complete, which is not counted. Katib 0.19, measured on the same kind
of machine (2 cores), is printed beside.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

ROOT: Final = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests" / "cluster" / "harness"))

from cluster_programs import Programs  # noqa: E402
from completed_jobs import CompletedJobs  # noqa: E402
from controlled_cluster import Services, experiment  # noqa: E402
from running_cluster import Cluster, api_tier, free_ports  # noqa: E402

from tunesmith_controller.ports import Json, Key  # noqa: E402
from tunesmith_controller.stores.kubernetes_transport import KubernetesTransport  # noqa: E402
from tunesmith_controller.stores.rest import RestStore  # noqa: E402
from tunesmith_metrics_collector.sink import GrpcObservationLog, open_channel  # noqa: E402

NAME: Final = "thousand"
ACCOUNT: Final = ("kubeflow", "tunesmith-controller")
USER: Final = "system:serviceaccount:kubeflow:tunesmith-controller"
KATIB: Final = {200: (11.6, 21.7, 38.0), 1000: (8.7, 19.8, 62.6)}
"""By trials: trials a second, requests a trial, ms of controller CPU a trial."""
_HZ: Final = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Result:
    """CPU in seconds, sizes in bytes."""

    trials: int
    parallel: int
    seconds: float
    first_trial_s: float
    trials_a_second: float
    requests_a_trial: float
    controller_ms_a_trial: float
    late_to_early_ms: float
    cpu: dict[str, float]
    requests: dict[str, int]
    largest_object: int


def cpu_of(pid: int) -> float:
    """User and system time of a process and of its threads, in seconds."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()
    return (int(fields[11]) + int(fields[12])) / _HZ


@contextmanager
def controller(cluster: Cluster, services: Services) -> Iterator[int]:
    """The pid of a controller that acts as a service account of its own."""
    config = cluster.kubeconfig_of(*ACCOUNT)
    ports = free_ports(2)
    words = ["controller", "--cluster", "--kubeconfig", str(config)]
    words += ["--suggestions", services.suggestions, "--observations", services.observations]
    words += ["--metrics-port", str(ports[0]), "--health-port", str(ports[1])]
    log = cluster.logs / "controller.log"
    with log.open("w") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "tunesmith", *words], stdout=output, stderr=subprocess.STDOUT
        )
    try:
        yield process.pid
    finally:
        process.terminate()
        process.wait(timeout=20)


def prepared(cluster: Cluster) -> None:
    cluster.apply(ROOT / "deploy" / "crds")
    for plural in ("experiments", "suggestions", "trials"):
        path = f"/apis/kubeflow.org/v1beta1/{plural}"
        cluster.wait_until(lambda path=path: cluster.exists(path), path)  # type: ignore[misc]
    cluster.create_namespace("kubeflow")
    cluster.create_namespace("bench")
    binding = {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRoleBinding",
        "metadata": {"name": "bench"},
        "roleRef": {
            "apiGroup": "rbac.authorization.k8s.io",
            "kind": "ClusterRole",
            "name": "cluster-admin",
        },
        "subjects": [{"kind": "ServiceAccount", "namespace": ACCOUNT[0], "name": ACCOUNT[1]}],
    }
    cluster.apply(binding)


async def measured(
    cluster: Cluster, services: Services, pid: int, trials: int, parallel: int
) -> Result:
    transport = KubernetesTransport.from_config(str(cluster.kubeconfig))
    channel = open_channel(services.observations)
    jobs = CompletedJobs(transport, GrpcObservationLog(channel), lambda job: {"loss": 0.5})
    ending = asyncio.create_task(jobs.run())
    store = RestStore(transport)
    body = experiment(NAME, "bench", maxTrialCount=trials, parallelTrialCount=parallel)
    pids = {"controller": pid, **services.pids(), **cluster.pids()}
    before, began = {name: cpu_of(p) for name, p in pids.items()}, time.monotonic()
    marks: dict[int, tuple[float, float]] = {}
    await store.create(body)
    try:
        while True:
            found = await store.get(Key("Experiment", "bench", NAME))
            status = found.get("status") or {}
            done = int(status.get("trialsSucceeded", 0))
            if jobs.ended and 0 not in marks:
                marks[0] = (time.monotonic() - began, cpu_of(pid))
            for share in (0.1, 0.2, 0.8, 0.9):
                if done >= share * trials:
                    marks.setdefault(round(share * 100), (float(done), cpu_of(pid)))
            conditions = status.get("conditions") or [{"type": ""}]
            if conditions[-1]["type"] in ("Succeeded", "Failed"):
                break
            if ending.done():
                ending.result()
            await asyncio.sleep(0.1)
        seconds = time.monotonic() - began
        cpu = {name: cpu_of(p) - before[name] for name, p in pids.items()}
        sizes = [
            len(json.dumps(item))
            for kind in ("Experiment", "Suggestion", "Trial")
            for item in (await store.list(kind, namespace="bench")).items
        ]
    finally:
        ending.cancel()
        await asyncio.gather(ending, return_exceptions=True)
        await transport.aclose()
        await channel.close()
    if conditions[-1]["type"] != "Succeeded":
        raise SystemExit(f"the experiment did not succeed: {conditions[-1]}")
    requests = requests_of(cluster.audit())
    return Result(
        trials,
        parallel,
        seconds,
        marks[0][0],
        trials / seconds,
        sum(requests.values()) / trials,
        1000 * cpu["controller"] / trials,
        _slope(marks, 80, 90) / max(_slope(marks, 10, 20), 1e-9),
        {name: round(value, 2) for name, value in cpu.items()},
        dict(requests.most_common(14)),
        max(sizes),
    )


def _slope(marks: dict[int, tuple[float, float]], first: int, last: int) -> float:
    """CPU seconds a trial between two shares of the run."""
    done, spent = marks[last][0] - marks[first][0], marks[last][1] - marks[first][1]
    return spent / max(done, 1.0)


def requests_of(audit: list[Json]) -> Counter[str]:
    """Those of the controller, by verb and resource."""
    found: Counter[str] = Counter()
    for entry in audit:
        if entry.get("user", {}).get("username") != USER or entry.get("stage") != STAGE:
            continue
        what = entry.get("objectRef") or {}
        name = "/".join(filter(None, (what.get("resource"), what.get("subresource"))))
        found[f"{entry['verb']} {name}"] += 1
    return found


STAGE: Final = "ResponseComplete"


def told(result: Result) -> str:
    beside: Any = KATIB.get(result.trials)
    lines = [
        f"{result.trials} trials, {result.parallel} at a time: {result.seconds:.1f} s, "
        f"first job ended after {result.first_trial_s:.2f} s",
        f"  trials a second          {result.trials_a_second:8.1f}",
        f"  API requests a trial     {result.requests_a_trial:8.1f}",
        f"  controller CPU a trial   {result.controller_ms_a_trial:8.1f} ms",
        f"  late / early CPU a trial {result.late_to_early_ms:8.2f}",
        f"  largest object           {result.largest_object / 1024:8.1f} KiB",
        "  CPU s  " + ", ".join(f"{name} {value:.1f}" for name, value in result.cpu.items()),
        "  requests  " + ", ".join(f"{name} {count}" for name, count in result.requests.items()),
    ]
    if beside:
        rate, requests, cpu = beside
        lines.append(
            f"  of Katib 0.19's: rate {result.trials_a_second / rate:.2f}x of {rate}/s, requests "
            f"{result.requests_a_trial / requests:.2f}x of {requests}, controller CPU "
            f"{result.controller_ms_a_trial / cpu:.2f}x of {cpu} ms"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--trials", type=int, default=1000)
    parser.add_argument("--parallel", type=int, default=50)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        programs = Programs.of_this_checkout()
        with api_tier(programs, folder / "logs") as cluster:
            prepared(cluster)
            services = Services(folder)
            services.start()
            try:
                with controller(cluster, services) as pid:
                    work = measured(cluster, services, pid, options.trials, options.parallel)
                    result = asyncio.run(work)
            finally:
                services.end()
    print(json.dumps(asdict(result)) if options.json else told(result))


if __name__ == "__main__":
    main()
