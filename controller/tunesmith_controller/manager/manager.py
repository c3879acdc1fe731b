# SPDX-License-Identifier: Apache-2.0
"""The manager: informers, queues, workers and the three reconcilers over one set of ports.

`run` until cancelled. Everything it holds is a cache; a new manager over the same ports continues
where the old one stopped, whenever that was.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass, replace
from typing import Protocol

from tunesmith_api import names
from tunesmith_controller.experiment.gate import Admission, Gate
from tunesmith_controller.experiment.reconciler import ExperimentReconciler
from tunesmith_controller.manager.informer import Cache, Informer
from tunesmith_controller.manager.queue import Backoff, WorkQueue
from tunesmith_controller.manager.remembering import RememberingStore
from tunesmith_controller.manager.requests import Requests
from tunesmith_controller.parsed import Parsed
from tunesmith_controller.ports import Conflict, Invalid, Json, Key, PortError, Ports
from tunesmith_controller.suggestion.reconciler import SuggestionReconciler
from tunesmith_controller.trial.absent import Absentees
from tunesmith_controller.trial.bench import Bench
from tunesmith_controller.trial.reconciler import TrialReconciler
from tunesmith_controller.trial.roster import Rosters
from tunesmith_controller.trial.settled import is_settled, without_details

_log = logging.getLogger(__name__)

KINDS = ("Experiment", "Suggestion", "Trial")


@dataclass(frozen=True, slots=True)
class ManagerSettings:
    """Times in seconds."""

    workers: int = 4
    resync_s: float = 300.0
    trial_poll_s: float = 5.0
    metrics_grace_s: float = 60.0
    lost_retries: int = 3
    backoff_first_s: float = 0.1
    backoff_max_s: float = 30.0
    patience_s: float = 1.0
    """What keeps failing until its next try is this far away is told to people."""
    sweeps: bool = False
    """Whether a trial's end and the release of its job are one write."""
    status_every_s: float = 0.0
    """How long counters in an Experiment's status may wait for more to be told."""
    remembers: bool = False
    """Whether what is written is in the cache at once: saves refused writes where a watch is
    late, as in a cluster."""


def _whole(obj: Json) -> Json:
    return obj


_KEPT: Mapping[str, Callable[[Json], Json]] = {"Trial": without_details}
"""What the cache keeps of a kind."""


class Reconciler(Protocol):
    """One kind's observe, decide, apply."""

    async def reconcile(self, key: Key) -> float | None:
        """Brings the world one step closer; seconds until the next look, None for "when something
        changes". Raises PortError to be retried."""
        ...


class Watcher(Protocol):
    """Is told what the manager sees and does; must be quick and may not raise."""

    def watcher(self, kind: str) -> Callable[[Json | None, Json | None], None] | None:
        """A listener to the changes of a kind, None for none."""
        ...

    def reconciled(self, kind: str, outcome: str, seconds: float) -> None:
        """A reconcile ended: "done", "conflict", "refused", "unavailable" or "defect"."""
        ...


@dataclass(slots=True)
class _Lane:
    queue: WorkQueue
    reconciler: Reconciler


