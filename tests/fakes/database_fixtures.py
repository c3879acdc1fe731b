# SPDX-License-Identifier: Apache-2.0
"""Database servers as fixtures of a session, each started when the first test asks for it.

For modules that say `pytest_plugins = ("database_fixtures",)`.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from database_servers import DatabaseServer, MariaDB, PostgreSQL, running


@pytest.fixture(scope="session")
def postgresql() -> Iterator[DatabaseServer]:
    yield from running(PostgreSQL)


@pytest.fixture(scope="session")
def mariadb() -> Iterator[DatabaseServer]:
    yield from running(MariaDB)


@pytest.fixture(params=["postgresql", "mariadb"])
def database_server(request: pytest.FixtureRequest) -> DatabaseServer:
    """Each of them in turn."""
    server = request.getfixturevalue(request.param)
    assert isinstance(server, DatabaseServer)
    return server
