# SPDX-License-Identifier: Apache-2.0
"""Rows by trial name, which is all that Katib's DBManager knows; statements used by sql.py.

A name belongs to the trial that a `TrialDirectory` tells, where there is one (a controller beside
the service), else to the trial that a collector reported under it. Rows that come before anybody
knows the name are kept for the trial uid `katib:NAME`, attempt 1, and handed over to the first
trial that reports, or is told, under the name. They form the source "katib", with seq in the order
of arrival: a source of its own, because "push" counts bytes of the metrics file.

Katib's request has no key, so a repeat must be told from a new report by content. A report counts
as a repeat when its entries (time, metric, value) equal, in order, those stored last. That ignores
a client's retry; and a value that is truly reported twice in a row within one time stamp (Katib's
SDK has whole seconds) changes no minimum, maximum or latest. Looking further back would: 0.5, 0.6,
0.5 within one second ends on 0.5. A retry that is overtaken by another report is stored twice.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from sqlalchemy import Connection, func, select, update

from tunesmith_api.errors import Invalid
from tunesmith_api.metrics import KATIB_SOURCE, Row
from tunesmith_api.observations import SourceKey
from tunesmith_observation.limits import NAME_BYTES, Limits, check_rows, check_text
from tunesmith_observation.schema import ROWS, SOURCES
from tunesmith_observation.statements import (
    fetch_rows,
    latest_attempt,
    lock_trial,
    select_rows,
    set_row_count,
    store_rows,
    unlock_empty,
)

UNCLAIMED_PREFIX = "katib:"


class AmbiguousTrialName(Invalid):
    """Trials of several namespaces have the name; DBManager's requests carry no namespace."""

    def __init__(self, trial_name: str, namespaces: Sequence[str]) -> None:
        super().__init__(
            f"trial name {trial_name!r} is used in the namespaces {', '.join(namespaces)}, and "
            "DBManager's requests name no namespace: use tunesmith.v1.Observations, by trial uid"
        )
        self.trial_name = trial_name
        self.namespaces = tuple(namespaces)


@dataclass(frozen=True, slots=True)
class NamedRow:
    """One entry of a Katib report; `time_us` is 0 without a time."""

    time_us: int
    metric: str
    value: str


@dataclass(frozen=True, slots=True)
class Window:
    """Which rows of a trial: one metric or all, and inclusive bounds in UTC microseconds."""

    metric: str | None = None
    start: int | None = None
    end: int | None = None


@dataclass(frozen=True, slots=True)
class NamedTrial:
    """A trial that has a name, and its current attempt."""

    uid: str
    attempt: int
    namespace: str


class TrialDirectory(Protocol):
    """Which trials there are; asked once for each request of Katib's DBManager."""

    async def named(self, trial_name: str) -> Sequence[NamedTrial]:
        """Every trial of that name, of any namespace; none when there is none. Raises
        Unavailable."""
        ...


class NoDirectory:
    """The `TrialDirectory` of a service that stands alone: it only knows what is reported."""

    async def named(self, trial_name: str) -> Sequence[NamedTrial]:
        return ()


def the_one(trial_name: str, found: Sequence[NamedTrial]) -> NamedTrial | None:
    """The trial of a name. Raises AmbiguousTrialName when there are several."""
    if len({trial.uid for trial in found}) > 1:
        raise AmbiguousTrialName(trial_name, sorted({trial.namespace for trial in found}))
    return found[0] if found else None


def unclaimed_uid(trial_name: str) -> str:
    """The uid that keeps rows of a name that no trial has."""
    return UNCLAIMED_PREFIX + trial_name


def known_uid(connection: Connection, namespace: str, trial_name: str) -> str | None:
    """The trial of a name; namespace "" means any. Raises AmbiguousTrialName."""
    query = select(SOURCES.c.trial_uid, SOURCES.c.namespace).distinct()
    query = query.where(SOURCES.c.trial_name == trial_name)
    if namespace:
        query = query.where(SOURCES.c.namespace == namespace)
    found = connection.execute(query).all()
    uids = {row.trial_uid for row in found}
    if len(uids) > 1:
        raise AmbiguousTrialName(trial_name, sorted({row.namespace for row in found}))
    return uids.pop() if uids else None


