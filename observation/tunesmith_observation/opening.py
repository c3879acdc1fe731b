# SPDX-License-Identifier: Apache-2.0
"""Which log a service keeps rows in, by its options; called by server.py."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path

from tunesmith_api.errors import Invalid
from tunesmith_observation.database import CONNECTIONS, Access, parsed_url
from tunesmith_observation.journal import JournaledLog, JournalSettings
from tunesmith_observation.sql import SqlObservationLog

ServedLog = SqlObservationLog | JournaledLog


@dataclass(frozen=True, slots=True)
class StoreOptions:
    """`db` is a database URL; `password_file` holds the password that goes into it. journal: a
    folder on a disk of this service alone, for reports while the database is away. connections: to
    a database server, at most."""

    db: str
    password_file: Path | None = None
    journal: Path | None = None
    connections: int = CONNECTIONS


def open_log(options: StoreOptions) -> ServedLog:
    """Blocks; with a journal it does not wait for the database. Raises Invalid for options that
    cannot work, Unavailable."""
    if options.connections < 1:
        raise Invalid(f"{options.connections} connections are none")
    access = Access(parsed_url(options.db), options.connections, options.password_file)
    if options.journal is None:
        return SqlObservationLog.open(access)
    if not access.is_server:
        raise Invalid("a journal is for a database server: SQLite is a file on this disk already")
    return JournaledLog.open(
        partial(SqlObservationLog.open, access), JournalSettings(options.journal)
    )
