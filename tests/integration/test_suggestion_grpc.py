# SPDX-License-Identifier: Apache-2.0
"""The gRPC shell and the gRPC client against each other's edges, over sockets in one process."""

from __future__ import annotations

import asyncio
import tempfile
import threading
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest

from tunesmith_api.errors import Invalid, Unavailable
from tunesmith_api.problem import Exhausted, History, Problem, Proposal
from tunesmith_controller.hosts.grpc_suggestions import GrpcSuggestionClient
from tunesmith_controller.ports import Ask, Endpoint, SearchEnded, Suggested
from tunesmith_proto import wire
from tunesmith_proto.katib import api_pb2 as pb
from tunesmith_suggestion.algorithms.random import RandomSearch
from tunesmith_suggestion.katib import KatibCore
from tunesmith_suggestion.protocol import Algorithm
from tunesmith_suggestion.registry import Registry
from tunesmith_suggestion.server import ServerOptions, SuggestionServer
from tunesmith_suggestion.testing import SPACE, a_history, a_problem

pytestmark = pytest.mark.integration

Answer = Proposal | Exhausted


@pytest.fixture
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="ts-") as name:
        yield Path(name)


def ask(algorithm: str = "random", *, told: int = 0, count: int = 2, uid: str = "uid-1") -> Ask:
    problem = a_problem(algorithm, uid=uid)
    return Ask(f"{uid}/{told}/{count}", problem, a_history(SPACE, told), told, count)


class Scripted(RandomSearch):
    """Does what a test says instead of proposing."""

    name = "scripted"

    def __init__(self, act: Callable[[Problem], Answer]) -> None:
        self._act = act

    def suggest(self, problem: Problem, history: History, ordinals: range, recorded: str) -> Answer:
        return self._act(problem)


@asynccontextmanager
async def ours(folder: Path, algorithm: Algorithm) -> AsyncIterator[Endpoint]:
    """Our server with one scripted algorithm."""
    options = ServerOptions(f"unix:{folder}/ours.sock", workers=4)
    server = SuggestionServer(options, Registry({"scripted": lambda: algorithm}))
    try:
        yield Endpoint(await server.start())
    finally:
        await server.stop(grace=0)


class KatibService:
    """A service that knows Katib's protocol only, and notes what it was sent."""

    def __init__(self, most: int = 99, core: KatibCore | None = None) -> None:
        self._core = core or KatibCore()
        self._most = most
        self.requests: list[pb.GetSuggestionsRequest] = []

    async def GetSuggestions(
        self, request: pb.GetSuggestionsRequest, context: Any
    ) -> pb.GetSuggestionsReply:
        self.requests.append(request)
        reply = self._core.suggest(request)
        del reply.parameter_assignments[self._most :]
        return reply


class ValidatingKatibService(KatibService):
    async def ValidateAlgorithmSettings(
        self, request: pb.ValidateAlgorithmSettingsRequest, context: Any
    ) -> pb.ValidateAlgorithmSettingsReply:
        await context.abort(grpc.StatusCode.INVALID_ARGUMENT, "sigma must be positive")
        return pb.ValidateAlgorithmSettingsReply()


@asynccontextmanager
async def katibs(folder: Path, service: KatibService) -> AsyncIterator[Endpoint]:
    server: Any = grpc.aio.server()
    server.add_generic_rpc_handlers((wire.handler(wire.KATIB_SUGGESTION, service),))
    server.add_insecure_port(f"unix:{folder}/katib.sock")
    await server.start()
    try:
        yield Endpoint(f"unix:{folder}/katib.sock")
    finally:
        await server.stop(None)


@asynccontextmanager
async def client(deadline_s: float = 20.0) -> AsyncIterator[GrpcSuggestionClient]:
    made = GrpcSuggestionClient(deadline_s=deadline_s, reconnect_s=0.2)
    try:
        yield made
    finally:
        await made.close()


# ---- Katib's images -----------------------------------------------------------------------------


def test_a_service_of_katib_is_asked_with_the_full_history_every_time(folder: Path) -> None:
    async def story() -> None:
        service = KatibService()
        async with katibs(folder, service) as endpoint, client() as asking:
            for told in (0, 5, 9):
                answer = await asking.suggest(endpoint, ask(told=told))
                assert isinstance(answer, Suggested) and len(answer.assignments) == 2
        assert [len(request.trials) for request in service.requests] == [0, 5, 9]
        assert [request.total_request_number for request in service.requests] == [2, 7, 11]

    asyncio.run(story())


