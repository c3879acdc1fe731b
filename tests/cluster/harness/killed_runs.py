# SPDX-License-Identifier: Apache-2.0
"""Runs of tests that are killed while their cluster runs, for the tests of the harness."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

_RUN = """
import sys, time
from pathlib import Path
from tempfile import TemporaryDirectory
from running_cluster import api_tier
from node_tier import node_tier
from cluster_programs import Programs
with (
    TemporaryDirectory() as logs,
    globals()[sys.argv[1]](Programs.of_this_checkout(), Path(logs)) as cluster,
):
    pids = [cluster.processes.supervisor_pid, *cluster.pids().values()]
    print(cluster.kubeconfig.parent, *pids, flush=True)
    time.sleep(600)
"""


def killed_run(tier: str) -> tuple[Path, list[int]]:
    """Starts a cluster in another process and kills that.

    Returns the cluster's scratch folder and the pids that it had.
    """
    env = os.environ | {"PYTHONPATH": str(Path(__file__).parent)}
    argv = [sys.executable, "-c", _RUN, tier]
    with subprocess.Popen(argv, env=env, stdout=subprocess.PIPE, text=True) as run:
        assert run.stdout is not None
        scratch, *pids = run.stdout.readline().split()
        run.send_signal(signal.SIGKILL)
    return Path(scratch), [int(pid) for pid in pids]


def wait_until_gone(scratch: Path, pids: list[int], seconds: float = 15) -> None:
    """Returns when neither the processes nor the scratch folder are left."""
    deadline = time.monotonic() + seconds
    while left := [p for p in (*(Path(f"/proc/{pid}") for pid in pids), scratch) if p.exists()]:
        assert time.monotonic() < deadline, left
        time.sleep(0.05)
