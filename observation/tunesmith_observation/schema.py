# SPDX-License-Identifier: Apache-2.0
"""The tables, as SQLite, PostgreSQL and MySQL can all have them; migrations/ creates them.

Names compare byte by byte on every engine (MySQL folds case and PostgreSQL sorts by locale unless
told otherwise). The primary key of `observation_rows` is the order in which rows are read; on
SQLite and MySQL the table is stored in it. `observation_fences` has one row per trial that was
written to: it is locked by every writer of the trial, and counts its rows. `observation_stops` has
the attempts that should end early.
"""

from __future__ import annotations

from typing import Final

from sqlalchemy import BigInteger, Boolean, Column, Index, MetaData, String, Table, Text
from sqlalchemy.dialects import mysql, postgresql
from sqlalchemy.types import TypeEngine

from tunesmith_observation.limits import NAME_BYTES, SOURCE_BYTES, UID_BYTES


def exact_string(length: int) -> TypeEngine[str]:
    """A string that equals only itself and sorts by code point."""
    binary = mysql.VARCHAR(length, charset="utf8mb4", collation="utf8mb4_bin")
    return (
        String(length)
        .with_variant(postgresql.VARCHAR(length, collation="C"), "postgresql")
        .with_variant(binary, "mysql", "mariadb")
    )


def long_text() -> TypeEngine[str]:
    """At least 256 KiB of UTF-8."""
    medium = mysql.MEDIUMTEXT(charset="utf8mb4", collation="utf8mb4_bin")
    return Text().with_variant(medium, "mysql", "mariadb")


METADATA: Final = MetaData()

ROWS: Final = Table(
    "observation_rows",
    METADATA,
    Column("trial_uid", exact_string(UID_BYTES), primary_key=True),
    Column("attempt", BigInteger, primary_key=True, autoincrement=False),
    Column("source", exact_string(SOURCE_BYTES), primary_key=True),
    Column("seq", BigInteger, primary_key=True, autoincrement=False),
    Column("metric", exact_string(250), nullable=False),
    Column("value", long_text(), nullable=False),
    Column("time_us", BigInteger, nullable=False),
    Column("step", BigInteger, nullable=True),
    sqlite_with_rowid=False,
)

SOURCES: Final = Table(
    "observation_sources",
    METADATA,
    Column("trial_uid", exact_string(UID_BYTES), primary_key=True),
    Column("attempt", BigInteger, primary_key=True, autoincrement=False),
    Column("source", exact_string(SOURCE_BYTES), primary_key=True),
    Column("trial_name", exact_string(NAME_BYTES), nullable=False),
    Column("namespace", exact_string(NAME_BYTES), nullable=False),
    Column("stored_offset", BigInteger, nullable=False),
    Column("ended", Boolean, nullable=False),
    Column("notes", long_text(), nullable=False),
    Index("observation_sources_by_name", "trial_name"),
    sqlite_with_rowid=False,
)

FENCES: Final = Table(
    "observation_fences",
    METADATA,
    Column("trial_uid", exact_string(UID_BYTES), primary_key=True),
    Column("attempt", BigInteger, nullable=False),
    Column("row_count", BigInteger, nullable=False),
    sqlite_with_rowid=False,
)

STOPS: Final = Table(
    "observation_stops",
    METADATA,
    Column("trial_uid", exact_string(UID_BYTES), primary_key=True),
    Column("attempt", BigInteger, primary_key=True, autoincrement=False),
    Column("reason", long_text(), nullable=False),
    sqlite_with_rowid=False,
)
