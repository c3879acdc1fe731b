# SPDX-License-Identifier: Apache-2.0
"""What listens in on a simulated world beside the ledger: questions to algorithms, error logs.

Each reports through `violated(rule, what)`. `world` puts them in place.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from tunesmith_api.problem import Problem
from tunesmith_controller.ports import Ask, Endpoint, SearchEnded, Suggested, SuggestionClient


class Interview:
    """The suggestion service, and who asked it what: one request id has one question and one
    answer for ever (G9)."""

    def __init__(self, service: SuggestionClient, violated: Callable[[str, str], None]) -> None:
        self._service = service
        self._violated = violated
        self._asked: dict[str, tuple[Ask, Suggested | SearchEnded]] = {}

    def unchecked(self) -> SuggestionClient:
        """The service itself, for bugs that are to be found by others."""
        return self._service

    async def validate(self, endpoint: Endpoint, problem: Problem) -> Sequence[str]:
        return await self._service.validate(endpoint, problem)

    async def suggest(self, endpoint: Endpoint, ask: Ask) -> Suggested | SearchEnded:
        answer = await self._service.suggest(endpoint, ask)
        known = self._asked.setdefault(ask.request_id, (ask, answer))
        if known[0] != ask:
            self._violated("G9", f"{ask.request_id} was asked as {known[0]} and as {ask}")
        elif known[1] != answer:
            self._violated("G9", f"{ask} was answered with {known[1]} and with {answer}")
        return answer


class _Errors(logging.Handler):
    def __init__(self, violated: Callable[[str, str], None]) -> None:
        super().__init__(logging.ERROR)
        self._violated = violated

    def emit(self, record: logging.LogRecord) -> None:
        self._violated("G10", f"logged as an error: {self.format(record)}")


@contextmanager
def errors_logged(violated: Callable[[str, str], None]) -> Iterator[None]:
    handler = _Errors(violated)
    logging.getLogger().addHandler(handler)
    try:
        yield
    finally:
        logging.getLogger().removeHandler(handler)
