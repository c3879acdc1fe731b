# SPDX-License-Identifier: Apache-2.0
"""The virtual event loop: time jumps, order is a seed, and a standstill is an error."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from datetime import timedelta

import pytest
from virtual_loop import START, Deadlock, HotLoop, SeededRng, VirtualClock, run


def test_a_day_passes_in_no_time() -> None:
    async def sleep_a_day() -> float:
        await asyncio.sleep(86_400)
        return asyncio.get_running_loop().time()

    before = time.monotonic()
    assert run(sleep_a_day()) == 86_400
    assert time.monotonic() - before < 1


def test_timers_fire_in_their_order_and_at_their_time() -> None:
    seen: list[tuple[str, float]] = []

    async def note(name: str, seconds: float) -> None:
        await asyncio.sleep(seconds)
        seen.append((name, asyncio.get_running_loop().time()))

    async def all_three() -> None:
        await asyncio.gather(note("c", 3), note("a", 1), note("b", 2.5))

    run(all_three())
    assert seen == [("a", 1), ("b", 2.5), ("c", 3)]


def test_the_wall_clock_follows_virtual_time() -> None:
    async def after_an_hour() -> object:
        await asyncio.sleep(3600)
        return VirtualClock().now()

    assert run(after_an_hour()) == START + timedelta(hours=1)
    assert VirtualClock().now() == START


def test_a_standstill_names_what_waits() -> None:
    async def wait_for_nobody() -> None:
        await asyncio.get_running_loop().create_future()

    with pytest.raises(Deadlock, match=r"wait_for_nobody at .*test_virtual_loop\.py"):
        run(wait_for_nobody())


def test_a_loop_that_never_waits_is_an_error() -> None:
    async def spin() -> None:
        while True:
            await asyncio.sleep(0)

    with pytest.raises(HotLoop, match="spin"):
        run(spin())


async def _order_of_five() -> list[int]:
    seen: list[int] = []

    async def step(number: int) -> None:
        await asyncio.sleep(0)
        seen.append(number)

    await asyncio.gather(*(step(number) for number in range(5)))
    return seen


def test_without_a_seed_tasks_run_in_the_order_of_asyncio() -> None:
    assert run(_order_of_five()) == [0, 1, 2, 3, 4]


def test_seeds_give_many_orders_and_each_always_the_same() -> None:
    orders = {seed: tuple(run(_order_of_five(), seed)) for seed in range(50)}
    assert len(set(orders.values())) > 20
    assert all(tuple(run(_order_of_five(), seed)) == order for seed, order in orders.items())


def test_callbacks_of_one_future_keep_their_order_under_any_seed() -> None:
    async def told() -> list[int]:
        seen: list[int] = []
        future = asyncio.get_running_loop().create_future()

        def note(number: int) -> Callable[[object], None]:
            return lambda _: seen.append(number)

        for number in range(5):
            future.add_done_callback(note(number))
        future.set_result(None)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        return seen

    assert all(run(told(), seed) == [0, 1, 2, 3, 4] for seed in range(20))


def test_tasks_that_are_left_end_with_the_run() -> None:
    ended: list[str] = []

    async def background() -> None:
        try:
            await asyncio.sleep(1e9)
        finally:
            ended.append("background")

    async def leave_it() -> asyncio.Task[None]:
        task = asyncio.ensure_future(background())
        await asyncio.sleep(1)
        return task

    assert run(leave_it()).cancelled()
    assert ended == ["background"]


def test_chance_is_a_function_of_the_seed() -> None:
    first, again, other = (SeededRng(seed) for seed in (1, 1, 2))
    assert (first.seed(), first.uid(), first.jitter()) == (
        again.seed(),
        again.uid(),
        again.jitter(),
    )
    assert first.uid() != other.uid()
