# SPDX-License-Identifier: Apache-2.0
"""Runs the pods of a namespace by saying so: the API tier has no node.

A thread follows the pods; a container whose command is ["end", "well"] succeeds, ["end", "badly"]
fails, ["wait"] runs until `finish`. The Job controller of the cluster does the rest.
"""

import threading
from types import TracebackType

from cluster_client import Json, Refused
from running_cluster import Cluster


class FakeKubelet:
    """For `with`. `started` are the uids of pods that ran, by trial uid."""

    def __init__(self, cluster: Cluster, namespace: str) -> None:
        self._api = cluster.api
        self._pods = f"/api/v1/namespaces/{namespace}/pods"
        self._finished: set[str] = set()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self.started: dict[str, set[str]] = {}

    def __enter__(self) -> "FakeKubelet":
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._over.set()
        self._thread.join(30)

    def finish(self, trial: str) -> None:
        """Lets what waits of this trial end well."""
        self._finished.add(trial)

    def _run(self) -> None:
        while not self._over.wait(0.05):
            for pod in self._api.request("GET", self._pods)["items"]:
                try:
                    self._tend(pod)
                except Refused as refusal:  # it changed or went meanwhile
                    assert refusal.code in (404, 409), refusal

    def _tend(self, pod: Json) -> None:
        phase = pod["status"].get("phase", "Pending")
        if phase in ("Succeeded", "Failed"):
            return
        command = pod["spec"]["containers"][0].get("command", [])
        trial = pod["metadata"]["labels"].get("katib.kubeflow.org/trial", "")
        if command == ["end", "well"] or trial in self._finished:
            self._began(pod)
            self._say(pod, "Succeeded", 0)
        elif command == ["end", "badly"]:
            self._began(pod)
            self._say(pod, "Failed", 3)
        elif phase == "Pending" and command == ["wait"]:
            self._began(pod)
            self._say(pod, "Running", None)

    def _began(self, pod: Json) -> None:
        annotations = pod["metadata"].get("annotations", {})
        uid = annotations.get("tunesmith.dev/trial-uid", "")
        self.started.setdefault(uid, set()).add(pod["metadata"]["uid"])

    def _say(self, pod: Json, phase: str, code: int | None) -> None:
        now = "2026-01-01T00:00:00Z"
        state: Json = {"running": {"startedAt": now}}
        if code is not None:
            state = {"terminated": {"exitCode": code, "startedAt": now, "finishedAt": now}}
        name = pod["spec"]["containers"][0]["name"]
        status = {"name": name, "state": state, "ready": code is None, "restartCount": 0}
        image = {"image": "none", "imageID": ""}
        body = {"phase": phase, "containerStatuses": [{**status, **image}]}
        path = f"{self._pods}/{pod['metadata']['name']}/status"
        self._api.request("PATCH", path, {"status": body})
