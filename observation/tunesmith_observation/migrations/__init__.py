# SPDX-License-Identifier: Apache-2.0
"""Brings a database to the schema of this version; called at start, by the server and the log.

Alembic without its ini file. On SQLite everything happens in one IMMEDIATE transaction, so two
processes that start together do not meet; an upgrade that is cut off has not happened.
"""

from __future__ import annotations

from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from sqlalchemy import Connection, create_engine

from tunesmith_observation.database import parsed_url, sqlite_writer, translated_errors

VERSION_TABLE = "observation_schema_version"


def upgrade(url: str) -> None:
    """Creates or upgrades the tables. Raises Unavailable, or Invalid for an unusable URL."""
    parsed = parsed_url(url)
    is_sqlite = parsed.get_backend_name() == "sqlite"
    with translated_errors():
        engine = sqlite_writer(parsed) if is_sqlite else create_engine(parsed, hide_parameters=True)
        try:
            with engine.begin() as connection:
                command.upgrade(configuration(connection), "head")
        finally:
            engine.dispose()


def configuration(connection: Connection) -> Config:
    """Alembic's settings for work on an open connection, inside its transaction."""
    config = Config(attributes={"connection": connection})
    config.set_main_option("script_location", "tunesmith_observation:migrations")
    config.set_main_option("path_separator", "os")
    return config


def context(connection: Connection) -> MigrationContext:
    """For comparing a database with the schema."""
    return MigrationContext.configure(connection, opts={"version_table": VERSION_TABLE})
