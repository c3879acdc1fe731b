# SPDX-License-Identifier: Apache-2.0
"""AdmissionReviews (admission.k8s.io/v1): what the API server asks, and the answers. Pure."""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from tunesmith_api.field_errors import FieldError
from tunesmith_controller.ports import Json
from tunesmith_controller.webhook.json_patch import json_patch

API_VERSION: Final = "admission.k8s.io/v1"
KIND: Final = "AdmissionReview"
_MOST_TEXT: Final = 32_000
"""Characters of a refusal; the API server hands them on to whoever asked."""


class BadReview(Exception):
    """What came is no review that could be answered; the text says why."""


@dataclass(frozen=True, slots=True)
class Review:
    """One question. `operation` is CREATE, UPDATE, ...; `old` is there for an UPDATE."""

    uid: str
    operation: str
    namespace: str
    object: Json
    old: Json | None = None


def read_review(body: bytes) -> Review:
    """Raises BadReview."""
    try:
        found = json.loads(body)
    except ValueError as error:
        raise BadReview(f"the request is no JSON: {error}") from None
    if not isinstance(found, dict) or found.get("kind") != KIND:
        raise BadReview(f"the request is no {KIND}")
    if found.get("apiVersion") != API_VERSION:
        version = found.get("apiVersion")
        raise BadReview(f"the {KIND} is of {version!r}; only {API_VERSION} is answered")
    request = found.get("request")
    if not isinstance(request, dict) or not isinstance(request.get("uid"), str):
        raise BadReview(f"the {KIND} has no request with a uid")
    return Review(
        uid=request["uid"],
        operation=str(request.get("operation") or ""),
        namespace=str(request.get("namespace") or ""),
        object=_object(request, "object") or {},
        old=_object(request, "oldObject"),
    )


def _object(request: Json, name: str) -> Json | None:
    found = request.get(name)
    if found is not None and not isinstance(found, dict):
        raise BadReview(f"request.{name} is no object")
    return found


def allowed(review: Review, changed: Json | None = None) -> Json:
    """The object may be stored, as `changed` where that is given."""
    response: dict[str, Any] = {"uid": review.uid, "allowed": True}
    patch = [] if changed is None else json_patch(review.object, changed)
    if patch:
        text = json.dumps(patch, separators=(",", ":")).encode()
        response |= {"patchType": "JSONPatch", "patch": base64.b64encode(text).decode()}
    return _answer(response)


def refused(review: Review, message: str, errors: Sequence[FieldError] = ()) -> Json:
    """The object may not be stored; `errors` are its single faults, for programs."""
    status: dict[str, Any] = {
        "status": "Failure",
        "code": 422,
        "reason": "Invalid",
        "message": message[:_MOST_TEXT],
    }
    if errors:
        causes = [_cause(error) for error in errors]
        status["details"] = {"causes": causes}
    return _answer({"uid": review.uid, "allowed": False, "status": status})


def _cause(error: FieldError) -> Json:
    hint = f" ({error.hint})" if error.hint else ""
    return {
        "reason": "FieldValueInvalid",
        "field": error.field,
        "message": f"{error.message}{hint}",
    }


def _answer(response: Json) -> Json:
    return {"apiVersion": API_VERSION, "kind": KIND, "response": response}
