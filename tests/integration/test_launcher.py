# SPDX-License-Identifier: Apache-2.0
"""The launcher with real programs: what it passes through, what it records, and what never hurts
the program."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from launcher_program import Bench, launcher

pytestmark = pytest.mark.integration

PYTHON = sys.executable
FORWARDED = [
    signal.SIGHUP,
    signal.SIGINT,
    signal.SIGQUIT,
    signal.SIGTERM,
    signal.SIGUSR1,
    signal.SIGUSR2,
    signal.SIGALRM,
    signal.SIGWINCH,
    signal.SIGRTMIN + 3,
]


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    made = Bench(tmp_path)
    yield made
    made.close()


def until(condition: Any, what: str, seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.01)


def test_argv_arrives_byte_for_byte(bench: Bench) -> None:
    show = "import os, sys; print([os.fsencode(a) for a in sys.argv[1:]])"
    argv = [b"--", b"a b", b"$HOME $(id) `id`", b"'\"\\", b"x\ny\t\r", b"", b"(;|&)", b"\xff\x01"]
    done = bench.run(PYTHON, "-c", show, *argv)
    assert done.stdout.decode().strip() == str(argv)


def test_the_program_is_found_on_the_path_and_keeps_its_folder_and_environment(
    bench: Bench, tmp_path: Path
) -> None:
    (tmp_path / "train").write_text("#!/bin/sh\npwd\necho $COLOUR\n")
    (tmp_path / "train").chmod(0o755)
    environment = {"PATH": f"{tmp_path}:/usr/bin:/bin", "COLOUR": "blue"}
    done = bench.run("train", cwd=tmp_path, env=environment)
    assert done.stdout.decode().split() == [str(tmp_path), "blue"]


@pytest.mark.parametrize("code", [0, 1, 42, 255])
def test_the_exit_code_is_the_programs(bench: Bench, code: int) -> None:
    assert bench.run("sh", "-c", f"exit {code}").returncode == code
    assert (bench.end["code"], bench.end["signal"], bench.end["stopped"]) == (code, 0, False)
    assert bench.end["started"] < bench.end["ended"]


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGSEGV])
def test_death_by_a_signal_is_an_exit_code_of_128_and_more(bench: Bench, number: int) -> None:
    assert bench.run("sh", "-c", f"kill -{number:d} $$").returncode == 128 + number
    assert (bench.end["code"], bench.end["signal"]) == (128 + number, number)


@pytest.mark.parametrize(
    ("command", "code"), [("/no/such/program", 127), ("no-such", 127), ("/etc/passwd", 126)]
)
def test_a_program_that_cannot_run_is_said_in_its_log(
    bench: Bench, command: str, code: int
) -> None:
    done = bench.run(command)
    assert done.returncode == bench.end["code"] == code
    assert f'cannot run "{command}"' in done.stderr.decode()
    assert done.stderr == bench.output


def test_output_is_seen_on_its_stream_and_in_the_file(bench: Bench) -> None:
    script = (
        "print('out', flush=True); import sys; sys.stderr.write('err\\n'); print('no end', end='')"
    )
    done = bench.run(PYTHON, "-c", script)
    assert (done.stdout, done.stderr) == (b"out\nno end", b"err\n")
    assert sorted(bench.output.splitlines()) == [b"err", b"no end", b"out"]


def test_binary_output_is_kept_as_it_is(bench: Bench) -> None:
    data = bytes(range(256)) * 5000 + b"\xff\xfe"
    done = bench.run("cat", input=data)
    assert done.stdout == bench.output == data


def test_lines_of_the_two_streams_do_not_mix(bench: Bench) -> None:
    script = """
import os, threading
def write(fd, letter):
    for i in range(3000):
        line = letter * 50 + str(i)
        os.write(fd, line[:20].encode()); os.write(fd, (line[20:] + "\\n").encode())
threads = [threading.Thread(target=write, args=a) for a in ((1, "a"), (2, "b"))]
[t.start() for t in threads]; [t.join() for t in threads]
"""
    bench.run(PYTHON, "-c", script)
    expected = [letter * 50 + str(i) for letter in "ab" for i in range(3000)]
    assert sorted(bench.output.decode().splitlines()) == sorted(expected)


def test_a_line_appears_in_the_file_when_it_ends(bench: Bench) -> None:
    process, _ = bench.start(
        "sh", "-c", "echo loss=1; printf 50%%'\\r'; printf part; exec sleep 300"
    )
    until(lambda: bench.output == b"loss=1\n50%\r", "whole lines, and no part of one")
    process.terminate()
    process.wait()


def test_100_mb_of_output_pass_at_200_mb_a_second(bench: Bench, tmp_path: Path) -> None:
    line = b"epoch=1 step=123456 loss=0.123456 accuracy=0.987654\n"
    (tmp_path / "big").write_bytes(line * (100_000_000 // len(line)))
    size, best = (tmp_path / "big").stat().st_size, float("inf")
    for _ in range(3):
        (bench.folder / "output").unlink(missing_ok=True)
        began = time.monotonic()
        bench.run("cat", str(tmp_path / "big"), capture_output=False, stdout=subprocess.DEVNULL)
        best = min(best, time.monotonic() - began)
    print(f"{size / best / 1e6:.0f} MB/s")
    assert bench.output == (tmp_path / "big").read_bytes()
    assert size / best >= 200e6


def test_a_slow_reader_slows_the_program_and_loses_nothing(bench: Bench) -> None:
    argv = bench.argv("head", "-c", "8000000", "/dev/urandom")
    process = subprocess.Popen(argv, stdout=subprocess.PIPE)
    assert process.stdout is not None
    time.sleep(0.5)
    assert process.poll() is None
    assert process.stdout.read() == bench.output
    assert process.wait() == 0


@pytest.mark.parametrize("number", FORWARDED)
def test_signals_reach_the_program_and_not_its_children(bench: Bench, number: int) -> None:
    script = f"""
