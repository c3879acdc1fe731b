# SPDX-License-Identifier: Apache-2.0
"""`tunesmith.Client`: everything the command line does, as calls with typed results.

Synchronous, in scripts and in notebooks; each call opens the state directory, does its work and
closes it again. Several clients and a running `tunesmith run` may use one state directory at the
same time.
"""

from __future__ import annotations

import difflib
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from tunesmith import calling, experiment_source, following
from tunesmith.errors import Fault, InvalidExperiment, NotThere, StateUnusable
from tunesmith.explain import Explanation, explain_experiment, explain_trial
from tunesmith.home import default_namespace, next_command, state_home
from tunesmith.log_tail import follow_lines
from tunesmith.views import (
    AlgorithmView,
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


@dataclass(frozen=True, slots=True)
class _Printed:
    """Where an attempt's output is, and whether more may come."""

    trial: str
    attempt: int
    path: Path
    over: bool


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
            experiment = await self._experiment(plane, name)
            return experiment_view(experiment, await self._suggestion(plane, name))

        return self._call(got)

    def trials(self, experiment: str) -> list[TrialView]:
        """The trials of an experiment in ordinal order. Raises NotThere."""

        async def listed(plane: LocalPlane) -> list[TrialView]:
            owner = await self._experiment(plane, experiment)
            return [trial_view(t) for t in await following.trials_of(plane, owner)]

        return self._call(listed)

    def best(self, experiment: str) -> BestView:
        """The best trial so far. Raises NotThere, also while there is none."""

        async def got(plane: LocalPlane) -> BestView:
            found = best_view(await self._experiment(plane, experiment))
            if found is None:
                hint = next_command("why", experiment, namespace=self.namespace)
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
            trials = await following.trials_of(plane, experiment)
            suggestion = await self._suggestion(plane, name)
            return explain_experiment(experiment, trials, suggestion, plane.lease.holder())

        return self._call(explained)

    def logs(self, trial: str, *, follow: bool = False) -> Iterator[str]:
        """The lines that the latest attempt of a trial printed, without line ends; `follow` waits
        for more until the trial ends, and goes on with the next attempt when one is started.

        trial: a name, the beginning of one, or EXPERIMENT/ORDINAL. Raises NotThere.
        """
        return self._lines(self._printed(trial), follow)

    def algorithms(self) -> list[AlgorithmView]:
        """What `algorithmName` may be, with the settings of each."""
        from tunesmith.algorithms import all_algorithms  # noqa: PLC0415 - loads NumPy

        return all_algorithms()

    def algorithm(self, name: str) -> AlgorithmView:
        """One algorithm. Raises NotThere."""
        found = {view.name: view for view in self.algorithms()}
        if name not in found:
            near = difflib.get_close_matches(name, found)
            raise NotThere("algorithm", name, near, "tunesmith algorithms")
        return found[name]

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
            notice(warning.sentence(loaded.name))

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
            return calling.call(opened())
        except AlreadyExists as error:
            raise InvalidExperiment(
                str(error), [Fault("metadata.name", "exists already")]
            ) from error
        except BrokenPipeError:
            # Not the state directory's: whoever read what `on_update` prints went away.
            raise
        except (Unavailable, OSError) as error:
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

    async def _suggestion(self, plane: LocalPlane, experiment: str) -> Json | None:
        return await _maybe(plane, Key("Suggestion", self.namespace, experiment))

    async def _trial(self, plane: LocalPlane, name: str) -> Trial:
        experiment, _, ordinal = name.rpartition("/")
        if experiment and ordinal.isdecimal():
            return await self._numbered_trial(plane, experiment, int(ordinal))
        try:
            return Trial.parse(await plane.store.get(Key("Trial", self.namespace, name)))
        except (NotFound, PortError):
            there = await plane.store.list("Trial", namespace=self.namespace)
        matches = [obj for obj in there.items if obj["metadata"]["name"].startswith(name)]
        if len(matches) == 1:
            return Trial.parse(matches[0])
        experiments = _names((await plane.store.list("Experiment")).items, self.namespace)
        if name in experiments:
            hint = next_command("trials", name, namespace=self.namespace)
            raise NotThere("trial", name, (f"{name}/0",), hint)
        known = [*experiments, *_names(there.items, self.namespace)]
        near = _names(matches, self.namespace) or difflib.get_close_matches(name, known)
        raise NotThere("experiment or trial", name, near, "tunesmith ls")

    async def _numbered_trial(self, plane: LocalPlane, experiment: str, ordinal: int) -> Trial:
        owner = await self._experiment(plane, experiment)
        name = names.trial_name(experiment, owner.metadata.uid, ordinal)
        found = await _maybe(plane, Key("Trial", self.namespace, name))
        if found is None:
            hint = next_command("trials", experiment, namespace=self.namespace)
            raise NotThere("trial", f"{experiment}/{ordinal}", hint=hint)
        return Trial.parse(found)

    def _printed(self, trial: str) -> _Printed:
        async def found(plane: LocalPlane) -> _Printed:
            view = await self._trial(plane, trial)
            attempt = _attempt(view)
            path = plane.output_path(view.metadata.uid, attempt)
            return _Printed(view.metadata.name, attempt, path, trial_view(view).is_over)

        return self._call(found)

    def _lines(self, printed: _Printed, follow: bool) -> Iterator[str]:
        while True:
            now = printed

            def is_over(before: _Printed = printed) -> bool:
                nonlocal now
                try:
                    now = self._printed(before.trial)
                except NotThere:  # it was deleted meanwhile
                    return True
                return now.over or now.attempt > before.attempt

            yield from follow_lines(printed.path, is_over if follow else None)
            if now.attempt == printed.attempt:
                return
            printed = now


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