@pytest.mark.parametrize(("most", "want"), [(1, 1), (0, None)])
def test_fewer_assignments_are_fine_and_none_end_the_search(
    folder: Path, most: int, want: int | None
) -> None:
    async def story() -> Suggested | SearchEnded:
        async with katibs(folder, KatibService(most)) as endpoint, client() as asking:
            return await asking.suggest(endpoint, ask(count=3))

    answer = asyncio.run(story())
    got = len(answer.assignments) if isinstance(answer, Suggested) else None
    assert got == want


@pytest.mark.parametrize(
    ("service", "problems"),
    [(KatibService(), []), (ValidatingKatibService(), ["sigma must be positive"])],
)
def test_katibs_validation_is_used_where_there_is_one(
    folder: Path, service: KatibService, problems: Sequence[str]
) -> None:
    async def story() -> Sequence[str]:
        async with katibs(folder, service) as endpoint, client() as asking:
            return await asking.validate(endpoint, a_problem("cmaes"))

    assert asyncio.run(story()) == problems


# ---- failures -----------------------------------------------------------------------------------


def test_a_defect_of_an_algorithm_reaches_the_log_and_not_the_caller(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(problem: Problem) -> Answer:
        raise ZeroDivisionError("secret detail")

    async def story() -> None:
        async with ours(folder, Scripted(broken)) as endpoint, client() as asking:
            await asking.suggest(endpoint, ask("scripted"))

    with pytest.raises(Unavailable) as failed:
        asyncio.run(story())
    assert "INTERNAL: algorithm 'scripted' failed; the log" in str(failed.value)
    assert "secret" not in str(failed.value)
    assert "secret detail" in caplog.text and "Traceback" in caplog.text


def test_nobody_there_is_unavailable(folder: Path) -> None:
    async def story() -> None:
        async with client() as asking:
            await asking.suggest(Endpoint(f"unix:{folder}/nobody.sock"), ask())

    with pytest.raises(Unavailable, match=r"nobody.sock: (UNAVAILABLE|DEADLINE_EXCEEDED)"):
        asyncio.run(story())


def test_bad_requests_are_invalid(folder: Path) -> None:
    async def story() -> None:
        async with (
            ours(folder, Scripted(lambda _: Exhausted("done"))) as endpoint,
            client() as asking,
        ):
            await asking.suggest(endpoint, ask("scripted", count=1001))

    with pytest.raises(Invalid, match="at most 1000"):
        asyncio.run(story())


# ---- one computation an experiment --------------------------------------------------------------


class Gate:
    """An algorithm's body that waits until it is let through and notes who is inside."""

    def __init__(self) -> None:
        self.entered = threading.Semaphore(0)
        self.open = threading.Event()
        self.inside: Counter[str] = Counter()
        self.most_inside = 0
        self.calls = 0
        self._lock = threading.Lock()

    def __call__(self, problem: Problem) -> Answer:
        uid = problem.experiment_uid
        with self._lock:
            self.calls += 1
            self.inside[uid] += 1
            self.most_inside = max(self.most_inside, self.inside[uid])
        self.entered.release()
        self.open.wait(20)
        with self._lock:
            self.inside[uid] -= 1
        return Exhausted("done")

    async def someone_is_inside(self) -> None:
        assert await asyncio.to_thread(self.entered.acquire, timeout=20)


def test_calls_of_one_experiment_follow_each_other_and_others_do_not_wait(folder: Path) -> None:
    gate = Gate()

    async def story() -> None:
        async with ours(folder, Scripted(gate)) as endpoint, client() as asking:
            same = [
                asyncio.create_task(asking.suggest(endpoint, ask("scripted", told=told)))
                for told in (1, 2, 3)
            ]
            await gate.someone_is_inside()
            other = asyncio.create_task(asking.suggest(endpoint, ask("scripted", uid="other")))
            await gate.someone_is_inside()
            gate.open.set()
            await asyncio.gather(*same, other)

    asyncio.run(story())
    assert gate.calls == 4 and gate.most_inside == 1


def test_a_caller_that_gave_up_finds_the_answer_when_it_asks_again(folder: Path) -> None:
    gate = Gate()

    async def story() -> Suggested | SearchEnded:
        async with ours(folder, Scripted(gate)) as endpoint:
            async with client(deadline_s=0.3) as hasty:
                with pytest.raises(Unavailable, match="DEADLINE_EXCEEDED"):
                    await hasty.suggest(endpoint, ask("scripted"))
            await gate.someone_is_inside()
            async with client() as asking:
                waiting = asyncio.create_task(asking.suggest(endpoint, ask("scripted")))
                other = asyncio.create_task(asking.suggest(endpoint, ask("scripted", uid="other")))
                await gate.someone_is_inside()
                gate.open.set()
                await other
                return await waiting

    assert asyncio.run(story()) == SearchEnded("done")
    assert gate.calls == 2 and gate.most_inside == 1
