# SPDX-License-Identifier: Apache-2.0
"""Brings a database to the schema of this version; called at start, by the server and the log.

Alembic without its ini file. On SQLite everything happens in one IMMEDIATE transaction, so two
processes that start together do not meet; an upgrade that is cut off has not happened. On servers
a lock by name keeps them apart; MySQL ends a transaction at each change of a table.
"""

from __future__ import annotations

from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.util import CommandError
from sqlalchemy import URL, Connection, text

from tunesmith_api.errors import Invalid
from tunesmith_observation.database import parsed_url, translated_errors, writer_engine

_LOCK = {"name": "tunesmith-observation-upgrade"}
VERSION_TABLE = "observation_schema_version"


def upgrade(url: str | URL) -> None:
    """Creates or upgrades the tables. Raises Unavailable; Invalid for an unusable URL, or tables
    that a newer version has made."""
    with translated_errors():
        engine = writer_engine(parsed_url(url))
        try:
            with engine.begin() as connection:
                _wait_for_others(connection)
                command.upgrade(configuration(connection), "head")
        except CommandError as error:
            raise Invalid(
                f"the observation database was made by another version of tunesmith ({error}):"
                " use that version, or a newer one"
            ) from error
        finally:
            engine.dispose()


def _wait_for_others(connection: Connection) -> None:
    """Until no other service upgrades; the lock goes with the transaction, or the connection."""
    match connection.dialect.name:
        case "postgresql":
            connection.execute(text("SELECT pg_advisory_xact_lock(hashtext(:name))"), _LOCK)
        case "mysql" | "mariadb":
            connection.execute(text("SELECT GET_LOCK(:name, 60)"), _LOCK)


def configuration(connection: Connection) -> Config:
    """Alembic's settings for work on an open connection, inside its transaction."""
    config = Config(attributes={"connection": connection})
    config.set_main_option("script_location", "tunesmith_observation:migrations")
    config.set_main_option("path_separator", "os")
    return config


def context(connection: Connection) -> MigrationContext:
    """For comparing a database with the schema."""
    return MigrationContext.configure(connection, opts={"version_table": VERSION_TABLE})
