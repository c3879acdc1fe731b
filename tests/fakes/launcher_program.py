# SPDX-License-Identifier: Apache-2.0
"""The launcher, built from its sources by its own script, once for each state of them; and a
directory to run it in."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import subprocess
import tempfile
from pathlib import Path
from typing import Any

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


class Bench:
    """The directory that a pod would share, and runs of the launcher in it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "shared"
        self.folder.mkdir()
        self._running: list[subprocess.Popen[bytes]] = []

    def close(self) -> None:
        """Ends what a test that failed has left: the program first, as it is the launcher's."""
        for process in self._running:
            if process.poll() is None:
                for child in (
                    Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
                ):
                    os.killpg(int(child), signal.SIGKILL)
                process.kill()
            process.wait()

    def argv(self, *command: str | bytes, options: tuple[str, ...] = ()) -> list[str | bytes]:
        return [str(launcher()), "-dir", str(self.folder), *options, "--", *command]

    def run(
        self, *command: str | bytes, options: tuple[str, ...] = (), **given: Any
    ) -> subprocess.CompletedProcess[bytes]:
        settings = {"capture_output": True, "timeout": 60, **given}
        return subprocess.run(self.argv(*command, options=options), check=False, **settings)

    def start(
        self, *command: str, options: tuple[str, ...] = (), **given: Any
    ) -> tuple[subprocess.Popen[bytes], str]:
        """Returns when the program has printed a line, with that."""
        argv = self.argv(*command, options=options)
        process = subprocess.Popen(argv, stdout=subprocess.PIPE, **given)
        self._running.append(process)
        assert process.stdout is not None
        return process, process.stdout.readline().decode().strip()

    @property
    def output(self) -> bytes:
        return (self.folder / "output").read_bytes()

    @property
    def end(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.folder / "exit.json").read_text())
        return found

    def stop(self, reason: str) -> None:
        hidden = self.folder / ".stop"
        hidden.write_text(reason)
        hidden.rename(self.folder / "stop")