import os, signal, sys, time
child = os.fork()
def told(*_):
    name = "child" if child == 0 else "parent"
    os.write(1, (name + "\\n").encode())
    os._exit(7)
signal.signal({int(number)}, told)
if child == 0:
    time.sleep(60)
print(child, flush=True)
while True: time.sleep(0.05)  # Python may begin to sleep just after a signal
"""
    process, child = bench.start(PYTHON, "-c", script)
    process.send_signal(number)
    assert process.wait(20) == 7
    os.kill(int(child), signal.SIGKILL)
    assert bench.output.decode().split() == [child, "parent"]


def test_an_ignored_signal_stays_ignored(bench: Bench) -> None:
    show = "import signal; print(signal.getsignal(signal.SIGHUP).name)"
    done = bench.run(
        PYTHON, "-c", show, preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN)
    )
    assert b"SIG_IGN" in done.stdout
    assert b"SIG_DFL" in bench.run(PYTHON, "-c", show).stdout


def test_a_stop_ends_the_whole_group_and_is_no_failure(bench: Bench) -> None:
    script = "sleep 300 & echo $!; trap 'sleep 0.3; echo saved; exit 5' TERM; wait"
    process, child = bench.start("sh", "-c", script)
    bench.stop("median of 3 is better")
    assert process.wait(20) == 0
    assert not Path(f"/proc/{child}").exists()
    assert b"saved" in bench.output
    end = bench.end
    assert (end["stopped"], end["reason"], end["code"]) == (True, "median of 3 is better", 5)
    assert "killed" not in end


def test_who_ignores_sigterm_is_killed_after_the_grace_period(bench: Bench) -> None:
    script = "trap '' TERM; sleep 300 & echo $!; while :; do sleep 1; done"
    process, child = bench.start("sh", "-c", script, options=("-grace", "700ms"))
    began = time.monotonic()
    bench.stop("enough")
    assert process.wait(20) == 0
    assert 0.7 <= time.monotonic() - began < 5
    assert not Path(f"/proc/{child}").exists()
    assert (bench.end["killed"], bench.end["signal"]) == (True, 9)


def test_workers_that_outlive_their_leader_have_the_grace_period_too(bench: Bench) -> None:
    saved = bench.folder / "worker"
    worker = f"trap 'sleep 1; touch {saved}; exit' TERM; echo ready; while :; do sleep 0.05; done"
    process, _ = bench.start("sh", "-c", f"sh -c {shlex.quote(worker)} & wait")
    bench.stop("enough")
    assert process.wait(20) == 0
    assert (bench.end["signal"], bench.end["stopped"]) == (signal.SIGTERM, True)
    assert "killed" not in bench.end
    assert (bench.folder / "worker").exists()


def test_the_grace_period_can_come_from_the_environment(bench: Bench) -> None:
    environment = {**os.environ, "TUNESMITH_STOP_GRACE_SECONDS": "0.2"}
    script = "trap '' TERM; echo; while :; do sleep 1; done"
    process, _ = bench.start("sh", "-c", script, env=environment)
    bench.stop("enough")
    assert process.wait(5) == 0


def test_a_container_that_is_started_again_after_a_stop_does_nothing(bench: Bench) -> None:
    bench.stop("enough")
    done = bench.run("sh", "-c", "echo trained")
    assert (done.returncode, done.stdout, bench.output) == (0, b"", b"")
    assert (bench.end["stopped"], bench.end["reason"]) == (True, "enough")


def test_a_container_that_is_started_again_appends(bench: Bench) -> None:
    assert bench.run("sh", "-c", "echo one; printf tor; exit 1").returncode == 1
    assert bench.run("sh", "-c", "echo two").returncode == 0
    assert bench.output == b"one\ntor\ntwo\n"
    assert bench.end["code"] == 0


def test_a_log_that_nobody_reads_any_more_hurts_nobody(bench: Bench) -> None:
    argv = bench.argv("sh", "-c", "echo; for i in $(seq 2000); do echo $i; done; exit 3")
    process = subprocess.Popen(argv, stdout=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.close()
    assert process.wait(20) == 3
    assert bench.output.endswith(b"\n1999\n2000\n")


def test_closed_streams_are_no_problem(bench: Bench) -> None:
    line = shlex.join(map(str, bench.argv("sh", "-c", "echo out; echo err >&2")))
    done = subprocess.run(["sh", "-c", f"{line} <&- >&- 2>&-"], check=False, timeout=20)
    assert done.returncode == 0
    assert sorted(bench.output.splitlines()) == [b"err", b"out"]


def test_without_its_directory_the_program_runs_all_the_same(bench: Bench) -> None:
    bench.folder.rmdir()
    done = bench.run("sh", "-c", "echo out; exit 3")
    assert (done.returncode, done.stdout) == (3, b"out\n")
    assert b"no metrics are collected" in done.stderr


def test_orphans_are_reaped_and_not_waited_for(bench: Bench) -> None:
    script = """
