# SPDX-License-Identifier: Apache-2.0
"""labelSelector and fieldSelector: texts of a query, and whether an object fits them.

Source: Kubernetes documentation, "Labels and Selectors".
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from tunesmith_controller.apiserver.answers import bad_request
from tunesmith_controller.ports import Json

_REQUIREMENT: Final = re.compile(
    r"\s*(?P<key>[\w./-]+)\s*(?:(?P<in>notin|in)\s*\((?P<set>[^()]*)\)"
    r"|(?P<op>==|!=|=)\s*(?P<value>[\w.-]*))?\s*$|\s*!\s*(?P<absent>[\w./-]+)\s*$"
)
_COMMA: Final = re.compile(r",(?![^()]*\))")
_FIELDS: Final[Mapping[str, Callable[[Json], object]]] = {
    "metadata.name": lambda obj: obj["metadata"].get("name"),
    "metadata.namespace": lambda obj: obj["metadata"].get("namespace"),
    "involvedObject.name": lambda obj: (obj.get("involvedObject") or {}).get("name"),
    "involvedObject.kind": lambda obj: (obj.get("involvedObject") or {}).get("kind"),
    "involvedObject.namespace": lambda obj: (obj.get("involvedObject") or {}).get("namespace"),
    "involvedObject.uid": lambda obj: (obj.get("involvedObject") or {}).get("uid"),
    "status.phase": lambda obj: (obj.get("status") or {}).get("phase"),
}

Fits = Callable[[Json], bool]


@dataclass(frozen=True, slots=True)
class Selection:
    """Which objects a request is about. `equal` are labels that the store can look for itself."""

    equal: Mapping[str, str]
    others: tuple[Fits, ...] = ()

    def fits(self, obj: Json) -> bool:
        labels = obj["metadata"].get("labels") or {}
        return all(labels.get(key) == value for key, value in self.equal.items()) and all(
            fits(obj) for fits in self.others
        )


def selection(labels: str, fields: str) -> Selection:
    """Reads both selectors. Raises Fault 400."""
    equal: dict[str, str] = {}
    others: list[Fits] = []
    for text in filter(None, (part.strip() for part in _COMMA.split(labels))):
        matched = _REQUIREMENT.match(text)
        if matched is None:
            raise bad_request(f"labelSelector: {text!r} is no requirement, such as a=b or a in (b)")
        if matched["op"] in ("=", "=="):
            equal[matched["key"]] = matched["value"]
        else:
            others.append(_label(matched))
    others += [_field(text) for text in filter(None, fields.split(","))]
    return Selection(equal, tuple(others))


def _label(matched: re.Match[str]) -> Fits:
    key = matched["absent"] or matched["key"]
    if matched["absent"]:
        return lambda obj: key not in _labels(obj)
    if matched["in"]:
        values = {value.strip() for value in matched["set"].split(",")}
        wanted = matched["in"] == "in"
        return lambda obj: (_labels(obj).get(key) in values) is wanted
    if matched["op"] == "!=":
        return lambda obj: _labels(obj).get(key) != matched["value"]
    return lambda obj: key in _labels(obj)


def _labels(obj: Json) -> Mapping[str, str]:
    return obj["metadata"].get("labels") or {}


def _field(text: str) -> Fits:
    key, equals, value = text.strip().replace("==", "=").partition("=")
    negated = key.endswith("!")
    read = _FIELDS.get(key.rstrip("!"))
    if read is None or not equals:
        known = ", ".join(_FIELDS)
        raise bad_request(f"fieldSelector: {text!r} is not supported; fields are {known}")
    return lambda obj: (str(read(obj) or "") == value) is not negated
