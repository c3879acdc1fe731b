# SPDX-License-Identifier: Apache-2.0
"""Pause, resume, stop, extend, enqueue: each is one change of a stored Experiment, which the
controller carries out whenever it runs. Called by `client`.

What can be seen to have no effect is refused with the reason and the next command; what breaks a
rule is refused by admission, with its sentences.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from tunesmith.errors import Fault, InvalidExperiment, NotPossible, TunesmithError
from tunesmith.home import next_command
from tunesmith.views import ExperimentView, experiment_view
from tunesmith_api import names
from tunesmith_api.errors import Conflict
from tunesmith_api.resources import Experiment
from tunesmith_controller.admission import local
from tunesmith_controller.experiment.decide import (
    DEADLINE_REACHED,
    MAX_TRIALS_REACHED,
    RESUMABLE_POLICIES,
    STOPPED,
    is_restartable,
)
from tunesmith_controller.ports import Json, Key, ObjectStore

_TRIES: Final = 50
"""Counters of a busy experiment change all the time; each change is a conflict to try again."""


async def pause(store: ObjectStore, experiment: Experiment) -> Experiment:
    """Nothing of it may run until `resume`. Raises NotPossible when it has ended."""
    view = experiment_view(experiment)
    if view.is_over:
        raise NotPossible(f"{_ended(view)}: there is nothing to pause", _next(view, "best"))
    return await _annotated(store, experiment, {names.ANNOTATION_PAUSED: "true"})


async def stop(store: ObjectStore, experiment: Experiment) -> Experiment:
    """Ends it now, in success. Raises NotPossible when it has ended."""
    view = experiment_view(experiment)
    if view.is_over:
        raise NotPossible(f"{_ended(view)}: there is nothing to stop", _next(view, "best"))
    return await _annotated(store, experiment, {names.ANNOTATION_STOPPED: "true"})


async def resume(store: ObjectStore, experiment: Experiment) -> Experiment:
    """Takes back `pause` and `stop`. Raises NotPossible, with the reason, when that cannot start
    it again."""
    refuse_resume(experiment)
    marks = {names.ANNOTATION_PAUSED: None, names.ANNOTATION_STOPPED: None}
    if not marks.keys() & (experiment.metadata.annotations or {}).keys():
        return experiment
    return await _annotated(store, experiment, marks)


def refuse_resume(experiment: Experiment) -> None:
    """Raises NotPossible where taking back marks starts nothing."""
    view = experiment_view(experiment)
    if not view.is_over:
        return
    if view.reason not in (STOPPED, MAX_TRIALS_REACHED, DEADLINE_REACHED):
        hint = "change its file and `tunesmith run FILE --fresh`, or use another name"
        raise NotPossible(f"{_ended(view)}: it cannot be started again", hint)
    if experiment.spec.resume_policy not in RESUMABLE_POLICIES:
        raise NotPossible(
            f"{_ended(view)}, and its resumePolicy is {experiment.spec.resume_policy or 'Never'}: "
            "it cannot be started again",
            "an experiment with spec.resumePolicy: LongRunning in its file can",
        )
    if view.budget is not None and view.ended >= view.budget:
        hint = next_command("extend", view.name, "--trials", "+20", namespace=view.namespace)
        raise NotPossible(f"{_ended(view)}: its budget of {view.budget} trials is used up", hint)
    if view.reason == DEADLINE_REACHED:
        words = ("extend", view.name, "--deadline", "SECONDS")
        hint = next_command(*words, namespace=view.namespace) + "  # counted from its start"
        raise NotPossible(f"{_ended(view)}: its time is used up", hint)


@dataclass(frozen=True, slots=True)
class Budget:
    """What `extend` sets; None is left as it is. trials: maxTrialCount, or "+20" for so many more.
    deadline: in seconds since the (last) start."""

    trials: int | str | None = None
    parallel: int | None = None
    deadline: int | None = None


async def extend(store: ObjectStore, experiment: Experiment, budget: Budget) -> Experiment:
    """Changes how many trials there may be, and until when. Raises InvalidExperiment,
    NotPossible."""
    view = experiment_view(experiment)
    if view.is_over and not is_restartable(experiment):
        refuse_resume(experiment)

    def changed(now: Experiment) -> Json:
        spec: Json = {}
        if budget.trials is not None:
            spec["maxTrialCount"] = _budget(experiment_view(now), budget.trials)
        if budget.parallel is not None:
            spec["parallelTrialCount"] = budget.parallel
        if budget.deadline is not None:
            policy = now.spec.run_policy.json() if now.spec.run_policy else {}
            spec["runPolicy"] = {**policy, "activeDeadlineSeconds": budget.deadline}
        return spec

    return await _change_spec(store, experiment, changed)


def _budget(view: ExperimentView, trials: int | str) -> int:
    text = str(trials).strip()
    digits = text.removeprefix("+")
    if not digits.isdecimal() or not digits.isascii():
        fault = Fault("trials", f"{text!r} is no number of trials, such as 60 or +20")
        raise InvalidExperiment(f"experiment {view.name}", [fault])
    if not text.startswith("+"):
        return int(digits)
    if view.budget is None:
        raise NotPossible(
            f"experiment {view.name} has no maxTrialCount: its trials are not limited",
            next_command("extend", view.name, "--trials", "60", namespace=view.namespace)
            + "  # sets a limit",
        )
    return view.budget + int(digits)


async def enqueue(
    store: ObjectStore, experiment: Experiment, values: Mapping[str, object]
) -> Experiment:
    """Adds a point that is tried before the algorithm is asked again. Raises InvalidExperiment,
    NotPossible."""
    view = experiment_view(experiment)
    if view.is_over and not is_restartable(experiment):
        raise NotPossible(f"{_ended(view)}: no trial will be started", _next(view, "best"))
    point = {"parameterAssignments": [{"name": n, "value": _text(v)} for n, v in values.items()]}

    def changed(now: Experiment) -> Json:
        before = [known.json() for known in now.spec.enqueued]
        return {"enqueued": [*before, point]}

    return await _change_spec(store, experiment, changed)


def _text(value: object) -> str:
    """As it is written in an experiment."""
    return str(value).lower() if isinstance(value, bool) else str(value)


# ---- inside -------------------------------------------------------------------------------------


async def _annotated(
    store: ObjectStore, experiment: Experiment, annotations: Mapping[str, str | None]
) -> Experiment:
    patch = {"metadata": {"uid": experiment.metadata.uid, "annotations": dict(annotations)}}
    return Experiment.parse(await store.patch(_key(experiment), patch))


async def _change_spec(
    store: ObjectStore, experiment: Experiment, changed: Callable[[Experiment], Json]
) -> Experiment:
    """Patches the newest state of this very experiment, after admission has looked."""
    for _ in range(_TRIES):
        stored = await store.get(_key(experiment))
        now = Experiment.parse(stored)
        if now.metadata.uid != experiment.metadata.uid:
            break
        spec = changed(now)
        _admit(stored, spec)
        patch = {"metadata": {"resourceVersion": now.metadata.resource_version}, "spec": spec}
        try:
            return Experiment.parse(await store.patch(_key(experiment), patch))
        except Conflict:
            continue
    raise TunesmithError(
        f"experiment {experiment.metadata.name} changed whenever it was to be changed",
        "run the command again",
    )


def _admit(stored: Json, changes: Mapping[str, Any]) -> None:
    """Raises InvalidExperiment with admission's sentences."""
    wanted = {**stored, "spec": {**stored["spec"], **changes}}
    try:
        local.admit_update(stored, wanted)
    except local.Refused as refused:
        faults = [Fault(error.field, error.message, error.hint) for error in refused.errors]
        source = f"experiment {stored['metadata']['name']}"
        raise InvalidExperiment(source, faults) from None


def _key(experiment: Experiment) -> Key:
    return Key("Experiment", experiment.metadata.namespace, experiment.metadata.name)


def _ended(view: ExperimentView) -> str:
    why = f" ({view.message.rstrip('.')})" if view.message else ""
    return f"experiment {view.name} has ended {view.state}{why}"


def _next(view: ExperimentView, verb: str) -> str:
    shown = verb if view.best is not None else "why"
    return next_command(shown, view.name, namespace=view.namespace)
