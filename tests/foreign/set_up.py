# SPDX-License-Identifier: Apache-2.0
"""Makes an environment of Katib's own Python client, once per machine, and prints its interpreter.

Run by conftest.py beside it, and by hand: `python tests/foreign/set_up.py 35`, where 35 is the
release of the `kubernetes` package to go with it. Needs PyPI the first time. Nothing of ours is
installed there.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

KATIB = (
    "kubeflow-katib==0.19.0",
    "grpcio-health-checking",  # how Katib's controller asks whether a service is up
)


def environment(kubernetes: int) -> Path:
    """The interpreter. Raises OSError, subprocess.SubprocessError."""
    requirements = [*KATIB, f"kubernetes>={kubernetes},<{kubernetes + 1}"]
    wanted = "\n".join([*requirements, sys.version]).encode()
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "tunesmith-tests"
    home = cache / f"katib-client-{hashlib.sha256(wanted).hexdigest()[:16]}"
    home.mkdir(parents=True, exist_ok=True)
    with (home / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # two test runs may come at once
        if not (home / "complete").exists():
            _install(home / "venv", requirements)
            (home / "complete").touch()
    return home / "venv" / "bin" / "python"


def _install(folder: Path, requirements: Sequence[str]) -> None:
    pip = [str(folder / "bin" / "python"), "-m", "pip", "--disable-pip-version-check"]
    for command in (
        [sys.executable, "-m", "venv", "--clear", str(folder)],
        [*pip, "install", "--quiet", *requirements],
    ):
        # What pip says is for people: standard output is for the result.
        subprocess.run(command, stdout=sys.stderr, timeout=110, check=True)


if __name__ == "__main__":
    print(environment(int(sys.argv[1])))
