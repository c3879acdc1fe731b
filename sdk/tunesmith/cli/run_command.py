# SPDX-License-Identifier: Apache-2.0
"""`tunesmith run` and `watch`: the view around the client's call, and what an interrupt means."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path

from rich.console import Console
from rich.text import Text

from tunesmith.cli.output import console, experiment_lines, print_next, print_sentence, print_whole
from tunesmith.cli.run_view import LiveView, RunView, run_view
from tunesmith.cli.signals import EndSignals, handle_signals
from tunesmith.client import Client
from tunesmith.errors import counted
from tunesmith.follower import Interrupt, Wish
from tunesmith.following import RunResult
from tunesmith.home import next_command
from tunesmith.views import ExperimentView

_PROMPT = "[s]top the trials, [l]eave them running, or [c]ontinue? "
_WISHES = {"s": Wish.STOP, "l": Wish.LEAVE, "c": Wish.NONE}


def run_experiment(client: Client, file: Path, *, fresh: bool) -> int:
    """Runs and prints; the exit status."""
    with run_view() as view:
        interrupt = SignalledInterrupt(view)
        result = client.run(
            file, fresh=fresh, on_update=view.update, notice=view.notice, interrupt=interrupt
        )
    if interrupt.asking:
        print()
    return _conclude(result, interrupt.signal, file)


class SignalledInterrupt(Interrupt):
    """SIGINT, SIGTERM and SIGHUP as wishes: on a terminal Ctrl-C asks, a second one is "stop".

    While trials are being stopped, a further signal stops waiting for them.
    """

    def __init__(self, view: RunView) -> None:
        super().__init__()
        self.signal = 0
        self.asking = False
        self._view = view

    def attach(self, loop: asyncio.AbstractEventLoop) -> None:
        super().attach(loop)
        self._events = loop
        handle_signals(loop, self._signalled)

    def _signalled(self, number: int) -> None:
        if self.wish is Wish.STOP:
            self.set(Wish.LEAVE)
        elif number == signal.SIGINT and not self.asking and self._is_person():
            self._ask()
        else:
            self.signal = number
            # A terminal that went away takes nothing with it.
            self._settle(Wish.LEAVE if number == signal.SIGHUP else Wish.STOP)

    def _is_person(self) -> bool:
        return isinstance(self._view, LiveView) and sys.stdin.isatty()

    def _ask(self) -> None:
        self.asking = True
        if isinstance(self._view, LiveView):
            self._view.pause()
        print(_PROMPT, end="", flush=True)
        self._events.add_reader(sys.stdin.fileno(), self._answered)

    def _answered(self) -> None:
        line = os.read(sys.stdin.fileno(), 1024).decode("utf-8", "replace")
        # No line at all is the end of the input: nobody is there to continue for.
        wish = _WISHES.get(line.strip().lower()[:1]) if line else Wish.STOP
        if wish is None:
            print(_PROMPT, end="", flush=True)
            return
        self.asking = False
        self._events.remove_reader(sys.stdin.fileno())
        if wish is Wish.NONE and isinstance(self._view, LiveView):
            self._view.resume()
        elif wish is not Wish.NONE:
            self.signal = signal.SIGINT
            self._settle(wish)

    def _settle(self, wish: Wish) -> None:
        if self.asking:
            self._events.remove_reader(sys.stdin.fileno())
            self.asking = False
            print()
        if wish is Wish.STOP:
            self._view.notice("stopping the trials; interrupt again to wait no longer")
        self.set(wish)


def watch_experiment(client: Client, experiment: str) -> int:
    """Shows how it goes on until its end; the exit status."""
    interrupt = EndSignals()
    with run_view() as view:
        result = client.watch(
            experiment, on_update=view.update, notice=view.notice, interrupt=interrupt
        )
    shown = result.experiment
    if shown.is_over:
        return _say_ended(shown)
    print_sentence(console(), Text(f"experiment {shown.name} goes on without being watched"))
    return 128 + (interrupt.signal or signal.SIGINT)


def _conclude(result: RunResult, signalled: int, file: Path) -> int:
    if not result.experiment.is_over:
        _say_unfinished(console(), result, file)
        return 128 + (signalled or signal.SIGINT)
    return _say_ended(result.experiment)


def _say_ended(view: ExperimentView) -> int:
    """The result and what may come next; the exit status."""
    out = console()
    out.print()
    for line in experiment_lines(view):
        print_whole(out, Text(line))
    commands: list[tuple[str, ...]] = [("trials", view.name)]
    if view.best is not None:
        commands.append(("best", view.name, "-o", "args"))
    if view.best is None or view.state == "Failed":
        commands.append(("why", view.name))
    print_next(out, [next_command(*words, namespace=view.namespace) for words in commands])
    return 0 if view.state == "Succeeded" else 1


def _say_unfinished(out: Console, result: RunResult, file: Path) -> None:
    view = result.experiment
    active = [trial for trial in result.trials if not trial.is_over and not trial.is_paused]
    if result.wish is Wish.LEAVE:
        state = f"{counted(len(active), 'trial')} left running; their results are kept"
    elif active:
        state = f"{counted(len(active), 'trial')} still stopping"
    else:
        state = "its trials are stopped"
    print_sentence(out, Text(f"interrupted: experiment {view.name} is unfinished, {state}"))
    if str(file) != "-":
        command = next_command("run", str(file), namespace=view.namespace)
        print_next(out, [f"{command}  # continues it"])
