# SPDX-License-Identifier: Apache-2.0
"""A server's TLS certificate that is exchanged in place: who connects later gets the new one, open
connections and their calls go on. Called by `listening`.

Somebody else writes the files: the kubelet swaps a link to both of a Secret's at once.
"""

from __future__ import annotations

import logging
import os
import ssl
from pathlib import Path
from typing import Any, Final

import grpc

_log = logging.getLogger(__name__)

_ANONYMOUS: Final = "tunesmith-certificate"
_TRIES: Final = 3

Signature = tuple[tuple[int, int, int], ...]
"""Of both files: inode, time of the last change, size."""


class CertificateError(Exception):
    """The files cannot be served with; the message names them."""


class CertificateFiles:
    """A certificate chain and its key, both PEM, as they are now."""

    def __init__(self, certificate: Path, key: Path) -> None:
        self._paths = (key, certificate)
        self._seen: Signature = ()
        self._served = (b"", b"")

    def credentials(self) -> grpc.ServerCredentials:
        """For a server; the files are looked at whenever somebody connects. Raises
        CertificateError."""
        return grpc.dynamic_ssl_server_credentials(self._read(), self._newer)

    def _newer(self) -> Any:
        """On one of gRPC's threads: what to serve from now on, None for what it has."""
        try:
            return self._read() if _signature(self._paths) != self._seen else None
        except (OSError, CertificateError) as error:
            _log.warning("the TLS certificate stays what it was: %s", error)
            return None

    def _read(self) -> Any:
        """None when nothing has changed. Raises CertificateError."""
        try:
            seen, pair = self._settled()
        except OSError as error:
            raise CertificateError(f"cannot read {error.filename}: {error.strerror}") from error
        if pair == self._served:
            self._seen = seen
            return None
        try:
            _check(*pair)
        except (ssl.SSLError, ValueError) as error:
            files = " and ".join(str(path) for path in self._paths)
            raise CertificateError(f"{files} are no certificate and its key: {error}") from error
        if self._served[0]:
            _log.info("the TLS certificate %s was renewed", self._paths[1])
        self._seen, self._served = seen, pair
        return grpc.ssl_server_certificate_configuration([pair])

    def _settled(self) -> tuple[Signature, tuple[bytes, bytes]]:
        """Both files of one moment, not one from before an exchange and one from after it."""
        for _ in range(_TRIES):
            seen = _signature(self._paths)
            key, certificate = (path.read_bytes() for path in self._paths)
            if _signature(self._paths) == seen:
                break
        return seen, (key, certificate)


def _signature(paths: tuple[Path, Path]) -> Signature:
    found = (path.stat() for path in paths)
    return tuple((each.st_ino, each.st_mtime_ns, each.st_size) for each in found)


def _check(key: bytes, certificate: bytes) -> None:
    """gRPC would only fail at each handshake. Raises SSLError."""
    # OpenSSL reads files; the key need not touch a disk for it.
    descriptor = os.memfd_create(_ANONYMOUS)
    try:
        os.write(descriptor, certificate + b"\n" + key)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        # With a password nobody is asked for one on the terminal.
        context.load_cert_chain(f"/proc/self/fd/{descriptor}", password="")
    finally:
        os.close(descriptor)
