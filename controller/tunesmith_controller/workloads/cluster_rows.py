# SPDX-License-Identifier: Apache-2.0
"""Rows that a pod cannot report by itself, fetched from its log by the controller.

`KubernetesWorkloads` shows it every pod of a running attempt. Two kinds need it: pods whose program
runs as its image says, without our launcher, so that only the log has what it prints; and pods
whose collector had to end while the observation service was away, and left its rows in its own log.
Everything is reported with the keys that the pod would have used: repeating is free of effects, and
a restarted controller goes on where rows were acknowledged.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

from tunesmith_api.metrics import PART
from tunesmith_controller.admission.pods import SIDECAR
from tunesmith_controller.manager.queue import Backoff
from tunesmith_controller.ports import Key, NotFound, ObservationLog, PortError, TrialRun
from tunesmith_controller.stores.rest_errors import raise_for
from tunesmith_controller.stores.rest_transport import ApiRequest, ApiStream, ApiTransport
from tunesmith_controller.workloads.cluster_pods import PodFacts
from tunesmith_metrics_collector import unsent
from tunesmith_metrics_collector.collector import AttemptName
from tunesmith_metrics_collector.fleet import STDOUT_SOURCE, CollectedAttempt, CollectorFleet

_LOG = logging.getLogger(__name__)
_BACKOFF: Final = Backoff(first=0.5, limit=15.0)
_SILENCE_S: Final = 3600.0
"""A program may print nothing for long; a log that broke off is asked for again after it."""
_MOST_UNSENT: Final = 64 << 20
"""Bytes of lines that one collector may leave."""
_KEPT: Final = 10_000

Work = Callable[[TrialRun, PodFacts], Awaitable[None]]


class PodRows:
    """`folder` holds copies of logs while they are read. For one event loop."""

    def __init__(self, transport: ApiTransport, log: ObservationLog, folder: Path) -> None:
        self._transport = transport
        self._log = log
        self._folder = folder
        self._tell: Callable[[Key], None] = lambda trial: None
        self._known: dict[tuple[str, str], None] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def on_rows(self, tell: Callable[[Key], None]) -> None:
        """From now on, one listener hears of trials whose rows have come."""
        self._tell = tell

    def seen(self, run: TrialRun, pods: Sequence[PodFacts]) -> None:
        """Fetches what is to be fetched of these pods, once each."""
        for pod in pods:
            if pod.is_read and pod.began:
                self._once(run, pod, "output", self._read_output)
            if pod.has_unsent:
                self._once(run, pod, "unsent", self._fetch_unsent)

    async def aclose(self) -> None:
        """Ends what is under way; another controller goes on."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _once(self, run: TrialRun, pod: PodFacts, what: str, work: Work) -> None:
        key = (pod.uid, what)
        if key in self._known:
            return
        self._known[key] = None
        if len(self._known) > _KEPT:
            del self._known[next(iter(self._known))]
        task = asyncio.get_running_loop().create_task(self._until_done(run, pod, work))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _until_done(self, run: TrialRun, pod: PodFacts, work: Work) -> None:
        failures = 0
        while True:
            try:
                await work(run, pod)
                break
            except NotFound:
                _LOG.warning("pod %s/%s went before its log was read", pod.namespace, pod.name)
                return
            except PortError as error:
                _LOG.info("the log of pod %s/%s: %s", pod.namespace, pod.name, error)
            failures += 1
            await asyncio.sleep(_BACKOFF.delay(failures, 0.5))
        self._tell(run.trial)

    # ---- what a program prints ------------------------------------------------------------------

    async def _read_output(self, run: TrialRun, pod: PodFacts) -> None:
        """From the first byte on into a file, which is collected as on one machine."""
        copy = self._folder / f"{pod.uid}.log"
        part, stored = await self._stored(run, pod)
        fleet = CollectorFleet(self._log)
        fleet.on_rows(lambda uid: self._tell(run.trial))
        try:
            copied = 0
            with copy.open("wb", buffering=0) as file:
                async for text in self._output(pod):
                    copied += file.write(text)
                    # Not before: a file shorter than what was read of it has been replaced.
                    if copied >= stored:
                        fleet.start(_attempt(run, copy, part))
            fleet.start(_attempt(run, copy, part))
            fleet.finish(run.trial_uid, run.attempt)
            await fleet.wait(run.trial_uid, run.attempt)
        finally:
            await fleet.aclose()
            copy.unlink(missing_ok=True)

    async def _stored(self, run: TrialRun, pod: PodFacts) -> tuple[str, int]:
        """The name of this pod's part, as its own collector has told the log what it leaves to us,
        and how much of it is stored."""
        mark = f"{STDOUT_SOURCE}{PART}"
        for name, state in (await self._log.sources(run.trial_uid, run.attempt)).items():
            if name.startswith(mark) and name.endswith(pod.uid[:8]):
                return name.removeprefix(mark), state.offset
        return f"{0:013d}-{pod.uid[:8]}", 0

    async def _output(self, pod: PodFacts) -> AsyncIterator[bytes]:
        """Until the container has ended. Raises PortErrors."""
        async with self._lines(pod, pod.primary, {"follow": "true"}) as lines:
            async for line in lines:
                yield line + b"\n"
        yield await self._unended_line(pod)

    async def _unended_line(self, pod: PodFacts) -> bytes:
        """What was printed behind the last end of a line."""
        query = {"container": pod.primary, "tailLines": "1"}
        reply = await self._transport.request(ApiRequest("GET", _path(pod), query))
        raise_for(reply, f"read the log of pod {pod.name}")
        return b"" if reply.body.endswith(b"\n") else reply.body

    # ---- what a collector left ------------------------------------------------------------------

    async def _fetch_unsent(self, run: TrialRun, pod: PodFacts) -> None:
        from_pod = unsent.read(await self._unsent_lines(pod), _name(run))
        if not from_pod.is_complete:
            _LOG.warning("the log of pod %s/%s lacks rows", pod.namespace, pod.name)
        await unsent.deliver(from_pod, self._log)

    async def _unsent_lines(self, pod: PodFacts) -> list[str]:
        found, size, mark = [], 0, unsent.PREFIX.encode()
        async with self._lines(pod, SIDECAR, {}) as lines:
            async for line in lines:
                if mark in line and size < _MOST_UNSENT:
                    size += len(line)
                    found.append(line.decode(errors="replace"))
        return found

    @asynccontextmanager
    async def _lines(
        self, pod: PodFacts, container: str, query: Mapping[str, str]
    ) -> AsyncIterator[AsyncIterator[bytes]]:
        """A log's lines without their ends. Raises PortErrors."""
        request = ApiRequest("GET", _path(pod), {"container": container, **query})
        stream = await self._transport.stream(request, silence_s=_SILENCE_S)
        try:
            raise_for(stream.reply, f"read the log of pod {pod.name}")
            yield _each(stream)
        finally:
            await stream.aclose()


async def _each(stream: ApiStream) -> AsyncIterator[bytes]:
    while (line := await stream.next_line()) is not None:
        yield line


def _path(pod: PodFacts) -> str:
    return f"/api/v1/namespaces/{pod.namespace}/pods/{pod.name}/log"


def _name(run: TrialRun) -> AttemptName:
    return AttemptName(run.trial_uid, run.attempt, run.trial.name, run.trial.namespace)


def _attempt(run: TrialRun, output: Path, part: str) -> CollectedAttempt:
    return CollectedAttempt(
        trial_uid=run.trial_uid,
        attempt=run.attempt,
        trial_name=run.trial.name,
        namespace=run.trial.namespace,
        output=output,
        metrics_file=None,
        metrics=tuple(run.metrics),
        filters=tuple(run.filters),
        part=part,
    )
