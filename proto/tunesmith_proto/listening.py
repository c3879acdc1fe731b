# SPDX-License-Identifier: Apache-2.0
"""Where a gRPC server may listen: a Unix socket of its owner, TLS, or plain text on loopback.

Called by the servers of suggestion/ and earlystopping/.
"""

from __future__ import annotations

import ipaddress
import os
import socket
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import grpc

MAX_SOCKET_PATH: Final = 107
"""Bytes that fit a Unix socket's address on Linux."""
_UNIX: Final = "unix:"


class ListenError(Exception):
    """The service cannot listen as asked; the message says why and what to do."""


@dataclass(frozen=True, slots=True)
class Listener:
    """`listen` is unix:/path or host:port (port 0: any free one)."""

    listen: str
    insecure: bool = False
    tls_cert: Path | None = None
    tls_key: Path | None = None

    def bind(self, server: Any) -> str:
        """Adds the address to a server that has not started; the target to connect to. Raises
        ListenError."""
        if self.listen.startswith(_UNIX):
            if self.tls_cert or self.tls_key:
                raise ListenError("TLS is for host:port; a Unix socket needs none")
            return _bind_unix(server, Path(self.listen.removeprefix(_UNIX).removeprefix("//")))
        return self._bind_tcp(server)

    def _bind_tcp(self, server: Any) -> str:
        host, port = _host_and_port(self.listen)
        credentials = self._credentials()
        address = f"[{host}]" if ":" in host else host
        try:
            if credentials is None:
                self._refuse_open_plaintext(host)
                bound = server.add_insecure_port(f"{address}:{port}")
            else:
                bound = server.add_secure_port(f"{address}:{port}", credentials)
        except RuntimeError as error:
            raise ListenError(f"cannot listen on {self.listen}: {error}") from error
        return f"{address}:{bound}"

    def _credentials(self) -> Any:
        if self.tls_cert is None and self.tls_key is None:
            return None
        if self.insecure:
            raise ListenError("--insecure and TLS exclude each other")
        if self.tls_cert is None or self.tls_key is None:
            raise ListenError("TLS needs both --tls-cert and --tls-key")
        try:
            pair = (self.tls_key.read_bytes(), self.tls_cert.read_bytes())
        except OSError as error:
            raise ListenError(f"cannot read {error.filename}: {error.strerror}") from error
        return grpc.ssl_server_credentials([pair])

    def _refuse_open_plaintext(self, host: str) -> None:
        if not self.insecure:
            raise ListenError(
                f"{self.listen} would be plaintext: give --tls-cert and --tls-key, "
                "or --insecure on a loopback address, or listen on unix:/path"
            )
        if not is_loopback(host):
            raise ListenError(
                f"--insecure is for loopback addresses, and {host or 'an empty host'} is none: "
                "listen on 127.0.0.1, or give --tls-cert and --tls-key"
            )


def is_loopback(host: str) -> bool:
    """Whether nobody else can reach an address, as far as its text tells."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _host_and_port(listen: str) -> tuple[str, int]:
    host, colon, port = listen.rpartition(":")
    if not colon or not port.isdecimal() or int(port) > 65535:
        raise ListenError(f"{listen!r} is neither unix:/path nor host:port")
    return host.removeprefix("[").removesuffix("]"), int(port)


def _bind_unix(server: Any, path: Path) -> str:
    path = path.absolute()
    if len(os.fsencode(path)) > MAX_SOCKET_PATH:
        raise ListenError(f"the path {path} is longer than {MAX_SOCKET_PATH} bytes")
    _own_directory(path.parent)
    _clear(path)
    # The socket must not be open to others even between its creation and a chmod.
    previous = os.umask(0o177)
    try:
        server.add_insecure_port(f"{_UNIX}{path}")
    except RuntimeError as error:
        raise ListenError(f"cannot listen on {path}: {error}") from error
    finally:
        os.umask(previous)
    return f"{_UNIX}{path}"


def _own_directory(folder: Path) -> None:
    """Whoever may enter the folder may connect, so it is its owner's alone."""
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
    except OSError as error:
        raise ListenError(f"cannot make the folder {folder}: {error.strerror}") from error
    found = folder.stat()
    if found.st_uid != os.geteuid() or stat.S_IMODE(found.st_mode) & 0o077:
        raise ListenError(
            f"the folder {folder} is open to other users; the socket needs one of its own: "
            f"mkdir -m 700 {folder}/tunesmith, then listen there"
        )


def _clear(path: Path) -> None:
    """Removes the socket of a service that is gone."""
    if not path.exists():
        return
    if not path.is_socket():
        raise ListenError(f"{path} exists and is not a socket")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(str(path))
        except OSError:
            path.unlink(missing_ok=True)
            return
    raise ListenError(f"another service is listening on {path}")
