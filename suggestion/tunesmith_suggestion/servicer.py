# SPDX-License-Identifier: Apache-2.0
"""The one gRPC shell of all algorithms: both suggestion services over the same cores.

Calls wait on the event loop and compute on a bounded pool of threads, one computation an experiment
at a time. Errors leave as a code and one sentence; traces stay in the log. Made by `server`.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NoReturn, Protocol, TypeVar
from weakref import WeakValueDictionary

import grpc

from tunesmith_api.errors import Invalid
from tunesmith_proto.katib import api_pb2 as katib_pb
from tunesmith_proto.v1 import suggestions_pb2 as pb
from tunesmith_suggestion.core import SuggestionCore
from tunesmith_suggestion.katib import KatibCore
from tunesmith_suggestion.katib_requests import Envelope, is_in_order, opened

logger = logging.getLogger(__name__)

Request = TypeVar("Request")
Reply = TypeVar("Reply")


class Context(Protocol):
    """What of grpc.aio.ServicerContext is used here."""

    async def abort(self, code: Any, details: str) -> NoReturn:
        """Ends the call with a status; `code` is a grpc.StatusCode, which has no types."""
        ...


class Compute:
    """A bounded pool in which the calls of one key follow each other."""

    def __init__(self, workers: int) -> None:
        self._pool = ThreadPoolExecutor(workers, thread_name_prefix="suggest")
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._running = 0

    @property
    def is_idle(self) -> bool:
        return not self._running

    async def run(self, key: str, function: Callable[[Request], Reply], request: Request) -> Reply:
        """The function's answer. A caller that is cancelled leaves at once; what already runs ends
        before the next call of the key begins, for a thread cannot be stopped."""
        lock = self._locks.setdefault(key, asyncio.Lock())
        await lock.acquire()
        submitted = self._pool.submit(function, request)
        waited = asyncio.wrap_future(submitted)
        self._running += 1
        waited.add_done_callback(lambda done: self._ended(lock, done))
        try:
            return await asyncio.shield(waited)
        except asyncio.CancelledError:
            submitted.cancel()
            raise

    def close(self) -> None:
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _ended(self, lock: asyncio.Lock, done: asyncio.Future[Reply]) -> None:
        self._running -= 1
        lock.release()
        if not done.cancelled():
            done.exception()  # Marks it as seen: the caller may have left.


class SuggestionsServicer:
    """tunesmith.v1.Suggestions."""

    def __init__(self, core: SuggestionCore, compute: Compute) -> None:
        self._core = core
        self._compute = compute

    async def Validate(self, request: pb.ValidateRequest, context: Context) -> pb.ValidateReply:
        uid = request.problem.experiment_uid
        return await _answered(
            context,
            lambda: request.problem.algorithm,
            self._compute.run(uid, self._core.validate, request),
        )

    async def Suggest(self, request: pb.SuggestRequest, context: Context) -> pb.SuggestReply:
        uid = request.problem.experiment_uid
        return await _answered(
            context,
            lambda: request.problem.algorithm,
            self._compute.run(uid, self._core.suggest, request),
        )


class KatibServicer:
    """api.v1.beta1.Suggestion."""

    def __init__(self, core: KatibCore, compute: Compute) -> None:
        self._core = core
        self._compute = compute

    async def GetSuggestions(
        self, request: bytes, context: Context
    ) -> katib_pb.GetSuggestionsReply:
        """The request is still bytes: see `katib_requests`."""
        return await _answered(
            context, lambda: KatibCore.algorithm_of(request), self._suggested(request)
        )

    async def _suggested(self, request: bytes) -> katib_pb.GetSuggestionsReply:
        envelope = await self._opened(request)
        key = envelope.experiment.decode("latin-1")
        return await self._compute.run(key, self._core.suggest_to, envelope)

    async def _opened(self, request: bytes) -> Envelope:
        if is_in_order(request):
            return opened(request)
        return await self._compute.run("", opened, request)  # decodes it all, so not in the loop

    async def ValidateAlgorithmSettings(
        self, request: katib_pb.ValidateAlgorithmSettingsRequest, context: Context
    ) -> katib_pb.ValidateAlgorithmSettingsReply:
        return await _answered(
            context,
            lambda: request.experiment.spec.algorithm.algorithm_name,
            self._compute.run(request.experiment.name, self._core.validate, request),
        )


async def _answered(
    context: Context, algorithm: Callable[[], str], reply: Awaitable[Reply]
) -> Reply:
    try:
        return await reply
    except Invalid as error:
        await context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(error))
    except Exception:
        name = algorithm()
        logger.exception("algorithm %r failed", name)
        await context.abort(
            grpc.StatusCode.INTERNAL,
            f"algorithm {name!r} failed; the log of the suggestion service has the trace",
        )
