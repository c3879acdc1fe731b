# SPDX-License-Identifier: Apache-2.0
"""How a client of ours trusts a service of ours in a cluster, and says who it is: by the CA of the
installation and the pod's projected service-account token. Used by every gRPC client there.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import grpc

_HEADER: Final = "authorization"


@dataclass(frozen=True, slots=True)
class Identity:
    """`ca_file`: PEM certificates of the authorities to trust. `token_file`: a bearer token that
    somebody renews in place; None to say nothing of oneself."""

    ca_file: Path
    token_file: Path | None = None

    def channel_credentials(self) -> grpc.ChannelCredentials:
        """For a channel made now: the CA is read now, the token before each call. Raises
        OSError."""
        return channel_credentials(self.ca_file.read_bytes(), self.token_file)


def channel_credentials(authorities: bytes, token_file: Path | None) -> grpc.ChannelCredentials:
    """For a channel that trusts these authorities (PEM) and reads the token before each call."""
    tls = grpc.ssl_channel_credentials(authorities)
    if token_file is None:
        return tls
    token = grpc.metadata_call_credentials(_TokenOfNow(token_file), name="token")
    return grpc.composite_channel_credentials(tls, token)


class _TokenOfNow(grpc.AuthMetadataPlugin):  # type: ignore[misc]
    """The kubelet replaces the file long before the token in it expires."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __call__(self, context: Any, callback: Any) -> None:
        try:
            token = self._path.read_text(encoding="ascii").strip()
        except (OSError, ValueError) as error:
            callback((), error)
            return
        callback(((_HEADER, f"Bearer {token}"),), None)
