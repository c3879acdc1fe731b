# SPDX-License-Identifier: Apache-2.0
"""Statements on an open transaction: what sql.py and by_name.py are made of.

Every writer of a trial locks the trial's row of `observation_fences` first. On PostgreSQL and
MySQL this is what makes the fence and the row count exact; on SQLite there is one writer anyway.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

from sqlalchemy import (
    BigInteger,
    Column,
    ColumnElement,
    Connection,
    Executable,
    Select,
    Table,
    Text,
    and_,
    bindparam,
    delete,
    func,
    insert,
    literal,
    or_,
    select,
    text,
    tuple_,
    update,
)
from sqlalchemy.dialects import mysql, postgresql, sqlite

from tunesmith_api.errors import Invalid
from tunesmith_api.metrics import Row
from tunesmith_api.observations import Report, SourceKey, SourceNotes, SourceState
from tunesmith_observation.limits import Limits, RowLimitReached
from tunesmith_observation.schema import FENCES, ROWS, SOURCES, STOPS

CHUNK_ROWS = 1000
"""Rows handed to a driver at once. A statement has eight parameters whatever the number of rows,
so no engine's limit on parameters is met."""


@dataclass(frozen=True, slots=True)
class TrialState:
    """A locked trial: attempts below `fence` are refused; the attempt asked about should stop when
    there is a reason."""

    fence: int
    row_count: int
    stop_reason: str = ""


def insert_ignoring(dialect: str, table: Table) -> Executable:
    """An INSERT that leaves an existing row of the same key as it is."""
    if dialect == "sqlite":
        return sqlite.insert(table).on_conflict_do_nothing()
    if dialect == "postgresql":
        return postgresql.insert(table).on_conflict_do_nothing()
    return insert(table).prefix_with("IGNORE")


def lock_trial(connection: Connection, trial_uid: str, attempt: int = 0) -> TrialState:
    """Makes this transaction the trial's only writer; also tells whether `attempt` should stop."""
    reason = select(STOPS.c.reason).where(
        STOPS.c.trial_uid == trial_uid, STOPS.c.attempt == attempt
    )
    query = select(FENCES.c.attempt, FENCES.c.row_count, reason.scalar_subquery().label("reason"))
    query = query.where(FENCES.c.trial_uid == trial_uid).with_for_update(of=FENCES)
    # A loop, because another writer may have made the row, or dropped it, in between.
    while (found := connection.execute(query).one_or_none()) is None:
        first = {"trial_uid": trial_uid, "attempt": 0, "row_count": 0}
        connection.execute(_insert_lock(connection.dialect.name), first)
    return TrialState(found.attempt, found.row_count, found.reason or "")


def _insert_lock(dialect: str) -> Executable:
    if not _is_mysql(dialect):
        return insert_ignoring(dialect, FENCES)
    # IGNORE would leave two transactions with a shared lock, each waiting for the other to let go.
    return mysql.insert(FENCES).on_duplicate_key_update(trial_uid=FENCES.c.trial_uid)


def _is_mysql(dialect: str) -> bool:
    return dialect in ("mysql", "mariadb")


def unlock_empty(connection: Connection, trial_uid: str) -> None:
    """Drops the lock's row of a trial without rows, unless attempts are fenced."""
    is_empty = and_(FENCES.c.attempt == 0, FENCES.c.row_count == 0)
    connection.execute(delete(FENCES).where(FENCES.c.trial_uid == trial_uid, is_empty))


def store_rows(
    connection: Connection, key: SourceKey, rows: Sequence[Row], trial: TrialState, limits: Limits
) -> None:
    """Adds what is not there yet; raises RowLimitReached when the trial's limit is crossed."""
    added = 0
    insert_rows = _insert_as_json if connection.dialect.name == "postgresql" else _insert
    for start in range(0, len(rows), CHUNK_ROWS):
        added += insert_rows(connection, key, rows[start : start + CHUNK_ROWS])
    total = trial.row_count + added
    if added and total > limits.rows_per_trial:
        raise RowLimitReached(key.trial_uid, limits.rows_per_trial)
    if added:
        set_row_count(connection, key.trial_uid, total)


