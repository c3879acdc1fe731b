# SPDX-License-Identifier: Apache-2.0
"""Where the programs of a test cluster are, and what this machine lacks for each tier.

`tests/cluster/build.sh` puts the binaries there; the fixtures and `up.py` ask here before they
start anything, so that a lane which cannot run is named with the command that would help.
"""

import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

import pytest

CLUSTER = Path(__file__).resolve().parent.parent
BUILD = "tests/cluster/build.sh"
SET_UP = "tests/set-up.sh"
NODE_TOOLS = (
    *("containerd", "ctr", "runc", "conntrack", "iptables", "nft", "ip"),
    *("nsenter", "unshare", "sysctl", "mmdebstrap", "go"),
)
CNI_PLUGINS = Path("/usr/lib/cni")


class Tier(Enum):
    """How much of a cluster runs: the API alone, or a node with containers as well."""

    API = "api"
    NODE = "node"


_API_PROGRAMS = ("etcd", "kube-apiserver", "kube-controller-manager")
_NODE_PROGRAMS = ("kube-scheduler", "kubelet", "kube-proxy", "coredns")


def kubernetes_version() -> str:
    """The release that go.mod pins, as `1.34.2`."""
    text = (CLUSTER / "tools/kubernetes/go.mod").read_text()
    found = re.search(r"^\s*(?:require )?k8s\.io/kubernetes v(\S+)", text, re.MULTILINE)
    if found is None:
        raise LookupError("tests/cluster/tools/kubernetes/go.mod requires no k8s.io/kubernetes")
    return found[1]


def cache() -> Path:
    """The folder of everything built for test clusters, outside the checkout."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "tunesmith-tests" / "cluster"


@dataclass(frozen=True, slots=True)
class Programs:
    """The binaries of one Kubernetes release."""

    folder: Path

    @classmethod
    def of_this_checkout(cls) -> "Programs":
        """Those of the version that this checkout pins, present or not."""
        return cls(cache() / kubernetes_version() / "bin")

    def path(self, name: str) -> str:
        """The program's path; of kubectl the machine's own if it was not built."""
        built = self.folder / name
        if built.exists():
            return str(built)
        return shutil.which(name) or str(built)

    def missing(self, tier: Tier) -> list[str]:
        """What keeps `tier` from running here, a line each with the command that helps."""
        wanted = _API_PROGRAMS + (_NODE_PROGRAMS if tier is Tier.NODE else ())
        absent = [name for name in wanted if not (self.folder / name).exists()]
        if shutil.which("kubectl") is None and not (self.folder / "kubectl").exists():
            absent.append("kubectl")
        lines = [f"no {', '.join(absent)} in {self.folder}: run {BUILD}"] if absent else []
        return lines + (_missing_for_a_node() if tier is Tier.NODE else [])


def _missing_for_a_node() -> list[str]:
    if sys.platform != "linux" or os.geteuid() != 0:
        return ["a node needs root on Linux"]
    tools = [name for name in NODE_TOOLS if shutil.which(name, path=path_with_sbin()) is None]
    if not (CNI_PLUGINS / "ptp").exists():
        tools.append("containernetworking-plugins")
    if tools:
        return [f"no {', '.join(tools)}: run {SET_UP}"]
    spaces = ["unshare", "--mount", "--net", "--pid", "--fork", "true"]
    if subprocess.run(spaces, capture_output=True, check=False).returncode != 0:
        return ["this root may not make namespaces (a container without CAP_SYS_ADMIN?)"]
    return []


def path_with_sbin() -> str:
    """PATH with the folders that some shells of root leave out."""
    return os.environ.get("PATH", os.defpath) + ":/usr/sbin:/sbin"


def require(tier: Tier) -> Programs:
    """The programs of `tier`; skips the test where something lacks, and fails it in CI."""
    programs = Programs.of_this_checkout()
    missing = programs.missing(tier)
    if not missing:
        return programs
    reason = f"cluster lane ({tier.value} tier): " + "; ".join(missing)
    if os.environ.get("CI") == "true":
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason)
