# SPDX-License-Identifier: Apache-2.0
"""The sidecar once the launcher is in place: collects, repeats the output, asks for a stop.

`sidecar.py` runs it. It ends at SIGTERM, which kubelet sends when the training container has ended:
then it reads to the end and waits for the acknowledgement, as long as the pod may live. Its files
are the spool; whatever kills it, the next one goes on where rows were acknowledged last.
"""

from __future__ import annotations

import asyncio
import fcntl
import json
import logging
import os
import signal
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from tunesmith_api.errors import PortError
from tunesmith_api.metrics import PART
from tunesmith_api.observations import Acknowledged, Report, SourceState
from tunesmith_metrics_collector import unsent
from tunesmith_metrics_collector.collector import Source
from tunesmith_metrics_collector.fleet import STDOUT_SOURCE, CollectorFleet, sources_of
from tunesmith_metrics_collector.sidecar_plan import (
    PlanError,
    SidecarOptions,
    parse,
    part_of,
    write_whole,
)
from tunesmith_metrics_collector.sidecar_repeat import Repeater
from tunesmith_metrics_collector.sink import GrpcObservationLog, open_channel
from tunesmith_proto.credentials import FollowedChannel, Identity

LAST_SECONDS: Final = 5.0
"""Of the grace period are kept to write down what could not be delivered."""

FIRST_BEAT, LAST_BEAT = 1.0, 30.0
"""Seconds of silence after which the service is asked whether the trial should stop, doubling."""

TAKEN_EVERY: Final = 4 << 20
"""Bytes of output after which the launcher is told that it may give their disk space back."""

_POLL: Final = 0.05

log = logging.getLogger(__name__)


def run(arguments: Sequence[str]) -> int:
    """Returns an exit status: 0 at SIGTERM, whatever could be delivered; 2 for what cannot work."""
    logging.basicConfig(format="[tunesmith] %(message)s", level=logging.WARNING)
    try:
        options = parse(arguments, os.environ)
        return asyncio.run(Sidecar(options, part_of(options)).run())
    except (PlanError, OSError) as error:
        print(f"[tunesmith] the collector cannot start: {error}", file=sys.stderr)
        return 2


class PodSink:
    """The observation service as seen from a pod, and the memory of what was acknowledged."""

    def __init__(self, options: SidecarOptions, part: str) -> None:
        self._options = options
        self._read_elsewhere = f"{STDOUT_SOURCE}{PART}{part}"
        self._channel: Any = None
        self._log: GrpcObservationLog | None = None
        self.stored: dict[str, SourceState] = {}
        self.with_rows = 0
        """Reports with rows that were acknowledged."""

    async def append(self, report: Report) -> Acknowledged:
        answer = await self._current().append(report)
        self.with_rows += bool(report.rows)
        if not answer.fenced:
            before = self.stored.get(report.key.source, SourceState())
            notes = before.notes if report.notes is None else report.notes
            offset, ended = max(before.offset, report.offset), before.ended or report.ended
            self.stored[report.key.source] = SourceState(offset, ended, notes)
        return answer

    async def sources(self, trial_uid: str, attempt: int) -> Mapping[str, SourceState]:
        """Also makes the source known that somebody else will report, before any of ours ends."""
        found = await self._current().sources(trial_uid, attempt)
        if self._options.leaves_output and self._read_elsewhere not in found:
            await self.append(self._options.report(self._read_elsewhere))
        self.stored.update(found)
        return found

    async def aclose(self) -> None:
        if self._channel is not None:
            await self._channel.close()

    def _current(self) -> GrpcObservationLog:
        if self._log is None:
            self._channel = self._opened()
            self._log = GrpcObservationLog(self._channel, on_stop=self._stop)
        return self._log

    def _opened(self) -> Any:
        """Without a CA there is nobody to show a token to: only a test does that."""
        target, folder = self._options.observation, self._options.identity
        if not (folder / "ca.crt").exists():
            return open_channel(target)
        identity = Identity(folder / "ca.crt", folder / "token")
        return FollowedChannel(identity, lambda trusted: open_channel(target, trusted))

    def _stop(self, reason: str) -> None:
        place = self._options.shared / "stop"
        try:
            if not place.exists():
                write_whole(place, reason)
        except OSError as error:  # said again by the next reply
            log.warning("the trial should stop (%s), but: %s", reason, error)


