# SPDX-License-Identifier: Apache-2.0
"""Run by Alembic: applies revisions on the connection that `upgrade` has opened."""

from __future__ import annotations

from alembic import context

from tunesmith_observation.migrations import VERSION_TABLE
from tunesmith_observation.schema import METADATA

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=METADATA,
    version_table=VERSION_TABLE,
    transactional_ddl=True,  # also on SQLite, whose transaction is begun by us
)
with context.begin_transaction():
    context.run_migrations()
