# SPDX-License-Identifier: Apache-2.0
"""Placeholder until the evaluator lands (being written)."""
from __future__ import annotations

import re
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Met:
    reason: str
    message: str


def condition_met(document: object, expression: str) -> Met | None:
    match = re.search(r'type=="(\w+)"', expression)
    for c in ((document.get("status") or {}).get("conditions") or []) if isinstance(document, dict) else []:
        if match and c.get("type") == match[1] and c.get("status") == "True":
            return Met(c.get("reason", ""), c.get("message", ""))
    return None


def check(path: str) -> str | None:
    return None
