# SPDX-License-Identifier: Apache-2.0
"""The census of every experiment, kept current: a change costs one trial, whatever their number.

The manager feeds it from the Trial informer; reconcilers ask it. It is a cache: a new one that is
fed the same objects says the same.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from types import MappingProxyType

from tunesmith_api.conditions import TrialState
from tunesmith_api.problem import Objective
from tunesmith_api.resources import Trial
from tunesmith_controller.ports import Json
from tunesmith_controller.trial.facts import (
    FINISHED_NAMES,
    Census,
    Told,
    TrialFacts,
    beats,
    facts_of,
    incumbent,
)


class Roster:
    """The trials that one Experiment (by uid) owns."""

    def __init__(self) -> None:
        self._by_ordinal: dict[int, TrialFacts] = {}
        self._view = MappingProxyType(self._by_ordinal)
        self._counts: dict[TrialState, int] = {}
        self._active: dict[int, TrialFacts] = {}
        self._ended: dict[TrialState, list[int]] = {}
        self._told = Told()
        self._objective: Objective | None = None
        self._best: TrialFacts | None = None
        self._best_known = False

    def __len__(self) -> int:
        return len(self._by_ordinal)

    def put(self, facts: TrialFacts) -> None:
        """A trial as it is now. A second one of the same ordinal is left out."""
        before = self._by_ordinal.get(facts.ordinal)
        if before is not None and before.name != facts.name:
            return
        self._take_out(before)
        self._by_ordinal[facts.ordinal] = facts
        self._counts[facts.state] = self._counts.get(facts.state, 0) + 1
        if facts.state.is_terminal:
            insort(self._ended.setdefault(facts.state, []), facts.ordinal)
            self._told.put(facts)
        else:
            self._active[facts.ordinal] = facts
            self._told.drop(facts.ordinal)
        if self._best_known and self._objective and beats(facts, self._best, self._objective):
            self._best = facts

    def drop(self, facts: TrialFacts) -> None:
        """A trial that is gone."""
        if (there := self._by_ordinal.get(facts.ordinal)) and there.name == facts.name:
            self._take_out(there)
            self._told.drop(facts.ordinal)

    def _take_out(self, facts: TrialFacts | None) -> None:
        if facts is None:
            return
        del self._by_ordinal[facts.ordinal]
        self._active.pop(facts.ordinal, None)
        self._counts[facts.state] -= 1
        if not self._counts[facts.state]:
            del self._counts[facts.state]
        if facts.state.is_terminal:
            ordinals = self._ended[facts.state]
            del ordinals[bisect_left(ordinals, facts.ordinal)]
            if not ordinals:
                del self._ended[facts.state]
        if facts is self._best:
            self._best, self._best_known = None, False

    def census(self, objective: Objective) -> Census:
        """What decisions read; its mappings show later changes."""
        if not self._best_known or objective != self._objective:
            self._objective, self._best_known = objective, True
            self._best = incumbent(self._by_ordinal.values(), objective)
        return Census(
            by_ordinal=self._view,
            counts=dict(self._counts),
            active=tuple(self._active[ordinal] for ordinal in sorted(self._active)),
            recent={state: found[-FINISHED_NAMES:] for state, found in self._ended.items()},
            best=self._best,
            told=self._told,
        )


class Rosters:
    """A roster for every experiment uid that owns a Trial."""

    def __init__(self) -> None:
        self._rosters: dict[str, Roster] = {}
        self._listed: dict[tuple[str, str], tuple[str, TrialFacts]] = {}

    def changed(self, before: Json | None, after: Json | None) -> None:
        """An informer's news of a Trial. Unreadable ones are left out: they may not stop others."""
        metadata = (after or before or {})["metadata"]
        address = (metadata.get("namespace", ""), metadata["name"])
        old = self._listed.pop(address, None)
        fresh = None if after is None else _read(after)
        if old is not None and (fresh is None or fresh[0] != old[0]):
            self._drop(*old)
        if fresh is not None:
            owner, facts = self._listed[address] = fresh
            self._rosters.setdefault(owner, Roster()).put(facts)

    def _drop(self, owner: str, facts: TrialFacts) -> None:
        roster = self._rosters[owner]
        roster.drop(facts)
        if not len(roster):
            del self._rosters[owner]

    def of(self, experiment_uid: str, objective: Objective) -> Census:
        """The census of an experiment; empty when it has no trials."""
        return (self._rosters.get(experiment_uid) or Roster()).census(objective)


def _read(obj: Json) -> tuple[str, TrialFacts] | None:
    """The uid of the owning Experiment and the facts; None for a Trial that nobody can count."""
    references = obj["metadata"].get("ownerReferences") or ()
    owner = next((r.get("uid") for r in references if r.get("kind") == "Experiment"), None)
    if not owner:
        return None
    try:
        return owner, facts_of(Trial.parse(obj))
    except ValueError:
        return None
