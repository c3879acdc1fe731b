# SPDX-License-Identifier: Apache-2.0
"""Starts a test cluster by hand, says how to use it, and ends it again.

`make cluster-up` and `make cluster-down` call this; so may anybody:
`python tests/cluster/up.py [--tier api|node]`, `python tests/cluster/up.py --down`.
`--images` only makes the images of the node tier, for `make test`.
"""

import argparse
import contextlib
import fcntl
import json
import os
import select
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent / "harness"))

from cluster_images import images
from cluster_programs import Programs, Tier, cache, kubernetes_version
from node_tier import node_tier
from running_cluster import Cluster, api_tier


def main() -> int:
    """The command's exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tier", type=Tier, choices=list(Tier), metavar="api|node")
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--down", action="store_true", help="end it; without --tier both")
    what.add_argument("--images", action="store_true", help="make images and no more")
    what.add_argument("--hold", action="store_true", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.down:
        return max(_down(tier) for tier in Tier if asked.tier in {tier, None})
    tier = Tier.NODE if asked.images else asked.tier or Tier.NODE
    missing = Programs.of_this_checkout().missing(tier)
    if missing:
        print(f"cannot run the {tier.value} tier here:", *missing, sep="\n  ", file=sys.stderr)
        return 0 if asked.images and os.environ.get("CI") != "true" else 1
    if asked.images:
        images()
        return 0
    return _hold(tier) if asked.hold else _up(tier)


def _folder(tier: Tier) -> Path:
    folder = cache() / "by-hand" / tier.value
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _up(tier: Tier) -> int:
    folder = _folder(tier)
    log = folder / "start.log"
    if _running(tier) is None:
        argv = [sys.executable, __file__, "--hold", "--tier", tier.value]
        with log.open("w") as out:
            holder = subprocess.Popen(
                argv,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                start_new_session=True,
            )
        while _running(tier) is None:
            if holder.poll() is not None:
                print(log.read_text(), file=sys.stderr)
                return 1
            time.sleep(0.05)
    _explain(tier, _running(tier) or {})
    return 0


def _explain(tier: Tier, state: dict[str, Any]) -> None:
    print(f"Kubernetes {kubernetes_version()}, {tier.value} tier; process {state['pid']} holds it.")
    print(f"  export KUBECONFIG={state['kubeconfig']}")
    print(f"  logs, with every request in audit.log: {state['logs']}")
    if state["enter"]:
        print("  its images:", *(image.name for image in images()))
        print(f"  a command in its network: {shlex.join(state['enter'])} COMMAND")
    print("  end it: make cluster-down")


def _running(tier: Tier) -> dict[str, Any] | None:
    """What the holder of the tier's cluster wrote down when it was ready, if it is alive."""
    try:
        state: dict[str, Any] = json.loads((_folder(tier) / "state.json").read_text())
        words = Path(f"/proc/{state['pid']}/cmdline").read_bytes().split(b"\0")
    except (FileNotFoundError, ProcessLookupError):
        return None
    return state if b"--hold" in words else None


def _hold(tier: Tier) -> int:
    """Runs a cluster until SIGTERM."""
    folder = _folder(tier)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    with (folder / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print("another one is starting or ending; see make cluster-down", file=sys.stderr)
            return 1
        with _cluster(tier, folder / "logs") as cluster:
            state = {
                "pid": os.getpid(),
                "kubeconfig": str(cluster.kubeconfig),
                "enter": list(cluster.prefix),
                "logs": str(cluster.logs),
            }
            half = folder / "state.half"
            half.write_text(json.dumps(state))
            half.rename(folder / "state.json")
            signal.pause()
    return 0


@contextlib.contextmanager
def _cluster(tier: Tier, logs: Path) -> Iterator[Cluster]:
    shutil.rmtree(logs, ignore_errors=True)
    make = node_tier if tier is Tier.NODE else api_tier
    with make(Programs.of_this_checkout(), logs) as cluster:
        yield cluster


def _down(tier: Tier) -> int:
    state = _running(tier)
    if state is None:
        return 0
    holder = os.pidfd_open(state["pid"])
    os.kill(state["pid"], signal.SIGTERM)
    ended, _, _ = select.select([holder], [], [], 60)
    if not ended:
        print(f"process {state['pid']} does not end the {tier.value} tier", file=sys.stderr)
        return 1
    (_folder(tier) / "state.json").unlink()
    return 0


if __name__ == "__main__":
    sys.exit(main())
