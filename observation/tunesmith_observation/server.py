# SPDX-License-Identifier: Apache-2.0
"""The observation service as a process: `python -m tunesmith_observation`, `tunesmith db-manager`.

Listens on a Unix socket that only its owner reaches, or on TCP with TLS. Plain text is for
loopback, and only when asked for.
"""

from __future__ import annotations

import argparse
import asyncio
import signal
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import grpc

from tunesmith_api.errors import Invalid, Unavailable
from tunesmith_observation.authorization import (
    Accounts,
    CallersTrials,
    KatibRules,
    ObservationRules,
)
from tunesmith_observation.by_name import TrialDirectory
from tunesmith_observation.database import CONNECTIONS
from tunesmith_observation.journal import JournaledLog
from tunesmith_observation.opening import ServedLog, StoreOptions, open_log
from tunesmith_observation.servicer import DBManagerServicer, bind, bind_db_manager
from tunesmith_proto.callers import AddressBook, Authenticator, by_address, by_token
from tunesmith_proto.guard import STREAMS_A_CONNECTION, Guard
from tunesmith_proto.listening import Listener, ListenError, is_loopback

REQUEST_BYTES: Final = 64 << 20
"""Katib's collectors send a whole log in one request (its server takes 2 GiB)."""

KATIB_READ: Final = ("any", "trials")
"""Who may read by Katib's DBManager: everybody, as with Katib, or each trial its own."""

_GRACE_SECONDS: Final = 5.0


@dataclass(frozen=True, slots=True)
class ServerOptions:
    """`listen` is unix:/path or HOST:PORT (port 0: any free one); the store is as in
    StoreOptions. katib_listen: HOST:PORT where Katib's clients are served in plain text; empty for
    nowhere. katib_read: one of KATIB_READ."""

    listen: str
    db: str
    db_password_file: Path | None = None
    journal: Path | None = None
    connections: int = CONNECTIONS
    insecure: bool = False
    tls_cert: Path | None = None
    tls_key: Path | None = None
    katib_listen: str = ""
    katib_read: str = "any"

    @property
    def store(self) -> StoreOptions:
        return StoreOptions(self.db, self.db_password_file, self.journal, self.connections)

    @property
    def listener(self) -> Listener:
        return Listener(self.listen, self.insecure, self.tls_cert, self.tls_key)

    @property
    def katib_listener(self) -> Listener:
        return Listener(self.katib_listen, open_plaintext=True)


@dataclass(frozen=True, slots=True)
class Access:
    """Who calls in a cluster, and who of them may what."""

    tokens: Authenticator
    addresses: AddressBook
    accounts: Accounts


OpenAccess = Callable[[], AbstractAsyncContextManager[Access]]


def run_server(options: ServerOptions, access: OpenAccess | None = None) -> int:
    """Serves until SIGTERM or SIGINT; prints one line with the address when it is ready. `access`
    is opened in the event loop; without it nobody is asked who he is. It raises Unavailable.

    Returns an exit status: 0 when stopped, 2 for unusable options, 1 when the database cannot be
    used (the reason is on standard error).
    """
    try:
        check(options, is_guarded=access is not None)
        log = open_log(options.store)
        asyncio.run(_serve(options, log, access))
    except (ListenError, Invalid) as error:
        print(f"tunesmith db-manager: {error}", file=sys.stderr)
        return 2
    except (Unavailable, OSError) as error:
        print(f"tunesmith db-manager: {error}", file=sys.stderr)
        return 1
    return 0


def check(options: ServerOptions, *, is_guarded: bool) -> None:
    """Raises ListenError."""
    options.listener.check()
    if options.katib_read not in KATIB_READ:
        raise ListenError(f"--katib-read {options.katib_read} is none of {', '.join(KATIB_READ)}")
    if options.katib_listen:
        if not is_guarded:
            raise ListenError(
                "--katib-listen goes with --cluster, where callers are known by their pods; on one"
                " machine --listen serves Katib's DBManager too"
            )
        options.katib_listener.check()


async def _serve(options: ServerOptions, log: ServedLog, access: OpenAccess | None) -> None:
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    try:
        async with kept_up(log), serving(options, log, access) as addresses:
            print(f"tunesmith db-manager: listening on {' and '.join(addresses)}", flush=True)
            await stopping.wait()
    finally:
        await log.aclose()


