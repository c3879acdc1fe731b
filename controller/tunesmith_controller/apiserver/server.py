# SPDX-License-Identifier: Apache-2.0
"""Serves the API of one plane on loopback until cancelled. Called by `local_control`.

One handler for all paths: guard, what the path names, the verb, every error as a Status.
"""

from __future__ import annotations

import contextlib
import logging
import os
import secrets
from collections.abc import AsyncIterator
from dataclasses import dataclass
from functools import partial
from typing import Final

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

import tunesmith_controller.apiserver.namespaces as all_namespaces
from tunesmith_controller.apiserver import guard, pods, watches
from tunesmith_controller.apiserver.address import (
    KUBECONFIG,
    ApiAddress,
    kubeconfig,
    remove_address,
    write_address,
    write_private,
)
from tunesmith_controller.apiserver.answers import (
    Fault,
    answer,
    bad_request,
    failure,
    fault_of,
    not_found,
    success,
)
from tunesmith_controller.apiserver.bodies import read_object, read_options, read_patch
from tunesmith_controller.apiserver.objects import Objects
from tunesmith_controller.apiserver.resources import Target, discovery, target_of
from tunesmith_controller.apiserver.selectors import Selection, selection
from tunesmith_controller.embedded import LocalPlane
from tunesmith_controller.http_serving import listen, serve_http
from tunesmith_controller.ports import Json, ObjectList, Unavailable

_log = logging.getLogger(__name__)

LOOPBACK: Final = ("127.0.0.1", "localhost", "::1")
_VERBS: Final = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE")
_VERSION: Final = {
    "major": "1",
    "minor": "30",
    "gitVersion": "v1.30.0+tunesmith",
    "platform": "linux/amd64",
}


@dataclass(frozen=True, slots=True)
class ApiOptions:
    """Where to listen; port 0 is any free one. `token` None: a new one each time."""

    host: str = "127.0.0.1"
    port: int = 0
    token: str | None = None


async def serve_api(plane: LocalPlane, options: ApiOptions) -> None:
    """Serves until cancelled; the address and a kubeconfig are below the plane's home.

    Raises Unavailable when the address cannot be had, or is not this machine's loopback.
    """
    if options.host not in LOOPBACK:
        raise Unavailable(f"{options.host} is not loopback; the API is served on 127.0.0.1 only")
    token = options.token or secrets.token_urlsafe(32)
    with contextlib.closing(listen(options.host, options.port, "the API")) as listener:
        port = listener.getsockname()[1]
        address = ApiAddress(f"http://127.0.0.1:{port}", token, os.getpid())
        app = application(plane, port, token)
        write_private(plane.home / KUBECONFIG, kubeconfig(address))
        write_address(plane.home, address)
        try:
            await serve_http(app, listener)
        finally:
            remove_address(plane.home, address)


def application(plane: LocalPlane, port: int, token: str) -> Starlette:
    """The API as an ASGI application."""
    handler = _Handler(plane, port, token)
    return Starlette(routes=[Route("/{path:path}", handler.handle, methods=list(_VERBS))])


