# SPDX-License-Identifier: Apache-2.0
"""What tuning adds to real pods: an Experiment beside the same Jobs without one, in one run.

    .venv/bin/python benchmarks/cluster_pods.py [--trials 40] [--parallel 8] [--seconds 2] [--json]

A whole node (tests/cluster) with an installation on PostgreSQL. First the bare Jobs, as many at a
time as trials, each created as soon as one completes; then the Experiment. Katib 0.19, measured on
the same kind of machine (2 cores) with 40 trials of 2 s and 8 at a time, is printed beside.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

ROOT: Final = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests" / "cluster" / "harness"))

from cluster_programs import Programs  # noqa: E402
from installed_cluster import SYSTEM, Installed, experiment, installed_on, state  # noqa: E402
from node_tier import node_tier  # noqa: E402
from running_cluster import Cluster  # noqa: E402

Json = dict[str, Any]
NAME: Final = "pods"
USER: Final = f"system:serviceaccount:{SYSTEM}:tunesmith-controller"
KATIB: Final = {"bare_s": 29.5, "experiment_s": 52.0, "first_s": 13.0, "requests": 36.0, "ms": 57.0}
_ENDS: Final = ("Complete", "Failed")


@dataclass(frozen=True, slots=True)
class Result:
    """Seconds, and requests and ms of CPU of the controller a trial."""

    trials: int
    parallel: int
    bare_s: float
    bare_first_s: float
    experiment_s: float
    first_trial_s: float
    first_pod_s: float
    ratio: float
    requests_a_trial: float
    controller_ms_a_trial: float
    cpu_a_trial_ms: dict[str, float]
    requests: dict[str, int]


def command(seconds: float) -> list[str]:
    """Shell, so that a trial costs little beside its waiting."""
    return ["bash", "-c", f"sleep {seconds}; echo loss=$1", "bash", "${trialParameters.x}"]


def bare(
    cluster: Cluster, namespace: str, trials: int, parallel: int, seconds: float
) -> tuple[float, float]:
    """(seconds in all, seconds to the first running pod) of the same Jobs by themselves."""
    spec = experiment(NAME, namespace, command(seconds))["spec"]["trialTemplate"]["trialSpec"]
    path = f"/apis/batch/v1/namespaces/{namespace}/jobs"
    began, first, made, done = time.monotonic(), 0.0, 0, 0
    while done < trials:
        while made < trials and made - done < parallel:
            job = json.loads(json.dumps(spec).replace("${trialParameters.x}", "0.5"))
            job["metadata"] = {"name": f"bare-{made}", "namespace": namespace}
            cluster.api.request("POST", path, job)
            made += 1
        jobs = cluster.api.request("GET", path)["items"]
        conditions = [each["status"].get("conditions") or [] for each in jobs]
        done = sum(any(c["type"] in _ENDS for c in each) for each in conditions)
        if not first and any(each["status"].get("ready") for each in jobs):
            first = time.monotonic() - began
        time.sleep(0.05)
    return time.monotonic() - began, first


def tuned(installed: Installed, namespace: str, body: Json) -> tuple[float, float, float]:
    """(seconds in all, to the first Trial, to its pod running) of the Experiment."""
    api = installed.cluster.api
    trials = f"/apis/kubeflow.org/v1beta1/namespaces/{namespace}/trials"
    jobs = f"/apis/batch/v1/namespaces/{namespace}/jobs"
    began, first, pod = time.monotonic(), 0.0, 0.0
    api.request("POST", f"/apis/kubeflow.org/v1beta1/namespaces/{namespace}/experiments", body)
    while True:
        if not first and api.request("GET", trials)["items"]:
            first = time.monotonic() - began
        if not pod and any(j["status"].get("ready") for j in api.request("GET", jobs)["items"]):
            pod = time.monotonic() - began
        found = installed.experiment(namespace, NAME)
        if state(found) in ("Succeeded", "Failed"):
            if found["status"].get("trialsSucceeded") != body["spec"]["maxTrialCount"]:
                raise SystemExit(f"the experiment went wrong: {found['status']}")
            return time.monotonic() - began, first, pod
        time.sleep(0.05)


def cpu_of_pods(cluster: Cluster) -> Counter[str]:
    """CPU seconds of the installation's containers, by name, as kubelet counts them."""
    told = cluster.kubectl("get", "--raw", "/api/v1/nodes/node0/proxy/metrics/resource")
    found: Counter[str] = Counter()
    for line in told.splitlines():
        if line.startswith("container_cpu_usage_seconds_total") and f'namespace="{SYSTEM}"' in line:
            labels, _, values = line.partition("} ")
            name = labels.split('container="')[1].split('"')[0]
            found[name] += float(values.split()[0])
    return found