def _insert(connection: Connection, key: SourceKey, rows: Sequence[Row]) -> int:
    statement = insert_ignoring(connection.dialect.name, ROWS)
    values = [_row_values(key, row) for row in rows]
    result = connection.execute(statement, values, execution_options={"preserve_rowcount": True})
    return result.rowcount


def _insert_as_json(connection: Connection, key: SourceKey, rows: Sequence[Row]) -> int:
    """In one statement: pg8000 would send a thousand of them, each with an answer to wait for."""
    values = [[row.seq, row.metric, row.value, row.time_us, row.step] for row in rows]
    result = connection.execute(_INSERT_AS_JSON, asdict(key) | {"rows": json.dumps(values)})
    return result.rowcount


_INSERT_AS_JSON: Final = text(
    "INSERT INTO observation_rows"
    " (trial_uid, attempt, source, seq, metric, value, time_us, step)"
    " SELECT :trial_uid, :attempt, :source, CAST(r->>0 AS bigint), r->>1, r->>2,"
    " CAST(r->>3 AS bigint), CAST(r->>4 AS bigint)"
    " FROM json_array_elements(CAST(:rows AS json)) AS r"
    " ON CONFLICT DO NOTHING"
).bindparams(
    bindparam("trial_uid", type_=ROWS.c.trial_uid.type),
    bindparam("attempt", type_=BigInteger),
    bindparam("source", type_=ROWS.c.source.type),
    bindparam("rows", type_=Text),
)


def _row_values(key: SourceKey, row: Row) -> dict[str, object]:
    return {
        "trial_uid": key.trial_uid,
        "attempt": key.attempt,
        "source": key.source,
        "seq": row.seq,
        "metric": row.metric,
        "value": row.value,
        "time_us": row.time_us,
        "step": row.step,
    }


def set_row_count(connection: Connection, trial_uid: str, count: int) -> None:
    """Of a locked trial."""
    connection.execute(
        update(FENCES).where(FENCES.c.trial_uid == trial_uid).values(row_count=count)
    )


def raise_fence(connection: Connection, trial_uid: str, attempt: int) -> None:
    """A fence never goes down."""
    if attempt > lock_trial(connection, trial_uid).fence:
        connection.execute(
            update(FENCES).where(FENCES.c.trial_uid == trial_uid).values(attempt=attempt)
        )


def put_stop(connection: Connection, trial_uid: str, attempt: int, reason: str) -> None:
    """The first reason stays."""
    lock_trial(connection, trial_uid)
    statement = insert_ignoring(connection.dialect.name, STOPS)
    connection.execute(statement, {"trial_uid": trial_uid, "attempt": attempt, "reason": reason})


def source_state(connection: Connection, key: SourceKey) -> SourceState | None:
    """None when nothing of the source was ever stored."""
    row = connection.execute(select(SOURCES).where(_is_source(SOURCES, key))).one_or_none()
    if row is None:
        return None
    return SourceState(row.stored_offset, bool(row.ended), notes_from(row.notes))


def store_source(
    connection: Connection, report: Report, stored: SourceState | None, limits: Limits
) -> SourceState:
    """Offsets do not go back, an end stays an end; notes of an older report are not taken."""
    state = merged(stored, report)
    values: dict[str, object] = {
        "stored_offset": state.offset,
        "ended": state.ended,
        "notes": notes_text(state.notes, limits),
    }
    if report.trial_name:
        values |= {"trial_name": report.trial_name, "namespace": report.namespace}
    if stored is None:
        key = {**asdict(report.key), "trial_name": report.trial_name, "namespace": report.namespace}
        connection.execute(insert(SOURCES), {**key, **values})
    else:
        connection.execute(update(SOURCES).where(_is_source(SOURCES, report.key)).values(**values))
    return state


def merged(stored: SourceState | None, report: Report) -> SourceState:
    """The state of a source after a report that may be a repeat or come out of order. Pure."""
    before = stored or SourceState()
    is_older = report.offset < before.offset or (before.ended and not report.ended)
    notes = before.notes if report.notes is None or is_older else report.notes
    return SourceState(max(before.offset, report.offset), before.ended or report.ended, notes)


