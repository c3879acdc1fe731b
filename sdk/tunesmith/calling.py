# SPDX-License-Identifier: Apache-2.0
"""Calls asynchronous work from anywhere: a script, or a notebook whose event loop is running."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine
from concurrent.futures import Future
from contextlib import suppress
from typing import Any, TypeVar

T = TypeVar("T")

_BEGINS_WITHIN_S = 5.0
"""How long an interrupted call waits for its own thread to begin, before there is none to end."""


def call(work: Coroutine[Any, Any, T]) -> T:
    """The result of `work`, run to its end in an event loop of its own. An interrupt (Ctrl-C, the
    notebook's stop button) cancels it and is raised once it has cleaned up."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(work)
    return _call_in_thread(work)


def _call_in_thread(work: Coroutine[Any, Any, T]) -> T:
    done: Future[T] = Future()
    started: Future[tuple[asyncio.AbstractEventLoop, asyncio.Task[Any]]] = Future()

    async def tracked() -> T:
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - a coroutine that runs has a task
        started.set_result((asyncio.get_running_loop(), task))
        return await work

    def target() -> None:
        try:
            done.set_result(asyncio.run(tracked()))
        except BaseException as error:  # noqa: BLE001 - raised again where the call was made
            done.set_exception(error)

    thread = threading.Thread(target=target, name="tunesmith call")
    try:
        # Inside: the interrupt may come while the thread is being started.
        thread.start()
        return done.result()
    except BaseException:
        # An interrupt, or what another signal handler raised; the work's own error finds it ended.
        if not done.done():
            with suppress(TimeoutError, RuntimeError):  # never begun, or ended by itself
                loop, task = started.result(timeout=_BEGINS_WITHIN_S)
                loop.call_soon_threadsafe(task.cancel)
        raise
    finally:
        if thread.is_alive():
            thread.join()
