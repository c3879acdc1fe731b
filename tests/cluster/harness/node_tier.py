# SPDX-License-Identifier: Apache-2.0
"""The node tier: a whole one-node Kubernetes in network, mount and process namespaces of its own.

Its network has no default route, so nothing in it reaches anything outside; clients of this machine
reach its API server by a forwarder on loopback, and `Cluster.enter` goes inside. All that runs
there ends with process 1 of the namespaces, the supervisor, and their mounts go with them.
`conftest.py` makes a fixture of it, `up.py` a command.
"""

import contextlib
import os
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import node_files
from cluster_client import ApiClient
from cluster_images import images
from cluster_processes import ClusterError, Processes, Seat
from cluster_programs import Programs, path_with_sbin
from control_plane import (
    API_SERVER,
    CONTROLLER_MANAGER,
    ETCD,
    SCHEDULER,
    SERVICE_RANGE,
    ApiServerPlace,
    Component,
    Keys,
    Ports,
    api_server,
    controller_manager,
    etcd,
    etcd_socket,
    scheduler,
)
from image_archive import Image, write_archive
from node_files import NODE, NODE_ADDRESS, NodeFiles
from running_cluster import Cluster, answers

CONTAINERD, KUBELET, PROXY, COREDNS = "containerd", "kubelet", "kube-proxy", "coredns"
_FORWARDER = "forwarder"
_PORTS = Ports(etcd_peer=2380, api_server=6443, controller_manager=10257, scheduler=10259)
_KUBELET_HEALTH, _PROXY_HEALTH, _DNS = 10248, 10256, 53
_V1_CONTROLLERS = [
    "cpu",
    "cpuacct",
    "cpuset",
    "memory",
    "devices",
    "pids",
    "blkio",
    "freezer",
    "systemd",
]
# From this much free memory on, the 1.5 GB of unpacked images lie in it: a node then starts three
# times as fast and is gone at once.
_MEMORY_FOR_IMAGES = 8 << 30
_GROUPS = Path("/sys/fs/cgroup")


@contextlib.contextmanager
def node_tier(programs: Programs, logs: Path) -> Iterator[Cluster]:
    """A node that is Ready and has the images of `cluster_images.py`."""
    os.environ["PATH"] = path_with_sbin()
    ours = images()
    logs.mkdir(parents=True, exist_ok=True)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        node = _Node(programs, logs, listener)
    try:
        node.start(ours)
        yield node.cluster
    finally:
        node.cluster.processes.close()


class _Node:
    """The parts of a node until it runs."""

    def __init__(self, programs: Programs, logs: Path, listener: socket.socket) -> None:
        scratch = Path(tempfile.mkdtemp(prefix="tunesmith-cluster-"))
        self._programs = programs
        self._listener = listener.fileno()
        self._files = NodeFiles(scratch, scratch.name)
        self._keys = Keys.make(scratch / "keys", [NODE_ADDRESS, NODE])
        host, port = listener.getsockname()
        outside, folder = scratch / "kubeconfig", self._keys.folder
        outside.write_text(self._keys.admin_kubeconfig(f"https://{host}:{port}"))
        self._files.kubeconfig.write_text(self._keys.admin_kubeconfig("https://127.0.0.1:6443"))
        self._files.write()
        _make_control_groups(scratch.name)
        processes = Processes(
            Seat(scratch, scratch.name, isolated=True), _prepare(scratch), keep=[self._listener]
        )
        self.cluster = Cluster(
            kubeconfig=outside,
            audit_log=logs / "audit.log",
            logs=logs,
            api=ApiClient(
                host, port, folder / "ca.crt", folder / "admin.crt", folder / "admin.key"
            ),
            processes=processes,
            programs=programs,
            prefix=_entry(processes.supervisor_pid, self._files.resolver),
        )

    def start(self, ours: list[Image]) -> None:
        """Starts everything and returns when pods can run."""
        self._lay_network()
        cluster = self.cluster
        cluster.launch(
            Component(CONTAINERD, node_files.containerd(self._files), self._runtime_is_ready)
        )
        with _in_the_background(lambda: import_images(cluster, ours)):
            self._start_control_plane()
            self._launch(KUBELET, node_files.kubelet(self._programs, self._files), _KUBELET_HEALTH)
            self._launch(PROXY, node_files.proxy(self._programs, self._files), _PROXY_HEALTH)
            dns = node_files.coredns(self._programs, self._files)
            cluster.launch(Component(COREDNS, dns, lambda: self._listens(_DNS, NODE_ADDRESS)))
        cluster.wait_until(self._node_is_ready, "the node Ready", watch=KUBELET)

    def _start_control_plane(self) -> None:
        scratch, keys, programs = self._files.scratch, self._keys, self._programs
        store = etcd(programs.path(ETCD), _PORTS, scratch)
        self.cluster.launch(Component(ETCD, store, lambda: answers(etcd_socket(scratch))))
        forwarder = Path(__file__).with_name("cluster_forwarder.py")
        forward = [sys.executable, "-I", str(forwarder), str(self._listener)]
        forward += ["127.0.0.1", str(_PORTS.api_server)]
        self.cluster.launch(Component(_FORWARDER, forward, lambda: True, keep=(self._listener,)))
        place = ApiServerPlace(
            "0.0.0.0",  # noqa: S104 - of the node's own network
            self.cluster.audit_log,
            scratch,
            NODE_ADDRESS,
        )
        server = api_server(programs.path(API_SERVER), _PORTS, keys, place)
        self.cluster.launch(Component(API_SERVER, server, self.cluster.api.ready))
        config = self._files.kubeconfig
        manager = controller_manager(programs.path(CONTROLLER_MANAGER), _PORTS, keys, config)
        self._launch(CONTROLLER_MANAGER, manager, _PORTS.controller_manager)
        self._launch(
            SCHEDULER, scheduler(programs.path(SCHEDULER), _PORTS, config), _PORTS.scheduler
        )

    def _launch(self, name: str, argv: list[str], port: int) -> None:
        self.cluster.launch(Component(name, argv, lambda: self._listens(port)))

    def _lay_network(self) -> None:
        """An address for the node, and a way to ClusterIPs for processes that are no pods."""
        self._inside("ip", "link", "set", "lo", "up")
        self._inside("ip", "link", "add", NODE, "type", "bridge")  # dummy is not in every kernel
        self._inside("ip", "addr", "add", f"{NODE_ADDRESS}/24", "dev", NODE)
        self._inside("ip", "link", "set", NODE, "up")
        self._inside("ip", "route", "replace", SERVICE_RANGE, "dev", NODE)
        self._inside("sysctl", "-qw", "net.ipv4.ip_forward=1")
        with contextlib.suppress(ClusterError):  # where the kernel has no such filter, no need
            self._inside("sysctl", "-qw", "net.bridge.bridge-nf-call-iptables=1")

    def _inside(self, *argv: str) -> None:
        done = subprocess.run(
            self.cluster.enter(argv), capture_output=True, text=True, timeout=30, check=False
        )
        if done.returncode != 0:
            raise ClusterError(f"in the node's network: {' '.join(argv)}: {done.stderr.strip()}")

    def _listens(self, port: int, host: str = "127.0.0.1") -> bool:
        probe = ["bash", "-c", f"exec 3<>/dev/tcp/{host}/{port}"]
        done = subprocess.run(
            self.cluster.enter(probe), capture_output=True, timeout=10, check=False
        )
        return done.returncode == 0

    def _runtime_is_ready(self) -> bool:
        done = subprocess.run(
            ["ctr", "-a", str(self._files.socket), "plugins", "ls"],
            capture_output=True,
            text=True,
            timeout=10,
            check=False,
        )
        rows = [line.split() for line in done.stdout.splitlines()]
        return any("cri" in row and row[-1] == "ok" for row in rows)

    def _node_is_ready(self) -> bool:
        path = f"/api/v1/nodes/{NODE}"
        if not self.cluster.exists(path):
            return False
        conditions = self.cluster.api.request("GET", path)["status"].get("conditions", [])
        return any(it["type"] == "Ready" and it["status"] == "True" for it in conditions)


