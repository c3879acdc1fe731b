# SPDX-License-Identifier: Apache-2.0
"""What tuning adds to real pods: an Experiment beside the same Jobs without one, in one run.

    .venv/bin/python benchmarks/cluster_pods.py [--trials 40] [--parallel 8] [--seconds 2] [--json]

A whole node (tests/cluster) with an installation on PostgreSQL. First the bare Jobs, as many at a
time as trials, each created as soon as one completes; then the same Jobs with a second container
that does nothing and a volume that both share, which is what any collector in a pod costs the node;
then the Experiment. Katib 0.19, measured on such a machine (2 cores) with 40 trials of 2 s
and 8 at a time, is printed beside. CPU of the machine counts whatever runs beside.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
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
_GROUPS: Final = Path("/sys/fs/cgroup")


@dataclass(frozen=True, slots=True)
class Result:
    """Seconds, and requests and ms of CPU of the controller a trial."""

    trials: int
    parallel: int
    bare_s: float
    bare_first_s: float
    paired_s: float
    experiment_s: float
    first_trial_s: float
    first_pod_s: float
    ratio: float
    ratio_to_paired: float
    machine_cpu_a_trial_s: dict[str, float]
    requests_a_trial: float
    controller_ms_a_trial: float
    cpu_a_trial_ms: dict[str, float]
    requests: dict[str, int]


def command(seconds: float) -> list[str]:
    """Shell, so that a trial costs little beside its waiting."""
    return ["bash", "-c", f"sleep {seconds}; echo loss=$1", "bash", "${trialParameters.x}"]


def bare(
    cluster: Cluster, namespace: str, job: Json, options: argparse.Namespace
) -> tuple[float, float]:
    """(seconds in all, seconds to the first running pod) of Jobs by themselves."""
    path = f"/apis/batch/v1/namespaces/{namespace}/jobs"
    began, first, made, done = time.monotonic(), 0.0, 0, 0
    while done < options.trials:
        while made < options.trials and made - done < options.parallel:
            metadata = {"name": f"bare-{made}", "namespace": namespace}
            cluster.api.request("POST", path, {**job, "metadata": metadata})
            made += 1
        jobs = cluster.api.request("GET", path)["items"]
        conditions = [each["status"].get("conditions") or [] for each in jobs]
        done = sum(any(c["type"] in _ENDS for c in each) for each in conditions)
        if not first and any(each["status"].get("ready") for each in jobs):
            first = time.monotonic() - began
        time.sleep(0.05)
    return time.monotonic() - began, first


def job_of(seconds: float) -> Json:
    spec = experiment(NAME, "bare", command(seconds))["spec"]["trialTemplate"]["trialSpec"]
    return dict(json.loads(json.dumps(spec).replace("${trialParameters.x}", "0.5")))


def paired(job: Json) -> Json:
    """The Job with a native sidecar that waits for its end, and a volume."""
    found = json.loads(json.dumps(job))
    pod = found["spec"]["template"]["spec"]
    mount = {"name": "shared", "mountPath": "/tunesmith"}
    pod["volumes"] = [*(pod.get("volumes") or []), {"name": "shared", "emptyDir": {}}]
    pod["containers"][0].setdefault("volumeMounts", []).append(mount)
    waits = ["bash", "-c", "trap exit TERM; sleep 600 & wait"]
    image = pod["containers"][0]["image"]
    sidecar = {"name": "idle", "image": image, "command": waits, "restartPolicy": "Always"}
    pod["initContainers"] = [{**sidecar, "volumeMounts": [mount]}]
    return dict(found)


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
    """CPU seconds of the installation's containers, by name, from their control groups."""
    found: Counter[str] = Counter()
    for pod in cluster.api.request("GET", f"/api/v1/namespaces/{SYSTEM}/pods")["items"]:
        for each in pod["status"].get("containerStatuses") or []:
            found[each["name"]] += _cpu_of_group(each["containerID"].rpartition("/")[2])
    return found


def _cpu_of_group(container: str) -> float:
    """Seconds; of the first or the second version of control groups."""
    for usage in _GROUPS.glob(f"cpuacct/**/{container}/cpuacct.usage"):
        return int(usage.read_text()) / 1e9
    for stat in _GROUPS.glob(f"**/*{container}*/cpu.stat"):
        return int(stat.read_text().split()[1]) / 1e6
    raise SystemExit(f"no control group of container {container} under {_GROUPS}")


def cpu_of_machine() -> float:
    """Seconds in which a processor was neither idle nor waiting, of all."""
    fields = [int(each) for each in Path("/proc/stat").read_text().split("\n")[0].split()[1:8]]
    return (sum(fields) - fields[3] - fields[4]) / os.sysconf("SC_CLK_TCK")


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
    cluster, trials = installed.cluster, options.trials
    for namespace in ("warm", "bare", "paired", "tuned"):
        cluster.create_namespace(namespace)
    once = {"maxTrialCount": 1, "parallelTrialCount": 1, "maxFailedTrialCount": 1}
    tuned(installed, "warm", experiment(NAME, "warm", command(0), **once))
    job, machine = job_of(options.seconds), [cpu_of_machine()]
    bare_s, bare_first = bare(cluster, "bare", job, options)
    machine.append(cpu_of_machine())
    paired_s, _ = bare(cluster, "paired", paired(job), options)
    machine.append(cpu_of_machine())
    before, began = cpu_of_pods(cluster), time.time()
    counts = {"maxTrialCount": trials, "parallelTrialCount": options.parallel}
    body = experiment(NAME, "tuned", command(options.seconds), **counts)
    seconds, first, pod = tuned(installed, "tuned", body)
    spent = cpu_of_pods(cluster) - before
    machine.append(cpu_of_machine())
    time.sleep(3)  # what is written down after the end is the experiment's as well
    requests = requests_of(cluster, began)
    names = ("bare Jobs", "with an idle second container", "experiment")
    used = zip(names, itertools.pairwise(machine), strict=True)
    return Result(
        trials=trials,
        parallel=options.parallel,
        bare_s=bare_s,
        bare_first_s=bare_first,
        paired_s=paired_s,
        experiment_s=seconds,
        first_trial_s=first,
        first_pod_s=pod,
        ratio=seconds / bare_s,
        ratio_to_paired=seconds / paired_s,
        machine_cpu_a_trial_s={name: round((b - a) / trials, 2) for name, (a, b) in used},
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
        f"the Jobs with an idle second container{'':21}{result.paired_s:4.1f} s; "
        f"ratio to these {result.ratio_to_paired:.2f}",
        f"first Trial is there after{'':14}{result.first_trial_s:7.2f} s {'':9}   "
        f"{KATIB['first_s']:8.1f} s",
        f"first pod runs after{'':20}{result.first_pod_s:7.2f} s {result.bare_first_s:9.2f} s",
        f"API requests of the controller a trial{'':2}{result.requests_a_trial:7.1f} {'':13}"
        f"{KATIB['requests']:8.1f}",
        f"CPU of the controller a trial{'':11}{result.controller_ms_a_trial:7.1f} ms {'':11}"
        f"{KATIB['ms']:8.1f} ms",
        f"CPU of the machine a trial, s: {result.machine_cpu_a_trial_s}",
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
