# SPDX-License-Identifier: Apache-2.0
"""The HTTPS server of the admission webhooks; runs in every replica of a cluster's controller.

`webhook_app` makes the application, `serve_webhooks` serves it until cancelled.
"""

from __future__ import annotations

import contextlib
import json
import logging
import ssl
from collections.abc import Awaitable, Callable, Mapping
from typing import Final

from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from tunesmith_controller.http_serving import listen, serve_http
from tunesmith_controller.ports import Json
from tunesmith_controller.webhook.handlers import ExperimentReviews, Handler, PodReviews
from tunesmith_controller.webhook.reviews import BadReview, read_review

_log = logging.getLogger(__name__)

PORT: Final = 8443
MUTATE_EXPERIMENTS: Final = "/mutate-experiments"
VALIDATE_EXPERIMENTS: Final = "/validate-experiments"
MUTATE_PODS: Final = "/mutate-pods"
MOST_BYTES: Final = 8 * 1024 * 1024
"""An update brings two objects, each of at most what etcd takes (1.5 MiB) and with its fields'
managers."""


def webhook_app(experiments: ExperimentReviews, pods: PodReviews) -> Starlette:
    handlers: Mapping[str, Handler] = {
        MUTATE_EXPERIMENTS: experiments.mutate,
        VALIDATE_EXPERIMENTS: experiments.validate,
        MUTATE_PODS: pods.mutate,
    }
    return Starlette(
        routes=[Route(path, _endpoint(each), methods=["POST"]) for path, each in handlers.items()]
    )


async def serve_webhooks(
    app: Starlette, tls: ssl.SSLContext, *, host: str = "", port: int = PORT
) -> None:
    """Until cancelled. Raises Unavailable when the port cannot be had."""
    with contextlib.closing(listen(host, port, "the admission webhooks")) as listener:
        await serve_http(app, listener, tls=tls)


def _endpoint(handler: Handler) -> Callable[[Request], Awaitable[Response]]:
    """Bounded reading, and an answer whatever comes."""

    async def answer(request: Request) -> Response:
        try:
            review = read_review(await _body(request))
        except BadReview as error:
            return _failure(400, "BadRequest", str(error))
        except _TooLarge:
            sentence = f"the request has more than {MOST_BYTES} bytes"
            return _failure(413, "RequestEntityTooLarge", sentence)
        except ClientDisconnect:
            return Response(status_code=400)
        try:
            return JSONResponse(await handler(review))
        except Exception as error:  # noqa: BLE001 - told to whoever asked, and logged
            # The API server then does what the failurePolicy says, and shows this sentence.
            _log.exception("a review on %s failed", request.url.path)
            sentence = f"tunesmith has a defect: {type(error).__name__}: {error}"
            return _failure(500, "InternalError", sentence)

    return answer


class _TooLarge(Exception):
    pass


async def _body(request: Request) -> bytes:
    """Raises _TooLarge as soon as that is known."""
    declared = request.headers.get("content-length", "0")
    if declared.isdecimal() and int(declared) > MOST_BYTES:
        raise _TooLarge
    parts, size = [], 0
    async for part in request.stream():
        size += len(part)
        if size > MOST_BYTES:
            raise _TooLarge
        parts.append(part)
    return b"".join(parts)


def _failure(code: int, reason: str, message: str) -> Response:
    status: Json = {"apiVersion": "v1", "kind": "Status", "status": "Failure"}
    status |= {"code": code, "reason": reason, "message": message}
    return Response(json.dumps(status), code, media_type="application/json")
