# SPDX-License-Identifier: Apache-2.0
"""Brings a database to the schema of this version; called at start, by the server and the log.

Alembic without its ini file. Processes that start together upgrade one after the other: on SQLite
in one IMMEDIATE transaction, on servers under a lock of the server's. An upgrade that is cut off
has not happened; on MySQL, which commits each change of a table, it goes on where it was, and so
revisions create only what is missing.
"""

from __future__ import annotations

from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.util import CommandError
from sqlalchemy import URL, Connection, text

from tunesmith_api.errors import Invalid, Unavailable
from tunesmith_observation.database import (
    ANSWER_SECONDS,
    Access,
    access_to,
    transact,
    writer_engine,
)

VERSION_TABLE = "observation_schema_version"


_LOCK_NUMBER = 0x7475_6E65
"""PostgreSQL's advisory locks have numbers; this one is ours."""


def upgrade(database: str | URL | Access) -> None:
    """Creates or upgrades the tables. Raises Unavailable; Invalid for an unusable URL, or tables
    that a newer version has made."""
    engine = writer_engine(access_to(database))
    try:
        transact(engine, _upgrade)
    except CommandError as error:
        raise Invalid(
            f"the observation database was made by another version of tunesmith ({error}):"
            " use that version, or a newer one"
        ) from error
    finally:
        engine.dispose()


def _upgrade(connection: Connection) -> None:
    _lock(connection)
    command.upgrade(configuration(connection), "head")


def _lock(connection: Connection) -> None:
    """Until the transaction, or on MySQL the connection, ends."""
    if connection.dialect.name == "postgresql":
        connection.execute(text("SELECT pg_advisory_xact_lock(:number)"), {"number": _LOCK_NUMBER})
    elif connection.dialect.name in ("mysql", "mariadb"):
        seconds = int(ANSWER_SECONDS) - 1
        is_ours = connection.execute(
            text("SELECT GET_LOCK(CONCAT(DATABASE(), '.tunesmith'), :seconds)"),
            {"seconds": seconds},
        ).scalar()
        if not is_ours:
            raise Unavailable("another process is upgrading the tables of the database: repeat")


def configuration(connection: Connection) -> Config:
    """Alembic's settings for work on an open connection, inside its transaction."""
    config = Config(attributes={"connection": connection})
    config.set_main_option("script_location", "tunesmith_observation:migrations")
    config.set_main_option("path_separator", "os")
    return config


def context(connection: Connection) -> MigrationContext:
    """For comparing a database with the schema."""
    return MigrationContext.configure(connection, opts={"version_table": VERSION_TABLE})
