# SPDX-License-Identifier: Apache-2.0
"""The client's calls work where an event loop is running already: notebooks."""

from __future__ import annotations

import asyncio
import signal
import threading
from pathlib import Path

import pytest

from tunesmith.calling import call
from tunesmith.client import Client
from tunesmith.errors import NotThere


async def answer() -> int:
    await asyncio.sleep(0)
    return 42


def test_a_script_and_a_notebook_get_the_same_answer() -> None:
    async def notebook() -> int:
        return call(answer())

    assert call(answer()) == asyncio.run(notebook()) == 42


def test_the_client_works_inside_a_running_event_loop(tmp_path: Path) -> None:
    async def notebook() -> None:
        assert Client(tmp_path).experiments() == []
        with pytest.raises(NotThere):
            Client(tmp_path).trials("nobody")

    asyncio.run(notebook())


def test_the_stop_button_of_a_notebook_lets_the_work_clean_up_and_is_raised() -> None:
    steps: list[str] = []

    async def work() -> None:
        try:
            steps.append("begun")
            # To the main thread, which waits in a system call that only a real signal ends.
            main = threading.main_thread().ident
            assert main is not None
            signal.pthread_kill(main, signal.SIGINT)
            await asyncio.Event().wait()
        finally:
            steps.append("cleaned up")

    async def notebook() -> None:
        with pytest.raises(KeyboardInterrupt):
            call(work())

    loop = asyncio.new_event_loop()  # asyncio.run would take the interrupt for itself
    # A shell starts background jobs with interrupts ignored, and this process inherits that.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        loop.run_until_complete(notebook())
    finally:
        signal.signal(signal.SIGINT, before)
        loop.close()
    assert steps == ["begun", "cleaned up"]


def test_what_any_signal_handler_raises_ends_the_work_too() -> None:
    steps: list[str] = []

    def too_late(*_: object) -> None:
        raise TimeoutError("too late")

    async def work() -> None:
        try:
            main = threading.main_thread().ident
            assert main is not None
            signal.pthread_kill(main, signal.SIGUSR1)
            await asyncio.Event().wait()
        finally:
            steps.append("cleaned up")

    async def notebook() -> None:
        with pytest.raises(TimeoutError, match="too late"):
            call(work())

    before = signal.signal(signal.SIGUSR1, too_late)
    try:
        asyncio.run(notebook())
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert steps == ["cleaned up"]
