# SPDX-License-Identifier: Apache-2.0
"""`tunesmith.Client`: everything the command line does, as calls with typed results.

Synchronous, in scripts and in notebooks; each call opens the state directory, does its work and
closes it again. Several clients and a running `tunesmith run` may use one state directory at the
same time.
"""

from __future__ import annotations

import difflib
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from tunesmith import calling, experiment_source, following, life_cycle, serving
from tunesmith.access import Access, Place, attempt_of, open_access
from tunesmith.errors import Fault, InvalidExperiment, NotThere, StateUnusable, TunesmithError
from tunesmith.explain import Explanation, explain_experiment, explain_trial, no_best
from tunesmith.follower import (
    Done,
    Interrupt,
    Notice,
    OnUpdate,
    settled,
    silent,
    stopped,
    wait_for,
)
from tunesmith.home import default_namespace, state_home
from tunesmith.log_tail import Printed, printed_lines
from tunesmith.lookup import Lookup, maybe, trials_labelled, trials_of
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
from tunesmith_api.errors import AlreadyExists, Invalid, PortError, Unavailable
from tunesmith_api.resources import Experiment
from tunesmith_controller.embedded import LocalPlane, LocalSettings
from tunesmith_controller.ports import Json, Key, ObjectStore

T = TypeVar("T")
Source = str | Path | Mapping[str, Any]

_EFFECT_S = 60.0
"""How long `pause` and `stop` wait for their effect."""


@dataclass(frozen=True, slots=True)
class Checked:
    """A valid experiment file: the object with its defaults, and what deserves a look."""

    experiment: Json
    warnings: tuple[Fault, ...]


