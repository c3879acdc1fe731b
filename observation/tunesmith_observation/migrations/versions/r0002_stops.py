# SPDX-License-Identifier: Apache-2.0
"""Attempts that should end early, and why."""

from __future__ import annotations

from alembic import op
from sqlalchemy import BigInteger, Column

from tunesmith_observation.schema import exact_string, long_text

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Creates the table if it is missing."""
    op.create_table(
        "observation_stops",
        Column("trial_uid", exact_string(260), primary_key=True),
        Column("attempt", BigInteger, primary_key=True, autoincrement=False),
        Column("reason", long_text(), nullable=False),
        sqlite_with_rowid=False,
        if_not_exists=True,
    )


def downgrade() -> None:
    """An older version does not look at the table."""
    op.drop_table("observation_stops")
