# SPDX-License-Identifier: Apache-2.0
"""ProcessAlgorithmHost: the child that every experiment shares, started, killed, broken, ended."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import tempfile
import textwrap
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import service_processes
from service_processes import SUGGESTION, assert_nobody_answers, ready, restarted, settled

from tunesmith_api.problem import History
from tunesmith_controller.hosts.grpc_suggestions import GrpcSuggestionClient
from tunesmith_controller.hosts.process_host import MODULE, ProcessAlgorithmHost
from tunesmith_controller.ports import Ask, Endpoint, HostFailed, NotReady, Suggested
from tunesmith_suggestion.testing import a_problem

pytestmark = pytest.mark.integration


@pytest.fixture
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="ts-") as name:
        yield Path(name)


@asynccontextmanager
async def host_in(
    folder: Path, *, command: tuple[str, ...] = MODULE, foreign: dict[str, str] | None = None
) -> AsyncIterator[ProcessAlgorithmHost]:
    log = folder / "suggestion.log"
    host = ProcessAlgorithmHost(folder, log, foreign=foreign, command=command)
    try:
        yield host
    finally:
        await host.aclose()


def test_the_first_ensure_starts_the_service_and_does_not_wait(folder: Path) -> None:
    async def story() -> None:
        async with host_in(folder) as host:
            assert host.pid is None
            first = await host.ensure(SUGGESTION, "tpe")
            assert first == NotReady("the suggestion service is starting")
            endpoint = await ready(host)
            started = host.pid
            assert await host.ensure(SUGGESTION, "random") == endpoint
            assert host.pid == started

    asyncio.run(story())


def test_a_killed_service_is_started_again_at_the_same_place(folder: Path) -> None:
    async def story() -> None:
        client = GrpcSuggestionClient()
        ask = Ask("id", a_problem("random"), History(), 0, 2)
        async with host_in(folder) as host:
            endpoint = await ready(host)
            before = await client.suggest(endpoint, ask)
            for _ in range(3):
                killed = host.pid
                assert killed is not None
                os.kill(killed, signal.SIGKILL)
                assert await restarted(host, killed) == endpoint
                assert await client.suggest(endpoint, ask) == before
        await client.close()

    asyncio.run(story())


def test_a_call_survives_a_kill_that_nobody_waited_for(folder: Path) -> None:
    async def story() -> None:
        client = GrpcSuggestionClient()
        ask = Ask("id", a_problem("random"), History(), 0, 2)
        async with host_in(folder) as host:
            endpoint = await ready(host)
            before = await client.suggest(endpoint, ask)
            assert host.pid is not None
            os.kill(host.pid, signal.SIGKILL)
            assert await client.suggest(endpoint, ask) == before
        await client.close()

    asyncio.run(story())


def test_a_service_that_cannot_start_fails_with_its_last_words(folder: Path) -> None:
    script = "import sys; print('no libfoo.so here', file=sys.stderr); sys.exit(3)"

    async def story() -> None:
        async with host_in(folder, command=(sys.executable, "-c", script)) as host:
            state = await settled(host, lambda found: isinstance(found, HostFailed))
            assert isinstance(state, HostFailed)
            for words in ("5 times", "exit status 3", "no libfoo.so here", "suggestion.log"):
                assert words in state.reason
            assert await host.ensure(SUGGESTION, "tpe") == state

    asyncio.run(story())


def test_a_program_that_does_not_exist_is_a_failure_too(folder: Path) -> None:
    async def story() -> None:
        async with host_in(folder, command=("/nonexistent/python",)) as host:
            state = await settled(host, lambda found: isinstance(found, HostFailed))
            assert isinstance(state, HostFailed) and "/nonexistent/python" in state.reason

    asyncio.run(story())


def test_foreign_algorithms_are_at_their_address_and_start_nothing(folder: Path) -> None:
    async def story() -> None:
        async with host_in(folder, foreign={"my-algo": "127.0.0.1:6789"}) as host:
            assert await host.ensure(SUGGESTION, "my-algo") == Endpoint("127.0.0.1:6789")
            assert host.pid is None

    asyncio.run(story())


def test_a_folder_too_deep_for_a_socket_is_replaced_by_a_private_short_one(folder: Path) -> None:
    async def story() -> None:
        deep = folder / ("d" * 120)
        async with host_in(deep) as host:
            place = Path((await ready(host)).target.removeprefix("unix:"))
            assert deep not in place.parents
            assert place.parent.stat().st_mode & 0o077 == 0
        assert not place.parent.exists()

    asyncio.run(story())


def test_closing_ends_the_service_and_removes_its_socket(folder: Path) -> None:
    async def story() -> None:
        async with host_in(folder) as host:
            place = Path((await ready(host)).target.removeprefix("unix:"))
            assert host.pid is not None
        assert host.pid is None and not place.exists()
        assert isinstance(await host.ensure(SUGGESTION, "tpe"), HostFailed)

    asyncio.run(story())


def test_a_users_file_named_like_a_module_does_not_break_the_service(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "numpy.py").write_text("raise SystemExit('shadowed')")
    monkeypatch.chdir(folder)

    async def story() -> None:
        async with host_in(folder) as host:
            client = GrpcSuggestionClient()
            ask = Ask("id", a_problem("random"), History(), 0, 1)
            assert isinstance(await client.suggest(await ready(host), ask), Suggested)
            await client.close()

    asyncio.run(story())


def test_the_service_ends_with_a_controller_that_is_killed(folder: Path) -> None:
    script = """
        import asyncio, sys
        from pathlib import Path
        from service_processes import ready
        from tunesmith_controller.hosts.process_host import ProcessAlgorithmHost

        async def main():
            folder = Path(sys.argv[1])
            print((await ready(ProcessAlgorithmHost(folder, folder / "log"))).target, flush=True)
            await asyncio.Event().wait()

        asyncio.run(main())
    """
    controller = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(script), str(folder)],
        cwd=Path(service_processes.__file__).parent,
        stdout=subprocess.PIPE,
    )
    assert controller.stdout is not None
    target = controller.stdout.readline().decode().strip()
    assert target.startswith("unix:")
    controller.kill()
    controller.communicate()
    assert_nobody_answers(Path(target.removeprefix("unix:")))


def test_what_cannot_even_be_tried_is_a_failure_and_not_a_slow_start(folder: Path) -> None:
    async def story() -> None:
        # Half a character: no program can be given it.
        async with host_in(folder, command=("\ud800",)) as host:
            state = await settled(host, lambda found: isinstance(found, HostFailed))
            assert isinstance(state, HostFailed)
            assert "cannot be kept running: UnicodeEncodeError" in state.reason
            assert await host.ensure(SUGGESTION, "tpe") == state

    asyncio.run(story())