class Client:
    """Talks to the experiments of one state directory.

    home: where state lives; None for TUNESMITH_HOME or the user's state directory.
    namespace: of experiments that do not name one; None for TUNESMITH_NAMESPACE or "default".
    cpus, runtime: of trials that this client runs; all CPUs, and "process", "podman" or "docker".
    url, token: of an API to use instead of a directory; `tunesmith serve` writes both down.
    """

    def __init__(
        self,
        home: Path | str | None = None,
        namespace: str | None = None,
        *,
        cpus: float | None = None,
        runtime: str = "process",
        url: str = "",
        token: str = "",
    ) -> None:
        self.home = Path(home) if home is not None else state_home()
        self.namespace = namespace or default_namespace()
        self._named = namespace is not None
        self._place = Place(self.home, LocalSettings(cpus=cpus, runtime=runtime), url, token)

    # ---- reading --------------------------------------------------------------------------------

    def validate(self, source: Source) -> Checked:
        """Checks an experiment without storing it. Raises InvalidExperiment with every fault."""
        loaded = self._load(source)
        if loaded.template_source() is None:
            return Checked(loaded.admit(), loaded.warnings())

        async def checked(access: Access) -> Checked:
            return Checked(loaded.admit(await _template(access, loaded)), loaded.warnings())

        return self._call(checked)

    def experiments(self, *, all_namespaces: bool = False) -> list[ExperimentView]:
        """The experiments, by namespace and name."""

        async def listed(access: Access) -> list[ExperimentView]:
            namespace = None if all_namespaces else self.namespace
            found = await access.store.list("Experiment", namespace=namespace)
            views = [experiment_view(Experiment.parse(obj)) for obj in found.items]
            return sorted(views, key=lambda view: (view.namespace, view.name))

        return self._call(listed)

    def experiment(self, name: str) -> ExperimentView:
        """One experiment. Raises NotThere."""

        async def got(access: Access) -> ExperimentView:
            names_here = self._lookup(access)
            experiment = await names_here.experiment(name)
            return experiment_view(experiment, await names_here.suggestion(name))

        return self._call(got)

    def trials(self, experiment: str) -> list[TrialView]:
        """The trials of an experiment in ordinal order. Raises NotThere."""

        async def listed(access: Access) -> list[TrialView]:
            owner = await self._lookup(access).experiment(experiment)
            return [trial_view(t) for t in await trials_of(access.store, owner)]

        return self._call(listed)

    def best(self, experiment: str) -> BestView:
        """The best trial so far. Raises NotThere, also while there is none."""

        async def got(access: Access) -> BestView:
            stored = await self._lookup(access).experiment(experiment)
            found = best_view(stored)
            if found is None:
                raise no_best(experiment_view(stored))
            return found

        return self._call(got)

    def why(self, name: str) -> Explanation:
        """Explains the state of an experiment or of a trial. Raises NotThere."""

        async def explained(access: Access) -> Explanation:
            here = self._lookup(access)
            try:
                experiment = await here.experiment(name)
            except NotThere:
                trial = await here.trial(name)
                owner = (trial.metadata.labels or {}).get(names.LABEL_EXPERIMENT, "")
                key = Key("Experiment", trial.metadata.namespace, owner)
                printed = await access.output(trial)
                return explain_trial(trial, printed, await maybe(access.store, key))
            trials = await trials_of(access.store, experiment)
            suggestion = await here.suggestion(name)
            return explain_experiment(experiment, trials, suggestion, access.controller)

        return self._call(explained)

    def logs(self, trial: str, *, follow: bool = False) -> Iterator[str]:
        """The lines that the latest attempt of a trial printed, without line ends; `follow` waits
        for more until the trial ends, and goes on with the next attempt when one is started.

        trial: a name, the beginning of one, or EXPERIMENT/ORDINAL. Raises NotThere.
        """
        return printed_lines(self._printed(trial), self._printed, follow=follow)

    def algorithms(self) -> list[AlgorithmView]:
        """What `algorithmName` may be, with the settings of each; then the rules that
        `earlyStopping.algorithmName` may be."""
        from tunesmith.algorithms import all_algorithms, all_rules  # noqa: PLC0415 - loads NumPy

        return [*all_algorithms(), *all_rules()]

    def algorithm(self, name: str) -> AlgorithmView:
        """One algorithm or early stopping rule. Raises NotThere."""
        found = {view.name: view for view in self.algorithms()}
        if name not in found:
            near = difflib.get_close_matches(name, found)
            raise NotThere("algorithm", name, near, "tunesmith algorithms")
        return found[name]

    def names(self, *, trials: bool = False) -> list[str]:
        """Names for shell completion."""

        async def listed(access: Access) -> list[str]:
            kinds = ("Experiment", "Trial") if trials else ("Experiment",)
            found = [await access.store.list(kind, namespace=self.namespace) for kind in kinds]
            return sorted(obj["metadata"]["name"] for some in found for obj in some.items)

        return self._call(listed)

    def parameters(self, experiment: str) -> list[str]:
        """Names of the parameters, for shell completion. Raises NotThere."""

        async def listed(access: Access) -> list[str]:
            found = await self._lookup(access).experiment(experiment)
            return [parameter.name for parameter in found.spec.parameters]

        return self._call(listed)

    def controller(self) -> str:
        """Who works on the experiments of this place now, such as "process 123"; "" when nobody
        does."""

        async def asked(access: Access) -> str:
            return access.controller

        return self._call(asked)

    # ---- running --------------------------------------------------------------------------------

    def create(self, source: Source) -> ExperimentView:
        """Stores an experiment; a controller (`run`, `tunesmith serve`) works on it. Raises
        InvalidExperiment, also when the name is taken."""
        loaded = self._load(source)

        async def created(access: Access) -> ExperimentView:
            experiment = loaded.annotated(await _template(access, loaded))
            await following.store_config_maps(access.store, loaded.config_maps)
            return experiment_view(Experiment.parse(await access.store.create(experiment)))

        return self._call(created)

    def run(
        self,
        source: Source,
        *,
        fresh: bool = False,
        on_update: OnUpdate | None = None,
        notice: Notice = silent,
        interrupt: Interrupt | None = None,
    ) -> following.RunResult:
        """Runs an experiment to its end, or continues one that is unfinished.

        on_update: called with (ExperimentView, list of TrialView) whenever something changed.
        interrupt: may be asked to stop the trials or to leave them running.
        Raises InvalidExperiment, ChangedExperiment.
        """
        loaded = self._load(source)

        async def ran(access: Access) -> following.RunResult:
            experiment = loaded.annotated(await _template(access, loaded))
            for warning in loaded.warnings():
                notice(warning.sentence(loaded.name))
            request = following.RunRequest(
                experiment, loaded.config_maps, fresh=fresh, on_update=on_update, notice=notice
            )
            return await following.run(access, request, interrupt or Interrupt())

        # While it controls, it serves: other commands and kubectl see the run through it.
        settings = replace(self._place.settings, api_port=0)
        return self._call(ran, replace(self._place, settings=settings))

    def watch(
        self,
        experiment: str,
        *,
        on_update: OnUpdate | None = None,
        notice: Notice = silent,
        interrupt: Interrupt | None = None,
    ) -> following.RunResult:
        """Follows an experiment until it has ended, without controlling it; arguments as of `run`.
        Raises NotThere."""

        async def watched(access: Access) -> following.RunResult:
            found = await self._lookup(access).experiment(experiment)
            return await following.watch(
                access, found, interrupt or Interrupt(), on_update=on_update, notice=notice
            )

        return self._call(watched)

    def serve(
        self,
        *,
        port: int | None = 0,
        db_manager: str = "",
        ready: Callable[[serving.Served], None] = lambda served: None,
        notice: Notice = silent,
        interrupt: Interrupt | None = None,
    ) -> int:
        """Runs the controller of this state directory, with the API on 127.0.0.1 (port 0: any free
        one; None: no API) and Katib's DBManager where an address is given, until interrupted; how
        many trials run on. Raises StateUnusable, also while another process controls."""
        settings = replace(self._place.settings, api_port=port, db_manager=db_manager)

        async def served() -> int:
            async with LocalPlane.open(self.home, settings) as plane:
                return await serving.serve(
                    plane,
                    interrupt or Interrupt(),
                    with_api=port is not None,
                    ready=ready,
                    notice=notice,
                )

        return self._translated(served())

    # ---- life cycle -----------------------------------------------------------------------------

    def pause(self, experiment: str, *, wait: bool = True) -> ExperimentView:
        """Interrupts its trials; `resume` goes on with new attempts of them. Waits, when a
        controller runs, until nothing of it runs any more. Raises NotThere, NotPossible."""
        return self._act(experiment, life_cycle.pause, stopped if wait else None)

    def resume(self, experiment: str) -> ExperimentView:
        """Takes back `pause` and `stop`. Raises NotThere, NotPossible."""
        return self._act(experiment, life_cycle.resume)

    def stop(self, experiment: str, *, wait: bool = True) -> ExperimentView:
        """Ends it as Succeeded with what it has found. Waits, when a controller runs, until it has
        ended. Raises NotThere, NotPossible."""
        return self._act(experiment, life_cycle.stop, settled if wait else None)

    def extend(
        self,
        experiment: str,
        *,
        trials: int | str | None = None,
        parallel: int | None = None,
        deadline: int | None = None,
    ) -> ExperimentView:
        """Changes the budget while it runs, or starts a finished experiment again where its
        resumePolicy allows that.

        trials: maxTrialCount, or "+20" for so many more. deadline: activeDeadlineSeconds, counted
        from its start (the last one). Raises NotThere, NotPossible, InvalidExperiment.
        """
        budget = life_cycle.Budget(trials, parallel, deadline)

        async def extended(store: ObjectStore, found: Experiment) -> Experiment:
            return await life_cycle.extend(store, found, budget)

        return self._act(experiment, extended)

    def enqueue(self, experiment: str, values: Mapping[str, object]) -> ExperimentView:
        """Adds a point (a value for each parameter) that is tried before the algorithm is asked
        again; the same point again is tried again. Raises NotThere, NotPossible,
        InvalidExperiment."""

        async def enqueued(store: ObjectStore, found: Experiment) -> Experiment:
            return await life_cycle.enqueue(store, found, values)

        return self._act(experiment, enqueued)

    def delete(self, experiment: str, *, wait: bool = True, notice: Notice = silent) -> None:
        """Deletes an experiment, its trials, their rows and files; running trials are stopped.
        Finishes a deletion that was interrupted. Raises NotThere."""

        async def deleted(access: Access) -> None:
            try:
                found = await self._lookup(access).experiment(experiment)
            except NotThere:
                await self._finish_deleting(access, experiment, wait=wait, notice=notice)
            else:
                await following.delete(access, found, notice=notice, wait=wait)

        self._call(deleted)

    # ---- inside ---------------------------------------------------------------------------------

    def _load(self, source: Source) -> experiment_source.LoadedSource:
        forced = self.namespace if self._named else None
        return experiment_source.load(source, forced, self.namespace)

    def _lookup(self, access: Access) -> Lookup:
        return Lookup(access.store, self.namespace)

    def _act(
        self,
        name: str,
        action: Callable[[ObjectStore, Experiment], Awaitable[Experiment]],
        done: Done | None = None,
    ) -> ExperimentView:
        """The experiment after `action`, and after `done` where there is a controller for it."""

        async def acted(access: Access) -> ExperimentView:
            found = await action(access.store, await self._lookup(access).experiment(name))
            if done is None or not access.controller:
                return experiment_view(found)
            key = Key("Experiment", self.namespace, name)
            view, _ = await wait_for(access.store, key, found.metadata.uid, done, _EFFECT_S)
            return view

        return self._call(acted)

    async def _finish_deleting(
        self, access: Access, experiment: str, *, wait: bool, notice: Notice
    ) -> None:
        """Raises NotThere when nothing is left of an experiment of this name."""
        left = await trials_labelled(access.store, self.namespace, experiment)
        owners = {o["uid"]: None for t in left for o in t["metadata"].get("ownerReferences") or ()}
        if not owners:
            # Nothing is left: raises NotThere with what is near.
            await self._lookup(access).experiment(experiment)
        for uid in owners if wait else ():
            key = Key("Experiment", self.namespace, experiment)
            await following.clean_up(access, key, uid, notice=notice)

    def _call(self, work: Callable[[Access], Awaitable[T]], place: Place | None = None) -> T:
        async def opened() -> T:
            async with open_access(place or self._place) as access:
                return await work(access)

        return self._translated(opened())

    def _translated(self, work: Coroutine[Any, Any, T]) -> T:
        """The result of `work`; what ports raise becomes what people are told."""
        try:
            return calling.call(work)
        except AlreadyExists as error:
            raise InvalidExperiment(
                str(error), [Fault("metadata.name", "exists already")]
            ) from error
        except BrokenPipeError:
            # Not the state directory's: whoever read what `on_update` prints went away.
            raise
        except (Unavailable, Invalid, OSError) as error:
            if causes := getattr(error, "causes", ()):
                # An API's admission refuses it (stores.rest_errors.Rejected, which loads HTTP).
                faults = [Fault(cause.field, cause.message) for cause in causes]
                raise InvalidExperiment("the API refuses it", faults) from error
            place = self._place
            raise StateUnusable(f"{place} cannot be used: {error}", place.remedy) from error
        except PortError as error:
            # Somebody changed or deleted the object between two of our steps.
            raise TunesmithError(str(error), "run the command again") from error

    def _printed(self, trial: str) -> Printed:
        async def found(access: Access) -> Printed:
            here = await self._lookup(access).trial(trial)
            path = access.output_path(here)
            lines = tuple(await access.output(here)) if path is None else ()
            is_over = trial_view(here).is_over
            return Printed(here.metadata.name, attempt_of(here), path, lines, is_over)

        return self._call(found)


async def _template(access: Access, loaded: experiment_source.LoadedSource) -> Json | None:
    """The stored ConfigMap that its trial template is in, where there is one."""
    key = loaded.template_source()
    return None if key is None else await maybe(access.store, key)
