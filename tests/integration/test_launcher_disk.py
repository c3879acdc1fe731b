# SPDX-License-Identifier: Apache-2.0
"""The launcher and the disk: a full one never hurts the program; what was read is given back."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from launcher_program import Bench, launcher

pytestmark = pytest.mark.integration

PYTHON = sys.executable


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    made = Bench(tmp_path)
    yield made
    made.close()


def test_a_full_disk_stops_the_copy_and_not_the_program(bench: Bench) -> None:
    def only_little() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))

    script = "seq 100000; exit 4"
    done = bench.run("sh", "-c", script, preexec_fn=only_little)
    assert done.returncode == bench.end["code"] == 4
    assert done.stdout == "".join(f"{n}\n" for n in range(1, 100_001)).encode()
    assert done.stdout.startswith(bench.output)
    missing = len(done.stdout) - len(bench.output)
    assert f"{missing} bytes of output were not collected" in (bench.folder / "problem").read_text()


def test_room_on_the_disk_is_used_again_from_a_line_on(bench: Bench, tmp_path: Path) -> None:
    if os.geteuid():
        pytest.skip("only root can mount a small file system")
    program = tmp_path / "program.sh"
    full, shared = tmp_path / "full", bench.folder
    program.write_text(
        f"""mount -t tmpfs -o size=256k tmpfs {shared} || exit 99
        {launcher()} -dir {shared} -- sh -c '
          head -c 150000 /dev/zero > {shared}/filler
          seq 30000; until [ -e {shared}/problem ]; do sleep 0.02; done
          rm {shared}/filler; sleep 1.2; echo loss=0.5; exit 6' > {full}
        echo $?; cp {shared}/output {shared}/problem {shared}/exit.json {tmp_path}"""
    )
    done = subprocess.run(
        ["unshare", "--mount", "sh", str(program)], capture_output=True, check=False, timeout=60
    )
    if done.returncode == 99:
        pytest.skip(f"no mounts here: {done.stderr.decode()}")
    assert done.stdout == b"6\n"
    assert json.loads((tmp_path / "exit.json").read_text())["code"] == 6
    assert "not collected: write" in (tmp_path / "problem").read_text()
    lines = (tmp_path / "output").read_bytes().splitlines()
    assert lines == [*full.read_bytes().splitlines()[: len(lines) - 1], b"loss=0.5"]
    assert len(lines) > 1000
    assert len(full.read_bytes().splitlines()) == 30001


def test_disk_space_of_what_was_taken_is_given_back(bench: Bench) -> None:
    script = f"""
import os
line = b"x" * 1023 + b"\\n"
for written in range(1, 129):
    os.write(1, line * 1024)
    if written % 4 == 0:
        while os.path.getsize("{bench.folder}/output") < written << 20: pass
        open("{bench.folder}/taken", "w").write(str(written << 20))
print("loss=0.5")
"""
    done = bench.run(PYTHON, "-c", script, options=("-limit", str(32 << 20)))
    assert done.returncode == 0, done.stderr
    file = bench.folder / "output"
    assert file.stat().st_size == (128 << 20) + len("loss=0.5\n")
    assert file.stat().st_blocks * 512 < 34 << 20
    assert bench.output.endswith(b"x\nloss=0.5\n")
    assert not (bench.folder / "problem").exists()


def test_what_nobody_takes_is_not_kept_beyond_the_limit(bench: Bench) -> None:
    done = bench.run("head", "-c", "9000000", "/dev/zero", options=("-limit", "4000000"))
    assert (done.returncode, len(done.stdout)) == (0, 9_000_000)
    assert (bench.folder / "output").stat().st_size <= 4_000_000
    assert "wait to be collected" in (bench.folder / "problem").read_text()
