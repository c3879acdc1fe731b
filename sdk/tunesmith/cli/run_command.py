# SPDX-License-Identifier: Apache-2.0
"""`tunesmith run`: the view around the client's run, and what an interrupt means."""

from __future__ import annotations

import asyncio
import signal
import sys
import threading
from pathlib import Path

from rich.text import Text

from tunesmith.cli.output import console, experiment_lines
from tunesmith.cli.run_view import LiveView, RunView, run_view
from tunesmith.client import Client
from tunesmith.following import Interrupt, RunResult, Wish

_PROMPT = "\n[s]top the trials, [l]eave them running, or [c]ontinue? "


def run_experiment(client: Client, file: Path, *, fresh: bool) -> int:
    """Runs and prints; the exit status."""
    with run_view() as view:
        interrupt = _SignalledInterrupt(view)
        result = client.run(
            file, fresh=fresh, on_update=view.update, notice=view.notice, interrupt=interrupt
        )
    return _conclude(result, interrupt.signal)


class _SignalledInterrupt(Interrupt):
    """Takes SIGINT and SIGTERM once `run` has an event loop."""

    def __init__(self, view: RunView) -> None:
        super().__init__()
        self.signal = 0
        self._view = view
        self._asking = False
        self._loop: asyncio.AbstractEventLoop | None = None

    def attach(self) -> None:
        self._loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            self._loop.add_signal_handler(number, self._signalled, number)

    def _signalled(self, number: int) -> None:
        person = number == signal.SIGINT and isinstance(self._view, LiveView)
        if not person or self._asking or not sys.stdin.isatty():
            self.signal = number
            # A terminal that went away takes nothing with it.
            self.set(Wish.LEAVE if number == signal.SIGHUP else Wish.STOP)
            return
        self._asking = True
        threading.Thread(target=self._ask, daemon=True).start()

    def _ask(self) -> None:
        view = self._view
        if isinstance(view, LiveView):
            view.pause()
        try:
            answer = input(_PROMPT).strip().lower()[:1]
        except EOFError:
            answer = "s"
        wish = {"s": Wish.STOP, "l": Wish.LEAVE}.get(answer, Wish.NONE)
        if isinstance(view, LiveView) and wish is Wish.NONE:
            view.resume()
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._answered, wish)

    def _answered(self, wish: Wish) -> None:
        self._asking = False
        if wish is not Wish.NONE:
            self.signal = signal.SIGINT
            self.set(wish)


def _conclude(result: RunResult, signalled: int) -> int:
    view = result.experiment
    out = console()
    if not view.is_over:
        left = result.wish is Wish.LEAVE
        running = sum(not trial.is_over for trial in result.trials)
        state = (
            f"{running} trials go on under their supervisors" if left else "its trials are stopped"
        )
        out.print(Text(f"interrupted: experiment {view.name} is unfinished; {state}"))
        out.print(Text.assemble(("next: ", "bold"), "the same command continues it"))
        return 128 + (signalled or signal.SIGINT)
    out.print()
    for line in experiment_lines(view):
        out.print(Text(line), soft_wrap=True)
    for command in (f"tunesmith trials {view.name}", f"tunesmith best {view.name} -o args"):
        out.print(Text.assemble(("next: ", "bold"), command))
    if view.state == "Failed":
        out.print(Text.assemble(("next: ", "bold"), f"tunesmith why {view.name}"))
    return 0 if view.state == "Succeeded" else 1
