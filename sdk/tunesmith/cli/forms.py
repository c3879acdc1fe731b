# SPDX-License-Identifier: Apache-2.0
"""The forms of output that `-o` names."""

from __future__ import annotations

from enum import StrEnum


class Format(StrEnum):
    """Output forms of lists and objects."""

    TABLE = "table"
    WIDE = "wide"
    JSON = "json"
    YAML = "yaml"


class BestFormat(StrEnum):
    """Output forms of `best`."""

    TABLE = "table"
    ENV = "env"
    JSON = "json"
    YAML = "yaml"
    ARGS = "args"


MACHINE_FORMS = ("json", "yaml")


class Runtime(StrEnum):
    """What runs the containers of a trial on one machine."""

    PROCESS = "process"
    PODMAN = "podman"
    DOCKER = "docker"
