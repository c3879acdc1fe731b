# SPDX-License-Identifier: Apache-2.0
"""`JournaledLog`: an observation log that takes reports while its database is away.

A report goes to the database. When that cannot be used it goes to the journal, a small SQLite
database on a disk of the service's own, and is acknowledged from there: both commit before they
answer. `run` takes what the journal has to the database as soon as that answers again. Reports have
keys, and how far a source is stored only grows, so their order does not matter and a crash between
taking and forgetting repeats harmlessly.

Reading asks for nothing that is only half there: what the journal has of a trial is taken to the
database first, and without the database a reader gets Unavailable. So does whoever fences or
deletes; a fence outlives deletion, so what a journal still has of a deleted trial is refused.

One process has a journal. Several services in front of one database would not know what the
others' journals have.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final, Self, TypeVar

from sqlalchemy import Connection, select, text

from tunesmith_api.errors import Invalid, Unavailable
from tunesmith_api.metrics import Row
from tunesmith_api.observations import Acknowledged, Report, SourceKey, SourceState
from tunesmith_observation import statements
from tunesmith_observation.by_name import (
    NamedRow,
    NamedTrial,
    Window,
    check_named,
    unclaimed_uid,
)
from tunesmith_observation.database import Database, sqlite_url
from tunesmith_observation.limits import Limits, check_report
from tunesmith_observation.migrations import upgrade
from tunesmith_observation.schema import ROWS, SOURCES
from tunesmith_observation.sql import ALL_ROWS, Page, SqlObservationLog

_LOG = logging.getLogger(__name__)
T = TypeVar("T")

PATIENCE_S: Final = 5.0
"""How long a report waits for the database."""
_LOOK_S: Final = 1.0
_CHUNK: Final = 1000
_NAMED: Final = (
    "CREATE TABLE IF NOT EXISTS named (id INTEGER PRIMARY KEY, trial_name TEXT NOT NULL,"
    " told TEXT NOT NULL, entries TEXT NOT NULL)"
)


@dataclass(frozen=True, slots=True)
class JournalSettings:
    """`most_bytes`: above this the journal takes nothing more, and reporters keep what they have.
    `patience_s`: how long a report waits for the database before it is journaled."""

    folder: Path
    most_bytes: int = 1 << 30
    patience_s: float = PATIENCE_S
    look_s: float = _LOOK_S


Open = Callable[[], SqlObservationLog]
"""Opens the log in the database, upgrading its tables. Blocks. Raises Unavailable, Invalid."""


class JournaledLog:
    """Does what `SqlObservationLog` does. `run` belongs to its life."""

    def __init__(self, open_log: Open, journal: _Journal, settings: JournalSettings) -> None:
        self._open = open_log
        self._journal = journal
        self._settings = settings
        self._opened: SqlObservationLog | None = None
        self._opening = asyncio.Lock()
        self._is_away = False
        """Whether the last thing known of the database is that it cannot be used."""
        self._due = asyncio.Event()
        """Set while the journal may have something."""
        self._locks: dict[str, asyncio.Lock] = {}

    @classmethod
    def open(cls, open_log: Open, settings: JournalSettings, limits: Limits | None = None) -> Self:
        """Blocks. Raises Unavailable when the journal cannot be used, Invalid for its tables."""
        limits = limits or Limits()
        return cls(open_log, _Journal(settings, limits), settings)

    async def aclose(self) -> None:
        """What the journal has stays there."""
        if self._opened is not None:
            await self._opened.aclose()
        await self._journal.aclose()

    async def run(self) -> None:
        """Takes the journal's reports to the database; until cancelled."""
        self._due.set()
        while True:
            await self._due.wait()
            self._due.clear()
            try:
                await self._drain()
            except Unavailable as error:
                _LOG.warning("reports are kept in the journal: %s", error)
                self._due.set()
                await asyncio.sleep(self._settings.look_s)

    # ---- reports --------------------------------------------------------------------------------

    async def append(self, report: Report) -> Acknowledged:
        """As SqlObservationLog's; Unavailable when neither takes it."""
        if not self._is_away:
            try:
                return await self._patiently(lambda log: log.append(report))
            except Unavailable as error:
                self._miss(error)
        async with self._lock(report.key.trial_uid):
            return await self._journal.append(report)

    async def append_by_trial_name(
        self, trial_name: str, entries: Sequence[NamedRow], told: NamedTrial | None = None
    ) -> str:
        """As SqlObservationLog's; "" where nobody can say yet whose the rows are."""
        async with self._lock(unclaimed_uid(trial_name)):
            # Reports by name have no key, so they stay in their order.
            if not self._is_away:
                try:
                    return await self._patiently(
                        lambda log: log.append_by_trial_name(trial_name, entries, told)
                    )
                except Unavailable as error:
                    self._miss(error)
            check_named(trial_name, entries, self._journal.limits)
            await self._journal.append_named(trial_name, entries, told)
        return told.uid if told is not None else ""

    async def _patiently(self, work: Callable[[SqlObservationLog], Awaitable[T]]) -> T:
        try:
            async with asyncio.timeout(self._settings.patience_s):
                return await work(await self._log())
        except TimeoutError:
            raise Unavailable("the database does not answer in time") from None

    def _miss(self, error: Unavailable) -> None:
        if not self._is_away:
            _LOG.warning("the database cannot be used, the journal takes over: %s", error)
        self._is_away = True
        self._due.set()

    # ---- reading --------------------------------------------------------------------------------

    async def sources(self, trial_uid: str, attempt: int) -> Mapping[str, SourceState]:
        return await self._read(trial_uid, lambda log: log.sources(trial_uid, attempt))

    async def rows(
        self, trial_uid: str, attempt: int, *, metric: str | None = None
    ) -> Sequence[Row]:
        return await self._read(trial_uid, lambda log: log.rows(trial_uid, attempt, metric=metric))

    async def latest_attempt(self, trial_uid: str) -> int | None:
        return await self._read(trial_uid, lambda log: log.latest_attempt(trial_uid))

    async def pages(
        self,
        trial_uid: str,
        attempt: int,
        *,
        metric: str | None = None,
        after_seq: int | None = None,
        size: int = 1000,
    ) -> AsyncIterator[Page]:
        """Rows that are added meanwhile may be seen or not."""
        log = await self._log()
        await self._take(log, trial_uid)
        pages = log.pages(trial_uid, attempt, metric=metric, after_seq=after_seq, size=size)
        async for page in pages:
            yield page

    async def rows_by_trial_name(
        self,
        namespace: str,
        trial_name: str,
        window: Window | None = None,
        most: int = ALL_ROWS,
        told: NamedTrial | None = None,
    ) -> Sequence[Row]:
        log = await self._log()
        await self._take_named(log, trial_name)
        for uid in await self._journal.uids_of(trial_name):
            await self._take(log, uid)
        return await log.rows_by_trial_name(namespace, trial_name, window, most, told)

    async def _read(self, trial_uid: str, work: Callable[[SqlObservationLog], Awaitable[T]]) -> T:
        """Again when a report was journaled meanwhile: one that came after it, and says that the
        source has ended, may have reached the database."""
        log = await self._log()
        while True:
            await self._take(log, trial_uid)
            found = await work(log)
            self._is_away = False
            if not await self._journal.holds(trial_uid):
                return found

    # ---- ends -----------------------------------------------------------------------------------

    async def fence(self, trial_uid: str, attempt: int) -> None:
        await (await self._log()).fence(trial_uid, attempt)
        self._is_away = False

    async def stop(self, trial_uid: str, attempt: int, reason: str) -> None:
        await (await self._log()).stop(trial_uid, attempt, reason)
        self._is_away = False

    async def delete(self, trial_uid: str) -> None:
        await self.remove(trial_uid)

    async def remove(self, trial_uid: str) -> int:
        """Also of what the journal has. The lock keeps it from being taken back meanwhile."""
        log = await self._log()
        async with self._lock(trial_uid):
            await self._journal.forget(trial_uid)
            removed = await log.remove(trial_uid)
            self._is_away = False
            return removed

    async def delete_by_trial_name(self, trial_name: str, told: NamedTrial | None = None) -> None:
        log = await self._log()
        async with self._lock(unclaimed_uid(trial_name)):
            await self._journal.forget_named(trial_name)
            for uid in await self._journal.uids_of(trial_name):
                await self.remove(uid)
            await log.delete_by_trial_name(trial_name, told)

    # ---- from the journal to the database -------------------------------------------------------

    async def _log(self) -> SqlObservationLog:
        """Raises Unavailable until the database could be opened once."""
        if self._opened is None:
            async with self._opening:
                if self._opened is None:
                    self._opened = await asyncio.to_thread(self._open)
        return self._opened

    async def _drain(self) -> None:
        log = await self._log()
        await log.sources("", 0)  # raises Unavailable where there is nothing to take, too
        if self._is_away:
            _LOG.info("the database answers again")
        self._is_away = False
        for trial_name in await self._journal.names():
            await self._take_named(log, trial_name)
        for trial_uid in await self._journal.uids():
            await self._take(log, trial_uid)

    async def _take(self, log: SqlObservationLog, trial_uid: str) -> None:
        if not await self._journal.holds(trial_uid):
            return
        async with self._lock(trial_uid):
            async for report in self._journal.reports(trial_uid):
                await _taken(log, report)
            await self._journal.forget(trial_uid)

    async def _take_named(self, log: SqlObservationLog, trial_name: str) -> None:
        async with self._lock(unclaimed_uid(trial_name)):
            for number, entries, told in await self._journal.named(trial_name):
                try:
                    await log.append_by_trial_name(trial_name, entries, told)
                except Invalid as error:
                    _LOG.error("a report by the name %s cannot be kept: %s", trial_name, error)
                await self._journal.forget_number(number)

    def _lock(self, name: str) -> asyncio.Lock:
        if len(self._locks) > _CHUNK:
            self._locks = {key: lock for key, lock in self._locks.items() if lock.locked()}
        return self._locks.setdefault(name, asyncio.Lock())


