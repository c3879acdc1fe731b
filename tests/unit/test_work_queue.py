# SPDX-License-Identifier: Apache-2.0
"""The keyed queue and requests in flight, on a virtual clock."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
import virtual_loop

from tunesmith_controller.manager.queue import Backoff, WorkQueue
from tunesmith_controller.manager.requests import Answered, Refused, Requests
from tunesmith_controller.ports import Key, Unavailable

A, B = Key("Trial", "n", "a"), Key("Trial", "n", "b")


def queue() -> WorkQueue:
    return WorkQueue(Backoff(first=1.0, limit=8.0), lambda: 0.0)


def test_a_key_stands_in_line_once() -> None:
    async def scenario() -> int:
        line = queue()
        line.add(A)
        line.add(A)
        return len(line)

    assert virtual_loop.run(scenario(), seed=0) == 1


def test_a_key_added_while_it_is_worked_on_gets_another_turn_afterwards() -> None:
    async def scenario() -> tuple[int, Key]:
        line = queue()
        line.add(A)
        await line.take()
        line.add(A)
        during = len(line)
        line.done(A)
        return during, await line.take()

    assert virtual_loop.run(scenario(), seed=0) == (0, A)


def test_keys_come_out_in_the_order_they_were_added() -> None:
    async def scenario() -> list[Key]:
        line = queue()
        line.add(B)
        line.add(A)
        return [await line.take(), await line.take()]

    assert virtual_loop.run(scenario(), seed=0) == [B, A]


def test_failures_wait_longer_each_time_up_to_the_limit_and_success_forgets_them() -> None:
    async def scenario() -> list[float]:
        line = queue()
        delays = [line.failed(A) for _ in range(5)]
        line.succeeded(A)
        delays.append(line.failed(A))
        line.close()
        return delays

    assert virtual_loop.run(scenario(), seed=0) == [1, 2, 4, 8, 8, 1]


def test_the_earliest_of_several_wishes_counts() -> None:
    async def scenario() -> float:
        line = queue()
        line.add_after(A, 9.0)
        line.add_after(A, 2.0)
        line.add_after(A, 5.0)
        await line.take()
        return asyncio.get_running_loop().time()

    started = virtual_loop.run(_now(), seed=0)
    assert virtual_loop.run(scenario(), seed=0) - started == pytest.approx(2.0)


async def _now() -> float:
    return asyncio.get_running_loop().time()


def test_a_request_is_started_once_and_its_end_brings_the_owner_back() -> None:
    async def scenario() -> tuple[int, list[Key], Any]:
        back: list[Key] = []
        calls = 0

        async def call() -> str:
            nonlocal calls
            calls += 1
            await asyncio.sleep(1)
            return "answer"

        requests = Requests(back.append)
        assert requests.poll(A, "1", call) is None
        assert requests.poll(A, "1", call) is None
        await asyncio.sleep(2)
        return calls, back, requests.poll(A, "1", call)

    assert virtual_loop.run(scenario(), seed=0) == (1, [A], Answered("answer"))


def test_an_answer_stays_until_it_is_forgotten_and_a_refusal_is_told_once() -> None:
    async def scenario() -> list[Any]:
        async def fine() -> int:
            return 1

        async def broken() -> int:
            raise Unavailable("no")

        requests = Requests(lambda key: None)
        requests.poll(A, "fine", fine)
        requests.poll(B, "broken", broken)
        await asyncio.sleep(1)
        kept = [requests.poll(A, "fine", fine), requests.poll(A, "fine", fine)]
        refused = requests.poll(B, "broken", broken)
        started_again = requests.poll(B, "broken", broken)
        await asyncio.sleep(1)
        return [*kept, refused, started_again, requests.poll(B, "broken", broken)]

    first, second, refused, started, again = virtual_loop.run(scenario(), seed=0)
    assert (first, second, started) == (Answered(1), Answered(1), None)
    assert isinstance(refused, Refused) and refused.failures == 1
    assert isinstance(again, Refused) and again.failures == 2


def test_another_question_of_the_same_owner_replaces_the_first() -> None:
    async def scenario() -> Any:
        async def slow() -> str:
            await asyncio.sleep(100)
            return "old"

        async def quick() -> str:
            return "new"

        requests = Requests(lambda key: None)
        requests.poll(A, "1", slow)
        requests.poll(A, "2", quick)
        await asyncio.sleep(1)
        return requests.poll(A, "2", quick)

    assert virtual_loop.run(scenario(), seed=0) == Answered("new")
