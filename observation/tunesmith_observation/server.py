# SPDX-License-Identifier: Apache-2.0
"""The observation service as a process: `python -m tunesmith_observation`, `tunesmith db-manager`.

Listens on a Unix socket that only its owner reaches, or on TCP with TLS. Plain text is for
loopback, and only when asked for.
"""

from __future__ import annotations

import argparse
import asyncio
import ipaddress
import os
import signal
import stat
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import grpc

from tunesmith_api.errors import Invalid, Unavailable
from tunesmith_observation.by_name import TrialDirectory
from tunesmith_observation.servicer import DBManagerServicer, bind, bind_db_manager
from tunesmith_observation.sql import SqlObservationLog

REQUEST_BYTES: Final = 64 << 20
"""Katib's collectors send a whole log in one request (its server takes 2 GiB)."""

_GRACE_SECONDS: Final = 5.0
_SOCKET_PATH_BYTES: Final = 107
_UNIX = "unix:"


class OptionError(ValueError):
    """Options that cannot be used together, or at all; the text is for the person who gave them."""


@dataclass(frozen=True, slots=True)
class ServerOptions:
    """`listen` is unix:/path or HOST:PORT (port 0: any free one); `db` is a database URL."""

    listen: str
    db: str
    insecure: bool = False
    tls_cert: Path | None = None
    tls_key: Path | None = None


def run_server(options: ServerOptions) -> int:
    """Serves until SIGTERM or SIGINT; prints one line with the address when it is ready.

    Returns an exit status: 0 when stopped, 2 for unusable options, 1 when the database cannot be
    used (the reason is on standard error).
    """
    try:
        _check(options)
        log = SqlObservationLog.open(options.db)
        asyncio.run(_serve(options, log))
    except (OptionError, Invalid) as error:
        print(f"tunesmith db-manager: {error}", file=sys.stderr)
        return 2
    except (Unavailable, OSError) as error:
        print(f"tunesmith db-manager: {error}", file=sys.stderr)
        return 1
    return 0


async def _serve(options: ServerOptions, log: SqlObservationLog) -> None:
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    try:
        server, address = await start_server(options, log)
        print(f"tunesmith db-manager: listening on {address}", flush=True)
        await stopping.wait()
        await server.stop(_GRACE_SECONDS)
    finally:
        await log.aclose()


async def start_server(
    options: ServerOptions, log: SqlObservationLog, trials: TrialDirectory | None = None
) -> tuple[Any, str]:
    """A started grpc.aio server and its address as a gRPC target; `trials` says whose a name is
    to Katib's DBManager. Raises OptionError, OSError."""
    _check(options)
    server = _new_server()
    await bind(server, log, trials)
    address = _listen(server, options)
    await server.start()
    return server, address


async def serve_db_manager(
    log: SqlObservationLog,
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
    OptionError for an address that others reach, OSError for one that is taken.
    """
    options = ServerOptions(address, db="", insecure=True)
    if not address.startswith(_UNIX) and not _is_loopback(address.rpartition(":")[0]):
        raise OptionError(
            f"{address} is no loopback address: Katib's clients speak plain text only, so this"
            " service is for programs of this machine"
        )
    _check(options)
    server = _new_server()
    await bind_db_manager(server, DBManagerServicer(log, trials, on_rows))
    target = _listen(server, options)
    await server.start()
    try:
        ready(target)
        await server.wait_for_termination()
    finally:
        await server.stop(_GRACE_SECONDS)


def _new_server() -> Any:
    return grpc.aio.server(
        options=[("grpc.max_receive_message_length", REQUEST_BYTES), ("grpc.so_reuseport", 0)]
    )


def _check(options: ServerOptions) -> None:
    if options.listen.startswith(_UNIX):
        _check_socket_path(_socket_path(options.listen))
        return
    host, _, port = options.listen.rpartition(":")
    if not host or not port.isdigit():
        raise OptionError(f"--listen {options.listen!r} is neither unix:/PATH nor HOST:PORT")
    if (options.tls_cert is None) != (options.tls_key is None):
        raise OptionError("--tls-cert and --tls-key go together")
    if options.tls_cert is None:
        _check_plain(host, options)


def _check_plain(host: str, options: ServerOptions) -> None:
    if not options.insecure:
        raise OptionError(
            f"--listen {options.listen} needs --tls-cert and --tls-key (on a loopback address"
            " --insecure will do, or listen on unix:/PATH)"
        )
    if not _is_loopback(host):
        raise OptionError(
            f"--insecure is for loopback addresses and {host} is none: give --tls-cert and"
            " --tls-key"
        )


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def _socket_path(listen: str) -> Path:
    return Path(listen.removeprefix(_UNIX))


def _check_socket_path(path: Path) -> None:
    if not path.is_absolute():
        raise OptionError(f"the socket's path {str(path)!r} is not absolute: unix:/PATH")
    if len(os.fsencode(path)) > _SOCKET_PATH_BYTES:
        raise OptionError(
            f"the socket's path {path} is above {_SOCKET_PATH_BYTES} bytes: shorten it"
        )
    if path.exists() and not stat.S_ISSOCK(path.stat().st_mode):
        raise OptionError(f"{path} exists and is no socket: choose another path")
    folder = path.parent
    if folder.exists() and folder.stat().st_mode & 0o077:
        raise OptionError(f"other users can enter {folder}: chmod 700 {folder}")


def _listen(server: Any, options: ServerOptions) -> str:
    if options.listen.startswith(_UNIX):
        path = _socket_path(options.listen)
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with _umask(0o177):
            _bound(server.add_insecure_port(options.listen), options)
        return options.listen
    host = options.listen.rpartition(":")[0]
    if options.tls_cert is not None and options.tls_key is not None:
        pair = (options.tls_key.read_bytes(), options.tls_cert.read_bytes())
        port = server.add_secure_port(options.listen, grpc.ssl_server_credentials([pair]))
    else:
        port = server.add_insecure_port(options.listen)
    return f"{host}:{_bound(port, options)}"


def _bound(port: int, options: ServerOptions) -> int:
    if port == 0:
        raise OSError(f"cannot listen on {options.listen}: is something else using it?")
    return port


@contextmanager
def _umask(mask: int) -> Iterator[None]:
    """The socket must not be open to others even between its creation and a chmod."""
    before = os.umask(mask)
    try:
        yield
    finally:
        os.umask(before)


def parse_options(arguments: Sequence[str]) -> ServerOptions:
    """Command line to options; ends the process with usage on standard error if it cannot."""
    parser = argparse.ArgumentParser("tunesmith db-manager", description="the observation service")
    parser.add_argument("--listen", required=True, help="unix:/PATH or HOST:PORT")
    parser.add_argument("--db", required=True, help="sqlite:////PATH/observations.db")
    parser.add_argument("--insecure", action="store_true", help="no TLS, on loopback only")
    parser.add_argument("--tls-cert", type=Path, help="PEM certificate chain")
    parser.add_argument("--tls-key", type=Path, help="PEM private key")
    return ServerOptions(**vars(parser.parse_args(arguments)))
