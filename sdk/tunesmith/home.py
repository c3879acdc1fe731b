# SPDX-License-Identifier: Apache-2.0
"""Where state lives: TUNESMITH_HOME, else the user's state directory."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Mapping
from pathlib import Path


def state_home(environ: Mapping[str, str] | None = None, platform: str = sys.platform) -> Path:
    """The state directory; it need not exist yet."""
    env = os.environ if environ is None else environ
    if given := env.get("TUNESMITH_HOME"):
        return Path(given).expanduser().absolute()
    if platform == "darwin":
        return Path.home() / "Library" / "Application Support" / "tunesmith"
    base = env.get("XDG_STATE_HOME") or str(Path.home() / ".local" / "state")
    return Path(base) / "tunesmith"


def logs_folder() -> Path:
    """Where the controller's log and defects go; made, for this user only. Raises OSError."""
    folder = state_home() / "logs"
    for made in (folder.parent, folder):
        made.mkdir(parents=True, exist_ok=True, mode=0o700)
    return folder


def default_namespace(environ: Mapping[str, str] | None = None) -> str:
    env = os.environ if environ is None else environ
    return env.get("TUNESMITH_NAMESPACE") or "default"


def next_command(*words: str, namespace: str, environ: Mapping[str, str] | None = None) -> str:
    """A command to paste: `tunesmith WORDS`, with the namespace where it would not be assumed."""
    extra = () if namespace == default_namespace(environ) else ("-n", namespace)
    return shlex.join(("tunesmith", *words, *extra))


def submitter_path(environ: Mapping[str, str] | None = None) -> str:
    """PATH for trials: the active environment's programs first.

    An activated environment wins, else the one that this command is installed in.
    """
    env = os.environ if environ is None else environ
    path = env.get("PATH", os.defpath)
    active = env.get("VIRTUAL_ENV") or (sys.prefix if sys.prefix != sys.base_prefix else "")
    if not active:
        return path
    programs = str(Path(active) / "bin")
    return path if path.split(os.pathsep)[0] == programs else f"{programs}{os.pathsep}{path}"
