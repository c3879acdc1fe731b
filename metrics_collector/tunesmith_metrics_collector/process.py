# SPDX-License-Identifier: Apache-2.0
"""One collector as a process: `python -m tunesmith_metrics_collector`, `tunesmith collector`.

Follows one file of an attempt and reports to the observation service until the program has ended,
which a process id or a file that appears then tells, and everything is acknowledged.
"""

from __future__ import annotations

import argparse
import asyncio
import errno
import ipaddress
import os
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import grpc

from tunesmith_metrics_collector.collector import AttemptName, Collector, Outcome
from tunesmith_metrics_collector.fleet import CollectedAttempt, MetricsFile, sources_of
from tunesmith_metrics_collector.parsers.text import FilterError, TextParser
from tunesmith_metrics_collector.sink import GrpcObservationLog, open_channel

KINDS: Final = ("StdOut", "File", "Push")
FORMATS: Final = ("TEXT", "JSON")
_LOOK_SECONDS: Final = 0.5
_NAME: Final = "tunesmith collector"


class OptionError(ValueError):
    """Options that cannot be used together, or at all; the text is for the person who gave them."""


@dataclass(frozen=True, slots=True)
class CollectorOptions:
    """What `run_collector` does.

    sink: the observation service, unix:/PATH or HOST:PORT; TCP needs `tls_ca` (PEM) unless the
    address is loopback. kind: StdOut (`path` holds what was printed), File, or Push (`path` holds
    the JSON lines of `tunesmith.report`). report_file: those JSON lines beside another kind. The
    program has ended when process `pid` has, or when the file `end_marker` exists; one of them is
    needed, both may be given.
    """

    sink: str
    trial_uid: str
    attempt: int
    path: Path
    metrics: tuple[str, ...]
    trial_name: str = ""
    namespace: str = ""
    kind: str = "File"
    format: str = "TEXT"
    filters: tuple[str, ...] = ()
    report_file: Path | None = None
    pid: int | None = None
    end_marker: Path | None = None
    tls_ca: Path | None = None


def run_collector(options: CollectorOptions) -> int:
    """Collects until the end is acknowledged; waits out absences of the service.

    Returns an exit status: 0 when all is stored; 1 when a newer attempt has begun or the service
    refuses the reports; 2 for unusable options; 128 + N when stopped by signal N while the program
    ran on (the next collector continues). The reason is on standard error.
    """
    try:
        check(options)
        return asyncio.run(_collect(options))
    except (OptionError, FilterError) as error:
        print(f"{_NAME}: {error}", file=sys.stderr)
        return 2


def check(options: CollectorOptions) -> None:
    """Raises OptionError, and FilterError for a filter that cannot be used."""
    if options.kind not in KINDS:
        raise OptionError(f"--kind {options.kind} is none of {', '.join(KINDS)}")
    if options.format not in FORMATS:
        raise OptionError(f"--format {options.format} is none of {', '.join(FORMATS)}")
    if options.filters and (options.format == "JSON" or options.kind == "Push"):
        raise OptionError("--filter is for text: in JSON a metric is a field")
    if not options.trial_uid or not options.metrics or options.attempt < 1:
        raise OptionError("a trial uid, an attempt from 1 on and a metric are needed")
    if (options.pid is None or options.pid < 1) and options.end_marker is None:
        raise OptionError("give --pid or --end-marker: nothing else tells when the program ended")
    TextParser(options.metrics, options.filters)
    _check_sink(options)


def _check_sink(options: CollectorOptions) -> None:
    if options.sink.startswith("unix:"):
        return
    host, _, port = options.sink.rpartition(":")
    if not host or not port.isdigit():
        raise OptionError(f"--sink {options.sink!r} is neither unix:/PATH nor HOST:PORT")
    if options.tls_ca is None and not _is_loopback(host):
        raise OptionError(f"--sink {options.sink} is on another machine: --tls-ca is needed")


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


async def _collect(options: CollectorOptions) -> int:
    async with _channel(options) as channel:
        name = AttemptName(
            options.trial_uid, options.attempt, options.trial_name, options.namespace
        )
        collector = Collector(name, sources_of(_attempt(options)), GrpcObservationLog(channel))
        running = asyncio.create_task(collector.run())
        ending = asyncio.create_task(_finish_at_end(options, collector))
        interruption = _Interruption(options, collector, running, ending)
        try:
            with interruption.handled():
                await asyncio.wait([running, ending], return_when=asyncio.FIRST_COMPLETED)
                if ending.done() and (error := ending.exception()) is not None:
                    return _failed(error)
                await asyncio.wait([running])
        finally:
            for task in (running, ending):
                task.cancel()
            await asyncio.wait([running, ending])
        return interruption.status if running.cancelled() else _status(running)


