# SPDX-License-Identifier: Apache-2.0
"""`ClusterAlgorithmHost`: the AlgorithmHost port of a cluster.

Our own algorithms are answered by one service that is installed with the controller. An algorithm
that katib-config names an image for gets a Deployment and a Service of its own per experiment, made
as Katib makes them, so any image that works with Katib works here. `ensure` never waits: a task per
experiment makes the objects, asks the service whether it answers, and makes them again if somebody
deletes them.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from tunesmith_api.conditions import find
from tunesmith_api.resources import Suggestion
from tunesmith_controller.hosts.cluster_health import HealthCheck
from tunesmith_controller.hosts.cluster_service import (
    HEALTH_SERVICE,
    KEEPS_SERVICE,
    Wanted,
    algorithm_of,
    resume_policy,
)
from tunesmith_controller.hosts.cluster_service_watches import DEPLOYMENTS, ServiceWatches
from tunesmith_controller.katib_config import (
    SUGGESTION_PORT,
    ConfigSource,
    SuggestionEntry,
    is_katibs_own,
)
from tunesmith_controller.ports import (
    AlreadyExists,
    Conflict,
    Endpoint,
    HostFailed,
    Invalid,
    Json,
    Key,
    NotFound,
    NotReady,
    PortError,
)
from tunesmith_controller.stores.rest import RESOURCES, Resource, RestStore
from tunesmith_controller.stores.rest_errors import Denied
from tunesmith_controller.stores.rest_transport import ApiTransport
from tunesmith_controller.workloads.cluster_refusals import refusal
from tunesmith_suggestion.registry import Registry

__all__ = ["ClusterAlgorithmHost", "ClusterHostSettings"]

State = Endpoint | NotReady | HostFailed
_log = logging.getLogger(__name__)

_MADE: Final = {
    "Suggestion": RESOURCES["Suggestion"],
    "Deployment": DEPLOYMENTS,
    "Service": Resource("v1", "services"),
    "PersistentVolumeClaim": Resource("v1", "persistentvolumeclaims"),
    "PersistentVolume": Resource("v1", "persistentvolumes", namespaced=False),
}
_CHECK_S: Final = 2.0
_RETRY_S: Final = 1.0
_LONGEST_RETRY_S: Final = 30.0


def address_in_cluster(namespace: str, name: str) -> str:
    return f"{name}.{namespace}:{SUGGESTION_PORT}"


@dataclass(frozen=True, slots=True)
class ClusterHostSettings:
    """shared: the address of our own service. namespaces: those that are looked at, None for all.
    own: names of the algorithms that it answers, None for all that are installed here. probes:
    whether Deployments get gRPC probes, as katib-config says. address: of a Service by namespace
    and name."""

    shared: str
    namespaces: tuple[str, ...] | None = None
    own: frozenset[str] | None = None
    probes: bool = True
    address: Callable[[str, str], str] = address_in_cluster


class ClusterAlgorithmHost:
    """For one event loop; `aclose` ends its tasks and leaves the services as they are."""

    def __init__(
        self, transport: ApiTransport, config: ConfigSource, settings: ClusterHostSettings
    ) -> None:
        self._settings = settings
        self._config = config
        self._own = frozenset(Registry().names()) if settings.own is None else settings.own
        self._store = RestStore(transport, resources=_MADE)
        self._shared: set[Key] = set()
        self._hosted: dict[Key, _Hosted] = {}
        self._watches = ServiceWatches(transport, settings.namespaces, self._changed)

    async def aclose(self) -> None:
        tasks = [hosted.task for hosted in self._hosted.values() if hosted.task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._watches.aclose()

    # ---- the port -------------------------------------------------------------------------------

    async def ensure(self, suggestion: Key, algorithm: str) -> State:
        """Where an experiment began it stays, whatever the configuration says later. Raises
        Unavailable when the configuration cannot be read."""
        if suggestion in self._shared:
            return Endpoint(self._settings.shared)
        hosted = self._hosted.get(suggestion)
        if hosted is None or hosted.algorithm != algorithm:
            return await self._begin(suggestion, algorithm)
        if isinstance(hosted.state, NotReady):
            return NotReady(self._watches.trouble(hosted.place) or hosted.state.reason)
        return hosted.state

    async def release(self, suggestion: Key) -> None:
        """Deletes Service and Deployment unless the resume policy keeps them; a volume stays. What
        Katib made for a search that ours answers now is kept by no policy."""
        is_shared = suggestion in self._shared
        self._shared.discard(suggestion)
        hosted = self._hosted.pop(suggestion, None)
        names = set()
        if hosted is not None:
            # By name as well: somebody may have deleted the Deployment alone, a moment before.
            names.add(hosted.place[1])
            if hosted.task is not None:
                hosted.task.cancel()
                await asyncio.gather(hosted.task, return_exceptions=True)
        names |= {d["metadata"]["name"] for d in await self._watches.deployments_of(suggestion)}
        if not names or (not is_shared and await self._keeps(suggestion)):
            return
        for name in sorted(names):
            await self._delete_service(suggestion, name)

    async def retire(self, suggestion: Key, algorithm: str) -> None:
        """Deletes the Service and the Deployment that Katib made for an algorithm that ours
        answers; nothing for others, which go on with what they have. Raises Unavailable."""
        try:
            entry = (await self._config.current()).suggestion(algorithm)
        except Invalid:
            return  # `ensure` says so
        if self._is_ours(algorithm, entry):
            await self._delete_service(suggestion, f"{suggestion.name}-{algorithm}")

    def _is_ours(self, algorithm: str, entry: SuggestionEntry | None) -> bool:
        """A configuration that was Katib's names Katib's image for every algorithm. Ours answers
        those that it has: it keeps no state that could be lost."""
        return algorithm in self._own and (entry is None or is_katibs_own(entry))

    async def _begin(self, suggestion: Key, algorithm: str) -> State:
        try:
            config = await self._config.current()
            entry = config.suggestion(algorithm)
        except Invalid as error:
            return HostFailed(str(error))
        if self._is_ours(algorithm, entry):
            self._shared.add(suggestion)
            return Endpoint(self._settings.shared)
        if entry is None:
            return HostFailed(
                f"no service answers the algorithm {algorithm!r}: it is none of ours, and "
                "katib-config has no entry of runtime.suggestions for it"
            )
        self._drop(suggestion)
        place = (suggestion.namespace, f"{suggestion.name}-{algorithm}")
        hosted = self._hosted[suggestion] = _Hosted(algorithm, place)
        hosted.task = asyncio.get_running_loop().create_task(
            self._keep(suggestion, hosted, entry), name=f"host of {suggestion}"
        )
        return hosted.state

    def _drop(self, suggestion: Key) -> None:
        before = self._hosted.pop(suggestion, None)
        if before is not None and before.task is not None:
            before.task.cancel()

    # ---- keeping --------------------------------------------------------------------------------

    async def _keep(self, key: Key, hosted: _Hosted, entry: SuggestionEntry) -> None:
        """Until released, or until it cannot be had at all."""
        failures = 0
        while True:
            try:
                await self._keep_once(key, hosted, entry)
                failures = 0
                continue
            except _Hopeless as error:
                hosted.state = HostFailed(str(error))
                return
            except Denied as error:
                hosted.state = NotReady(refusal(str(error)))
            except Invalid as error:
                hosted.state = HostFailed(f"the service of {hosted.algorithm} is refused: {error}")
                return
            except PortError as error:
                hosted.state = NotReady(str(error))
            except Exception as error:  # noqa: BLE001 - whatever it is, people are told
                _log.exception("cannot keep the service of %s", key)
                hosted.state = HostFailed(f"{type(error).__name__}: {error}")
                return
            failures += 1
            await asyncio.sleep(min(_RETRY_S * 2 ** min(failures - 1, 5), _LONGEST_RETRY_S))

    async def _keep_once(self, key: Key, hosted: _Hosted, entry: SuggestionEntry) -> None:
        """Makes what is missing, waits for the first answer, then for a deletion by somebody."""
        await self._watches.synced(key.namespace)
        wanted = await self._wanted(key, entry)
        hosted.gone.clear()
        for obj in wanted.objects():
            await self._make(wanted, obj)
        hosted.state = NotReady(f"the service {wanted.name} is starting")
        target = self._settings.address(*hosted.place)
        check = HealthCheck(target, HEALTH_SERVICE)
        try:
            while not await check.serves(_CHECK_S):
                if why := self._watches.given_up(hosted.place):
                    raise _Hopeless(why)
                if hosted.gone.is_set():
                    return
        finally:
            await check.aclose()
        hosted.state = Endpoint(target)
        await hosted.gone.wait()
        hosted.state = NotReady(f"the service {wanted.name} was deleted and is made again")

    async def _wanted(self, key: Key, entry: SuggestionEntry) -> Wanted:
        suggestion = await self._store.get(key)
        rule = algorithm_of(suggestion, "earlyStopping")
        config = await self._config.current()
        stopping = config.stopping_rule(rule) if rule else None
        return Wanted(suggestion, entry, stopping, self._settings.probes)

    async def _make(self, wanted: Wanted, obj: Json) -> None:
        """Ours if it is there already. What is of an earlier Suggestion of the name is waited for,
        what is of somebody else is left alone."""
        try:
            await self._store.create(obj)
            return
        except AlreadyExists:
            there = await self._store.get(_key_of(obj))
        metadata = there["metadata"]
        uid = wanted.suggestion["metadata"]["uid"]
        owners = metadata.get("ownerReferences") or []
        if metadata.get("deletionTimestamp"):
            raise Conflict(f"an earlier {obj['kind']} {metadata['name']} is still being deleted")
        if obj["kind"] == "PersistentVolume" or any(o.get("uid") == uid for o in owners):
            return
        if any(o.get("kind") == "Suggestion" for o in owners):
            raise Conflict(
                f"the {obj['kind']} {metadata['name']} of an earlier Suggestion is still there"
            )
        raise _Hopeless(
            f"namespace {wanted.namespace} has a {obj['kind']} named {metadata['name']} that is "
            "not tunesmith's; delete it, or give the experiment another name"
        )

    def _changed(self, before: Json | None, after: Json | None) -> None:
        if before is None or after is not None:
            return
        place = (before["metadata"]["namespace"], before["metadata"]["name"])
        for hosted in self._hosted.values():
            if hosted.place == place:
                hosted.gone.set()

    # ---- letting go -----------------------------------------------------------------------------

    async def _keeps(self, key: Key) -> bool:
        """Whether its service outlives the experiment's end."""
        try:
            found = await self._store.get(key)
        except NotFound:
            return False
        failed = find(Suggestion.parse(found).status.conditions, "Failed") is not None
        gone = bool(found["metadata"].get("deletionTimestamp"))
        return resume_policy(found) == KEEPS_SERVICE and not (failed or gone)

    async def _delete_service(self, suggestion: Key, name: str) -> None:
        """What the Suggestion owns under the name; others may have something there."""
        for kind in ("Service", "Deployment"):
            key = Key(kind, suggestion.namespace, name)
            try:
                metadata = (await self._store.get(key))["metadata"]
                owners = [o for o in metadata.get("ownerReferences") or [] if o.get("controller")]
                ours = any(
                    o["kind"] == "Suggestion" and o["name"] == suggestion.name for o in owners
                )
                if ours and not metadata.get("deletionTimestamp"):
                    await self._store.delete(key, uid=metadata["uid"])
            except (NotFound, Conflict):
                continue
            except Denied as error:
                _log.warning("%s", refusal(str(error)))


class _Hopeless(Exception):
    """Waiting will not help; the text is for people."""


class _Hosted:
    """The service of one experiment; `gone` is set when its Deployment is deleted."""

    def __init__(self, algorithm: str, place: tuple[str, str]) -> None:
        self.algorithm = algorithm
        self.place = place
        self.state: State = NotReady(f"the service {place[1]} is being made")
        self.gone = asyncio.Event()
        self.task: asyncio.Task[None] | None = None


def _key_of(obj: Json) -> Key:
    metadata = obj["metadata"]
    return Key(obj["kind"], str(metadata.get("namespace") or ""), metadata["name"])
