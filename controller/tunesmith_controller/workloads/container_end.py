# SPDX-License-Identifier: Apache-2.0
"""Ends the container of an attempt, by its name.

Its client may be gone (killed, or its grace period over) while the container runs on: it is a child
of podman's monitor or of docker's daemon. So the supervisor calls this before it says that an
attempt is over, or starts it again, and `attempt_folder.py` where no supervisor is left. Standard
library only.
"""

from __future__ import annotations

import subprocess
from collections.abc import Mapping

_TRIES = 3
_SECONDS = 30


def end_container(client: str, name: str, environ: Mapping[str, str]) -> str:
    """Kills and forgets it; "" once there is none, else what the client said.

    client: the path of podman or docker; environ: the environment in which it was started. Takes
    a tenth of a second, unless something hangs.
    """
    remove = [client, "rm", "--volumes", name]
    said = _said(remove, environ)
    for _ in range(_TRIES):
        if not said:
            return ""
        # First, for `podman rm --force` is patient: it asks, and waits ten seconds.
        _said([client, "kill", name], environ)
        # podman first notices, by failing, that a container whose monitor was killed has ended.
        said = _said([*remove[:2], "--force", *remove[2:]], environ)
    return f"container {name} cannot be removed: {said[-300:]}" if said else ""


def _said(command: list[str], environ: Mapping[str, str]) -> str:
    """What the client says of an error; "" when there is none, or no such container."""
    try:
        ran = subprocess.run(
            command,
            env=dict(environ),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            timeout=_SECONDS,
            check=False,
        )
    except FileNotFoundError:
        return ""  # uninstalled: whoever waits for an answer would wait for ever
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)
    said = ran.stderr.decode("utf-8", "replace").strip()
    if not ran.returncode or "no such container" in said.lower():
        return ""
    return said or f"{command[1]} exited with code {ran.returncode}"