def _channel(options: CollectorOptions) -> Any:
    if options.tls_ca is None:
        return open_channel(options.sink)
    try:
        certificates = options.tls_ca.read_bytes()
    except OSError as error:
        raise OptionError(f"--tls-ca {options.tls_ca}: {error.strerror}") from error
    return open_channel(options.sink, grpc.ssl_channel_credentials(certificates))


def _attempt(options: CollectorOptions) -> CollectedAttempt:
    path = options.path
    return CollectedAttempt(
        options.trial_uid,
        options.attempt,
        options.trial_name,
        options.namespace,
        output=path if options.kind == "StdOut" else None,
        metrics_file=path if options.kind == "Push" else options.report_file,
        metrics=options.metrics,
        filters=options.filters,
        file=MetricsFile(path, options.format) if options.kind == "File" else None,
    )


def _status(running: asyncio.Task[Outcome]) -> int:
    error = running.exception()
    if error is not None:
        return _failed(error)
    if running.result() is Outcome.FENCED:
        print(f"{_NAME}: a newer attempt of the trial has begun", file=sys.stderr)
        return 1
    return 0


def _failed(error: BaseException) -> int:
    causes = error.exceptions if isinstance(error, BaseExceptionGroup) else (error,)
    print(f"{_NAME}: {'; '.join(str(cause) for cause in causes)}", file=sys.stderr)
    return 1


# ---- ends ---------------------------------------------------------------------------------------


async def _finish_at_end(options: CollectorOptions, collector: Collector) -> None:
    waits = []
    if options.pid is not None:
        waits.append(asyncio.create_task(until_process_ends(options.pid)))
    if options.end_marker is not None:
        waits.append(asyncio.create_task(_until_exists(options.end_marker)))
    try:
        done, _ = await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        for wait in done:
            wait.result()  # not knowing the end is not the end
        collector.finish()
    finally:
        for wait in waits:
            wait.cancel()


async def until_process_ends(pid: int) -> None:
    """Returns when the process has ended, at once if there is none. It need not be a child."""
    if not hasattr(os, "pidfd_open"):
        while _lives(pid):
            await asyncio.sleep(_LOOK_SECONDS)
        return
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    loop, ended = asyncio.get_running_loop(), asyncio.Event()
    loop.add_reader(descriptor, ended.set)
    try:
        await ended.wait()
    finally:
        loop.remove_reader(descriptor)
        os.close(descriptor)


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except OSError as error:
        return error.errno != errno.ESRCH
    return True


async def _until_exists(path: Path) -> None:
    while not path.exists():
        await asyncio.sleep(_LOOK_SECONDS)


@dataclass(slots=True)
class _Interruption:
    """What a signal does: it ends the collector, unless the program has ended. Then what is left
    is delivered first, for which another signal does not wait."""

    options: CollectorOptions
    collector: Collector
    running: asyncio.Task[Outcome]
    ending: asyncio.Task[None]
    status: int = 0
    is_delivering: bool = False

    @contextmanager
    def handled(self) -> Iterator[None]:
        """While this lasts."""
        loop, numbers = asyncio.get_running_loop(), (signal.SIGTERM, signal.SIGINT)
        for number in numbers:
            loop.add_signal_handler(number, self._on_signal, number)
        try:
            yield
        finally:
            for number in numbers:
                loop.remove_signal_handler(number)

    def _on_signal(self, number: int) -> None:
        marker = self.options.end_marker
        has_ended = self.ending.done() or (marker is not None and marker.exists())
        if has_ended and not self.is_delivering:
            self.is_delivering = True
            self.collector.finish()
            return
        self.status = 128 + number
        self.running.cancel()


# ---- command line -------------------------------------------------------------------------------


def parse_options(arguments: Sequence[str]) -> CollectorOptions:
    """Command line to options; ends the process with usage on standard error if it cannot."""
    parser = argparse.ArgumentParser(_NAME, description="reports the metrics of one attempt")
    add = parser.add_argument
    add("--sink", required=True, help="the observation service: unix:/PATH or HOST:PORT")
    add("--tls-ca", type=Path, help="PEM certificates that the service is checked with")
    add("--trial-uid", required=True)
    add("--trial-name", default="")
    add("--namespace", default="")
    add("--attempt", type=int, default=1)
    add("--path", type=Path, required=True, help="the file to follow")
    add("--kind", choices=KINDS, default="File")
    add("--format", choices=FORMATS, default="TEXT")
    add("--metric", dest="metrics", action="append", required=True, help="repeat for several")
    add("--filter", dest="filters", action="append", default=[], help="repeat for several")
    add("--report-file", type=Path, help="what tunesmith.report writes, beside --path")
    add("--pid", type=int, help="the program, which has ended when this process has")
    add("--end-marker", type=Path, help="a file that appears when the program has ended")
    found = vars(parser.parse_args(arguments))
    found |= {name: tuple(found[name]) for name in ("metrics", "filters")}
    return CollectorOptions(**found)
