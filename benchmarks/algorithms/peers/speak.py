# SPDX-License-Identifier: Apache-2.0
"""The method's side of the benchmark's pipe: JSON lines, standard library only.

Runs in the environment of the method. `serve` answers, one line each:

    {"start": {"space": [...], "seed": 0, "parallel": 8, "trials": 60}}  ->  {"version": "5.0.0"}
    {"ask": 8}                                            ->  {"points": [{"x": 1.5}, ...]}
    {"tell": [0.1, ...]}                                  ->  {"cpu": 0.71}

`tell` gives the losses of the points asked last; `cpu` is the processor seconds of this process
spent in the search since its start; a short search before the first one loads and compiles. A
failure is {"error": "..."}; the search is over then, and another can be started.
"""

from __future__ import annotations

import json
import os
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import IO, Any, Protocol

Point = dict[str, Any]
_AB = ("a", "b")


@dataclass(frozen=True)
class Axis:
    """A parameter. `kind` is double, int or choice; `log`: searched on the logarithmic scale."""

    name: str
    kind: str
    low: float = 0
    high: float = 0
    log: bool = False
    choices: tuple[str, ...] = ()

    def plain(self, value: Any) -> Any:
        """A library's number or text as one that JSON knows."""
        kinds: dict[str, Callable[[Any], Any]] = {"int": int, "double": float, "choice": str}
        return kinds[self.kind](value)


@dataclass(frozen=True)
class Start:
    """A search. `parallel` points are asked at a time, `trials` in all."""

    space: tuple[Axis, ...]
    seed: int
    parallel: int
    trials: int


class Search(Protocol):
    """One search by a method; points are asked and told in turn."""

    def ask(self, count: int) -> list[Point]: ...

    def tell(self, points: Sequence[Point], losses: Sequence[float]) -> None: ...


class _Service:
    def __init__(self, version: str, make: Callable[[Start], Search]) -> None:
        self._version = version
        self._make = make
        self._search: Search | None = None
        self._asked: list[Point] = []
        self._cpu = 0.0

    def answer(self, request: dict[str, Any]) -> dict[str, Any]:
        began = time.process_time()
        if "start" in request:
            self._cpu = 0.0
            self._search = self._make(_start(request["start"]))
            self._cpu += time.process_time() - began
            return {"version": self._version}
        if self._search is None:
            raise RuntimeError("no search was started")
        if "ask" in request:
            self._asked = self._search.ask(request["ask"])
            self._cpu += time.process_time() - began
            return {"points": self._asked}
        self._search.tell(self._asked, request["tell"])
        self._cpu += time.process_time() - began
        return {"cpu": self._cpu}


def _start(given: dict[str, Any]) -> Start:
    axes = tuple(Axis(**{**a, "choices": tuple(a.get("choices", ()))}) for a in given["space"])
    return Start(axes, given["seed"], given["parallel"], given["trials"])


def serve(version: str, make: Callable[[Start], Search]) -> None:
    """Answers until standard input ends. What libraries print goes to standard error."""
    replies = _replies()
    _warm_up(make)
    service = _Service(version, make)
    for line in sys.stdin:
        try:
            reply = service.answer(json.loads(line))
        except Exception as error:  # noqa: BLE001 - the other side records it and goes on
            traceback.print_exc()
            reply = {"error": f"{type(error).__name__}: {error}"[:300]}
        replies.write(json.dumps(reply) + "\n")
        replies.flush()


def _warm_up(make: Callable[[Start], Search]) -> None:
    """A short search, so that what is imported or compiled when first used is not measured."""
    space = (Axis("x", "double", 0.1, 1), Axis("n", "int", 0, 9), Axis("c", "choice", choices=_AB))
    search = make(Start(space, seed=0, parallel=1, trials=60))
    for i in range(12):
        points = search.ask(1)
        search.tell(points, [float(i % 5)])


def _replies() -> IO[str]:
    replies = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    return replies
