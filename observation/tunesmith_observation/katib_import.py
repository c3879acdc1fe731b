# SPDX-License-Identifier: Apache-2.0
"""Rows out of the table of Katib's db-manager, into a log of ours; called by `tunesmith import`.

Katib's table `observation_logs` (trial_name, id, time, metric_name, value) has no key but `id`. So
the rows of a trial become its source "imported" with seq = id, and the source's offset is the id
that comes next: what is there already is neither stored nor sent again, and an import that was
killed is done by doing it again. (Katib writes the rows of a trial one report after the other, so
none with a lower id comes later.) The name sorts before the sources of a trial that goes on
reporting, as the rows are older. Where nobody knows a trial of the name its rows are kept under the
name, as by_name.py says.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from itertools import groupby
from operator import attrgetter
from typing import Any, Final, Protocol

from sqlalchemy import (
    BigInteger,
    Column,
    Connection,
    DateTime,
    MetaData,
    Select,
    String,
    Table,
    Text,
    func,
    inspect,
    select,
)
from sqlalchemy.engine import URL

from tunesmith_api.errors import Invalid
from tunesmith_api.metrics import Row
from tunesmith_api.observations import Acknowledged, Report, SourceKey, SourceState
from tunesmith_observation.by_name import unclaimed_uid
from tunesmith_observation.database import Access, Database, parsed_url

SOURCE: Final = "imported"
BATCH_ROWS: Final = 10_000
_DRIVERS: Final = {
    "mysql": "mysql+pymysql",
    "mariadb": "mysql+pymysql",
    "postgres": "postgresql+pg8000",
    "postgresql": "postgresql+pg8000",
}
_KATIBS: Final = Table(
    "observation_logs",
    MetaData(),
    Column("trial_name", String(255)),
    Column("id", BigInteger, primary_key=True),
    Column("time", DateTime),
    Column("metric_name", String(255)),
    Column("value", Text),
)
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


class Log(Protocol):
    """Of an ObservationLog what is needed."""

    async def append(self, report: Report) -> Acknowledged: ...

    async def sources(self, trial_uid: str, attempt: int) -> Mapping[str, SourceState]: ...


@dataclass(frozen=True, slots=True)
class KnownTrial:
    """Whose rows are those of a name."""

    uid: str
    namespace: str


@dataclass
class Imported:
    """So far. `rows`: seen, of which `new` were not there. `trials`: those seen, each with the
    id from which on its rows are not there. `left_out`: why, by trial name; nothing more of these
    trials was taken."""

    rows: int = 0
    new: int = 0
    of: int = 0
    trials: dict[str, int] = field(default_factory=dict)
    unknown: set[str] = field(default_factory=set)
    left_out: dict[str, str] = field(default_factory=dict)


def katib_url(text: str) -> URL:
    """Of a database as people write it, mysql://user@host/katib. Raises Invalid."""
    scheme, separator, rest = text.partition("://")
    return parsed_url(f"{_DRIVERS.get(scheme, scheme)}{separator}{rest}")


async def import_rows(
    source: Access,
    log: Log,
    trials: Mapping[str, KnownTrial],
    tell: Callable[[Imported], None],
) -> Imported:
    """All of the table, in batches; tells after each. Raises Invalid where there is no such table,
    Unavailable when a database goes away: then it may be called again."""
    database, done = Database(source), Imported()
    try:
        done.of = await database.read(_count)
        async for batch in _batches(database):
            groups = groupby(batch, attrgetter("trial_name"))
            puts = [_put(log, name, list(rows), trials.get(name), done) for name, rows in groups]
            # All end, so that nobody writes any more when this raises.
            for outcome in await asyncio.gather(*puts, return_exceptions=True):
                if isinstance(outcome, BaseException):
                    raise outcome
            tell(done)
    finally:
        await database.aclose()
    return done


def _count(connection: Connection) -> int:
    if not inspect(connection).has_table(_KATIBS.name):
        raise Invalid(
            f"the database {connection.engine.url.database!r} has no table {_KATIBS.name}, which is"
            " where Katib's db-manager keeps rows: is it the right database?"
        )
    return int(connection.execute(select(func.count()).select_from(_KATIBS)).scalar_one())


async def _batches(database: Database) -> AsyncIterator[Sequence[Any]]:
    """In the order of arrival; of each the rows of a trial together."""
    last = -1
    while True:
        query = select(_KATIBS).where(_KATIBS.c.id > last).order_by(_KATIBS.c.id).limit(BATCH_ROWS)
        found = await database.read(partial(_all, query))
        if not found:
            return
        last = found[-1].id
        yield sorted(found, key=attrgetter("trial_name"))


def _all(query: Select[Any], connection: Connection) -> Sequence[Any]:
    return connection.execute(query).all()


async def _put(
    log: Log, name: str, found: Sequence[Any], trial: KnownTrial | None, done: Imported
) -> None:
    done.rows += len(found)
    if trial is None:
        done.unknown.add(name)
    key = SourceKey(trial.uid if trial else unclaimed_uid(name), 1, SOURCE)
    try:
        if name not in done.trials:
            there = (await log.sources(key.trial_uid, key.attempt)).get(SOURCE, SourceState())
            done.trials[name] = there.offset
        rows = [each for each in found if each.id >= done.trials[name]]
        if not rows or name in done.left_out:
            return
        await log.append(_report(key, name if trial else "", trial, rows))
        done.trials[name] = rows[-1].id + 1
        done.new += len(rows)
    except Invalid as error:
        done.trials.setdefault(name, 0)
        done.left_out[name] = str(error)


def _report(key: SourceKey, name: str, trial: KnownTrial | None, found: Sequence[Any]) -> Report:
    rows = [
        Row(each.id, each.metric_name, each.value, _microseconds(each.time))
        for each in found
        if each.value is not None
    ]
    namespace = trial.namespace if trial else ""
    return Report(key, rows, found[-1].id + 1, name, namespace, ended=True)


def _microseconds(time: object) -> int:
    """UTC, as Katib writes it; 0 for what is no time (MySQL has zero dates)."""
    if not isinstance(time, datetime):
        return 0
    return max(0, round((time.replace(tzinfo=UTC) - _EPOCH).total_seconds() * 1_000_000))
