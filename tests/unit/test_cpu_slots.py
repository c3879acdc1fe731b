# SPDX-License-Identifier: Apache-2.0
"""CPU quantities, and the queue for the CPUs of one machine."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunesmith_controller.workloads.slots import CpuSlots, cpu_millis


@pytest.mark.parametrize(
    ("quantity", "millis"),
    [
        *[(1, 1000), (0.5, 500), ("2", 2000), ("1.0", 1000), ("500m", 500), (".5", 500)],
        *[("1e3m", 1000), ("100u", 1), ("0.0001", 1), ("2k", 2_000_000), ("+1", 1000)],
    ],
)
def test_quantities_are_read_as_kubernetes_reads_them(quantity: object, millis: int) -> None:
    assert cpu_millis(quantity) == millis


@pytest.mark.parametrize("quantity", ["", "m", "1 m", "1Gi", "-1", 0, "nan", True, None, "1e999"])
def test_what_is_no_quantity_above_zero_is_refused(quantity: object) -> None:
    with pytest.raises(ValueError, match=r"is no CPU quantity|is not above zero"):
        cpu_millis(quantity)


def test_the_first_in_the_queue_is_not_overtaken_by_a_smaller_one() -> None:
    slots: CpuSlots[str] = CpuSlots(4000)
    slots.hold("running", 3000)
    slots.wait("large", 2000)
    slots.wait("small", 500)
    assert slots.admit() == []
    assert slots.why_waiting("large") == "waiting for 2 CPUs (1 of 4 free)"
    assert slots.why_waiting("small") == "waiting for 0.5 CPUs (1 of 4 free, 1 ahead of it)"
    slots.release("running")
    assert slots.admit() == ["large", "small"]


def test_more_than_there_is_waits_for_all_of_it() -> None:
    slots: CpuSlots[str] = CpuSlots(2000)
    slots.wait("huge", 64_000)
    assert slots.admit() == ["huge"]
    assert slots.free == 0


@given(
    st.lists(st.integers(1, 5000), min_size=1, max_size=30),
    st.lists(st.integers(0, 29), max_size=60),
)
def test_everybody_gets_a_turn_in_order_and_never_is_more_held_than_there_is(
    wishes: list[int], ends: list[int]
) -> None:
    slots: CpuSlots[int] = CpuSlots(4000)
    for number, millis in enumerate(wishes):
        slots.wait(number, millis)
    admitted: list[int] = []
    for end in [*ends, *range(len(wishes))]:
        admitted += slots.admit()
        held = [number for number in admitted if slots.holds(number)]
        assert sum(min(wishes[number], 4000) for number in held) <= 4000
        if end in held:
            slots.release(end)
    assert admitted == list(range(len(wishes)))
