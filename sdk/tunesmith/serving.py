# SPDX-License-Identifier: Apache-2.0
"""Controls one machine's experiments until told to end: `tunesmith serve` (with the API) and
`tunesmith controller` (without). Called by `Client.serve`."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tunesmith.errors import StateUnusable
from tunesmith.follower import Interrupt, Notice
from tunesmith.following import controlling
from tunesmith_api.resources import Experiment
from tunesmith_controller.embedded import LocalPlane

_POLL_S = 0.05
_API_WITHIN_S = 30.0


@dataclass(frozen=True, slots=True)
class Served:
    """What is up. `url` and `kubeconfig` are None without an API."""

    home: Path
    url: str | None = None
    kubeconfig: Path | None = None


async def serve(
    plane: LocalPlane,
    interrupt: Interrupt,
    *,
    with_api: bool,
    ready: Callable[[Served], None],
    notice: Notice,
) -> int:
    """Controls until interrupted, and serves where the plane's settings say so; how many trials
    run on. Raises StateUnusable when another process has the lease or the API does not come up."""
    interrupt.attach(asyncio.get_running_loop())
    _take_lease(plane)
    try:
        async with controlling(plane.control(notice=notice)) as control:
            ready(await _api(plane.home, control) if with_api else Served(plane.home))
            await _ended(control, interrupt)
        return await _running_on(plane)
    finally:
        plane.lease.release()


def _take_lease(plane: LocalPlane) -> None:
    if not plane.lease.try_acquire():
        holder = plane.lease.holder()
        who = f"process {holder}" if holder else "another process"
        raise StateUnusable(
            f"{who} controls the state directory {plane.home} already",
            "end it first, or use another directory: TUNESMITH_HOME=DIR tunesmith serve",
        )


async def _api(home: Path, control: asyncio.Task[None]) -> Served:
    """Waits until the API is up. Raises StateUnusable."""
    from tunesmith_controller.apiserver.address import find_api  # noqa: PLC0415 - loads an HTTP stack

    deadline = asyncio.get_running_loop().time() + _API_WITHIN_S
    while (found := find_api(home)) is None:
        if control.done() or asyncio.get_running_loop().time() > deadline:
            break
        await asyncio.wait([control], timeout=_POLL_S)
    if found is None and not control.done():
        raise StateUnusable(f"the API did not come up within {_API_WITHIN_S:g} seconds")
    return Served(home, found.url if found else None, home / "kubeconfig")


async def _ended(control: asyncio.Task[None], interrupt: Interrupt) -> None:
    """Waits for the interrupt, or for a controller that ends by itself (which is an error)."""
    waiting = asyncio.ensure_future(interrupt.changed.wait())
    try:
        await asyncio.wait([control, waiting], return_when=asyncio.FIRST_COMPLETED)
    finally:
        waiting.cancel()


async def _running_on(plane: LocalPlane) -> int:
    listed = await plane.store.list("Experiment")
    return sum(Experiment.parse(obj).status.trials_running for obj in listed.items)
