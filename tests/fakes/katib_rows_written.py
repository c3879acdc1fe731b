# SPDX-License-Identifier: Apache-2.0
"""Rows in a database as Katib's db-manager writes them (katib-reference 7)."""

from __future__ import annotations

from database_servers import PASSWORD, DatabaseServer
from sqlalchemy import create_engine, text

TABLES = {
    "mysql": "CREATE TABLE observation_logs (trial_name VARCHAR(255) NOT NULL, id INT"
    " AUTO_INCREMENT PRIMARY KEY, time DATETIME(6), metric_name VARCHAR(255) NOT NULL,"
    " value TEXT NOT NULL)",
    "postgresql": "CREATE TABLE observation_logs (trial_name VARCHAR(255) NOT NULL, id serial"
    " PRIMARY KEY, time TIMESTAMP(6), metric_name VARCHAR(255) NOT NULL, value TEXT NOT NULL)",
}
WRITE = text(
    "INSERT INTO observation_logs (trial_name, time, metric_name, value)"
    " VALUES (:name, :time, :metric, :value)"
)


def emptied(server: DatabaseServer) -> str:
    """The URL of a new database."""
    url = server.access(server.new_database()).url.set(password=PASSWORD)
    return url.render_as_string(hide_password=False)


def katibs(server: DatabaseServer, rows: list[tuple[str, str, str, str]]) -> str:
    """A database as Katib leaves it; its URL."""
    url = emptied(server)
    engine = create_engine(url)
    with engine.begin() as connection:
        connection.execute(text(TABLES[engine.dialect.name]))
    engine.dispose()
    write(url, rows)
    return url


def write(url: str, rows: list[tuple[str, str, str, str]]) -> None:
    """Trial, time, metric and value of each."""
    engine = create_engine(url)
    names = ("name", "time", "metric", "value")
    with engine.begin() as connection:
        connection.execute(WRITE, [dict(zip(names, row, strict=True)) for row in rows])
    engine.dispose()


def steps(name: str, count: int) -> list[tuple[str, str, str, str]]:
    return [(name, f"2024-05-01 10:00:{n % 60:02}.25", "loss", f"{n}.5") for n in range(count)]
