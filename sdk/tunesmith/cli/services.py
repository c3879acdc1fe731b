# SPDX-License-Identifier: Apache-2.0
"""The services started by hand; each runs until it is told to stop."""

from __future__ import annotations

from pathlib import Path

from tunesmith_observation import server as observation_server
from tunesmith_suggestion import server as suggestion_server


def serve_suggestions(
    listen: str, insecure: bool, tls_cert: Path | None, tls_key: Path | None
) -> int:
    """The exit status of the suggestion service."""
    return suggestion_server.run_server(
        suggestion_server.ServerOptions(
            listen=listen, insecure=insecure, tls_cert=tls_cert, tls_key=tls_key
        )
    )


def serve_observations(
    listen: str, db: str, insecure: bool, tls_cert: Path | None, tls_key: Path | None
) -> int:
    """The exit status of the observation service."""
    return observation_server.run_server(
        observation_server.ServerOptions(
            listen=listen, db=db, insecure=insecure, tls_cert=tls_cert, tls_key=tls_key
        )
    )
