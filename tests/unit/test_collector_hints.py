# SPDX-License-Identifier: Apache-2.0
"""Hints that rows of a trial have come: at once, not often, and the last one never left out; and
what a person is told when none came."""

from __future__ import annotations

import asyncio

from tunesmith_controller.ports import Key
from tunesmith_controller.workloads.collected import TrialHints
from tunesmith_metrics_collector.advice import file_hint, push_hint

A, B = Key("Trial", "default", "a"), Key("Trial", "default", "b")
WINDOW = 0.05


async def got(queue: asyncio.Queue[Key | None], seconds: float) -> list[Key | None]:
    """What comes within a time."""
    found: list[Key | None] = []
    try:
        async with asyncio.timeout(seconds):
            while True:
                found.append(await queue.get())
    except TimeoutError:
        return found


def test_many_hints_of_a_trial_are_one_at_once_and_one_afterwards() -> None:
    async def scenario() -> None:
        hints, queue = TrialHints(WINDOW), asyncio.Queue[Key | None]()
        with hints.told_to(queue):
            for _ in range(100):
                hints.give(A)
            assert (queue.get_nowait(), queue.empty()) == (A, True)
            assert await got(queue, 4 * WINDOW) == [A]
            hints.give(A)
            assert await got(queue, 2 * WINDOW) == [A]

    asyncio.run(scenario())


def test_trials_do_not_wait_for_each_other() -> None:
    async def scenario() -> None:
        hints, queue = TrialHints(60), asyncio.Queue[Key | None]()
        with hints.told_to(queue):
            for trial in (A, B, A):
                hints.give(trial)
            assert [queue.get_nowait(), queue.get_nowait(), queue.empty()] == [A, B, True]

    asyncio.run(scenario())


def test_a_steady_stream_is_told_once_a_window() -> None:
    async def scenario() -> None:
        hints, queue = TrialHints(WINDOW), asyncio.Queue[Key | None]()
        with hints.told_to(queue):
            until = asyncio.get_running_loop().time() + 4.5 * WINDOW
            while asyncio.get_running_loop().time() < until:
                hints.give(A)
                await asyncio.sleep(0.002)
            told = await got(queue, 2 * WINDOW)
        assert 3 <= len(told) <= 6

    asyncio.run(scenario())


def test_nobody_is_told_after_listening() -> None:
    async def scenario() -> None:
        hints, queue = TrialHints(WINDOW), asyncio.Queue[Key | None]()
        with hints.told_to(queue):
            pass
        hints.give(A)
        assert await got(queue, 2 * WINDOW) == []

    asyncio.run(scenario())


def test_the_push_hint_names_what_works_and_where_katibs_call_does_not() -> None:
    told = push_hint("accuracy")
    assert "tunesmith.report(accuracy=0.93) works everywhere" in told
    assert "katib-db-manager.kubeflow:6789 only in a cluster" in told
    assert "db_manager_address='HOST:PORT' of `tunesmith serve --db-manager HOST:PORT`" in told


def test_the_push_hint_names_the_address_that_there_is_and_calls_that_python_takes() -> None:
    assert push_hint("x", "127.0.0.1:6789").endswith("db_manager_address='127.0.0.1:6789'.")
    assert "tunesmith.report(**{'val/acc': 0.93})" in push_hint("val/acc")


def test_the_file_hint_shows_a_line_of_the_format() -> None:
    assert 'to /m.log as a line `{"val/acc": 0.93}`' in file_hint("val/acc", "/m.log", "JSON")
    assert "as a line `loss=0.93`, or call tunesmith.report(loss=0.93)" in file_hint(
        "loss", "/m.log", "TEXT"
    )
