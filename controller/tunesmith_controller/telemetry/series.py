# SPDX-License-Identifier: Apache-2.0
"""Prometheus series of a controller: Katib's under Katib's names, and ours.

Fed by the manager's informers (`Series.watch`), so a series counts what was written, whoever wrote
it. Counters begin at zero with the process, as Prometheus expects; what existed before it is in the
gauges alone.
"""

from __future__ import annotations

from collections import Counter as Tally
from collections.abc import Callable, Iterator, Mapping
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from tunesmith_controller.ports import Json

_UNKNOWN: Final = "Unknown"
_EVENTS: Final[Mapping[str, Mapping[str, str]]] = {
    "Experiment": {
        "Created": "created",
        "Succeeded": "succeeded",
        "Failed": "failed",
    },
    "Trial": {
        "Created": "created",
        "Succeeded": "succeeded",
        "Failed": "failed",
        "MetricsUnavailable": "metrics_unavailable",
        "EarlyStopped": "early_stopped",
        "Killed": "killed",
    },
}
"""By kind: the condition that counts, and the word for it in the name of the series."""

_BUCKETS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)


class Series:
    """All series of one process, in a registry of their own."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._kinds = {kind: _Kind(kind, events, registry) for kind, events in _EVENTS.items()}
        registry.register(_Current(self._kinds))
        self._reconcile = Histogram(
            "tunesmith_reconcile_seconds",
            "Time of one reconcile, by kind and outcome.",
            ["kind", "outcome"],
            buckets=_BUCKETS,
            registry=registry,
        )

    def watcher(self, kind: str) -> Callable[[Json | None, Json | None], None] | None:
        """The informer listener of a kind; None for a kind without series."""
        found = self._kinds.get(kind)
        return None if found is None else found.changed

    def reconciled(self, kind: str, outcome: str, seconds: float) -> None:
        """One reconcile ended: "done", "conflict", "refused", "unavailable" or "defect"."""
        self._reconcile.labels(kind, outcome).observe(seconds)


class _Kind:
    """Counters of one kind, and how many of its objects are in which state."""

    def __init__(self, kind: str, events: Mapping[str, str], registry: CollectorRegistry) -> None:
        self.kind = kind.lower()
        self.current: Tally[tuple[str, str]] = Tally()
        self._counters = {
            condition: self._counter(word, registry) for condition, word in events.items()
        }
        self._deleted = self._counter("deleted", registry)

    def _counter(self, word: str, registry: CollectorRegistry) -> Counter:
        told = f"{self.kind}s {word}, by namespace."
        return Counter(f"katib_{self.kind}_{word}", told, ["namespace"], registry=registry)

    def changed(self, before: Json | None, after: Json | None) -> None:
        """An informer's change. What is there when the process begins is not counted as new."""
        namespace = (after or before or {})["metadata"].get("namespace", "")
        was, now = _state(before), _state(after)
        if before is not None:
            self.current[namespace, was] -= 1
        if after is None:
            self._deleted.labels(namespace).inc()
            return
        self.current[namespace, now] += 1
        if before is None:
            return
        # One write may take an object through several states, and back to one that it was in.
        new = set(_types(after)) - set(_types(before)) | ({now} if was != now else set())
        for state in new & self._counters.keys():
            self._counters[state].labels(namespace).inc()


class _Current(Collector):
    """Gauges of how many objects are in which state, made when they are asked for."""

    def __init__(self, kinds: Mapping[str, _Kind]) -> None:
        self._kinds = kinds

    def collect(self) -> Iterator[Metric]:
        for kind in self._kinds.values():
            name = f"katib_{kind.kind}s_current"
            family = GaugeMetricFamily(
                name, f"{kind.kind}s that exist, by last condition.", labels=["namespace", "status"]
            )
            for (namespace, status), count in list(kind.current.items()):
                family.add_metric([namespace, status], count)
            yield family


def _state(obj: Json | None) -> str:
    """The type of the last condition."""
    return (_types(obj) or [_UNKNOWN])[-1]


def _types(obj: Json | None) -> list[str]:
    """Of all conditions; an object of any shape may come from a cluster."""
    status = (obj or {}).get("status")
    conditions = status.get("conditions") if isinstance(status, dict) else None
    found = conditions if isinstance(conditions, list) else []
    types = [each.get("type") if isinstance(each, dict) else None for each in found]
    return [each if isinstance(each, str) else _UNKNOWN for each in types]
