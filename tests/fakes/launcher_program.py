# SPDX-License-Identifier: Apache-2.0
"""The launcher, built from its sources by its own script, once for each state of them."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest

SOURCES = Path(__file__).parents[2] / "metrics_collector" / "launcher"
ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}


def launcher(architecture: str = ARCHITECTURES[os.uname().machine]) -> Path:
    """The program for an architecture. Where it cannot be built the test is skipped, in CI not."""
    files = sorted(path for path in SOURCES.iterdir() if path.suffix in (".go", ".mod", ".sh"))
    digest = hashlib.sha256(b"\0".join(path.read_bytes() for path in files)).hexdigest()[:16]
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "tunesmith-tests"
    program = cache / f"launcher-{digest}-{architecture}"
    if not program.exists():
        _build(program, architecture)
    return program


def _build(program: Path, architecture: str) -> None:
    if shutil.which("go") is None:
        reason = "Go is not installed, so there is no launcher; run tests/set-up.sh"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    program.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=program.parent) as folder:
        command = [str(SOURCES / "build.sh"), folder, architecture]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            pytest.fail(f"{' '.join(command)}: {done.stderr}")
        (made,) = Path(folder).iterdir()
        made.replace(program)  # at once, in case two test runs build
