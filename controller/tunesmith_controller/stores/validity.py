# SPDX-License-Identifier: Apache-2.0
"""Which metadata Kubernetes would accept. The engine calls `check_object` before every write.

Syntax follows the Kubernetes documentation, "Object Names and IDs" and "Labels and Selectors", so
that what is stored on a laptop can be applied to a cluster. Problems are sentences for users.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from tunesmith_controller.ports import Invalid, Json

MAX_ANNOTATION_BYTES = 256 * 1024

_LABEL = r"[a-z0-9]([-a-z0-9]*[a-z0-9])?"
_DNS_LABEL = re.compile(_LABEL)
_DNS_SUBDOMAIN = re.compile(rf"{_LABEL}(\.{_LABEL})*")
_KIND = re.compile(r"[A-Za-z][A-Za-z0-9]*")
_WORD = re.compile(r"[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?")

_NAME_RULE = (
    "must be lower-case letters, digits, '-' or '.', begin and end with a letter or digit, "
    "and have at most 253 characters"
)
_NAMESPACE_RULE = (
    "must be lower-case letters, digits or '-', begin and end with a letter or digit, "
    "and have at most 63 characters"
)
_QUALIFIED_RULE = (
    "must be letters, digits, '-', '_' or '.', begin and end with a letter or digit, have at most "
    "63 characters, and may follow a DNS name and '/'"
)
_VALUE_RULE = (
    "must be empty, or letters, digits, '-', '_' or '.', begin and end with a letter or digit, "
    "and have at most 63 characters"
)


def is_dns_label(text: str) -> bool:
    return len(text) <= 63 and _DNS_LABEL.fullmatch(text) is not None


def is_dns_subdomain(text: str) -> bool:
    return len(text) <= 253 and _DNS_SUBDOMAIN.fullmatch(text) is not None


def is_qualified_name(text: str) -> bool:
    """`name` or `dns.prefix/name`, the form of label keys, annotation keys and finalizers."""
    prefix, slash, name = text.rpartition("/")
    if slash and not is_dns_subdomain(prefix):
        return False
    return len(name) <= 63 and _WORD.fullmatch(name) is not None


def is_label_value(text: str) -> bool:
    return text == "" or (len(text) <= 63 and _WORD.fullmatch(text) is not None)


def check_address(obj: Json, *, generated: bool = False) -> None:
    """Raises Invalid unless kind, namespace and name can be a key. With `generated`,
    metadata.generateName may stand for the name."""
    _refuse(obj, _address_problems(obj, generated=generated))


def check_object(obj: Json) -> None:
    """Raises Invalid with every problem of apiVersion, kind and metadata."""
    _refuse(obj, _problems(obj))


def _refuse(obj: Json, problems: Iterator[str]) -> None:
    found = list(problems)
    if not found:
        return
    metadata = obj.get("metadata")
    name = metadata.get("name", "") if isinstance(metadata, dict) else ""
    raise Invalid(f"{obj.get('kind') or 'object'} {name!r} is refused: " + "; ".join(found))


def _problems(obj: Json) -> Iterator[str]:
    yield from _address_problems(obj, generated=False)
    if not _is_text(obj.get("apiVersion")):
        yield "apiVersion is missing: give for example kubeflow.org/v1beta1"
    metadata = obj.get("metadata")
    if isinstance(metadata, dict):
        yield from _label_problems(metadata.get("labels", {}))
        yield from _annotation_problems(metadata.get("annotations", {}))
        yield from _finalizer_problems(metadata.get("finalizers", []))
        yield from _owner_problems(metadata.get("ownerReferences", []))


def _address_problems(obj: Json, *, generated: bool) -> Iterator[str]:
    kind, metadata = obj.get("kind"), obj.get("metadata")
    if not isinstance(kind, str) or not _KIND.fullmatch(kind):
        yield f"kind {kind!r} must be letters and digits, as in Experiment"
    if not isinstance(metadata, dict):
        yield "metadata must be an object with name and namespace"
        return
    yield from _name_problems(metadata, generated=generated)
    namespace = metadata.get("namespace")
    if not isinstance(namespace, str) or not is_dns_label(namespace):
        yield f"metadata.namespace {namespace!r} {_NAMESPACE_RULE}"
    for field in ("resourceVersion", "uid"):
        if not isinstance(metadata.get(field, ""), str):
            yield f"metadata.{field} must be a text, as it was read"


def _name_problems(metadata: Json, *, generated: bool) -> Iterator[str]:
    name, prefix = metadata.get("name"), metadata.get("generateName")
    if generated and not name and _is_text(prefix):
        # The suffix that will follow is a valid end, so a prefix may end in '-' or '.'.
        if not is_dns_subdomain(f"{prefix}x"):
            yield f"metadata.generateName {prefix!r} {_NAME_RULE}"
    elif not isinstance(name, str) or not is_dns_subdomain(name):
        yield f"metadata.name {name!r} {_NAME_RULE}"


def _label_problems(labels: Any) -> Iterator[str]:
    if not isinstance(labels, dict):
        yield "metadata.labels must be an object of texts"
        return
    for key, value in labels.items():
        if not is_qualified_name(key):
            yield f"metadata.labels: the key {key!r} {_QUALIFIED_RULE}"
        if not isinstance(value, str):
            yield f"metadata.labels[{key!r}] must be a text: quote it in YAML"
        elif not is_label_value(value):
            yield f"metadata.labels[{key!r}]: {value!r} {_VALUE_RULE}"


def _annotation_problems(annotations: Any) -> Iterator[str]:
    if not isinstance(annotations, dict):
        yield "metadata.annotations must be an object of texts"
        return
    size = 0
    for key, value in annotations.items():
        if not is_qualified_name(key.lower()):
            yield f"metadata.annotations: the key {key!r} {_QUALIFIED_RULE}"
        if not isinstance(value, str):
            yield f"metadata.annotations[{key!r}] must be a text: quote it in YAML"
            continue
        size += len(key.encode()) + len(value.encode())
    if size > MAX_ANNOTATION_BYTES:
        yield f"metadata.annotations have {size} bytes, {MAX_ANNOTATION_BYTES} are allowed"


def _finalizer_problems(finalizers: Any) -> Iterator[str]:
    if not isinstance(finalizers, list):
        yield "metadata.finalizers must be a list of texts"
        return
    for name in finalizers:
        if not isinstance(name, str) or not is_qualified_name(name):
            yield f"metadata.finalizers: {name!r} {_QUALIFIED_RULE}"


def _owner_problems(owners: Any) -> Iterator[str]:
    if not isinstance(owners, list) or not all(isinstance(owner, dict) for owner in owners):
        yield "metadata.ownerReferences must be a list of objects"
        return
    for index, owner in enumerate(owners):
        for field in ("apiVersion", "kind", "name", "uid"):
            if not _is_text(owner.get(field)):
                yield f"metadata.ownerReferences[{index}].{field} must be a text"
    if sum(owner.get("controller") is True for owner in owners) > 1:
        yield "metadata.ownerReferences: only one owner can be the controller"


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and value != ""
