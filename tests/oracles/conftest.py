# SPDX-License-Identifier: Apache-2.0
"""The oracles: other implementations, built once and asked as child processes."""

import hashlib
import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import pytest

from tunesmith_controller.trial import gjson
from tunesmith_controller.trial.gjson_syntax import first_wins

SOURCES = Path(__file__).parent / "gjson"


class GoGjson:
    """tidwall/gjson in a child process, asked one question at a time."""

    def __init__(self, asked: IO[str], answered: IO[str]) -> None:
        self._asked = asked
        self._answered = answered

    def get(self, document: object, path: str, *, katib: bool = False) -> gjson.Result:
        """What Go finds; with `katib` as the gjson release that Katib is built with."""
        text = json.dumps(document, ensure_ascii=False)
        self._asked.write(json.dumps({"json": text, "path": path, "katib": katib}) + "\n")
        self._asked.flush()
        line = self._answered.readline()
        assert line, f"the Go program ended on {path!r} with {text}"
        answer = json.loads(line)
        found = (
            json.loads(answer["raw"], object_pairs_hook=first_wins) if answer["exists"] else None
        )
        return gjson.Result(answer["exists"], found)

    def assert_same(self, document: object, path: str) -> None:
        ours, theirs = gjson.get(document, path), self.get(document, path)
        assert (ours.exists, typed(ours.value)) == (theirs.exists, typed(theirs.value)), (
            f"path {path}\ndocument {json.dumps(document)}\nGo {theirs}\nours {ours}"
        )


def typed(value: object) -> object:
    """A value in which 1, 1.0 and True differ, and so do two orders of keys."""
    if isinstance(value, dict):
        return [(key, typed(item)) for key, item in value.items()]
    if isinstance(value, list):
        return ["list", *map(typed, value)]
    return type(value).__name__, value


@pytest.fixture(scope="session")
def gjson_of_go() -> Iterator[GoGjson]:
    with subprocess.Popen(
        [str(_built())], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, encoding="utf-8"
    ) as process:
        assert process.stdin is not None and process.stdout is not None
        yield GoGjson(process.stdin, process.stdout)
        process.stdin.close()  # it ends at the end of its input


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