import os, subprocess, sys, time
for _ in range(5):
    subprocess.run(["sh", "-c", "(sleep 0.1 &) "])
subprocess.run(["sh", "-c", "setsid sleep 300 & echo $! >&2"])
print("ready", flush=True)
time.sleep(0.5)
me = os.getppid()
for name in os.listdir("/proc"):
    if name.isdigit():
        try: fields = open(f"/proc/{name}/stat").read().rsplit(")", 1)[1].split()
        except OSError: continue
        if fields[1] == str(me) and fields[0] == "Z": print("zombie", name)
"""
    began = time.monotonic()
    done = bench.run(PYTHON, "-c", script)
    assert time.monotonic() - began < 30
    assert done.stdout == b"ready\n"
    os.kill(int(done.stderr), signal.SIGKILL)


def test_as_first_process_of_a_container_it_takes_everything_with_it(bench: Bench) -> None:
    if os.geteuid():
        pytest.skip("only root can make a process namespace")
    line = "(setsid sh -c 'sleep 300' &) ; sleep 0.1; echo $$ $PPID; exit 9"
    argv = ["unshare", "--pid", "--fork", "--kill-child", *bench.argv("sh", "-c", line)]
    done = subprocess.run(argv, capture_output=True, check=False, timeout=20)
    assert done.returncode == 9
    assert done.stdout.split()[1] == b"1"


def test_what_an_orphan_holds_open_does_not_keep_the_container(bench: Bench) -> None:
    began = time.monotonic()
    done = bench.run("sh", "-c", "seq 50000; setsid sleep 300 & echo $! >&2", stdin=subprocess.PIPE)
    assert time.monotonic() - began < 20
    assert done.stdout == "".join(f"{n}\n" for n in range(1, 50_001)).encode()
    os.kill(int(done.stderr), signal.SIGKILL)


def test_files_are_readable_for_another_user_whatever_the_umask(bench: Bench) -> None:
    environment = {**os.environ, "TUNESMITH_METRICS_FILE": str(bench.folder / "metrics.jsonl")}
    done = bench.run("sh", "-c", "umask", umask=0o077, env=environment)
    assert done.stdout.strip() == b"0077"
    modes = {path.name: path.stat().st_mode & 0o777 for path in bench.folder.iterdir()}
    visible = {name: mode for name, mode in modes.items() if not name.startswith(".")}
    assert visible == {"output": 0o644, "exit.json": 0o644, "metrics.jsonl": 0o666}


def test_it_puts_itself_in_place_even_over_a_running_one(bench: Bench, tmp_path: Path) -> None:
    place = tmp_path / "launcher"
    for _ in range(2):
        subprocess.run([str(launcher()), "copy", str(place)], check=True)
    running = subprocess.Popen([str(place), "-dir", str(bench.folder), "--", "sleep", "300"])
    subprocess.run([str(launcher()), "copy", str(place)], check=True)
    assert subprocess.run([str(place), "check"], check=False).returncode == 0
    assert place.stat().st_mode & 0o777 == 0o755
    assert [path.name for path in tmp_path.glob("*launcher*")] == ["launcher"]
    running.terminate()
    assert running.wait(20) == 128 + signal.SIGTERM


@pytest.mark.parametrize(
    "arguments", [[], ["--"], ["ls"], ["-nonsense", "--", "ls"], ["x", "--", "ls"]]
)
def test_a_call_without_a_command_is_explained(arguments: list[str]) -> None:
    done = subprocess.run([str(launcher()), *arguments], capture_output=True, check=False)
    assert done.returncode == 2
    assert b"usage: tunesmith-launcher" in done.stderr


def test_a_program_on_a_terminal_can_read_from_it(bench: Bench) -> None:
    pid, terminal = os.forkpty()
    if pid == 0:
        argv = [os.fsdecode(part) for part in bench.argv("sh", "-c", "read x; echo got $x")]
        os.execv(argv[0], argv)  # noqa: S606
    os.write(terminal, b"hello\n")
    _, status = os.waitpid(pid, 0)
    os.close(terminal)
    assert os.waitstatus_to_exitcode(status) == 0
    assert bench.output == b"got hello\n"


def test_the_other_architecture_builds_too_and_the_same_each_time(tmp_path: Path) -> None:
    for architecture in ("amd64", "arm64"):
        made = launcher(architecture).read_bytes()
        assert made[:4] == b"\x7fELF"
        assert b"/lib64/ld-linux" not in made