class Manager:
    """Runs the reconcilers of one control plane."""

    def __init__(
        self,
        ports: Ports,
        settings: ManagerSettings | None = None,
        watcher: Watcher | None = None,
        admission: Admission | None = None,
    ) -> None:
        """`admission`: for a store that takes Experiments which nobody has admitted."""
        self._watcher = watcher
        self.settings = settings or ManagerSettings()
        backoff = Backoff(self.settings.backoff_first_s, self.settings.backoff_max_s)
        jitter = ports.rng.jitter
        self._informers = {
            kind: Informer(ports.store, kind, backoff, jitter, _KEPT.get(kind, _whole))
            for kind in KINDS
        }
        if self.settings.remembers:
            ports = replace(ports, store=RememberingStore(ports.store, self._informers))
        self.ports = ports
        self.cache = Cache(self._informers)
        queues = {kind: WorkQueue(backoff, jitter) for kind in KINDS}
        self._requests = Requests(queues["Suggestion"].add)
        parsed, rosters, absentees = Parsed(), Rosters(), Absentees(ports.store)
        # First: whoever is told of a change finds it counted.
        self._informers["Trial"].listen(rosters.changed)
        experiments: Reconciler = ExperimentReconciler(
            ports,
            self.cache,
            parsed,
            rosters,
            absentees,
            status_every_s=self.settings.status_every_s,
        )
        if admission is not None:
            experiments = Gate(ports, self.cache, admission, experiments)
        self._lanes = {
            "Experiment": _Lane(queues["Experiment"], experiments),
            "Suggestion": _Lane(
                queues["Suggestion"],
                SuggestionReconciler(ports, self.cache, parsed, self._requests, rosters, absentees),
            ),
            "Trial": _Lane(
                queues["Trial"],
                TrialReconciler(
                    ports,
                    self.cache,
                    poll_s=self.settings.trial_poll_s,
                    grace_s=self.settings.metrics_grace_s,
                    lost_retries=self.settings.lost_retries,
                    sweeps=self.settings.sweeps,
                    bench=Bench(ports.observations, ports.stopping, rosters),
                    parsed=parsed,
                ),
            ),
        }
        for kind, informer in self._informers.items():
            informer.listen(self._on_change(kind))
            if watcher is not None and (listener := watcher.watcher(kind)) is not None:
                informer.listen(listener)

    @property
    def is_synced(self) -> bool:
        """Whether every kind was listed once."""
        return all(informer.synced.is_set() for informer in self._informers.values())

    async def run(self) -> None:
        """Reconciles until cancelled."""
        tasks = [asyncio.ensure_future(c) for c in self._coroutines()]
        try:
            await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            self._requests.close()
            for lane in self._lanes.values():
                lane.queue.close()

    def _coroutines(self) -> list[Coroutine[None, None, None]]:
        informers = [informer.run() for informer in self._informers.values()]
        workers = [
            self._work(lane) for lane in self._lanes.values() for _ in range(self.settings.workers)
        ]
        return [*informers, *workers, self._hints(), self._resync()]

    async def _synced(self) -> None:
        for informer in self._informers.values():
            await informer.synced.wait()

    async def _work(self, lane: _Lane) -> None:
        await self._synced()
        while True:
            key = await lane.queue.take()
            try:
                await self._one(lane, key)
            finally:
                lane.queue.done(key)

    async def _one(self, lane: _Lane, key: Key) -> None:
        began = asyncio.get_running_loop().time()
        outcome = await self._outcome(lane, key)
        if self._watcher is not None:
            seconds = asyncio.get_running_loop().time() - began
            self._watcher.reconciled(key.kind, outcome, seconds)

    async def _outcome(self, lane: _Lane, key: Key) -> str:
        try:
            again = await lane.reconciler.reconcile(key)
        except Conflict:
            # Somebody wrote first; the cache will say so soon.
            lane.queue.failed(key)
            return "conflict"
        except Invalid as error:
            self._tell(key, "ReconcileError", str(error))
            lane.queue.failed(key)
            return "refused"
        except PortError as error:
            delay = lane.queue.failed(key)
            _log.info("%s: %s; again in %.1f s", key, error, delay)
            if delay >= self.settings.patience_s:
                self._tell(key, "Unavailable", f"{error}; it is tried again until it works")
            return "unavailable"
        except ValueError as error:
            # An object nobody can read (pydantic, enums): set aside until it changes.
            self._tell(key, "Quarantined", str(error))
            return "refused"
        except Exception as error:  # noqa: BLE001 - one object may not stop the others
            _log.exception("%s: reconcile failed", key)
            self._tell(key, "ReconcileError", f"a defect: {type(error).__name__}: {error}")
            lane.queue.failed(key)
            return "defect"
        lane.queue.succeeded(key)
        if again is not None:
            lane.queue.add_after(key, again)
        return "done"

    def _tell(self, key: Key, reason: str, message: str) -> None:
        about: Json = {"kind": key.kind, "metadata": {"namespace": key.namespace, "name": key.name}}
        self.ports.events.record(about, "Warning", reason, message)

    def _on_change(self, kind: str) -> Callable[[Json | None, Json | None], None]:
        def changed(before: Json | None, after: Json | None) -> None:
            metadata = (after or before or {})["metadata"]
            namespace, name = metadata.get("namespace", ""), metadata["name"]
            self._lanes[kind].queue.add(Key(kind, namespace, name))
            for owner in metadata.get("ownerReferences") or ():
                if owner.get("kind") == "Experiment":
                    self._tell_owner(kind, namespace, owner.get("name", ""), before, after)
            if kind == "Experiment":
                self._lanes["Suggestion"].queue.add(Key("Suggestion", namespace, name))
                if _state(after) in _OVER or _paused(before) != _paused(after):
                    self._tell_trials(namespace, name)

        return changed

    def _tell_owner(
        self, kind: str, namespace: str, name: str, before: Json | None, after: Json | None
    ) -> None:
        """What an Experiment and its Suggestion, which has its name, want to know of a change."""
        if kind == "Trial" and not _counts_otherwise(before, after):
            return
        self._lanes["Experiment"].queue.add(Key("Experiment", namespace, name))
        if kind != "Trial" or _state(after) not in _RUNNING:
            self._lanes["Suggestion"].queue.add(Key("Suggestion", namespace, name))

    def _tell_trials(self, namespace: str, experiment: str) -> None:
        for trial in self._informers["Trial"].of_experiment(namespace, experiment):
            if not is_settled(trial):
                self._lanes["Trial"].queue.add(Key("Trial", namespace, trial["metadata"]["name"]))

    async def _hints(self) -> None:
        await self._synced()
        failures = 0
        backoff = Backoff(self.settings.backoff_first_s, self.settings.backoff_max_s)
        while True:
            try:
                async for key in self.ports.workloads.changed():
                    failures = 0
                    self._lanes["Trial"].queue.add(key)
            except PortError as error:
                _log.info("hints of workloads ended: %s", error)
            failures += 1
            await asyncio.sleep(backoff.delay(failures, self.ports.rng.jitter()))

    async def _resync(self) -> None:
        while True:
            await asyncio.sleep(self.settings.resync_s)
            for kind, informer in self._informers.items():
                for obj in informer.all():
                    if is_settled(obj):
                        continue
                    metadata = obj["metadata"]
                    key = Key(kind, metadata.get("namespace", ""), metadata["name"])
                    self._lanes[kind].queue.add(key)


_OVER = ("", "Succeeded", "Failed")
"""States of an Experiment in which its trials may have to end; gone is one of them."""
_RUNNING = ("Pending", "Created", "Running")


def _state(obj: Json | None) -> str:
    """The last condition's type; empty for an object that does not exist."""
    if obj is None:
        return ""
    conditions = (obj.get("status") or {}).get("conditions") or [{"type": "Pending"}]
    return str(conditions[-1].get("type"))


def _counts_otherwise(before: Json | None, after: Json | None) -> bool:
    """Whether a Trial is another one to those who count trials."""
    if before is None or after is None:
        return True
    return _state(before) != _state(after) or _paused(before) != _paused(after)


def _paused(obj: Json | None) -> bool:
    annotations = (obj or {}).get("metadata", {}).get("annotations") or {}
    return bool(annotations.get(names.ANNOTATION_PAUSED) == "true")