class Sidecar:
    """One pod's collector. `run` once."""

    def __init__(self, options: SidecarOptions, part: str) -> None:
        self._options = options
        self._attempt = options.attempt(part)
        self._sources = sources_of(self._attempt)
        self._sink = PodSink(options, part)
        self._fleet = CollectorFleet(self._sink)
        self._repeater = Repeater(options.output, sys.stdout.fileno())

    async def run(self) -> int:
        ending = asyncio.Event()
        numbers = (signal.SIGTERM, signal.SIGINT)
        for number in numbers:
            asyncio.get_running_loop().add_signal_handler(number, ending.set)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, numbers)  # blocked by sidecar.py
        self._fleet.start(self._attempt)
        if self._options.repeats_output:
            self._repeater.start()
        chores = [asyncio.create_task(self._beat()), asyncio.create_task(self._let_go())]
        await ending.wait()
        for chore in chores:
            chore.cancel()
        await self._end(asyncio.get_running_loop().time() + self._options.grace)
        await self._sink.aclose()
        return 0

    async def _end(self, killed_at: float) -> None:
        """The pod ends; `killed_at`, on the loop's clock, at the latest."""
        clock = asyncio.get_running_loop().time
        deadline = killed_at - min(LAST_SECONDS, self._options.grace / 2)
        if not await self._program_has_ended(deadline):
            # Somebody ended this container alone. The next one goes on; nothing is reported as
            # ended.
            return
        name = self._options.name
        self._fleet.finish(name.trial_uid, name.attempt)
        collected = asyncio.create_task(self._fleet.wait(name.trial_uid, name.attempt))
        await asyncio.wait([collected], timeout=max(deadline - clock(), 0))
        await asyncio.to_thread(self._repeater_ends, deadline - clock())
        if not collected.done():
            await self._fleet.aclose()
            self._leave_unsent()

    def _repeater_ends(self, seconds: float) -> None:
        if self._options.repeats_output:
            self._repeater.finish(seconds)

    async def _program_has_ended(self, deadline: float) -> bool:
        """The launcher holds a lock on the output for as long as it lives, whatever ends it."""
        while _is_locked(self._options.output):
            if asyncio.get_running_loop().time() >= deadline:
                return False
            await asyncio.sleep(_POLL)
        return True

    async def _beat(self) -> None:
        """Asks now and then what only the reply to a report says: whether to stop."""
        source = self._sources[0].name
        question = self._options.report(source)
        pause, seen = FIRST_BEAT, 0
        while True:
            await asyncio.sleep(pause)
            if self._sink.with_rows != seen:
                pause, seen = FIRST_BEAT, self._sink.with_rows
                continue
            pause = min(2 * pause, LAST_BEAT)
            try:
                if source in self._sink.stored and (await self._sink.append(question)).fenced:
                    return
            except PortError:
                continue  # the collector is waiting for the same service, and says so

    async def _let_go(self) -> None:
        """Tells the launcher how much of the output nobody needs any more."""
        told = 0
        while True:
            await asyncio.sleep(1.0)
            taken = self._taken()
            if taken >= told + TAKEN_EVERY:
                told = taken
                await asyncio.to_thread(write_whole, self._options.shared / "taken", str(taken))

    def _taken(self) -> int:
        if not self._options.repeats_output:
            output = self._options.output
            return output.stat().st_size if output.exists() else 0
        stored = self._sink.stored.get(self._sources[0].name, SourceState())
        return min(stored.offset, self._repeater.offset)

    def _leave_unsent(self) -> None:
        """In the log of this container, from where the controller fetches it."""
        rows = 0
        for source in self._sources:
            for report in self._rest(source):
                rows += len(report.rows)
                sys.stdout.writelines(unsent.lines(report))
        sys.stdout.write(unsent.last_line(rows))
        sys.stdout.flush()
        told = {unsent.UNSENT_ROWS: rows, "service": self._options.observation}
        log.warning(
            "the observation service %s has not answered in time: %d rows are left in this log",
            self._options.observation,
            rows,
        )
        try:
            self._options.termination_log.write_text(json.dumps(told))
        except OSError as error:
            log.warning("cannot write the termination message: %s", error)

    def _rest(self, source: Source) -> Iterator[Report]:
        stored = self._sink.stored.get(source.name, SourceState())
        if stored.ended:
            return
        reader = source.reader(stored)
        empty = self._options.report(source.name)
        try:
            while True:
                batch = reader.next_batch(at_end=True)
                notes = reader.last_notes(batch.problem) if batch.is_last else None
                yield replace(
                    empty,
                    rows=batch.rows,
                    offset=batch.offset,
                    ended=batch.is_last,
                    notes=notes,
                )
                if batch.is_last:
                    return
        finally:
            reader.close()


def _is_locked(path: Path) -> bool:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False
