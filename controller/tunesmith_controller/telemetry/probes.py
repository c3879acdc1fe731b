# SPDX-License-Identifier: Apache-2.0
"""`/healthz`, `/readyz` and `/metrics` over HTTP, for kubelets and Prometheus. Plain HTTP without
secrets: what is told here may be read by whoever reaches the pod."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from tunesmith_controller.http_serving import listen, serve_http

Check = Callable[[], str]
"""Says what is not in order; empty when all is."""


@dataclass(frozen=True, slots=True)
class Probes:
    """`alive`: when one of these says something, the process should be restarted. `ready`: it
    should get no requests now."""

    alive: Mapping[str, Check] = field(default_factory=dict)
    ready: Mapping[str, Check] = field(default_factory=dict)


def probes_app(probes: Probes, registry: CollectorRegistry) -> Starlette:
    async def healthz(_: Request) -> Response:
        return _answer(probes.alive)

    async def readyz(_: Request) -> Response:
        return _answer({**probes.alive, **probes.ready})

    async def metrics(_: Request) -> Response:
        return Response(generate_latest(registry), media_type=CONTENT_TYPE_LATEST)

    paths = {"/healthz": healthz, "/readyz": readyz, "/metrics": metrics}
    return Starlette(routes=[Route(path, handler) for path, handler in paths.items()])


def _answer(checks: Mapping[str, Check]) -> Response:
    wrong = {name: said for name, check in checks.items() if (said := check())}
    if not wrong:
        return PlainTextResponse("ok\n")
    lines = [f"{name}: {said}\n" for name, said in wrong.items()]
    return PlainTextResponse("".join(lines), status_code=503)


async def serve_probes(app: Starlette, host: str, ports: tuple[int, ...]) -> None:
    """Serves on every port until cancelled. Raises Unavailable when a port cannot be had."""
    with contextlib.ExitStack() as opened:
        listeners = [
            opened.enter_context(contextlib.closing(listen(host, port, "the probes")))
            for port in dict.fromkeys(ports)
        ]
        await asyncio.gather(*(serve_http(app, listener) for listener in listeners))
