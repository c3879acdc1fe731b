# SPDX-License-Identifier: Apache-2.0
"""Finds what a person named: experiments, trials (by name, its beginning, EXPERIMENT/NUMBER); what
is not there gets the near ones and the next command. Called by `client`."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass

from tunesmith.errors import NotThere
from tunesmith.home import next_command
from tunesmith_api import names
from tunesmith_api.errors import NotFound, PortError
from tunesmith_api.resources import Experiment, Trial
from tunesmith_controller.ports import Json, Key, ObjectStore


async def maybe(store: ObjectStore, key: Key) -> Json | None:
    """The object, None when there is none."""
    try:
        return await store.get(key)
    except NotFound:
        return None


async def trials_of(store: ObjectStore, experiment: Experiment) -> list[Trial]:
    """The trials that this very experiment owns, in ordinal order."""
    listed = await trials_labelled(store, experiment.metadata.namespace, experiment.metadata.name)
    trials = [Trial.parse(obj) for obj in listed]
    uid = experiment.metadata.uid
    owned = [t for t in trials if any(o.uid == uid for o in t.metadata.owner_references)]
    return sorted(owned, key=_ordinal)


async def trials_labelled(store: ObjectStore, namespace: str, experiment: str) -> list[Json]:
    """Trials that belong to an experiment of this name, or belonged to one that is deleted."""
    labels = {names.LABEL_EXPERIMENT: experiment}
    return (await store.list("Trial", namespace=namespace, labels=labels)).items


def _ordinal(trial: Trial) -> int:
    text = (trial.metadata.annotations or {}).get(names.ANNOTATION_ORDINAL, "")
    return int(text) if text.isdecimal() else -1


@dataclass(frozen=True, slots=True)
class Lookup:
    """Names in one namespace."""

    store: ObjectStore
    namespace: str

    async def experiment(self, name: str) -> Experiment:
        """Raises NotThere."""
        try:
            found = await self.store.get(Key("Experiment", self.namespace, name))
        except NotFound:
            raise await self._no_experiment(name) from None
        return Experiment.parse(found)

    async def suggestion(self, experiment: str) -> Json | None:
        return await maybe(self.store, Key("Suggestion", self.namespace, experiment))

    async def trial(self, name: str) -> Trial:
        """By name, the beginning of one, or EXPERIMENT/NUMBER. Raises NotThere."""
        experiment, _, ordinal = name.rpartition("/")
        if experiment and ordinal.isdecimal():
            return await self._numbered_trial(experiment, int(ordinal))
        try:
            return Trial.parse(await self.store.get(Key("Trial", self.namespace, name)))
        except PortError:
            return await self._trial_by_beginning(name)

    async def _trial_by_beginning(self, name: str) -> Trial:
        every = (await self.store.list("Trial")).items
        here = named(every, self.namespace)
        matches = [known for known in here if known.startswith(name)]
        if len(matches) == 1:
            return await self.trial(matches[0])
        experiments = (await self.store.list("Experiment")).items
        experiments_here = named(experiments, self.namespace)
        if name in experiments_here:
            hint = next_command("trials", name, namespace=self.namespace)
            raise NotThere("trial", name, (f"{name}/0",), hint)
        near = matches or difflib.get_close_matches(name, [*experiments_here, *here])
        elsewhere = [*experiments, *every]
        raise NotThere("experiment or trial", name, near, self._elsewhere(elsewhere, name))

    async def _numbered_trial(self, experiment: str, ordinal: int) -> Trial:
        owner = await self.experiment(experiment)
        name = names.trial_name(experiment, owner.metadata.uid, ordinal)
        found = await maybe(self.store, Key("Trial", self.namespace, name))
        if found is None:
            hint = next_command("trials", experiment, namespace=self.namespace)
            raise NotThere("trial", f"{experiment}/{ordinal}", hint=hint)
        return Trial.parse(found)

    async def _no_experiment(self, name: str) -> NotThere:
        there = (await self.store.list("Experiment")).items
        near = difflib.get_close_matches(name, named(there, self.namespace))
        return NotThere("experiment", name, near, self._elsewhere(there, name))

    def _elsewhere(self, objects: Sequence[Json], name: str) -> str:
        """Where the name is, else the command that lists what there is."""
        spaces = sorted(
            o["metadata"].get("namespace", "") for o in objects if o["metadata"]["name"] == name
        )
        if spaces:
            return f"it exists in namespace {spaces[0]}: add -n {spaces[0]}"
        return next_command("ls", namespace=self.namespace)


def named(objects: Sequence[Json], namespace: str) -> list[str]:
    """The names of those in a namespace, sorted."""
    found = (obj["metadata"] for obj in objects)
    return sorted(m["name"] for m in found if m.get("namespace") == namespace)