def requests_of(cluster: Cluster, began: float) -> Counter[str]:
    """By verb and resource, of the controller since a time."""
    found: Counter[str] = Counter()
    for event in cluster.audit():
        if event["user"]["username"] != USER or event["stage"] != "ResponseComplete":
            continue
        about = event.get("objectRef") or {}
        if about.get("resource") == "leases" or event["verb"] == "watch":
            continue
        when = event["requestReceivedTimestamp"]
        if _seconds(when) >= began:
            sub = f"/{about['subresource']}" if about.get("subresource") else ""
            found[f"{event['verb']} {about.get('resource', '')}{sub}"] += 1
    return found


def _seconds(stamp: str) -> float:
    from datetime import datetime  # noqa: PLC0415

    return datetime.fromisoformat(stamp).timestamp()


def measured(installed: Installed, options: argparse.Namespace) -> Result:
    cluster, trials, parallel = installed.cluster, options.trials, options.parallel
    for namespace in ("bare", "tuned", "warm"):
        cluster.create_namespace(namespace)
    warm = experiment(
        NAME, "warm", command(0), maxTrialCount=1, parallelTrialCount=1, maxFailedTrialCount=1
    )
    tuned(installed, "warm", warm)
    bare_s, bare_first = bare(cluster, "bare", trials, parallel, options.seconds)
    time.sleep(10)  # kubelet counts the containers' CPU every ten seconds
    before, began = cpu_of_pods(cluster), time.time()
    body = experiment(
        NAME, "tuned", command(options.seconds), maxTrialCount=trials, parallelTrialCount=parallel
    )
    seconds, first, pod = tuned(installed, "tuned", body)
    time.sleep(20)
    spent = cpu_of_pods(cluster) - before
    requests = requests_of(cluster, began)
    return Result(
        trials=trials,
        parallel=parallel,
        bare_s=bare_s,
        bare_first_s=bare_first,
        experiment_s=seconds,
        first_trial_s=first,
        first_pod_s=pod,
        ratio=seconds / bare_s,
        requests_a_trial=requests.total() / trials,
        controller_ms_a_trial=1000 * spent["controller"] / trials,
        cpu_a_trial_ms={name: round(1000 * s / trials, 1) for name, s in spent.items()},
        requests=dict(requests.most_common()),
    )


def told(result: Result) -> str:
    lines = [
        f"{result.trials} trials, {result.parallel} at a time"
        f"{'':16}tunesmith   bare Jobs   Katib 0.19 (bare)",
        f"in all{'':34}{result.experiment_s:7.1f} s {result.bare_s:9.1f} s "
        f"{KATIB['experiment_s']:8.1f} s ({KATIB['bare_s']} s)",
        f"ratio to bare Jobs{'':22}{result.ratio:7.2f}   {'':9}   "
        f"{KATIB['experiment_s'] / KATIB['bare_s']:8.2f}",
        f"first Trial is there after{'':14}{result.first_trial_s:7.2f} s {'':9}   "
        f"{KATIB['first_s']:8.1f} s",
        f"first pod runs after{'':20}{result.first_pod_s:7.2f} s {result.bare_first_s:9.2f} s",
        f"API requests of the controller a trial{'':2}{result.requests_a_trial:7.1f} {'':13}"
        f"{KATIB['requests']:8.1f}",
        f"CPU of the controller a trial{'':11}{result.controller_ms_a_trial:7.1f} ms {'':11}"
        f"{KATIB['ms']:8.1f} ms",
        f"CPU a trial by part, ms: {result.cpu_a_trial_ms}",
        f"requests: {result.requests}",
    ]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=40)
    parser.add_argument("--parallel", type=int, default=8)
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    with (
        tempfile.TemporaryDirectory() as logs,
        node_tier(Programs.of_this_checkout(), Path(logs)) as cluster,
        installed_on(cluster) as installed,
    ):
        result = measured(installed, options)
    print(json.dumps(asdict(result)) if options.json else told(result))


if __name__ == "__main__":
    main()
