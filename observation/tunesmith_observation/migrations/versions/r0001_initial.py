# SPDX-License-Identifier: Apache-2.0
"""Rows, sources and fences."""

from __future__ import annotations

from alembic import op
from sqlalchemy import BigInteger, Boolean, Column, inspect

from tunesmith_observation.schema import exact_string, long_text

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Creates the tables that are missing."""
    op.create_table(
        "observation_rows",
        *_source_key(),
        Column("seq", BigInteger, primary_key=True, autoincrement=False),
        Column("metric", exact_string(250), nullable=False),
        Column("value", long_text(), nullable=False),
        Column("time_us", BigInteger, nullable=False),
        Column("step", BigInteger, nullable=True),
        sqlite_with_rowid=False,
        if_not_exists=True,
    )
    op.create_table(
        "observation_sources",
        *_source_key(),
        Column("trial_name", exact_string(253), nullable=False),
        Column("namespace", exact_string(253), nullable=False),
        Column("stored_offset", BigInteger, nullable=False),
        Column("ended", Boolean, nullable=False),
        Column("notes", long_text(), nullable=False),
        sqlite_with_rowid=False,
        if_not_exists=True,
    )
    indexes = {index["name"] for index in inspect(op.get_bind()).get_indexes("observation_sources")}
    if "observation_sources_by_name" not in indexes:
        op.create_index("observation_sources_by_name", "observation_sources", ["trial_name"])
    op.create_table(
        "observation_fences",
        Column("trial_uid", exact_string(260), primary_key=True),
        Column("attempt", BigInteger, nullable=False),
        Column("row_count", BigInteger, nullable=False),
        sqlite_with_rowid=False,
        if_not_exists=True,
    )


def _source_key() -> list[Column[object]]:
    return [
        Column("trial_uid", exact_string(260), primary_key=True),
        Column("attempt", BigInteger, primary_key=True, autoincrement=False),
        Column("source", exact_string(250), primary_key=True),
    ]


def downgrade() -> None:
    """Rows are not for dropping."""
    raise NotImplementedError("the first revision cannot be undone: delete the database instead")
