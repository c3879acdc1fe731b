# SPDX-License-Identifier: Apache-2.0
"""Whether a suggestion service answers, asked over gRPC; by `ClusterAlgorithmHost`, in a loop."""

from __future__ import annotations

from typing import Final

import grpc
import grpc.aio
from grpc_health.v1 import health_pb2, health_pb2_grpc

_OPTIONS: Final = (
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.initial_reconnect_backoff_ms", 50),
    ("grpc.min_reconnect_backoff_ms", 1000),
    ("grpc.max_reconnect_backoff_ms", 1000),
    # The name of a service that has just been made may not be known yet.
    ("grpc.dns_min_time_between_resolutions_ms", 500),
)
_NO_ANSWER: Final = (
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.DEADLINE_EXCEEDED,
    grpc.StatusCode.CANCELLED,
)


class HealthCheck:
    """Of one service, by one channel; `aclose` it. `name` is what it calls itself."""

    def __init__(self, target: str, name: str) -> None:
        self._name = name
        self._channel = grpc.aio.insecure_channel(target, options=_OPTIONS)
        self._stub = health_pb2_grpc.HealthStub(self._channel)

    async def serves(self, wait_s: float) -> bool:
        """Waits for an answer as long. A service that answers but knows neither this protocol nor
        the name serves."""
        for name in (self._name, ""):
            try:
                reply = await self._stub.Check(
                    health_pb2.HealthCheckRequest(service=name),
                    timeout=wait_s,
                    wait_for_ready=True,
                )
            except grpc.aio.AioRpcError as error:
                if error.code() is grpc.StatusCode.NOT_FOUND:
                    continue
                return error.code() not in _NO_ANSWER
            return bool(reply.status != health_pb2.HealthCheckResponse.NOT_SERVING)
        return True

    async def aclose(self) -> None:
        await self._channel.close()
