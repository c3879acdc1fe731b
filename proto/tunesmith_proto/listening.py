# SPDX-License-Identifier: Apache-2.0
"""Where a gRPC server may listen: a Unix socket of its owner, TLS, or plain text on loopback.

Called by the servers of suggestion/, earlystopping/ and observation/.
"""

from __future__ import annotations

import ipaddress
import os
import socket
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from tunesmith_proto.server_certificate import CertificateError, CertificateFiles

MAX_SOCKET_PATH: Final = 107
"""Bytes that fit a Unix socket's address on Linux."""
_UNIX: Final = "unix:"


class ListenError(Exception):
    """The service cannot listen as asked; the message says why and what to do."""


@dataclass(frozen=True, slots=True)
class Listener:
    """`listen` is unix:/path or host:port (port 0: any free one). A certificate is renewed by
    exchanging its files. `open_plaintext`: whoever serves there knows callers by other means."""

    listen: str
    insecure: bool = False
    tls_cert: Path | None = None
    tls_key: Path | None = None
    open_plaintext: bool = False

    def check(self) -> None:
        """What can be said before anything is opened. Raises ListenError."""
        path = self._socket_path()
        if path is None:
            self._checked_tcp()
            return
        _check_length(path)
        if path.parent.exists():
            _check_own(path.parent)

    def bind(self, server: Any) -> str:
        """Adds the address to a server that has not started; the target to connect to. Raises
        ListenError."""
        path = self._socket_path()
        return self._bind_tcp(server) if path is None else _bind_unix(server, path)

    def _socket_path(self) -> Path | None:
        """None for TCP."""
        if not self.listen.startswith(_UNIX):
            return None
        if self.tls_cert or self.tls_key:
            raise ListenError("TLS is for host:port; a Unix socket needs none")
        return Path(self.listen.removeprefix(_UNIX).removeprefix("//")).absolute()

    def _checked_tcp(self) -> tuple[str, int, Any]:
        host, port = _host_and_port(self.listen)
        credentials = self._credentials()
        if credentials is None:
            self._refuse_open_plaintext(host)
        return host, port, credentials

    def _bind_tcp(self, server: Any) -> str:
        host, port, credentials = self._checked_tcp()
        address = f"[{host}]" if ":" in host else host
        try:
            if credentials is None:
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
            return CertificateFiles(self.tls_cert, self.tls_key).credentials()
        except CertificateError as error:
            raise ListenError(str(error)) from error

    def _refuse_open_plaintext(self, host: str) -> None:
        if self.open_plaintext:
            return
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
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def _host_and_port(listen: str) -> tuple[str, int]:
    host, colon, port = listen.rpartition(":")
    if not colon or not port.isdecimal() or int(port) > 65535:
        raise ListenError(f"{listen!r} is neither unix:/path nor host:port")
    return host.removeprefix("[").removesuffix("]"), int(port)


def _bind_unix(server: Any, path: Path) -> str:
    _check_length(path)
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


def _check_length(path: Path) -> None:
    if len(os.fsencode(path)) > MAX_SOCKET_PATH:
        raise ListenError(f"the path {path} is longer than {MAX_SOCKET_PATH} bytes")


def _own_directory(folder: Path) -> None:
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
    except OSError as error:
        raise ListenError(f"cannot make the folder {folder}: {error.strerror}") from error
    _check_own(folder)


def _check_own(folder: Path) -> None:
    """Whoever may enter the folder may connect, so it is its owner's alone."""
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
