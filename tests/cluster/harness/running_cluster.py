# SPDX-License-Identifier: Apache-2.0
"""A running test cluster as tests see it, and the API tier.

`conftest.py` makes fixtures of it, `up.py` a command. `node_tier.py` adds a node. Everything a
cluster writes, but for its logs, lies in a scratch folder that goes when it ends.
"""

import contextlib
import dataclasses
import itertools
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cluster_client import ApiClient, Json, Refused, kubeconfig
from cluster_processes import ClusterError, Processes, Seat
from cluster_programs import Programs
from control_plane import (
    API_SERVER,
    CONTROLLER_MANAGER,
    ETCD,
    ApiServerPlace,
    Component,
    Keys,
    Ports,
    api_server,
    controller_manager,
    etcd,
    etcd_socket,
)

_READY_SECONDS = 60.0
_NUMBERS = itertools.count(1)


@dataclass
class Cluster:
    """A running cluster. Component names are those of the programs, as `kube-apiserver`."""

    kubeconfig: Path
    audit_log: Path
    logs: Path
    api: ApiClient
    processes: Processes
    programs: Programs
    prefix: tuple[str, ...] = ()
    components: dict[str, Component] = field(default_factory=dict)

    # -- what runs in it ---------------------------------------------------------------------

    def launch(self, component: Component, seconds: float = _READY_SECONDS) -> None:
        """Starts a component for the first time and waits until it is ready."""
        self.components[component.name] = component
        self.start(component.name, seconds)

    def start(self, component: str, seconds: float = _READY_SECONDS) -> None:
        """Starts a component that was stopped and waits until it is ready."""
        it = self.components[component]
        self.processes.start(component, it.argv, self.log(component), it.env, it.keep)
        self.wait_until(it.ready, f"{component} ready", seconds, watch=component)

    def stop(self, component: str, seconds: float = 30.0) -> None:
        """Ends a component by SIGTERM, after `seconds` by SIGKILL; `start` brings it back."""
        if self.processes.return_code(component) is not None:
            return
        self.processes.signal(component, signal.SIGTERM)
        if self.processes.wait(component, seconds) is None:
            self.kill(component)

    def kill(self, component: str) -> None:
        """Ends a component at once."""
        self.processes.signal(component, signal.SIGKILL)
        self.processes.wait(component, 10)

    def pause(self, component: str) -> None:
        """Stops a component where it is: connections stay open and nobody answers."""
        self.processes.signal(component, signal.SIGSTOP)

    def resume(self, component: str) -> None:
        """Lets a paused component go on."""
        self.processes.signal(component, signal.SIGCONT)

    def restart_api_server(self) -> None:
        """Ends the API server and starts it on the same port with the same data."""
        self.stop(API_SERVER)
        self.start(API_SERVER)

    def pids(self) -> dict[str, int]:
        """Process ids on this machine of the components that run, for figures from /proc."""
        return self.processes.pids()

    def log(self, component: str) -> Path:
        """The file with the component's output."""
        return self.logs / f"{component}.log"

    def enter(self, argv: Sequence[str]) -> list[str]:
        """`argv` as a command that runs in the cluster's network."""
        return [*self.prefix, *argv]

    # -- its objects ----------------------------------------------------------------------------

    def kubectl(self, *arguments: str, stdin: str | None = None, seconds: float = 60.0) -> str:
        """What kubectl prints, as the administrator. Raises ClusterError with what it says."""
        argv = [self.programs.path("kubectl"), f"--kubeconfig={self.kubeconfig}", *arguments]
        done = subprocess.run(
            argv, input=stdin, capture_output=True, text=True, timeout=seconds, check=False
        )
        if done.returncode != 0:
            raise ClusterError(f"kubectl {' '.join(arguments)}: {done.stderr.strip()}")
        return done.stdout

    def apply(self, what: Path | Json | Iterable[Json]) -> None:
        """Applies a YAML file, a folder of them, or objects, on the server's side."""
        flags = ("apply", "--server-side", "--force-conflicts", "-f")
        if isinstance(what, Path):
            self.kubectl(*flags, str(what))
            return
        items = [what] if isinstance(what, dict) else list(what)
        text = json.dumps({"apiVersion": "v1", "kind": "List", "items": items})
        self.kubectl(*flags, "-", stdin=text)

    def namespace_of_test(self) -> str:
        """A new namespace, named after the running test, ready for pods."""
        running = os.environ.get("PYTEST_CURRENT_TEST", "by-hand").split("::")[-1].split(" ")[0]
        words = re.sub(r"[^a-z0-9]+", "-", running.lower().removeprefix("test_")).strip("-")
        name = f"{words[:40].strip('-')}-{next(_NUMBERS)}"
        self.create_namespace(name)
        return name

    def create_namespace(self, name: str) -> None:
        """Creates it; with a controller manager, waits for its default service account."""
        body = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}
        self.api.request("POST", "/api/v1/namespaces", body)
        if CONTROLLER_MANAGER in self.pids():
            account = f"/api/v1/namespaces/{name}/serviceaccounts/default"
            self.wait_until(lambda: self.exists(account), f"the account default in {name}", 30)

    def delete_namespace(self, name: str) -> None:
        """Asks for its deletion and does not wait."""
        with contextlib.suppress(Refused):
            self.api.request("DELETE", f"/api/v1/namespaces/{name}")

    def exists(self, path: str) -> bool:
        """Whether the object at this path of the API is there."""
        return self.api.raw("GET", path)[0] == 200

    def service_account_token(
        self, namespace: str, name: str, audience: str | None = None, pod: str | None = None
    ) -> str:
        """A token for the account, made if it is not there; bound to a pod if one is named.

        Without an audience it is for the API server. It is good for an hour.
        """
        accounts = f"/api/v1/namespaces/{namespace}/serviceaccounts"
        if not self.exists(f"{accounts}/{name}"):
            self.api.request("POST", accounts, {"metadata": {"name": name}})
        spec: Json = {"expirationSeconds": 3600}
        if audience is not None:
            spec["audiences"] = [audience]
        if pod is not None:
            found = self.api.request("GET", f"/api/v1/namespaces/{namespace}/pods/{pod}")
            uid = found["metadata"]["uid"]
            spec["boundObjectRef"] = {"kind": "Pod", "apiVersion": "v1", "name": pod, "uid": uid}
        answer = self.api.request("POST", f"{accounts}/{name}/token", {"spec": spec})
        token: str = answer["status"]["token"]
        return token

    def kubeconfig_of(self, namespace: str, name: str) -> Path:
        """A kubeconfig with which one acts as that service account, for tests of rights."""
        user = {"token": self.service_account_token(namespace, name)}
        server = f"https://{self.api.host}:{self.api.port}"
        file = self.kubeconfig.with_name(f"kubeconfig-{namespace}-{name}")
        file.write_text(kubeconfig(server, self.api.authority, user))
        return file

    def audit(self) -> list[Json]:
        """The audit log so far: one entry a request, of level Metadata."""
        if not self.audit_log.exists():
            return []
        whole = self.audit_log.read_text().rpartition("\n")[0]
        return [json.loads(line) for line in whole.splitlines() if line]

    # -- waiting ----------------------------------------------------------------------------------

    def wait_until(
        self,
        condition: Callable[[], Any],
        what: str,
        seconds: float = _READY_SECONDS,
        watch: str | None = None,
    ) -> None:
        """Asks `condition` until it holds. Raises ClusterError, with the log of `watch`."""
        deadline = time.monotonic() + seconds
        while not condition():
            if watch is not None and (code := self.processes.return_code(watch)) is not None:
                raise ClusterError(f"{watch} ended with {code}; its log:\n{self.tail(watch)}")
            if time.monotonic() > deadline:
                end = f"; its log:\n{self.tail(watch)}" if watch is not None else ""
                raise ClusterError(f"not within {seconds:g} s: {what}{end}")
            time.sleep(0.05)

    def tail(self, component: str, lines: int = 15) -> str:
        """The last lines of a component's log, and where the rest is."""
        file = self.log(component)
        text = file.read_text(errors="replace") if file.exists() else ""
        return "\n".join([*text.splitlines()[-lines:], f"(all of it: {file})"])


