# SPDX-License-Identifier: Apache-2.0
"""The rules of spec.metricsCollectorSpec: kind, place and filter. Called by validation."""

from __future__ import annotations

import posixpath
from collections.abc import Collection, Iterator
from typing import Any, Final

from tunesmith_api.field_errors import FieldError, Path, did_you_mean, listed, shown
from tunesmith_api.resources import Experiment, FileSystemPath, SourceSpec

COLLECTORS: Final = ("StdOut", "File", "TensorFlowEvent", "PrometheusMetric", "Custom", "Push")
"""Katib's kinds."""

MAX_FILTERS: Final = 32
MAX_FILTER_BYTES: Final = 1024

_HERE: Final[Path] = ("spec", "metricsCollectorSpec")
_KIND: Final[Path] = (*_HERE, "collector", "kind")
_SOURCE: Final[Path] = (*_HERE, "source")
_PATH: Final[Path] = (*_SOURCE, "fileSystemPath")
_FILTER: Final[Path] = (*_SOURCE, "filter", "metricsFormat")
_EXAMPLE: Final = r"([\w-]+)\s*=\s*([0-9.]+)"


def collector(experiment: Experiment, known: Collection[str]) -> Iterator[FieldError]:
    """Every fault of the collector; filters are checked for every kind."""
    spec = experiment.spec.metrics_collector_spec
    if spec is None or spec.collector is None:
        return
    kind, source = spec.collector.kind, spec.source or SourceSpec()
    if kind not in known:
        message = f"{shown(kind)} is no collector; there are: {listed(known)}"
        yield FieldError(_KIND, message, did_you_mean(kind, known))
    elif kind == "File":
        yield from _file(source)
    elif kind == "TensorFlowEvent":
        yield from _events(source)
    elif kind == "PrometheusMetric":
        yield from _prometheus(source.http_get or {})
    elif kind == "Custom":
        if spec.collector.custom_collector is None:
            yield FieldError((*_HERE, "collector", "customCollector"), "must be given for Custom")
        yield from _custom(source)
    yield from _filters(source)


def _file(source: SourceSpec) -> Iterator[FieldError]:
    place = source.file_system_path or FileSystemPath()
    yield from _place(place, ("File",))
    if place.format not in ("TEXT", "JSON"):
        yield FieldError((*_PATH, "format"), f"must be TEXT or JSON, not {shown(place.format)}")
    if place.format == "JSON" and source.filter is not None and source.filter.metrics_format:
        yield FieldError(_FILTER, "is for TEXT; in JSON a metric is a field", "remove it")


def _events(source: SourceSpec) -> Iterator[FieldError]:
    place = source.file_system_path or FileSystemPath()
    yield from _place(place, ("Directory",))
    if place.format:
        yield FieldError((*_PATH, "format"), "is for File; event files have only one", "remove it")


def _custom(source: SourceSpec) -> Iterator[FieldError]:
    if source.file_system_path is not None:
        yield from _place(source.file_system_path, ("File", "Directory"))


def _place(place: FileSystemPath, wanted: Collection[str]) -> Iterator[FieldError]:
    if place.kind not in wanted:
        message = f"must be {' or '.join(wanted)}, not {shown(place.kind)}"
        yield FieldError((*_PATH, "kind"), message)
    if not posixpath.isabs(place.path):
        yield FieldError((*_PATH, "path"), f"must be an absolute path, this is {shown(place.path)}")


def _prometheus(get: dict[str, Any]) -> Iterator[FieldError]:
    path, port = get.get("path"), get.get("port")
    if not isinstance(path, str) or not path.startswith("/"):
        yield FieldError(
            (*_SOURCE, "httpGet", "path"), f"must begin with '/', this is {shown(path)}"
        )
    if not _is_port(port):
        yield FieldError(
            (*_SOURCE, "httpGet", "port"), f"must be a port from 1 to 65535, this is {shown(port)}"
        )


def _is_port(port: Any) -> bool:
    if isinstance(port, str) and port.isascii() and port.isdigit() and len(port) <= 5:
        port = int(port)
    return isinstance(port, int) and not isinstance(port, bool) and 0 < port < 65536


# ---- filters ------------------------------------------------------------------------------------


def _filters(source: SourceSpec) -> Iterator[FieldError]:
    texts = source.filter.metrics_format if source.filter else ()
    if len(texts) > MAX_FILTERS:
        yield FieldError(_FILTER, f"has {len(texts)} filters; at most {MAX_FILTERS} are possible")
    for index, text in enumerate(texts[:MAX_FILTERS]):
        if fault := _filter_fault(text):
            yield FieldError((*_FILTER, index), fault, f"for example {_EXAMPLE}")


def _filter_fault(text: str) -> str:
    if len(text.encode()) > MAX_FILTER_BYTES:
        return f"is longer than {MAX_FILTER_BYTES} bytes"
    reason, groups = _compiled(text)
    if reason:
        return f"{shown(text)} is no RE2 regular expression: {reason}"
    if groups < 2:
        return (
            f"{shown(text)} must have two groups in parentheses, for the metric's name and for "
            f"its value; it has {groups}"
        )
    return ""


def _compiled(text: str) -> tuple[str, int]:
    """Why it is no RE2 expression, or its number of groups."""
    import re2  # noqa: PLC0415 - native code that only this rule needs

    options = re2.Options()
    options.log_errors = False
    try:
        return "", int(re2.compile(text.encode(), options).groups)
    except re2.error as error:
        reason = error.args[0] if error.args else "cannot be read"
        return (reason.decode(errors="replace") if isinstance(reason, bytes) else str(reason)), 0
