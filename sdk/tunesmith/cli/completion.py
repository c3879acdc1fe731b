# SPDX-License-Identifier: Apache-2.0
"""Tab completion of experiment and trial names; silent when the state cannot be read."""

from __future__ import annotations


def complete_experiment(incomplete: str) -> list[str]:
    return _names(incomplete, trials=False)


def complete_name(incomplete: str) -> list[str]:
    return _names(incomplete, trials=True)


def _names(incomplete: str, *, trials: bool) -> list[str]:
    from tunesmith.client import Client  # noqa: PLC0415
    from tunesmith.errors import TunesmithError  # noqa: PLC0415

    try:
        client = Client()
        if not client.home.exists():
            return []
        found = client.names(trials=trials)
    except TunesmithError:
        # A shell that completes must not print errors; the command itself will.
        return []
    return [name for name in found if name.startswith(incomplete)]
