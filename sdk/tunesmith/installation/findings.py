# SPDX-License-Identifier: Apache-2.0
"""What a look at an installation finds: the words of `tunesmith doctor`."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Protocol

from tunesmith.installation.cluster_objects import ClusterObjects
from tunesmith.installation.options import Installation


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at. `fault` is empty where it is right; `next` is a command."""

    subject: str
    told: str = ""
    fault: str = ""
    next: str = ""


class Check(Protocol):
    """Looks at one thing or several. Raises PortErrors where it may not look."""

    @property
    def __name__(self) -> str: ...

    def __call__(
        self, objects: ClusterObjects, there: Installation, /
    ) -> AsyncIterator[Finding]: ...


def mended_by_install(subject: str, fault: str, there: Installation, told: str = "") -> Finding:
    """A fault that applying everything once more mends."""
    again = f"tunesmith install -n {there.namespace}"
    return Finding(subject, told, fault, again if fault else "")


def mended_by(command: str, subject: str, fault: str, told: str = "") -> Finding:
    return Finding(subject, told, fault, command if fault else "")