async def _taken(log: SqlObservationLog, report: Report) -> None:
    """What the database refuses for good is lost, and said: it would be refused by every try."""
    try:
        await log.append(report)
    except Invalid as error:
        _LOG.error("a report of trial %s cannot be kept: %s", report.key.trial_uid, error)


class _Journal:
    """The reports, as an observation log of their own, and those by name in their order."""

    def __init__(self, settings: JournalSettings, limits: Limits) -> None:
        self.limits = limits
        self._settings = settings
        url = sqlite_url(settings.folder / "journal.db")
        upgrade(url)
        self._database = Database(url)
        self._log = SqlObservationLog(self._database, limits)
        self._is_made = False

    async def aclose(self) -> None:
        await self._log.aclose()

    async def append(self, report: Report) -> Acknowledged:
        check_report(report, self.limits)
        await self._check_room()
        return await self._log.append(report)

    async def append_named(
        self, trial_name: str, entries: Sequence[NamedRow], told: NamedTrial | None
    ) -> None:
        await self._check_room()
        values = {
            "trial_name": trial_name,
            "told": json.dumps(None if told is None else asdict(told)),
            "entries": json.dumps([asdict(entry) for entry in entries]),
        }
        statement = text(
            "INSERT INTO named (trial_name, told, entries) VALUES (:trial_name, :told, :entries)"
        )
        await self._write(lambda connection: connection.execute(statement, values))

    async def holds_something(self) -> bool:
        return bool(await self.uids() or await self.names())

    async def holds(self, trial_uid: str) -> bool:
        query = select(SOURCES.c.source).where(SOURCES.c.trial_uid == trial_uid).limit(1)
        return await self._database.read(lambda c: c.execute(query).first() is not None)

    async def uids(self) -> Sequence[str]:
        query = select(SOURCES.c.trial_uid).distinct().order_by(SOURCES.c.trial_uid)
        return await self._database.read(lambda c: list(c.execute(query).scalars()))

    async def uids_of(self, trial_name: str) -> Sequence[str]:
        query = select(SOURCES.c.trial_uid).where(SOURCES.c.trial_name == trial_name).distinct()
        return await self._database.read(lambda c: list(c.execute(query).scalars()))

    async def reports(self, trial_uid: str) -> AsyncIterator[Report]:
        """Everything of a trial, the last of each source with how far it is stored."""
        query = select(SOURCES).where(SOURCES.c.trial_uid == trial_uid)
        found = await self._database.read(lambda c: list(c.execute(query)))
        for source in found:
            key = SourceKey(trial_uid, source.attempt, source.source)
            name, namespace = source.trial_name, source.namespace
            after = -1
            while rows := await self._part(key, after):
                after = rows[-1].seq
                yield Report(key, rows, 0, name, namespace)
            notes = statements.notes_from(source.notes)
            yield Report(key, (), source.stored_offset, name, namespace, bool(source.ended), notes)

    async def _part(self, key: SourceKey, after: int) -> list[Row]:
        query = statements.select_rows(key.trial_uid, key.attempt)
        query = query.where(ROWS.c.source == key.source, ROWS.c.seq > after).limit(_CHUNK)
        return await self._database.read(lambda c: list(statements.fetch_rows(c, query)))

    async def forget(self, trial_uid: str) -> None:
        await self._log.remove(trial_uid)

    async def names(self) -> Sequence[str]:
        query = text("SELECT DISTINCT trial_name FROM named")
        return await self._write(lambda c: list(c.execute(query).scalars()))

    async def named(
        self, trial_name: str
    ) -> Sequence[tuple[int, Sequence[NamedRow], NamedTrial | None]]:
        query = text("SELECT id, told, entries FROM named WHERE trial_name = :name ORDER BY id")
        found = await self._write(lambda c: list(c.execute(query, {"name": trial_name})))
        return [
            (
                row.id,
                [NamedRow(**entry) for entry in json.loads(row.entries)],
                None if row.told == "null" else NamedTrial(**json.loads(row.told)),
            )
            for row in found
        ]

    async def forget_number(self, number: int) -> None:
        statement = text("DELETE FROM named WHERE id = :number")
        await self._write(lambda c: c.execute(statement, {"number": number}))

    async def forget_named(self, trial_name: str) -> None:
        statement = text("DELETE FROM named WHERE trial_name = :name")
        await self._write(lambda c: c.execute(statement, {"name": trial_name}))

    async def _write(self, work: Callable[[Connection], T]) -> T:
        if not self._is_made:
            await self._database.write(lambda c: c.execute(text(_NAMED)))
            self._is_made = True
        return await self._database.write(work)

    async def _check_room(self) -> None:
        """Pages that were freed are used again, so they do not count."""

        def used(connection: Connection) -> int:
            said = [
                int(connection.execute(text(f"PRAGMA {name}")).scalar_one())
                for name in ("page_count", "freelist_count", "page_size")
            ]
            return (said[0] - said[1]) * said[2]

        if await self._database.read(used) >= self._settings.most_bytes:
            limit = self._settings.most_bytes >> 20
            raise Unavailable(
                f"the database is away and the journal in {self._settings.folder} has reached its "
                f"limit of {limit} MiB: mend the database; reporters keep what they have"
            )
