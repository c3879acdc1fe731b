# SPDX-License-Identifier: Apache-2.0
"""One controller process as its ports see it: connections that fail by plan, and a sudden end.

A `Life` hands a controller proxies of the durable ports. Each call is a step of the `FaultPlan`; it
takes effect in one instant, and before and after it others run. When a life ends, nothing that its
tasks still do reaches a port. `world` starts one life after the other.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any, Final, NoReturn, cast

from faults import Fault, FaultPlan, Kind, Place
from virtual_loop import SeededRng, context_listing

from tunesmith_api.observations import ObservationLog
from tunesmith_controller.ports import (
    AlgorithmHost,
    Conflict,
    Expired,
    Key,
    ObjectStore,
    PortError,
    Ports,
    SuggestionClient,
    TrialRun,
    Unavailable,
    Workloads,
)

_STREAMS: Final = frozenset({"watch", "changed"})


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What lives share. `applied` is called after every call that took effect, `happen` when a
    fault of the world is due, `replaced` when the next life has to start; `moment` names the state
    of the world; `latency` draws how long, in seconds, a message travels."""

    plan: FaultPlan
    applied: Callable[[str, str, Any], None] = lambda port, method, result: None
    happen: Callable[[Fault], None] = lambda fault: None
    moment: Callable[[], object] = lambda: None
    latency: Callable[[], float] = lambda: 0.0
    replaced: Callable[[], None] = lambda: None


