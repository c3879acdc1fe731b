# SPDX-License-Identifier: Apache-2.0
"""`tunesmith.Client`: everything the command line does, as calls with typed results.

Synchronous; each call opens the state directory, does its work and closes it again. Several
clients and a running `tunesmith run` may use one state directory at the same time.
"""

from __future__ import annotations

import asyncio
import difflib
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from tunesmith import experiment_source, following
from tunesmith.errors import Fault, InvalidExperiment, NotThere, StateUnusable
from tunesmith.explain import Explanation, explain_experiment, explain_trial
from tunesmith.home import default_namespace, state_home
from tunesmith.log_tail import follow_lines
from tunesmith.views import (
    BestView,
    ExperimentView,
    TrialView,
    best_view,
    experiment_view,
    trial_view,
)
from tunesmith_api import names
from tunesmith_api.errors import AlreadyExists, NotFound, PortError, Unavailable
from tunesmith_api.resources import Experiment, Trial
from tunesmith_controller.embedded import LocalPlane, LocalSettings
from tunesmith_controller.ports import Json, Key

T = TypeVar("T")
Source = str | Path | Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Checked:
    """A valid experiment file: the object with its defaults, and what deserves a look."""

    experiment: Json
    warnings: tuple[Fault, ...]


class Client:
    """Talks to the experiments of one state directory.

    home: where state lives; None for TUNESMITH_HOME or the user's state directory.
    namespace: of experiments that do not name one; None for TUNESMITH_NAMESPACE or "default".
    """

    def __init__(
        self,
        home: Path | str | None = None,
        namespace: str | None = None,
        *,
        cpus: float | None = None,
    ) -> None:
        self.home = Path(home) if home is not None else state_home()
        self.namespace = namespace or default_namespace()
        self._named = namespace is not None
        self._settings = LocalSettings(cpus=cpus)

    # ---- reading --------------------------------------------------------------------------------

    def validate(self, source: Source) -> Checked:
        """Checks an experiment without storing it. Raises InvalidExperiment with every fault."""
        loaded = experiment_source.load(source, self._forced_namespace(), self.namespace)
        admitted = loaded.admit()
        return Checked(admitted, loaded.warnings())

    def experiments(self, *, all_namespaces: bool = False) -> list[ExperimentView]:
        """The experiments, by namespace and name."""

        async def listed(plane: LocalPlane) -> list[ExperimentView]:
            namespace = None if all_namespaces else self.namespace
            found = await plane.store.list("Experiment", namespace=namespace)
            views = [experiment_view(Experiment.parse(obj)) for obj in found.items]
            return sorted(views, key=lambda view: (view.namespace, view.name))

        return self._call(listed)

    def experiment(self, name: str) -> ExperimentView:
        """One experiment. Raises NotThere."""

        async def got(plane: LocalPlane) -> ExperimentView:
            return experiment_view(await self._experiment(plane, name))

        return self._call(got)

    def trials(self, experiment: str) -> list[TrialView]:
        """The trials of an experiment in ordinal order. Raises NotThere."""

        async def listed(plane: LocalPlane) -> list[TrialView]:
            owner = await self._experiment(plane, experiment)
            return [trial_view(trial) for trial in await _trials(plane, owner)]

        return self._call(listed)

    def best(self, experiment: str) -> BestView:
        """The best trial so far. Raises NotThere, also while there is none."""

        async def got(plane: LocalPlane) -> BestView:
            found = best_view(await self._experiment(plane, experiment))
            if found is None:
                hint = f"tunesmith why {experiment}"
                raise NotThere("best trial of experiment", experiment, hint=hint)
            return found

        return self._call(got)

    def why(self, name: str) -> Explanation:
        """Explains the state of an experiment or of a trial. Raises NotThere."""

        async def explained(plane: LocalPlane) -> Explanation:
            try:
                experiment = await self._experiment(plane, name)
            except NotThere:
                trial = await self._trial(plane, name)
                output = plane.output_path(trial.metadata.uid, _attempt(trial))
                return explain_trial(trial, output)
            trials = await _trials(plane, experiment)
            suggestion = await _maybe(
                plane, Key("Suggestion", experiment.metadata.namespace, experiment.metadata.name)
            )
            return explain_experiment(experiment, trials, suggestion, plane.lease.holder())

        return self._call(explained)

    def logs(self, trial: str, *, follow: bool = False) -> Iterator[str]:
        """The lines a trial printed, without line ends; `follow` waits for more until its attempt
        ends. `trial`: a name, the beginning of one, or EXPERIMENT/ORDINAL. Raises NotThere."""

        async def found(plane: LocalPlane) -> tuple[str, Path]:
            view = await self._trial(plane, trial)
            return view.metadata.name, plane.output_path(view.metadata.uid, _attempt(view))

        name, path = self._call(found)
        return follow_lines(path, (lambda: self._is_over(name)) if follow else None)

    def names(self, *, trials: bool = False) -> list[str]:
        """Names for shell completion."""

        async def listed(plane: LocalPlane) -> list[str]:
            kinds = ("Experiment", "Trial") if trials else ("Experiment",)
            found = [await plane.store.list(kind, namespace=self.namespace) for kind in kinds]
            return sorted(obj["metadata"]["name"] for some in found for obj in some.items)

        return self._call(listed)

    # ---- writing --------------------------------------------------------------------------------

    def create(self, source: Source) -> ExperimentView:
        """Stores an experiment; a controller (`run`) works on it. Raises InvalidExperiment,
        AlreadyExists."""
        loaded = experiment_source.load(source, self._forced_namespace(), self.namespace)

        async def created(plane: LocalPlane) -> ExperimentView:
            stored = await plane.submit(loaded.annotated())
            return experiment_view(Experiment.parse(stored))

        return self._call(created)

    def run(
        self,
        source: Source,
        *,
        fresh: bool = False,
        on_update: following.OnUpdate | None = None,
        notice: Callable[[str], None] = lambda sentence: None,
        interrupt: following.Interrupt | None = None,
    ) -> following.RunResult:
        """Runs an experiment to its end, or continues one that is unfinished.

        on_update: called with (ExperimentView, list of TrialView) whenever something changed.
        interrupt: may be asked to stop the trials or to leave them running.
        Raises InvalidExperiment, ChangedExperiment.
        """
        loaded = experiment_source.load(source, self._forced_namespace(), self.namespace)
        loaded.admit()
        for warning in loaded.warnings():
            notice(warning_sentence(loaded.name, warning))

        async def ran(plane: LocalPlane) -> following.RunResult:
            request = following.RunRequest(
                loaded.annotated(), fresh=fresh, on_update=on_update, notice=notice
            )
            return await following.run(plane, request, interrupt or following.Interrupt())

        return self._call(ran)

    def delete(
        self,
        experiment: str,
        *,
        wait: bool = True,
        notice: Callable[[str], None] = lambda sentence: None,
    ) -> None:
        """Deletes an experiment, its trials, their rows and files; running trials are stopped.
        Raises NotThere."""

        async def deleted(plane: LocalPlane) -> None:
            found = await self._experiment(plane, experiment)
            await following.delete(plane, found, notice=notice, wait=wait)

        self._call(deleted)

    # ---- inside ---------------------------------------------------------------------------------

    def _forced_namespace(self) -> str | None:
        return self.namespace if self._named else None

    def _call(self, work: Callable[[LocalPlane], Awaitable[T]]) -> T:
        async def opened() -> T:
            async with LocalPlane.open(self.home, self._settings) as plane:
                return await work(plane)

        try:
            return asyncio.run(opened())
        except AlreadyExists as error:
            raise InvalidExperiment(
                str(error), [Fault("metadata.name", "exists already")]
            ) from error
        except Unavailable as error:
            raise StateUnusable(
                f"the state directory {self.home} cannot be used: {error}",
                "check its disk and permissions, or set TUNESMITH_HOME to another directory",
            ) from error
        except (PermissionError, OSError) as error:
            raise StateUnusable(
                f"the state directory {self.home} cannot be used: {error}",
                "check its disk and permissions, or set TUNESMITH_HOME to another directory",
            ) from error

    async def _experiment(self, plane: LocalPlane, name: str) -> Experiment:
        try:
            return Experiment.parse(await plane.store.get(Key("Experiment", self.namespace, name)))
        except NotFound:
            there = await plane.store.list("Experiment")
            raise NotThere(
                "experiment",
                name,
                difflib.get_close_matches(name, _names(there.items, self.namespace)),
                _elsewhere(there.items, name),
            ) from None

    async def _trial(self, plane: LocalPlane, name: str) -> Trial:
        experiment, _, ordinal = name.rpartition("/")
        if experiment and ordinal.isdecimal():
            owner = await self._experiment(plane, experiment)
            name = names.trial_name(experiment, owner.metadata.uid, int(ordinal))
        try:
            return Trial.parse(await plane.store.get(Key("Trial", self.namespace, name)))
        except (NotFound, PortError):
            there = await plane.store.list("Trial", namespace=self.namespace)
        matches = [obj for obj in there.items if obj["metadata"]["name"].startswith(name)]
        if len(matches) == 1:
            return Trial.parse(matches[0])
        candidates = _names(matches, self.namespace) or difflib.get_close_matches(
            name, _names(there.items, self.namespace)
        )
        raise NotThere("experiment or trial", name, candidates, "tunesmith ls")

    def _is_over(self, trial: str) -> bool:
        async def over(plane: LocalPlane) -> bool:
            found = await _maybe(plane, Key("Trial", self.namespace, trial))
            return found is None or trial_view(Trial.parse(found)).is_over

        return self._call(over)


def warning_sentence(source: str, warning: Fault) -> str:
    """One line for a person: place, field, what deserves a look."""
    place = f"{source}:{warning.line}" if warning.line else source
    hint = f" ({warning.hint})" if warning.hint else ""
    return f"{place}: {warning.field}: {warning.message}{hint}"


async def _trials(plane: LocalPlane, experiment: Experiment) -> list[Trial]:
    return await following.trials_of(plane, experiment)


async def _maybe(plane: LocalPlane, key: Key) -> Json | None:
    try:
        return await plane.store.get(key)
    except NotFound:
        return None


def _attempt(trial: Trial) -> int:
    return max(trial.status.run.attempt, 1) if trial.status.run else 1


def _names(objects: Sequence[Json], namespace: str) -> list[str]:
    found = (obj["metadata"] for obj in objects)
    return sorted(m["name"] for m in found if m.get("namespace") == namespace)


def _elsewhere(objects: Sequence[Json], name: str) -> str:
    spaces = sorted(
        o["metadata"].get("namespace", "") for o in objects if o["metadata"]["name"] == name
    )
    return f"it exists in namespace {spaces[0]}: add -n {spaces[0]}" if spaces else "tunesmith ls"