def check_named(trial_name: str, entries: Sequence[NamedRow], limits: Limits) -> None:
    """Raises Invalid for a report that can never be stored."""
    if not trial_name:
        raise Invalid("a report needs a trial name")
    check_text("trial_name", trial_name, NAME_BYTES)
    check_rows([Row(0, e.metric, e.value, e.time_us) for e in entries], limits)


def append_named(
    connection: Connection,
    trial_name: str,
    entries: Sequence[NamedRow],
    limits: Limits,
    told: NamedTrial | None = None,
) -> str:
    """Stores a Katib report in the order of arrival, unless it repeats the one before. `told`: the
    trial of the name, when it is known. Returns the uid under which the rows are."""
    unclaimed = unclaimed_uid(trial_name)
    lock_trial(connection, unclaimed)  # before the look-up: `claim` holds it when it decides
    uid = told.uid if told is not None else known_uid(connection, "", trial_name)
    if told is not None:
        claim(connection, trial_name, told.uid, told.attempt)
    elif uid is not None:
        unlock_empty(connection, unclaimed)
    trial_uid = uid or unclaimed
    trial = lock_trial(connection, trial_uid)
    known = told.attempt if told is not None else latest_attempt(connection, trial_uid) or 1
    if told is not None and known < trial.fence:
        return trial_uid  # the trial is being deleted, or has just begun anew
    key = SourceKey(trial_uid, max(1, trial.fence, known), KATIB_SOURCE)
    if _stored_last(connection, key, len(entries)) == list(entries):
        return trial_uid
    first = _next_seq(connection, key)
    rows = [
        Row(first + index, entry.metric, entry.value, entry.time_us)
        for index, entry in enumerate(entries)
    ]
    store_rows(connection, key, rows, trial, limits)
    return trial_uid


def _stored_last(connection: Connection, key: SourceKey, count: int) -> list[NamedRow]:
    query = select_rows(key.trial_uid, key.attempt).where(ROWS.c.source == key.source)
    query = query.order_by(None).order_by(ROWS.c.seq.desc()).limit(count)
    found = list(fetch_rows(connection, query))
    return [NamedRow(row.time_us, row.metric, row.value) for row in reversed(found)]


def _next_seq(connection: Connection, key: SourceKey) -> int:
    newest = connection.execute(
        select(func.max(ROWS.c.seq)).where(
            ROWS.c.trial_uid == key.trial_uid,
            ROWS.c.attempt == key.attempt,
            ROWS.c.source == key.source,
        )
    ).scalar()
    return 0 if newest is None else newest + 1


def claim(connection: Connection, trial_name: str, trial_uid: str, attempt: int) -> None:
    """Gives a trial the rows that came under its name before it; called at its first report."""
    unclaimed = unclaimed_uid(trial_name)
    count = lock_trial(connection, unclaimed).row_count
    if count and latest_attempt(connection, trial_uid) is None:
        lock_trial(connection, trial_uid)
        target = {"trial_uid": trial_uid, "attempt": attempt}
        connection.execute(update(ROWS).where(ROWS.c.trial_uid == unclaimed).values(**target))
        set_row_count(connection, unclaimed, 0)
        set_row_count(connection, trial_uid, count)
    unlock_empty(connection, unclaimed)


def rows_by_name(
    connection: Connection, uid: str | None, trial_name: str, window: Window, most: int
) -> list[Row]:
    """At most `most` rows of the newest attempt: of trial `uid`, and unclaimed ones of its name."""
    found: list[Row] = []
    for candidate in (uid, unclaimed_uid(trial_name)):
        attempt = latest_attempt(connection, candidate) if candidate else None
        if candidate is None or attempt is None:
            continue
        query = select_rows(candidate, attempt, window.metric)
        if window.start is not None:
            query = query.where(ROWS.c.time_us >= window.start)
        if window.end is not None:
            query = query.where(ROWS.c.time_us <= window.end)
        found += fetch_rows(connection, query.limit(most - len(found)))
    return found
