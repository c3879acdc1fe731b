# SPDX-License-Identifier: Apache-2.0
"""`ProcessAlgorithmHost`: the AlgorithmHost port as one child process for all experiments.

The service is started at the first need, listens on a Unix socket that only this user can reach,
is restarted when it dies, and ends with this process. `ensure` never waits; a background task does.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import shutil
import signal
import sys
import tempfile
from asyncio.subprocess import Process
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import BinaryIO, Final

import grpc
import grpc.aio
from grpc_health.v1 import health_pb2, health_pb2_grpc

from tunesmith_controller.ports import Endpoint, HostFailed, Key, NotReady

MODULE: Final = (sys.executable, "-P", "-m", "tunesmith_suggestion")
"""-P: a file of the user's folder must not shadow a module of the service."""
START_S: Final = 30.0
"""A service that does not answer for this long after its start is ended and started again."""
STEADY_S: Final = 60.0
"""A service that lived this long begins with the shortest backoff again."""
COOL_DOWN_S: Final = 30.0
"""After HostFailed, when a start is tried again."""
MAX_FAILED_STARTS: Final = 5
_FIRST_BACKOFF_S: Final = 0.1
_LONGEST_BACKOFF_S: Final = 2.0
_STOP_S: Final = 3.0
_MAX_SOCKET_PATH: Final = 107
_OF_URIS: Final = frozenset("%?#")
_MAX_LOG_BYTES: Final = 5 * 1024 * 1024
_SHOWN_LINES: Final = 8

State = Endpoint | NotReady | HostFailed
_log = logging.getLogger(__name__)


class ProcessAlgorithmHost:
    """`folder` belongs to this controller alone and holds the socket; `log` gets the output.

    `foreign` are algorithms that other services answer: name -> gRPC target.
    """

    def __init__(
        self,
        folder: Path,
        log: Path,
        *,
        foreign: Mapping[str, str] | None = None,
        command: Sequence[str] = MODULE,
    ) -> None:
        self._folder = folder
        self._log = log
        self._foreign = dict(foreign or {})
        self._command = tuple(command)
        self._state: State = NotReady("the suggestion service is not started")
        self._keeper: asyncio.Task[None] | None = None
        self._child: Process | None = None
        self._socket: Path | None = None
        self._temporary: Path | None = None
        self._retry_at = 0.0

    @property
    def pid(self) -> int | None:
        """Of the running service."""
        return self._child.pid if self._child and self._child.returncode is None else None

    async def ensure(self, suggestion: Key, algorithm: str) -> State:
        if algorithm in self._foreign:
            return Endpoint(self._foreign[algorithm])
        loop = asyncio.get_running_loop()
        if self._keeper is None or (self._keeper.done() and loop.time() >= self._retry_at):
            self._state = NotReady("the suggestion service is starting")
            self._keeper = loop.create_task(self._keep())
        return self._state

    async def release(self, suggestion: Key) -> None:
        """The service is shared and stays; it forgets an experiment by itself."""

    async def aclose(self) -> None:
        """Ends the service and removes its socket."""
        if self._keeper is not None:
            self._keeper.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._keeper
        if self._child is not None:
            await _end(self._child)
        if self._socket is not None:
            self._socket.unlink(missing_ok=True)
        if self._temporary is not None:
            shutil.rmtree(self._temporary, ignore_errors=True)
        self._state = HostFailed("the suggestion service was shut down")
        self._retry_at = float("inf")

    async def _keep(self) -> None:
        try:
            await self._keep_running()
        except Exception as error:  # noqa: BLE001 - whatever it is, people are told
            # A defect may not look like a service that is about to start.
            _log.exception("cannot keep the suggestion service running")
            self._retry_at = asyncio.get_running_loop().time() + COOL_DOWN_S
            self._state = HostFailed(
                f"the suggestion service cannot be kept running: {type(error).__name__}: {error}"
            )

    async def _keep_running(self) -> None:
        """Starts the service again and again until it cannot be started at all."""
        loop = asyncio.get_running_loop()
        failed_starts = restarts = 0
        while True:
            started = loop.time()
            offset = _log_size(self._log)
            ended = await self._run_once()
            # Killed by a signal is somebody else's doing, however often: only a service that
            # ends by itself, or never answers, cannot be started.
            by_itself = isinstance(self._state, NotReady) and not self._was_killed()
            failed_starts = failed_starts + 1 if by_itself else 0
            restarts = restarts + 1 if loop.time() - started < STEADY_S else 0
            if failed_starts == MAX_FAILED_STARTS:
                self._retry_at = loop.time() + COOL_DOWN_S
                self._state = HostFailed(self._why_not(ended, offset))
                return
            self._state = NotReady(f"the suggestion service {ended} and is being restarted")
            await asyncio.sleep(
                min(_FIRST_BACKOFF_S * 2 ** max(restarts - 1, 0), _LONGEST_BACKOFF_S)
            )

    def _was_killed(self) -> bool:
        return self._child is not None and (self._child.returncode or 0) < 0

    async def _run_once(self) -> str:
        """One life of the service; how it ended. The state is Endpoint once it answered."""
        try:
            socket = self._place()
            child = self._child = await self._spawn(socket)
        except OSError as error:
            return f"could not be started ({error})"
        target = f"unix:{socket}"
        if not await _answers(target, child):
            await _end(child)
            return f"ended before it answered ({_exit_words(child.returncode)})"
        self._state = Endpoint(target)
        return f"ended ({_exit_words(await child.wait())})"

    async def _spawn(self, socket: Path) -> Process:
        with _open_log(self._log) as log:
            return await asyncio.create_subprocess_exec(
                *self._command,
                "--listen",
                f"unix:{socket}",
                "--exit-with-parent",
                stdin=asyncio.subprocess.PIPE,
                stdout=log,
                stderr=log,
                # Its own session: Ctrl-C is for the controller, which then ends it in order.
                start_new_session=True,
                # One thread a fit: parallelism is across experiments.
                env={"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"} | dict(os.environ),
            )

    def _place(self) -> Path:
        """The socket's path, always the same one; in a plain short folder when ours is not."""
        if self._socket is None:
            folder = self._folder.absolute()
            if not _is_socket_path(folder / "suggestion" / "service.sock"):
                folder = self._temporary = Path(tempfile.mkdtemp(prefix="tunesmith-", dir="/tmp"))
            private = folder / "suggestion"
            private.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._socket = private / "service.sock"
        return self._socket

    def _why_not(self, ended: str, offset: int) -> str:
        lines = _last_lines(self._log, offset)
        said = f"; its last lines: {' | '.join(lines)}" if lines else ""
        return (
            f"the suggestion service could not be started {MAX_FAILED_STARTS} times: it {ended}"
            f"{said}; the whole log is {self._log}"
        )