def import_images(cluster: Cluster, more: Iterable[Image]) -> None:
    """Gives the node images; their pods say imagePullPolicy IfNotPresent or Never."""
    address = str(cluster.kubeconfig.with_name("containerd.sock"))
    argv = ["ctr", "-a", address, "-n", "k8s.io", "images", "import", "-"]
    with cluster.log("import").open("wb") as log:
        ctr = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=log, stderr=log)
    assert ctr.stdin is not None
    with contextlib.suppress(BrokenPipeError), ctr.stdin:
        write_archive(more, ctr.stdin)
    if ctr.wait(120) != 0:
        raise ClusterError(f"importing images: {cluster.tail('import')}")


def _make_control_groups(name: str) -> None:
    """One root group for the node's pods, in whichever version the machine has."""
    if (_GROUPS / "cgroup.controllers").exists():
        (_GROUPS / "cgroup.subtree_control").write_text("+cpu +cpuset +memory +pids +io")
        (_GROUPS / name).mkdir()
        return
    for controller in _V1_CONTROLLERS:
        if (_GROUPS / controller).is_dir():
            (_GROUPS / controller / name).mkdir()
    for file in ("cpuset.cpus", "cpuset.mems"):  # a new group of this one has neither
        text = (_GROUPS / "cpuset" / file).read_text()
        (_GROUPS / "cpuset" / name / file).write_text(text)


def _prepare(scratch: Path) -> str:
    """A shell script that process 1 of the namespaces begins with."""
    lines = [f"mkdir -p {it} && mount -t tmpfs tmpfs {it}" for it in node_files.PRIVATE_FOLDERS]
    for setting, value in node_files.KERNEL_SETTINGS.items():
        file = scratch / f"setting-{setting.replace('/', '-')}"
        file.write_text(f"{value}\n")
        lines.append(f"mount --bind {file} /proc/sys/{setting}")
    if _free_memory() > _MEMORY_FOR_IMAGES:
        for name in ("containerd", "etcd"):
            lines.append(f"mkdir {scratch}/{name} && mount -t tmpfs tmpfs {scratch}/{name}")
    return "\n".join(["set -e", "mkdir -p /run/lock", *lines])


def _free_memory() -> int:
    lines = Path("/proc/meminfo").read_text().splitlines()
    kilobytes = next(line.split()[1] for line in lines if line.startswith("MemAvailable:"))
    return int(kilobytes) * 1024


def _entry(pid: int, resolver: Path) -> tuple[str, ...]:
    """What goes before a command that is to run in the node's network and resolve its names."""
    script = 'mount --bind "$0" /etc/resolv.conf && exec "$@"'
    network = ["nsenter", f"--net=/proc/{pid}/ns/net", "--"]
    return (*network, "unshare", "--mount", "--", "sh", "-c", script, str(resolver))


@contextlib.contextmanager
def _in_the_background(work: Callable[[], None]) -> Iterator[None]:
    """Runs `work` beside the body; what it raises is raised at the end."""
    raised: list[BaseException] = []

    def run() -> None:
        try:
            work()
        except BaseException as error:  # noqa: BLE001 - raised again below
            raised.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield
    finally:
        thread.join()
    if raised:
        raise raised[0]
