# SPDX-License-Identifier: Apache-2.0
"""The parser of an attempt whose filters cannot be used: finds nothing, and says why.

Admission refuses such filters, so this is for objects that came around it: the attempt still ends,
with the reason where the trial's message shows its filter.
"""

from __future__ import annotations

from collections.abc import Sequence

from tunesmith_metrics_collector.parsers.protocol import Parsed
from tunesmith_metrics_collector.sources.tail import Block


class UnusableParser:
    """The `Parser` that stands in; `description` is the reason."""

    def __init__(self, reason: str) -> None:
        self._reason = reason

    @property
    def description(self) -> str:
        return self._reason

    @property
    def form(self) -> str:
        return "numbers"

    def parse(self, block: Block) -> Parsed:
        return Parsed()

    def names(self, line: bytes) -> Sequence[str]:
        return ()
