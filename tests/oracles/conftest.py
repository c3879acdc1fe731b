# SPDX-License-Identifier: Apache-2.0
"""The oracles: other implementations, built once and asked as child processes."""

import hashlib
import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

SOURCES = Path(__file__).parent / "gjson"


class Answer(NamedTuple):
    exists: bool
    type: str
    raw: str


@pytest.fixture(scope="session")
def go_gjson() -> Iterator[Callable[[str, str, bool], Answer]]:
    """tidwall/gjson: (json, path, as the release in Katib) -> Answer."""
    with subprocess.Popen(
        [str(_built())], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, encoding="utf-8"
    ) as process:
        stdin, stdout = process.stdin, process.stdout
        assert stdin is not None and stdout is not None

        def ask(document: str, path: str, katib: bool) -> Answer:
            stdin.write(json.dumps({"json": document, "path": path, "katib": katib}) + "\n")
            stdin.flush()
            line = stdout.readline()
            assert line, f"the Go program ended on {path!r} with {document}"
            return Answer(**json.loads(line))

        yield ask
        stdin.close()  # it ends at the end of its input


def _built() -> Path:
    """The program, built unless these very sources have been built before."""
    sources = [SOURCES / name for name in ("main.go", "go.mod", "go.sum")]
    digest = hashlib.sha256(b"\0".join(path.read_bytes() for path in sources)).hexdigest()[:16]
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "tunesmith-tests"
    program = cache / f"gjson-{digest}"
    if not program.exists():
        _build(program)
    return program


def _build(program: Path) -> None:
    go = shutil.which("go")
    if go is None:
        reason = "Go is not installed, so gjson cannot be compared; run tests/set-up.sh"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    program.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=program.parent) as folder:
        made = Path(folder) / program.name
        command = [go, "build", "-mod=readonly", "-o", str(made), "."]
        done = subprocess.run(command, cwd=SOURCES, capture_output=True, text=True, check=False)
        if done.returncode:
            pytest.fail(f"go build in {SOURCES}: {done.stderr}")
        made.replace(program)  # at once, in case two test runs build