def notes_text(notes: SourceNotes, limits: Limits) -> str:
    """As JSON; Invalid above the limit."""
    text = json.dumps(asdict(notes))
    if len(text) > limits.notes_bytes:
        raise Invalid(f"notes have {len(text)} bytes, the limit is {limits.notes_bytes}")
    return text


def notes_from(text: str) -> SourceNotes:
    """The inverse of `notes_text`."""
    values = json.loads(text)
    values["metric_names"] = tuple(values["metric_names"])
    values["last_lines"] = tuple(values["last_lines"])
    return SourceNotes(**values)


def select_rows(trial_uid: str, attempt: int, metric: str | None = None) -> Select[tuple[object]]:
    """Rows of an attempt in (source, seq) order."""
    query = select(ROWS).where(ROWS.c.trial_uid == trial_uid, ROWS.c.attempt == attempt)
    if metric is not None:
        query = query.where(ROWS.c.metric == metric)
    return query.order_by(ROWS.c.source, ROWS.c.seq)


def fetch_rows(connection: Connection, query: Select[tuple[object]]) -> Iterator[Row]:
    """Rows that know their source."""
    for row in connection.execute(query):
        yield Row(row.seq, row.metric, row.value, row.time_us, row.step, row.source)


def after(dialect: str, source: str, seq: int) -> ColumnElement[bool]:
    """Where a page of an attempt's rows goes on."""
    place = (ROWS.c.source, ROWS.c.seq)
    if _is_mysql(dialect):  # finds its way in an index by alternatives only, here and below
        return or_(place[0] > source, and_(place[0] == source, place[1] > seq))
    return tuple_(*place) > _values(place, (source, seq))


def _up_to(
    dialect: str, place: Sequence[Column[Any]], values: Sequence[Any]
) -> ColumnElement[bool]:
    """Whether the columns, in order, are at most the values."""
    if not _is_mysql(dialect):
        return tuple_(*place) <= _values(place, values)
    column: Column[Any] = place[0]
    if len(place) == 1:
        is_up_to: ColumnElement[bool] = column <= values[0]
        return is_up_to
    rest = _up_to(dialect, place[1:], values[1:])
    return or_(column < values[0], and_(column == values[0], rest))


def _values(place: Sequence[Column[Any]], values: Sequence[Any]) -> ColumnElement[Any]:
    """With the types of the columns: PostgreSQL takes a number for a small one."""
    typed = (literal(value, column.type) for column, value in zip(place, values, strict=True))
    return tuple_(*typed)


def latest_attempt(connection: Connection, trial_uid: str) -> int | None:
    """The highest attempt that anything is stored of."""
    found = [
        connection.execute(
            select(func.max(table.c.attempt)).where(table.c.trial_uid == trial_uid)
        ).scalar()
        for table in (ROWS, SOURCES)
    ]
    return max((attempt for attempt in found if attempt is not None), default=None)


def delete_rows(connection: Connection, trial_uid: str, most: int) -> tuple[int, bool]:
    """Deletes about `most` rows of a trial; (how many, whether all is gone now).

    The last step takes sources and stops too, and the fence unless attempts are fenced: those stay
    refused for ever.
    """
    trial = lock_trial(connection, trial_uid)
    place = (ROWS.c.attempt, ROWS.c.source, ROWS.c.seq)
    of_trial = ROWS.c.trial_uid == trial_uid
    ordered = select(*place).where(of_trial).order_by(*place)
    bound = connection.execute(ordered.limit(1).offset(most - 1)).one_or_none()
    if bound is not None:
        part = and_(of_trial, _up_to(connection.dialect.name, place, bound))
        removed = connection.execute(delete(ROWS).where(part)).rowcount
        set_row_count(connection, trial_uid, trial.row_count - removed)
        return removed, False
    removed = connection.execute(delete(ROWS).where(of_trial)).rowcount
    for table in (SOURCES, STOPS):
        connection.execute(delete(table).where(table.c.trial_uid == trial_uid))
    set_row_count(connection, trial_uid, 0)
    unlock_empty(connection, trial_uid)
    return removed, True


def _is_source(table: Table, key: SourceKey) -> ColumnElement[bool]:
    return and_(
        table.c.trial_uid == key.trial_uid,
        table.c.attempt == key.attempt,
        table.c.source == key.source,
    )
