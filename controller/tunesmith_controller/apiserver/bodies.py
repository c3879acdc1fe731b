# SPDX-License-Identifier: Apache-2.0
"""What a client sent: read within limits, as JSON objects. Called by the handlers."""

from __future__ import annotations

import json
from typing import Any, Final

import yaml
from starlette.requests import Request

from tunesmith_controller.apiserver.answers import Fault, bad_request
from tunesmith_controller.ports import Json

MAX_BYTES: Final = 1_572_864
"""1.5 MiB, the limit of etcd and so of Kubernetes."""
MAX_DEPTH: Final = 64
MERGE_PATCH: Final = "application/merge-patch+json"
_JSON: Final = ("application/json", "")
_YAML: Final = ("application/yaml", "text/yaml")


async def read_object(request: Request) -> Json:
    """The object in a body, JSON or YAML. Raises Fault 400, 413, 415."""
    kind = _media_type(request)
    if kind not in (*_JSON, *_YAML):
        raise Fault(415, "UnsupportedMediaType", f"{kind} is not read here; send application/json")
    return _object(await _body(request), is_yaml=kind in _YAML)


async def read_patch(request: Request) -> Json:
    """A merge patch. Raises Fault 400, 413, 415."""
    kind = _media_type(request)
    if kind != MERGE_PATCH:
        raise Fault(415, "UnsupportedMediaType", f"{kind} is not served; use {MERGE_PATCH}")
    return _object(await _body(request))


async def read_options(request: Request) -> Json:
    """DeleteOptions, empty when there is no body. Raises Fault 400, 413."""
    body = await _body(request)
    return _object(body) if body.strip() else {}


def _media_type(request: Request) -> str:
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


async def _body(request: Request) -> bytes:
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAX_BYTES:
            raise Fault(413, "RequestEntityTooLarge", f"a body may have {MAX_BYTES} bytes")
    return bytes(body)


def _object(body: bytes, *, is_yaml: bool = False) -> Json:
    try:
        found = yaml.safe_load(body) if is_yaml else json.loads(body)
    except (ValueError, RecursionError, yaml.YAMLError) as error:
        first = str(error).partition("\n")[0]
        raise bad_request(f"the body is no {'YAML' if is_yaml else 'JSON'}: {first}") from None
    if not isinstance(found, dict):
        raise bad_request("the body must be an object")
    if _is_deeper(found, MAX_DEPTH):
        raise bad_request(f"the body is nested more than {MAX_DEPTH} deep")
    if not isinstance(found.get("metadata", {}), dict):
        raise bad_request("metadata must be an object")
    return found


def _is_deeper(value: Any, limit: int) -> bool:
    """Level by level, so that no depth can exhaust the stack."""
    level = [value]
    for _ in range(limit):
        level = [child for node in level for child in _children(node)]
        if not level:
            return False
    return True


def _children(node: Any) -> list[Any]:
    if isinstance(node, dict):
        return [child for child in node.values() if isinstance(child, dict | list)]
    if isinstance(node, list):
        return [child for child in node if isinstance(child, dict | list)]
    return []
