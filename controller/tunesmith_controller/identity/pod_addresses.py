# SPDX-License-Identifier: Apache-2.0
"""`PodAddresses`: callers by the address of their pod, for clients that say nothing of themselves.

Katib's collectors and its SDK speak plain text to katib-db-manager. An address is as good as the
cluster's network makes it: only what nobody else can take is done for it (authorization.KatibRules
of the observation service).
"""

from __future__ import annotations

import ipaddress
from typing import Final

from tunesmith_controller.identity.answers import Kept, Shared
from tunesmith_controller.identity.trial_pods import NotATrials, TrialPods
from tunesmith_controller.ports import Json, PortError, Unavailable
from tunesmith_controller.stores.rest import RESOURCES
from tunesmith_controller.stores.rest_errors import json_of, raise_for
from tunesmith_controller.stores.rest_transport import ApiRequest, ApiTransport
from tunesmith_proto.callers import Caller, Stranger

_KEPT_S: Final = 5.0
"""Another pod may have the address soon after one has gone."""
_KEPT: Final = 20_000
_AT_ONCE: Final = 16
_WAITING: Final = 1000
_OVER: Final = frozenset({"Succeeded", "Failed"})


class PodAddresses:
    """An `AddressBook`. For one event loop."""

    def __init__(
        self,
        transport: ApiTransport,
        pods: TrialPods,
        *,
        namespace: str | None = None,
        kept_s: float = _KEPT_S,
    ) -> None:
        """`namespace`: the one in which trials are looked for; None for all."""
        self._transport, self._pods, self._kept_s = transport, pods, kept_s
        self._path = RESOURCES["Pod"].path(namespace)
        self._known: Kept[str, Caller] = Kept(_KEPT)
        self._questions: Shared[str, Caller] = Shared(_AT_ONCE, _WAITING)

    async def identify(self, address: str) -> Caller:
        known = self._known.get(address)
        if known is not None:
            return known
        return await self._questions.one(address, lambda: self._found(address))

    async def _found(self, address: str) -> Caller:
        caller = await self._asked(str(ipaddress.ip_address(address)))
        self._known.put(address, caller, self._kept_s)
        return caller

    async def _asked(self, address: str) -> Caller:
        """Raises Unavailable."""
        pods = [pod for pod in await self._listed(address) if _has_it(pod, address)]
        if len(pods) != 1:
            return Stranger(address, "no pod has it" if not pods else f"{len(pods)} pods have it")
        try:
            return await self._pods.of(pods[0])
        except NotATrials as error:
            metadata = pods[0]["metadata"]
            name = f"{metadata['namespace']}/{metadata['name']}"
            return Stranger(address, f"pod {name} is no trial's: {error}")

    async def _listed(self, address: str) -> list[Json]:
        query = {"fieldSelector": f"status.podIP={address}", "limit": "50"}
        try:
            reply = await self._transport.request(ApiRequest("GET", self._path, query))
            raise_for(reply, f"list the pods with address {address}")
            return list(json_of(reply).get("items") or [])
        except PortError as error:
            raise Unavailable(str(error)) from error


def _has_it(pod: Json, address: str) -> bool:
    """Whether the address is this pod's alone: not its node's, and not of one that is over."""
    status = pod.get("status") or {}
    if status.get("podIP") != address or status.get("phase") in _OVER:
        return False
    return not (pod.get("spec") or {}).get("hostNetwork")
