# SPDX-License-Identifier: Apache-2.0
"""What may differ between installations. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from importlib.metadata import version
from typing import Final

CONTROLLER: Final = "tunesmith-controller"
SUGGESTION: Final = "tunesmith-suggestion"
OBSERVATION: Final = "tunesmith-observation"
DB_MANAGER: Final = "katib-db-manager"
"""The Service by which Katib's clients know the observation service."""
IMPORT: Final = "tunesmith-import-katib-db"
"""The Job that copies rows of Katib's database."""
DATABASE_SECRET: Final = "tunesmith-database"  # noqa: S105 - a name
IMAGE: Final = "ghcr.io/tunesmith/tunesmith"
PARTS: Final = (CONTROLLER, SUGGESTION, OBSERVATION)
PART_OF: Final = {"app.kubernetes.io/part-of": "tunesmith"}
INSTANCE: Final = "app.kubernetes.io/instance"
"""A label of all that is one installation's: its namespace. What installations share has none."""


def selector(installation: Installation | None = None) -> str:
    """Of all objects of an installation, or of any."""
    wanted = {**PART_OF, **({INSTANCE: installation.namespace} if installation else {})}
    return ",".join(f"{name}={value}" for name, value in wanted.items())


def default_image() -> str:
    """Of the version that runs."""
    return f"{IMAGE}:{version('tunesmith')}"


class Database(StrEnum):
    POSTGRES = "postgres"
    MYSQL = "mysql"
    EXTERNAL = "external"
    SQLITE = "sqlite"
    """A file on the volume of the observation service: the smallest installation."""


@dataclass(frozen=True, slots=True)
class Installation:
    """namespace: where it is. only: the one namespace that it looks after; None for all, which
    takes rights in the whole cluster. image: of all that is ours. database_url: of an EXTERNAL one,
    without its password, which Secret tunesmith-database has. webhooks: whether the API server asks
    for admission; without, collectors are put into templates of known kinds. katib_listener:
    whether Katib's own clients are served, in plain text. cert_manager: it makes the certificates
    instead of the controller."""

    namespace: str = "kubeflow"
    only: str | None = None
    image: str = f"{IMAGE}:latest"
    pull_policy: str = "IfNotPresent"
    database: Database = Database.POSTGRES
    database_url: str = ""
    database_image: str = ""
    webhooks: bool = True
    katib_listener: bool = True
    cert_manager: bool = False
    replicas: int = 2

    @property
    def has_webhooks(self) -> bool:
        """A namespaced installation may not ask the API server for anything cluster-wide."""
        return self.webhooks and self.only is None

    def told(self) -> str:
        """In a line: what was chosen."""
        found = [f"image {self.image}", f"database {self.database_url or self.database}"]
        found += [f"for namespace {self.only} alone"] if self.only else []
        found += [] if self.has_webhooks else ["without webhooks"]
        found += [] if self.katib_listener else ["without Katib's clients"]
        found += ["certificates by cert-manager"] if self.cert_manager else []
        return ", ".join(found)
