# SPDX-License-Identifier: Apache-2.0
"""Reads ended trials' curves from Katib's DBManager, wherever a request says that it is.

A client of one method, used by `peers`; many calls at once, but not too many.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Callable, Sequence
from typing import Any, Final

import grpc

from tunesmith_api.errors import Invalid, Unavailable
from tunesmith_proto import wire
from tunesmith_proto.katib import api_pb2 as pb

logger = logging.getLogger(__name__)

PARALLEL: Final = 8
"""Calls at once for one request."""
CALL_SECONDS: Final = 20.0
REPLY_BYTES: Final = 64 << 20
_CHANNEL: Final = [
    ("grpc.max_receive_message_length", REPLY_BYTES),
    ("grpc.enable_http_proxy", 0),
    # The pause after a failed connection belongs to one request, not to all that follow.
    ("grpc.use_local_subchannel_pool", 1),
]
_OF_ONE_TRIAL: Final = frozenset(
    {
        grpc.StatusCode.INVALID_ARGUMENT,
        grpc.StatusCode.NOT_FOUND,
        grpc.StatusCode.RESOURCE_EXHAUSTED,
    }
)
"""Codes that say something about one trial's log, and will say it again."""


async def read_curves(
    address: str,
    metric: str,
    trials: Sequence[str],
    keep: Callable[[str, list[float]], None],
    *,
    seconds: float,
) -> None:
    """Hands the metric's values of each trial to `keep` as they come, in the order of the log; a
    trial whose log cannot be given is logged and left out.

    Raises Invalid without an address, Unavailable when the service does not answer for all of them
    within `seconds`; what was kept by then is right.
    """
    if not trials:
        return
    if not address:
        raise Invalid("db_manager_address must be given: the logs of ended trials are read there")
    waiting = iter(trials)

    async def read(get: Any) -> None:
        for trial in waiting:
            curve = await _curve(get, address, metric, trial)
            if curve is not None:
                keep(trial, curve)

    try:
        async with (
            asyncio.timeout(seconds),
            grpc.aio.insecure_channel(address, options=_CHANNEL) as channel,
            asyncio.TaskGroup() as readers,
        ):
            get = wire.call(channel, wire.KATIB_DB_MANAGER, "GetObservationLog")
            for _ in range(min(PARALLEL, len(trials))):
                readers.create_task(read(get))
    except TimeoutError:
        raise Unavailable(
            f"the DB manager at {address} did not give the logs of {len(trials)} trials within "
            f"{seconds:.0f} s; those that it gave are kept, so a repeat gets further"
        ) from None
    except ExceptionGroup as failures:
        raise failures.exceptions[0] from None


async def _curve(get: Any, address: str, metric: str, trial: str) -> list[float] | None:
    request = pb.GetObservationLogRequest(trial_name=trial, metric_name=metric)
    try:
        reply = await get(request, timeout=CALL_SECONDS)
    except grpc.aio.AioRpcError as error:
        said = f"{error.code().name}: {error.details()}"
        if error.code() in _OF_ONE_TRIAL:
            logger.warning("trial %s is no peer, its log cannot be read (%s)", trial, said)
            return None
        raise Unavailable(
            f"cannot read the log of trial {trial!r} from the DB manager at {address} ({said}); "
            "is it running, and reachable from here?"
        ) from error
    return [
        _number(log.metric.value)
        for log in reply.observation_log.metric_logs
        if log.metric.name == metric
    ]


def _number(text: str) -> float:
    try:
        return float("" if "_" in text else text)
    except ValueError:
        return math.nan
