# SPDX-License-Identifier: Apache-2.0
"""What a check found: a verdict and a sentence of evidence. Made by `run`, printed by the command.

A check is a function of a `Lab`. It returns its evidence, or raises
    Defect          the service broke the protocol          -> fail
    CallFailed      a call that should work did not          -> fail
    NotApplicable   the check has no meaning for it          -> skip
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Verdict(StrEnum):
    PASS = "pass"  # noqa: S105 - no password
    FAIL = "fail"
    SKIP = "skip"


@dataclass(frozen=True, slots=True)
class Check:
    """One question to a service and what came of it. `seconds` is the time its calls took."""

    name: str
    question: str
    verdict: Verdict
    evidence: str
    seconds: float = 0.0


class Defect(Exception):
    """The service broke the protocol; the message is the evidence."""


class NotApplicable(Exception):
    """The check cannot say anything of this service; the message is the reason."""


def plural(count: int, what: str) -> str:
    """ "1 point", "2 points", "3 batches", "5,000 trials"."""
    ending = "" if count == 1 else "es" if what.endswith("ch") else "s"
    return f"{count:,} {what}{ending}"
