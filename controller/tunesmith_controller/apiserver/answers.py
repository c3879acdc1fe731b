# SPDX-License-Identifier: Apache-2.0
"""What the API answers: objects, and every error as Kubernetes' Status object, mapped here alone.

Source: Kubernetes API conventions, "Response Status Kind" and "HTTP Status codes".
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

from starlette.responses import Response

from tunesmith_api.validation import FieldError
from tunesmith_controller.admission.local import Refused
from tunesmith_controller.ports import (
    AlreadyExists,
    Conflict,
    Expired,
    Invalid,
    Json,
    NotFound,
    Unavailable,
)

RETRY_AFTER_S = 1


@dataclass(frozen=True, slots=True)
class Fault(Exception):
    """What is wrong with a request itself: an HTTP status, Kubernetes' word and a sentence."""

    code: int
    reason: str
    message: str
    causes: tuple[Json, ...] = ()


def not_found(message: str) -> Fault:
    return Fault(404, "NotFound", message)


def bad_request(message: str) -> Fault:
    return Fault(400, "BadRequest", message)


_ERRORS: Sequence[tuple[type[Exception], int, str]] = (
    (NotFound, 404, "NotFound"),
    (AlreadyExists, 409, "AlreadyExists"),
    (Conflict, 409, "Conflict"),
    (Expired, 410, "Expired"),
    (Invalid, 422, "Invalid"),
    (Unavailable, 503, "ServiceUnavailable"),
)


def fault_of(error: Exception) -> Fault:
    """The answer to an error; one that is a defect of ours says so and no more."""
    if isinstance(error, Fault):
        return error
    if isinstance(error, Refused):
        return Fault(422, "Invalid", str(error), tuple(map(_cause, error.errors)))
    for type_, code, reason in _ERRORS:
        if isinstance(error, type_):
            return Fault(code, reason, str(error))
    return Fault(500, "InternalError", f"a defect of the API server: {type(error).__name__}")


def _cause(error: FieldError) -> Json:
    message = error.message + (f" ({error.hint})" if error.hint else "")
    return {"reason": "FieldValueInvalid", "field": error.field, "message": message}


def status_of(fault: Fault) -> Json:
    """The Status object."""
    details: Json = {}
    if fault.causes:
        details["causes"] = list(fault.causes)
    if fault.code == 503:
        details["retryAfterSeconds"] = RETRY_AFTER_S
    return {
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Failure",
        "message": fault.message,
        "reason": fault.reason,
        "details": details,
        "code": fault.code,
    }


def failure(fault: Fault) -> Response:
    headers = {"Retry-After": str(RETRY_AFTER_S)} if fault.code == 503 else {}
    return answer(status_of(fault), fault.code, headers)


def answer(obj: Json, code: int = 200, headers: dict[str, str] | None = None) -> Response:
    return Response(encoded(obj), code, headers, media_type="application/json")


def encoded(obj: Json) -> bytes:
    return json.dumps(obj, separators=(",", ":"), ensure_ascii=False).encode()


def success() -> Json:
    """Of a deletion."""
    return {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success"}
