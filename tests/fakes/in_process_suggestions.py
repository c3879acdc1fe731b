# SPDX-License-Identifier: Apache-2.0
"""The suggestion side without processes, sockets or threads, for the simulation's virtual clock.

`InProcessSuggestions` runs the service's real core and the client's real delta protocol; only the
network between them is left out. `StaticHost` always has a service ready.
"""

from __future__ import annotations

from collections.abc import Sequence

from tunesmith_api.problem import Problem
from tunesmith_controller.hosts.delta import DeltaConversation
from tunesmith_controller.ports import Ask, Endpoint, Key, SearchEnded, Suggested
from tunesmith_proto.v1 import suggestions_pb2 as pb
from tunesmith_suggestion.core import SuggestionCore
from tunesmith_suggestion.registry import Registry

ENDPOINT = Endpoint("sim")


class InProcessSuggestions:
    """A SuggestionClient whose service answers on the spot, in the caller's step."""

    def __init__(self, registry: Registry | None = None) -> None:
        self._registry = registry or Registry()
        self._service = _Service(SuggestionCore(self._registry))
        self._conversation = DeltaConversation(self._service)

    async def validate(self, endpoint: Endpoint, problem: Problem) -> Sequence[str]:
        return await self._conversation.validate(endpoint.target, problem)

    async def suggest(self, endpoint: Endpoint, ask: Ask) -> Suggested | SearchEnded:
        return await self._conversation.suggest(endpoint.target, ask)

    def restart_service(self) -> None:
        """The service loses its memory, as after a SIGKILL; the client does not know."""
        self._service.core = SuggestionCore(self._registry)

    def restart_client(self) -> None:
        """The client forgets what was confirmed, as a restarted controller does."""
        self._conversation = DeltaConversation(self._service)


class _Service:
    """The SuggestionTransport into a core."""

    def __init__(self, core: SuggestionCore) -> None:
        self.core = core

    async def validate(self, target: str, request: pb.ValidateRequest) -> pb.ValidateReply:
        return self.core.validate(request)

    async def suggest(self, target: str, request: pb.SuggestRequest) -> pb.SuggestReply:
        return self.core.suggest(request)


class StaticHost:
    """An AlgorithmHost whose service is always there."""

    def __init__(self, endpoint: Endpoint = ENDPOINT) -> None:
        self._endpoint = endpoint

    async def ensure(self, suggestion: Key, algorithm: str) -> Endpoint:
        return self._endpoint

    async def release(self, suggestion: Key) -> None:
        """Nothing is kept."""
