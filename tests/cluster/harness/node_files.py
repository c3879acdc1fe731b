# SPDX-License-Identifier: Apache-2.0
"""Configuration files and command lines of a node: containerd, kubelet, kube-proxy, CoreDNS.

Pure but for `write`, which puts the files into the node's scratch folder. `node_tier.py` starts
what this says.
"""

import json
from dataclasses import dataclass
from pathlib import Path

from cluster_images import PAUSE
from cluster_programs import CNI_PLUGINS, Programs

NODE = "node0"
NODE_ADDRESS = "198.19.0.1"
POD_RANGE = "198.18.128.0/20"

# Paths that containerd, CNI and kubelet have no setting for; the node sees empty ones of its own.
PRIVATE_FOLDERS = ("/run", "/var/lib/kubelet", "/var/lib/cni", "/var/log/containers")
# What kubelet would set for the whole machine; the node sees them as if they were set.
KERNEL_SETTINGS = {
    "vm/overcommit_memory": "1",
    "vm/panic_on_oom": "0",
    "kernel/panic": "10",
    "kernel/panic_on_oops": "1",
    "kernel/keys/root_maxkeys": "1000000",
    "kernel/keys/root_maxbytes": "25000000",
}


@dataclass(frozen=True, slots=True)
class NodeFiles:
    """The files of one node in its scratch folder."""

    scratch: Path
    control_group: str

    @property
    def socket(self) -> Path:
        """Where containerd listens."""
        return self.scratch / "containerd.sock"

    @property
    def resolver(self) -> Path:
        """A resolv.conf that asks the cluster's CoreDNS."""
        return self.scratch / "resolv.conf"

    @property
    def kubeconfig(self) -> Path:
        """The administrator's kubeconfig for components inside."""
        return self.scratch / "kubeconfig-inside"

    def write(self) -> None:
        """Writes all of them."""
        self.resolver.write_text(f"nameserver {NODE_ADDRESS}\nsearch svc.cluster.local\n")
        (self.scratch / "containerd.toml").write_text(self._containerd())
        (self.scratch / "kubelet.json").write_text(json.dumps(self._kubelet(), indent=1))
        (self.scratch / "Corefile").write_text(self._coredns())
        (self.scratch / "cni").mkdir()
        (self.scratch / "cni/10-pods.conflist").write_text(json.dumps(self._network()))

    def _containerd(self) -> str:
        return f"""\
version = 2
root = "{self.scratch}/containerd"
state = "{self.scratch}/containerd-state"
[grpc]
  address = "{self.socket}"
[plugins."io.containerd.grpc.v1.cri"]
  # Without CAP_SYS_RESOURCE runc may not lower the oom_score_adj of a pod's first container.
  restrict_oom_score_adj = true
  sandbox_image = "{PAUSE}"
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "{CNI_PLUGINS}"
    conf_dir = "{self.scratch}/cni"
"""

    def _network(self) -> dict[str, object]:
        addresses = {
            "type": "host-local",
            "subnet": POD_RANGE,
            "routes": [{"dst": "0.0.0.0/0"}],
            "dataDir": str(self.scratch / "addresses"),
        }
        return {
            "cniVersion": "0.4.0",
            "name": "pods",
            "plugins": [
                {"type": "ptp", "ipMasq": False, "ipam": addresses},
                {"type": "portmap", "capabilities": {"portMappings": True}},
            ],
        }

    def _kubelet(self) -> dict[str, object]:
        keys = self.scratch / "keys"
        return {
            "apiVersion": "kubelet.config.k8s.io/v1beta1",
            "kind": "KubeletConfiguration",
            "address": "0.0.0.0",  # noqa: S104 - of the node's own network
            "authentication": {
                "anonymous": {"enabled": False},
                "webhook": {"enabled": True},
                "x509": {"clientCAFile": str(keys / "ca.crt")},
            },
            "authorization": {"mode": "Webhook"},
            "tlsCertFile": str(keys / "kubelet.crt"),
            "tlsPrivateKeyFile": str(keys / "kubelet.key"),
            "cgroupDriver": "cgroupfs",
            "cgroupRoot": f"/{self.control_group}",
            "failCgroupV1": False,
            "failSwapOn": False,
            "containerRuntimeEndpoint": f"unix://{self.socket}",
            "clusterDNS": [NODE_ADDRESS],
            "clusterDomain": "cluster.local",
            "resolvConf": str(self.resolver),
            "podLogsDir": str(self.scratch / "pod-logs"),
            # A full disk of the machine is nothing that these tests are about.
            "evictionHard": {
                "imagefs.available": "1%",
                "nodefs.available": "1%",
                "memory.available": "100Mi",
            },
            "imageGCHighThresholdPercent": 100,
        }

    def _coredns(self) -> str:
        return f"""\
.:53 {{
  bind {NODE_ADDRESS}
  errors
  kubernetes cluster.local in-addr.arpa {{
    kubeconfig {self.kubeconfig} test
    pods insecure
  }}
  cache 5
}}
"""


def containerd(files: NodeFiles) -> list[str]:
    """containerd with its CRI plugin."""
    return ["containerd", "--config", str(files.scratch / "containerd.toml")]


def kubelet(programs: Programs, files: NodeFiles) -> list[str]:
    """The kubelet of the one node."""
    return [
        programs.path("kubelet"),
        f"--kubeconfig={files.kubeconfig}",
        f"--config={files.scratch / 'kubelet.json'}",
        f"--hostname-override={NODE}",
        f"--node-ip={NODE_ADDRESS}",
        f"--root-dir={files.scratch / 'kubelet'}",
    ]


def proxy(programs: Programs, files: NodeFiles) -> list[str]:
    """kube-proxy by nftables."""
    return [
        programs.path("kube-proxy"),
        f"--kubeconfig={files.kubeconfig}",
        "--proxy-mode=nftables",
        f"--hostname-override={NODE}",
        f"--cluster-cidr={POD_RANGE}",
        "--conntrack-max-per-core=0",  # a setting of the whole machine
    ]


def coredns(programs: Programs, files: NodeFiles) -> list[str]:
    """CoreDNS on the node's address."""
    return [programs.path("coredns"), "-conf", str(files.scratch / "Corefile")]
