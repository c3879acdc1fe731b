# SPDX-License-Identifier: Apache-2.0
"""Limits of a Job's container as options of podman or docker."""

from __future__ import annotations

from typing import Any

import pytest

from tunesmith_controller.workloads.container_limits import Abilities, memory_bytes, options


@pytest.mark.parametrize(
    ("quantity", "size"),
    [
        ("512Mi", 512 << 20),
        ("1Ki", 1024),
        ("1k", 1000),
        ("2G", 2_000_000_000),
        ("1.5Gi", 3 << 29),
        (1_000_000, 1_000_000),
        ("1e6", 1_000_000),
        ("1500m", 2),
    ],
)
def test_memory_is_read_as_kubernetes_reads_it(quantity: object, size: int) -> None:
    assert memory_bytes(quantity) == size


@pytest.mark.parametrize("quantity", ["", "1KB", "Mi", "-1", "0", "1 Gi", True, "1K", None])
def test_what_is_no_amount_of_memory_is_refused(quantity: object) -> None:
    with pytest.raises(ValueError, match=r"no amount of memory|not above zero"):
        memory_bytes(quantity)


@pytest.mark.parametrize(
    ("able", "expected"),
    [
        (Abilities(4, True), ["--cpus", "0.5", "--memory", "1024b"]),
        (Abilities(4, False), ["--cpus", "0.5"]),
        (Abilities(0, True), ["--memory", "1024b"]),
        (Abilities(), []),
    ],
)
def test_only_what_can_be_limited_is(able: Abilities, expected: list[str]) -> None:
    limits: dict[str, Any] = {"cpu": "500m", "memory": "1Ki", "nvidia.com/gpu": 1}
    assert options(limits, able) == expected


def test_more_cpus_than_there_are_become_all_of_them() -> None:
    assert options({"cpu": 64}, Abilities(2, True)) == ["--cpus", "2"]