class Life:
    """One life of a controller: its tasks and its connections, which end together."""

    def __init__(self, number: int, around: Surroundings) -> None:
        self.number = number
        self.is_over = asyncio.Event()
        self.is_replaced = False
        self._around = around
        self._tasks: list[asyncio.Task[Any]] = []

    @property
    def next_is_due(self) -> bool:
        """Whether another life has to start."""
        return self.is_replaced or self.is_over.is_set()

    def ports(self, world: Ports) -> Ports:
        """The world as this life reaches it."""
        return replace(
            world,
            store=cast(ObjectStore, _Proxy(self, "store", world.store)),
            workloads=cast(Workloads, _Proxy(self, "workloads", world.workloads)),
            host=cast(AlgorithmHost, _Proxy(self, "host", world.host)),
            suggestions=cast(SuggestionClient, _Proxy(self, "suggestions", world.suggestions)),
            observations=cast(ObservationLog, _Proxy(self, "observations", world.observations)),
        )

    def start(self, controller: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Runs a controller; every task that it makes is part of this life."""
        loop = asyncio.get_running_loop()
        main = loop.create_task(controller, context=context_listing(self._tasks))
        self._tasks.append(main)
        return main

    def kill(self) -> None:
        """Ends everything at once. Nothing that its tasks still do reaches a port."""
        if self.is_over.is_set():
            return
        self.is_over.set()
        for task in self._tasks:
            task.cancel()

    async def ended(self) -> list[asyncio.Task[Any]]:
        """Tasks that do not end when they are cancelled; empty in a controller that behaves."""
        left = {task for task in self._tasks if not task.done()}
        return sorted(left, key=str) if left and (await asyncio.wait(left, timeout=1))[1] else []

    # ---- what passes ----------------------------------------------------------------------------

    def check(self) -> None:
        """Raises CancelledError when this life is over."""
        if self.is_over.is_set():
            raise asyncio.CancelledError

    def step(self, port: str, method: str, subject: str, *, is_told: bool = False) -> Fault | None:
        """Takes down a step and lets the world suffer what it has to."""
        self.check()
        fault = self._around.plan.step(self.number, port, method, subject, is_told=is_told)
        if fault is not None and fault.kind.is_of_world:
            self._around.happen(fault)
            return None
        return fault

    async def call(
        self, port: str, method: str, call: Callable[[], Coroutine[Any, Any, Any]], subject: str
    ) -> Any:
        fault = self.step(port, method, subject)
        number = len(self._around.plan.steps)
        await self._travel(fault)
        self._note(number, Place.BEFORE)
        if fault is not None and fault.kind is Kind.LATE:
            self._apply_late(fault, port, method, call)
        if fault is not None and fault.kind is Kind.OVERLAP:
            self._outlive_the_next(fault.seconds)
        if fault is not None and fault.place is Place.BEFORE:
            self._fail(fault)
        if fault is not None and fault.kind is Kind.DUPLICATE:
            self._apply(port, method, call)
        try:
            return self._apply(port, method, call)
        finally:
            # A refusal is an answer like any other: it can get lost, and the caller may crash.
            self._note(number, Place.LOST)
            if fault is not None and fault.place is Place.LOST:
                self._fail(fault)
            asyncio.get_running_loop().call_soon(self._after, number, fault)
            if seconds := self._around.latency():
                await asyncio.sleep(seconds)

    async def _travel(self, fault: Fault | None) -> None:
        late = fault.seconds if fault is not None and fault.kind is Kind.DELAY else 0.0
        await asyncio.sleep(self._around.latency() + late)
        self.check()

    def _after(self, number: int, fault: Fault | None) -> None:
        self._note(number, Place.AFTER)
        if fault is not None and fault.kind is Kind.CRASH:
            self.kill()

    def _note(self, number: int, place: Place) -> None:
        self._around.plan.moments[number, place] = self._around.moment()

    def _apply(self, port: str, method: str, call: Callable[[], Coroutine[Any, Any, Any]]) -> Any:
        result = at_once(call())
        self._around.applied(port, method, result)
        return result

    def _apply_late(
        self, fault: Fault, port: str, method: str, call: Callable[[], Coroutine[Any, Any, Any]]
    ) -> NoReturn:
        """The request arrives when its sender has given up, or is dead."""

        def arrive() -> None:
            with suppress(PortError):
                self._apply(port, method, call)

        asyncio.get_running_loop().call_later(fault.seconds, arrive)
        raise Unavailable(f"injected: {fault}")

    def _outlive_the_next(self, seconds: float) -> None:
        self.is_replaced = True
        self._around.replaced()
        asyncio.get_running_loop().call_later(seconds, self.kill)

    def _fail(self, fault: Fault) -> None:
        """Fails the call; a delay or a duplicate does not."""
        if fault.kind is Kind.CRASH:
            self.kill()
            raise asyncio.CancelledError
        if fault.kind in _ERRORS:
            raise _ERRORS[fault.kind](f"injected: {fault}")


_ERRORS: Final[Mapping[Kind, type[Exception]]] = {
    Kind.ERROR: Unavailable,
    Kind.DROP: Unavailable,
    Kind.CONFLICT: Conflict,
    Kind.EXPIRE: Expired,
}


def at_once(call: Coroutine[Any, Any, Any]) -> Any:
    """Runs a call of a durable port in one instant. Such a port lets others run, out of politeness,
    but waits for nothing: TypeError otherwise."""
    while True:
        try:
            waits_for = call.send(None)
        except StopIteration as end:
            return end.value
        if waits_for is not None:
            call.close()
            raise TypeError(f"a port of the simulated world waits for {waits_for!r}")


class _Proxy:
    """A port of one life: the same methods, numbered and failing by plan."""

    def __init__(self, life: Life, port: str, real: object) -> None:
        self._life = life
        self._port = port
        self._real = real

    def __getattr__(self, method: str) -> Callable[..., Any]:
        real = getattr(self._real, method)
        life, port = self._life, self._port
        if method in _STREAMS:
            return lambda *args, **kwargs: _Stream(
                life, port, method, lambda: real(*args, **kwargs), _subject(args)
            )
        return lambda *args, **kwargs: life.call(
            port, method, lambda: real(*args, **kwargs), _subject(args)
        )


class _Stream:
    """A watch of one life. Opening it is a call, everything that it tells is a step."""

    def __init__(
        self,
        life: Life,
        port: str,
        method: str,
        open_: Callable[[], AsyncIterator[Any]],
        subject: str,
    ) -> None:
        self._life = life
        self._port = port
        self._method = method
        self._open = open_
        self._subject = subject
        self._real: AsyncIterator[Any] | None = None

    def __aiter__(self) -> _Stream:
        return self

    async def __anext__(self) -> Any:
        if self._real is None:
            await self._life.call(self._port, self._method, _nothing, self._subject)
            self._real = self._open()
        try:
            told = await anext(self._real)
            await self._pass_on(told)
        except BaseException:
            await _close(self._real)
            raise
        return told

    async def _pass_on(self, told: Any) -> None:
        subject = _told_subject(told)
        fault = self._life.step(self._port, self._method, subject, is_told=True)
        if fault is not None and fault.kind is Kind.DELAY:
            await asyncio.sleep(fault.seconds)
        elif fault is not None:
            raise _ERRORS[fault.kind](f"injected: {fault}")
        self._life.check()


async def _nothing() -> None:
    return None


async def _close(stream: AsyncIterator[Any]) -> None:
    close = getattr(stream, "aclose", None)
    if close is not None:
        await close()


# ---- what a step is about, for people -----------------------------------------------------------


def _subject(args: tuple[Any, ...]) -> str:
    return " ".join(text for arg in args if (text := _named(arg)))


def _told_subject(told: Any) -> str:
    change = getattr(told, "change", None)
    return f"{change} {_named(told.object)}" if change is not None else _named(told)


def _named(arg: Any) -> str:
    match arg:
        case str() | int():
            return str(arg)
        case Key():
            return f"{arg.kind}/{arg.name}"
        case TrialRun():
            return f"{arg.trial.name} attempt {arg.attempt}"
        case {"kind": str(kind), "metadata": {"name": str(name)}}:
            return f"{kind}/{name}"
        case _:
            return str(getattr(arg, "request_id", ""))


def random_latency(seed: int | str) -> Callable[[], float]:
    """Mostly none, sometimes some milliseconds, rarely more than a second."""
    chance = SeededRng(seed)

    def latency() -> float:
        draw = chance.jitter()
        if draw < 0.7:
            return 0.0
        return 0.005 * (draw - 0.7) if draw < 0.97 else 1.5 * chance.jitter()

    return latency