def free_ports(count: int) -> list[int]:
    """Loopback ports that nobody has at this moment, all different."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [int(each.getsockname()[1]) for each in sockets]


def answers(path: Path) -> bool:
    """Whether somebody takes connections on that Unix socket."""
    with socket.socket(socket.AF_UNIX) as probe:
        return probe.connect_ex(str(path)) == 0


@contextlib.contextmanager
def api_tier(programs: Programs, logs: Path, controllers: bool = True) -> Iterator[Cluster]:
    """etcd, kube-apiserver and, unless `controllers` is false, kube-controller-manager.

    They listen on free loopback ports of this machine; several such clusters run side by side.
    """
    for last in (False, False, True):
        cluster = _api_server_with_etcd(programs, logs)
        try:
            _start_api_tier(cluster, controllers)
        except BaseException as error:
            cluster.processes.close()
            if last or "address already in use" not in str(error):
                raise
            continue  # somebody took a port between its choice and its use
        break
    try:
        yield cluster
    finally:
        cluster.processes.close()


def _start_api_tier(cluster: Cluster, controllers: bool) -> None:
    cluster.start(ETCD)
    cluster.start(API_SERVER)
    if controllers:
        cluster.start(CONTROLLER_MANAGER)


def _api_server_with_etcd(programs: Programs, logs: Path) -> Cluster:
    logs.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix="tunesmith-cluster-"))
    try:
        return _assemble(programs, logs, scratch)
    except BaseException:
        shutil.rmtree(scratch, ignore_errors=True)
        raise


def _assemble(programs: Programs, logs: Path, scratch: Path) -> Cluster:
    ports = Ports(*free_ports(4))
    keys = Keys.make(scratch / "keys", [])
    config = scratch / "kubeconfig"
    config.write_text(keys.admin_kubeconfig(f"https://127.0.0.1:{ports.api_server}"))
    place = ApiServerPlace("127.0.0.1", logs / "audit.log", scratch)
    api = ApiClient(
        "127.0.0.1",
        ports.api_server,
        keys.folder / "ca.crt",
        keys.folder / "admin.crt",
        keys.folder / "admin.key",
    )
    cluster = Cluster(config, place.audit_log, logs, api, Processes(Seat(scratch)), programs)
    manager = dataclasses.replace(api, port=ports.controller_manager)
    etcd_argv = etcd(programs.path(ETCD), ports, scratch)
    server_argv = api_server(programs.path(API_SERVER), ports, keys, place)
    manager_argv = controller_manager(programs.path(CONTROLLER_MANAGER), ports, keys, config)
    for component in (
        Component(ETCD, etcd_argv, lambda: answers(etcd_socket(scratch))),
        Component(API_SERVER, server_argv, api.ready),
        Component(CONTROLLER_MANAGER, manager_argv, lambda: manager.ready("/healthz")),
    ):
        cluster.components[component.name] = component
    return cluster
