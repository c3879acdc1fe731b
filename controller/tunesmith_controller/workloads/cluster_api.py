# SPDX-License-Identifier: Apache-2.0
"""The requests that an attempt's job takes: create, delete, a look where a watch may be late."""

from __future__ import annotations

from tunesmith_controller.ports import Json, Key, TrialRun, Unavailable
from tunesmith_controller.stores.rest import RestStore
from tunesmith_controller.stores.rest_errors import Denied, TryLater, json_of, raise_for
from tunesmith_controller.stores.rest_transport import ApiRequest, ApiTransport
from tunesmith_controller.workloads.cluster_kinds import Kinds
from tunesmith_controller.workloads.cluster_object import kind_of


class JobApi:
    """Jobs of any kind in one cluster. Errors are those of `RestStore`."""

    def __init__(self, transport: ApiTransport) -> None:
        self.kinds = Kinds(transport)
        self._transport = transport

    async def create(self, job: Json) -> Json:
        store = await self._store(job["apiVersion"], job["kind"])
        # A status in a template would be a second request, for nothing.
        body = {name: value for name, value in job.items() if name != "status"}
        try:
            return await store.create(body)
        except Unavailable as error:
            if not isinstance(error, TryLater | Denied):  # the kind may be installed no more
                self.kinds.forget(job["apiVersion"], job["kind"])
            raise

    async def get(self, run: TrialRun) -> Json:
        """What has the trial's name now. Raises NotFound."""
        api_version, kind = kind_of(run)
        store = await self._store(api_version, kind)
        return await store.get(Key(kind, run.trial.namespace, run.trial.name))

    async def delete(self, job: Json) -> None:
        """This object and no other of its name. Raises NotFound, Conflict."""
        metadata = job["metadata"]
        store = await self._store(job["apiVersion"], job["kind"])
        key = Key(job["kind"], metadata["namespace"], metadata["name"])
        await store.delete(key, uid=metadata["uid"])

    async def _store(self, api_version: str, kind: str) -> RestStore:
        resource = await self.kinds.resource(api_version, kind)
        return RestStore(self._transport, resources={kind: resource})


async def warning_about(transport: ApiTransport, namespace: str, uid: str) -> str:
    """The newest warning about an object, "FailedCreate: ..."; empty where there is none. Raises
    PortErrors."""
    query = {"fieldSelector": f"involvedObject.uid={uid},type=Warning", "limit": "50"}
    path = f"/api/v1/namespaces/{namespace}/events"
    reply = await transport.request(ApiRequest("GET", path, query))
    raise_for(reply, f"list events in namespace {namespace}")
    events = json_of(reply).get("items") or []
    if not events:
        return ""
    newest = max(events, key=_when)
    return f"{newest.get('reason', 'Warning')}: {newest.get('message', '')}"


def _when(event: Json) -> str:
    series = event.get("series") or {}
    times = (
        event.get("lastTimestamp"),
        series.get("lastObservedTime"),
        event.get("eventTime"),
        event.get("metadata", {}).get("creationTimestamp"),
    )
    return next((str(time) for time in times if time), "")
