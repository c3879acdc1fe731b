# SPDX-License-Identifier: Apache-2.0
"""Where the API of a state directory is, for clients: `HOME/api.json`, there while it is served.

Standard library only: every command looks here before anything else is loaded.
"""

from __future__ import annotations

import json
import os
import socket
from dataclasses import dataclass, field
from pathlib import Path

FILE = "api.json"
KUBECONFIG = "kubeconfig"
_CONNECT_S = 1.0


@dataclass(frozen=True, slots=True)
class ApiAddress:
    """`url` is http://127.0.0.1:PORT; the token goes into an Authorization header."""

    url: str
    token: str = field(repr=False)
    pid: int = 0


def find_api(home: Path) -> ApiAddress | None:
    """The API that is served for a state directory, None when none is. What a killed server left
    behind does not count."""
    address = _written(home)
    if address is None or not (_lives(address.pid) and _answers(address.url)):
        return None
    return address


def _written(home: Path) -> ApiAddress | None:
    try:
        found = json.loads((home / FILE).read_text(encoding="utf-8"))
        return ApiAddress(str(found["url"]), str(found["token"]), int(found["pid"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def write_address(home: Path, address: ApiAddress) -> None:
    """For this user only, and never half. Raises OSError."""
    record = {"url": address.url, "token": address.token, "pid": address.pid}
    write_private(home / FILE, json.dumps(record))


def write_private(path: Path, text: str) -> None:
    """Replaces a file in one step; mode 0600 from the beginning. Raises OSError."""
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    draft.unlink(missing_ok=True)
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
    draft.replace(path)


def remove_address(home: Path, address: ApiAddress) -> None:
    """Nothing happens when another server has taken the place."""
    if _written(home) == address:
        (home / FILE).unlink(missing_ok=True)


def secret_url(address: ApiAddress) -> str:
    """A URL that needs no further token: kubectl sends none over plain HTTP."""
    return f"{address.url}/~{address.token}"


def kubeconfig(address: ApiAddress) -> str:
    """A kubeconfig as text. JSON is YAML, and every client of Kubernetes reads it."""
    name = "tunesmith"
    return json.dumps(
        {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": name, "cluster": {"server": secret_url(address)}}],
            "users": [{"name": name, "user": {"token": address.token}}],
            "contexts": [
                {
                    "name": name,
                    "context": {"cluster": name, "user": name, "namespace": "default"},
                }
            ],
            "current-context": name,
        },
        indent=2,
    )


def _answers(url: str) -> bool:
    """Whether somebody listens: a killed process may be there for a while, as a zombie."""
    host, _, port = url.removeprefix("http://").rpartition(":")
    try:
        with socket.create_connection((host, int(port)), timeout=_CONNECT_S):
            return True
    except (OSError, ValueError):
        return False


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
