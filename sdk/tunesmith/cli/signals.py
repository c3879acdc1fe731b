# SPDX-License-Identifier: Apache-2.0
"""SIGINT, SIGTERM and SIGHUP in an event loop; `EndSignals` for commands that just end."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable

from tunesmith.follower import Interrupt, Wish


def handle_signals(loop: asyncio.AbstractEventLoop, handler: Callable[[int], None]) -> None:
    """Calls `handler` with the number of each."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        # What the parent ignores stays ignored: `nohup tunesmith run` outlives its terminal.
        if signal.getsignal(number) is not signal.SIG_IGN:
            loop.add_signal_handler(number, handler, number)


class EndSignals(Interrupt):
    """Any of them ends the command and leaves trials running; `signal` is the one that did."""

    def __init__(self) -> None:
        super().__init__()
        self.signal = 0

    def attach(self, loop: asyncio.AbstractEventLoop) -> None:
        super().attach(loop)
        handle_signals(loop, self._signalled)

    def _signalled(self, number: int) -> None:
        self.signal = number
        self.set(Wish.LEAVE)