def _is_socket_path(path: Path) -> bool:
    """Whether it fits a socket's address and means itself in the URI that gRPC makes of it."""
    return len(os.fsencode(path)) <= _MAX_SOCKET_PATH and not _OF_URIS.intersection(str(path))


async def _answers(target: str, child: Process) -> bool:
    """Whether the service says SERVING before it ends or its time is up."""
    async with grpc.aio.insecure_channel(target, options=_PROBE_OPTIONS) as channel:
        check = asyncio.ensure_future(_serving(channel))
        ended = asyncio.ensure_future(child.wait())
        try:
            await asyncio.wait({check, ended}, return_when=asyncio.FIRST_COMPLETED)
            return check.done() and check.result()
        finally:
            check.cancel()
            ended.cancel()


_PROBE_OPTIONS: Final = (
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.initial_reconnect_backoff_ms", 20),
    ("grpc.min_reconnect_backoff_ms", 20),
    ("grpc.max_reconnect_backoff_ms", 100),
)


async def _serving(channel: grpc.aio.Channel) -> bool:
    try:
        reply = await health_pb2_grpc.HealthStub(channel).Check(
            health_pb2.HealthCheckRequest(), timeout=START_S, wait_for_ready=True
        )
    except grpc.aio.AioRpcError:
        return False
    return bool(reply.status == health_pb2.HealthCheckResponse.SERVING)


async def _end(child: Process) -> None:
    """Asks the process to end, then makes it."""
    if child.returncode is not None:
        return
    with contextlib.suppress(ProcessLookupError):
        child.terminate()
    try:
        await asyncio.wait_for(child.wait(), _STOP_S)
    except TimeoutError:
        with contextlib.suppress(ProcessLookupError):
            child.kill()
        await child.wait()


def _exit_words(status: int | None) -> str:
    if status is None or status >= 0:
        return f"exit status {status}"
    try:
        return f"killed by {signal.Signals(-status).name}"
    except ValueError:
        return f"killed by signal {-status}"


def _open_log(path: Path) -> BinaryIO:
    path.parent.mkdir(parents=True, exist_ok=True)
    if _log_size(path) > _MAX_LOG_BYTES:
        path.replace(path.with_name(f"{path.name}.1"))
    return path.open("ab")


def _log_size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _last_lines(path: Path, offset: int) -> list[str]:
    if not path.exists():
        return []
    with path.open("rb") as log:
        log.seek(max(offset, _log_size(path) - 16384))
        text = log.read().decode(errors="replace")
    return [line for line in text.splitlines() if line.strip()][-_SHOWN_LINES:]