class _Handler:
    def __init__(self, plane: LocalPlane, port: int, token: str) -> None:
        self._plane = plane
        self._store = plane.store
        self._objects = Objects(plane.store)
        self._port = port
        self._token = token

    async def handle(self, request: Request) -> Response:
        try:
            path = guard.admitted(request.url.path, request.headers, self._port, self._token)
            return await self._answer(request, path)
        except Exception as error:  # noqa: BLE001 - the one place where errors become answers
            fault = fault_of(error)
            if fault.code == 500:
                _log.exception("%s %s", request.method, target_of(request.url.path))
            return failure(fault)

    async def _answer(self, request: Request, path: str) -> Response:
        if path in ("/healthz", "/livez", "/readyz"):
            return PlainTextResponse("ok")
        if path.rstrip("/") == "/version":
            return answer(_VERSION)
        found = discovery(path, f"127.0.0.1:{self._port}")
        if found is not None:
            return answer(found)
        target = target_of(path)
        if target is None:
            raise not_found(f"{path} is not served; there are /api/v1 and /apis/kubeflow.org")
        return await self._resource(request, target)

    async def _resource(self, request: Request, target: Target) -> Response:
        if target.resource.kind == "Pod" and target.subresource == "log":
            return await self._log(request, target)
        allowed = {"": True, "status": target.resource.status}
        if not allowed.get(target.subresource, False):
            raise not_found(f"{target.resource.plural} have no {target.subresource}")
        verb = _verb(request, target)
        if verb not in target.resource.verbs:
            message = f"{target.resource.plural} cannot be changed through this API ({verb})"
            raise Fault(405, "MethodNotAllowed", message)
        return await self._do(request, target, verb)

    async def _do(self, request: Request, target: Target, verb: str) -> Response:
        query, objects = request.query_params, self._objects
        dry_run = query.get("dryRun") == "All"
        selected = selection(query.get("labelSelector", ""), query.get("fieldSelector", ""))
        match verb:
            case "get":
                return answer(await self._get(target))
            case "list":
                return answer(_list(target, await self._list(target, selected)))
            case "watch":
                return self._watch(request, target, selected)
            case "create":
                body = await read_object(request)
                made = await objects.create(target, body, dry_run=dry_run)
                return answer(_shown(target, made), 201)
            case "update":
                body = await read_object(request)
                return answer(await objects.replace(target, body, dry_run=dry_run))
            case "patch":
                patch = await read_patch(request)
                return answer(await objects.patch(target, patch, dry_run=dry_run))
            case "deletecollection":
                return answer(_list(target, await objects.delete_all(target, selected)))
            case _:
                kept = await objects.delete(target, await read_options(request))
                return answer(success() if kept is None else kept)

    async def _get(self, target: Target) -> Json:
        name, namespace = target.name or "", target.namespace or ""
        if target.resource.kind == "Namespace":
            return await all_namespaces.one(self._store, name)
        if target.resource.kind == "Pod":
            attempt = await pods.find_attempt(self._store, namespace, name)
            return pods.pods_of(attempt.trial)[0]
        return await self._objects.get(target)

    async def _list(self, target: Target, selected: Selection) -> ObjectList:
        if target.resource.kind == "Namespace":
            found = await all_namespaces.every(self._store)
        elif target.resource.kind == "Pod":
            trials = await self._store.list("Trial", namespace=target.namespace)
            made = [pod for trial in trials.items for pod in pods.pods_of(trial)]
            found = ObjectList(made, trials.resource_version)
        else:
            return await self._objects.list(target, selected)
        items = [obj for obj in found.items if selected.fits(obj)]
        return ObjectList(items, found.resource_version)

    def _watch(self, request: Request, target: Target, selected: Selection) -> Response:
        query, resource = request.query_params, target.resource
        if target.name is not None:
            selected = Selection(
                selected.equal,
                (*selected.others, lambda obj: obj["metadata"]["name"] == target.name),
            )
        version = query.get("resourceVersion", "")
        wish = watches.Wish(
            kind=resource.kind if resource.stored else "Trial",
            shown=resource.kind,
            api_version=resource.api_version,
            namespace=target.namespace,
            version="" if version == "0" else version,
            bookmarks=_flag(query.get("allowWatchBookmarks")),
            seconds=_seconds(query.get("timeoutSeconds")),
            is_stored=resource.stored,
        )
        seen = pods.pods_of if not resource.stored else lambda obj: [obj]
        lines = watches.lines(self._store, wish, selected, seen)
        return StreamingResponse(lines, media_type="application/json")

    async def _log(self, request: Request, target: Target) -> Response:
        query = request.query_params
        attempt = await pods.find_attempt(self._store, target.namespace or "", target.name or "")
        names = [c["name"] for c in pods.pods_of(attempt.trial)[0]["spec"]["containers"]]
        container = query.get("container") or names[0]
        if container not in names:
            raise bad_request(f"container {container} is not one of {', '.join(names)}")
        tail = query.get("tailLines")
        if tail is not None and not tail.isdecimal():
            raise bad_request("tailLines must be a number")
        read = partial(pods.log, self._store, attempt, self._plane.output_path)
        chunks: AsyncIterator[bytes] = read(
            follow=_flag(query.get("follow")), tail=None if tail is None else int(tail)
        )
        return StreamingResponse(chunks, media_type="text/plain; charset=utf-8")


def _verb(request: Request, target: Target) -> str:
    """Kubernetes' word for what is asked. Raises Fault 405."""
    is_one = target.name is not None
    match request.method, is_one:
        case ("GET" | "HEAD", _) if _flag(request.query_params.get("watch")):
            return "watch"
        case ("GET" | "HEAD", True):
            return "get"
        case ("GET" | "HEAD", False):
            return "list"
        case ("POST", False):
            return "create"
        case ("PUT", True):
            return "update"
        case ("PATCH", True):
            return "patch"
        case ("DELETE", True):
            return "delete"
        case ("DELETE", False):
            return "deletecollection"
    raise Fault(405, "MethodNotAllowed", f"{request.method} is not possible here")


def _list(target: Target, found: ObjectList) -> Json:
    resource = target.resource
    return {
        "apiVersion": resource.api_version,
        "kind": f"{resource.kind}List",
        "metadata": {"resourceVersion": found.resource_version},
        "items": found.items,
    }


def _shown(target: Target, obj: Json) -> Json:
    return obj if target.resource.namespaced else all_namespaces.labelled(obj)


def _flag(text: str | None) -> bool:
    """As Kubernetes reads it: Python's clients send `True`."""
    return text in ("1", "t", "T", "true", "TRUE", "True")


def _seconds(text: str | None) -> float:
    """How long a watch lasts. Raises Fault 400."""
    if text is None:
        return watches.LONGEST_S
    if not text.isdecimal():
        raise bad_request("timeoutSeconds must be a number")
    return min(float(text), watches.LONGEST_S)