@asynccontextmanager
async def kept_up(log: ServedLog) -> AsyncIterator[None]:
    """With what a log does by itself."""
    work = asyncio.ensure_future(log.run()) if isinstance(log, JournaledLog) else None
    try:
        yield
    finally:
        if work is not None:
            work.cancel()
            await asyncio.gather(work, return_exceptions=True)


@asynccontextmanager
async def serving(
    options: ServerOptions, log: ServedLog, access: OpenAccess | None = None
) -> AsyncIterator[Sequence[str]]:
    """Serves while it is open; yields the gRPC targets, Katib's last where it is asked for. Raises
    ListenError, Unavailable."""
    async with access() if access else nullcontext() as known:
        started = [await start_server(options, log, access=known)]
        try:
            if options.katib_listen and known is not None:
                started.append(await start_katib_server(options, log, known))
            yield [address for _, address in started]
        finally:
            await asyncio.gather(*(server.stop(_GRACE_SECONDS) for server, _ in started))


async def start_server(
    options: ServerOptions,
    log: ServedLog,
    trials: TrialDirectory | None = None,
    *,
    access: Access | None = None,
) -> tuple[Any, str]:
    """A started grpc.aio server and its address as a gRPC target; `trials` says whose a name is
    to Katib's DBManager. Raises ListenError."""
    guard = None
    if access is not None:
        guard = Guard(by_token(access.tokens), ObservationRules(access.accounts))
    server = _new_server(guard)
    await bind(server, log, trials)
    address = options.listener.bind(server)
    await server.start()
    return server, address


async def start_katib_server(
    options: ServerOptions, log: ServedLog, access: Access
) -> tuple[Any, str]:
    """The same for Katib's clients, who speak plain text and say nothing of themselves: DBManager
    alone, and trials are known by the addresses of their pods. Raises ListenError."""
    rules = KatibRules(anybody_reads=options.katib_read == KATIB_READ[0])
    server = _new_server(Guard(by_address(access.addresses), rules))
    await bind_db_manager(server, DBManagerServicer(log, CallersTrials()))
    address = options.katib_listener.bind(server)
    await server.start()
    return server, address


async def serve_db_manager(
    log: ServedLog,
    trials: TrialDirectory,
    address: str,
    *,
    on_rows: Callable[[str], None] = lambda trial_uid: None,
    ready: Callable[[str], None] = lambda target: None,
) -> None:
    """Serves Katib's DBManager beside a controller, until cancelled: what clients report by name
    counts for the trial that `trials` tells, `on_rows` hears its uid.

    `address` is unix:/PATH or a loopback HOST:PORT (port 0: any free one), in plain text because
    Katib's clients speak nothing else; `ready` is told the address as a gRPC target. Raises
    ListenError for an address that others reach, or that is taken.
    """
    if not address.startswith("unix:") and not is_loopback(address.rpartition(":")[0]):
        raise ListenError(
            f"{address} is no loopback address: Katib's clients speak plain text only, so this"
            " service is for programs of this machine"
        )
    server = _new_server()
    await bind_db_manager(server, DBManagerServicer(log, trials, on_rows))
    target = Listener(address, insecure=True).bind(server)
    await server.start()
    try:
        ready(target)
        await server.wait_for_termination()
    finally:
        await server.stop(_GRACE_SECONDS)


def _new_server(guard: Guard | None = None) -> Any:
    options = [("grpc.max_receive_message_length", REQUEST_BYTES), ("grpc.so_reuseport", 0)]
    if guard is None:
        return grpc.aio.server(options=options)
    return grpc.aio.server(interceptors=[guard], options=[*options, STREAMS_A_CONNECTION])


def parse_options(arguments: Sequence[str]) -> ServerOptions:
    """Command line to options; ends the process with usage on standard error if it cannot."""
    parser = argparse.ArgumentParser("tunesmith db-manager", description="the observation service")
    parser.add_argument("--listen", required=True, help="unix:/PATH or HOST:PORT")
    parser.add_argument("--db", required=True, help="sqlite:////PATH/observations.db")
    parser.add_argument("--db-password-file", type=Path, help="goes into the URL")
    parser.add_argument("--journal", type=Path, help="folder for reports while --db is away")
    parser.add_argument("--connections", type=int, default=CONNECTIONS, help="to the database")
    parser.add_argument("--insecure", action="store_true", help="no TLS, on loopback only")
    parser.add_argument("--tls-cert", type=Path, help="PEM certificate chain")
    parser.add_argument("--tls-key", type=Path, help="PEM private key")
    return ServerOptions(**vars(parser.parse_args(arguments)))
