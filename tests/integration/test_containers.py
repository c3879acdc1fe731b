# SPDX-License-Identifier: Apache-2.0
"""Trials in real containers, by podman: same files, same ends, nothing left behind.

The image is a static busybox, made here: no network is needed. podman's own settings for this
machine (storage, runtime, limits) are in a file that the tests write.
"""

from __future__ import annotations

import asyncio
import io
import os
import resource
import shutil
import subprocess
import tarfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from local_attempts import (
    Bench,
    WallClock,
    bench_in,
    end_of,
    ended,
    job_of,
    supervisor_of,
    until_file,
)

from tunesmith_controller.ports import Invalid, JobLost, TrialRun
from tunesmith_controller.workloads.containers import container_name
from tunesmith_controller.workloads.process import ProcessSettings, ProcessWorkloads

pytestmark = pytest.mark.integration

IMAGE = "localhost/tunesmith-test:1"
METRICS = "/var/log/katib/metrics.log"


@dataclass(frozen=True)
class Podman:
    """A podman with a storage of its own."""

    environ: Mapping[str, str]

    def __call__(self, *arguments: str, stdin: bytes = b"") -> str:
        ran = subprocess.run(
            ["podman", *arguments],
            input=stdin,
            env=dict(self.environ),
            capture_output=True,
            timeout=60,
            check=False,
        )
        if ran.returncode:
            raise RuntimeError(f"podman {arguments[0]}: {ran.stderr.decode()}")
        return ran.stdout.decode()


@pytest.fixture(scope="module")
def podman(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Podman]:
    folder = tmp_path_factory.mktemp("podman")
    made = Podman(settings(folder))
    try:
        made("import", "-", IMAGE, stdin=busybox_image())
        made("run", "--rm", IMAGE, "/bin/true")
    except (OSError, RuntimeError) as error:
        if os.environ.get("CI"):
            raise
        pytest.skip(f"podman cannot run containers here: {error}")
    yield made
    made("rm", "--all", "--force")


def settings(folder: Path) -> dict[str, str]:
    """Storage below `folder`; limits that this process may set; no network."""
    soft = [min(65_536, limit) for limit in (hard(resource.RLIMIT_NOFILE), hard(6))]
    runc = shutil.which("runc", path=f"{os.environ['PATH']}:/usr/sbin")
    (folder / "containers.conf").write_text(
        "[containers]\n"
        f'default_ulimits = ["nofile={soft[0] // 2}:{soft[0] // 2}",'
        f' "nproc={soft[1] // 2}:{soft[1] // 2}"]\n'
        'netns = "none"\n'
        "[engine]\n"
        'cgroup_manager = "cgroupfs"\nevents_logger = "file"\nruntime = "runc"\n'
        f'[engine.runtimes]\nrunc = ["{runc}"]\n'
    )
    (folder / "storage.conf").write_text(
        f'[storage]\ndriver = "vfs"\ngraphroot = "{folder}/graph"\nrunroot = "{folder}/run"\n'
    )
    return {
        **os.environ,
        "CONTAINERS_CONF": str(folder / "containers.conf"),
        "CONTAINERS_STORAGE_CONF": str(folder / "storage.conf"),
    }


def hard(limit: int) -> int:
    """A hard limit of this process; a large number where there is none."""
    found = resource.getrlimit(limit)[1]
    return 65_536 if found == resource.RLIM_INFINITY else found


def busybox_image() -> bytes:
    """A tar of a root file system in which every command is busybox. Raises OSError."""
    binary = Path(shutil.which("busybox") or "/bin/busybox").read_bytes()
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as tar:
        for folder in ("bin", "tmp", "etc"):
            entry = tarfile.TarInfo(folder)
            entry.type, entry.mode = tarfile.DIRTYPE, 0o777
            tar.addfile(entry)
        entry = tarfile.TarInfo("bin/busybox")
        entry.size, entry.mode = len(binary), 0o755
        tar.addfile(entry, io.BytesIO(binary))
        for name in ("sh", "cat", "echo", "sleep", "true", "test", "env", "pwd"):
            entry = tarfile.TarInfo(f"bin/{name}")
            entry.type, entry.linkname = tarfile.SYMTYPE, "busybox"
            tar.addfile(entry)
    return packed.getvalue()


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    with bench_in(tmp_path) as bench:
        yield bench


def workloads_of(bench: Bench, podman: Podman, grace: float = 1.0) -> ProcessWorkloads:
    return ProcessWorkloads(
        bench.root,
        clock=WallClock(),
        settings=ProcessSettings(cpus=4, grace=grace, leftover=0.3, poll=0.02, runtime="podman"),
        environ=podman.environ,
        notice=bench.notices.append,
    )


def contained(bench: Bench, script: str, **container: Any) -> TrialRun:
    return bench.run(job_of("/bin/sh", "-c", script, image=IMAGE, **container))


async def finished(workloads: ProcessWorkloads, run: TrialRun) -> tuple[str, str]:
    """Why it ended, and what it printed."""
    state = await ended(workloads, run)
    await workloads.release(run)
    return end_of(state)["reason"], workloads.output_path(run.trial_uid, 1).read_text()


def test_a_trial_runs_in_its_image_and_its_output_is_kept(bench: Bench, podman: Podman) -> None:
    env = [{"name": "GREETING", "value": "it's $5"}, {"name": "PATH", "value": "/bin"}]
    run = contained(bench, 'echo "$GREETING" $KATIB_TRIAL_NAME; ls /home 2>&1', env=env)
    reason, output = asyncio.run(finished(workloads_of(bench, podman), run))
    assert output.startswith(f"it's $5 {run.trial.name}\n")
    assert reason == "CommandFailed"  # there is no /home in the image, and no ls
    assert podman("ps", "--all", "--quiet") == ""


def test_exit_codes_are_those_of_the_program(bench: Bench, podman: Podman) -> None:
    async def scenario() -> str:
        workloads = workloads_of(bench, podman)
        return str(end_of(await ended(workloads, contained(bench, "exit 7")))["message"])

    assert asyncio.run(scenario()) == "the command exited with code 7"


def test_metrics_and_checkpoints_are_the_same_files_inside_and_outside(
    bench: Bench, podman: Podman
) -> None:
    script = (
        f"echo loss=0.5 > {METRICS}; "
        "echo '{\"loss\": 0.25}' >> $TUNESMITH_METRICS_FILE; "
        "echo 3 > $TUNESMITH_CHECKPOINT_DIR/step; test ! -e $TUNESMITH_STOP_FILE"
    )
    run = replace(contained(bench, script), collector="File", metrics_path=METRICS)
    workloads = workloads_of(bench, podman)
    reason, _ = asyncio.run(finished(workloads, run))
    assert reason == "CompletionsReached"
    assert workloads.metrics_target(run).read_text() == "loss=0.5\n"
    assert workloads.metrics_path(run.trial_uid, 1).read_text() == '{"loss": 0.25}\n'
    assert (workloads.checkpoint_path(run.trial_uid) / "step").read_text() == "3\n"


def test_variables_of_the_controller_and_its_client_do_not_mix_with_the_programs(
    bench: Bench, podman: Podman
) -> None:
    """Of each pair the program gets its own, and the client is not disturbed by it."""
    wanted = {"OMP_NUM_THREADS": "1", "LD_PRELOAD": "/x.so", "CONTAINERS_CONF": "/c", "TZ": "CET"}
    env = [{"name": name, "value": value} for name, value in wanted.items()]
    script = 'echo "$OMP_NUM_THREADS $LD_PRELOAD $CONTAINERS_CONF $TZ ${HTTPS_PROXY:-none}"'
    theirs = {"OMP_NUM_THREADS": "8", "TZ": "UTC", "HTTPS_PROXY": "http://me:secret@proxy"}
    workloads = workloads_of(bench, replace(podman, environ={**podman.environ, **theirs}))
    _, output = asyncio.run(finished(workloads, contained(bench, script, env=env)))
    assert output == "1 /x.so /c CET none\n"


def test_a_stopped_container_is_gone_also_one_that_does_not_listen(
    bench: Bench, podman: Podman
) -> None:
    async def scenario() -> str:
        workloads = workloads_of(bench, podman)
        run = contained(bench, "trap '' TERM; echo up > $TUNESMITH_CHECKPOINT_DIR/up; sleep 600")
        await workloads.ensure(run)
        await until_file(workloads.checkpoint_path(run.trial_uid) / "up")
        await workloads.stop(run)
        reason, _ = await finished(workloads, run)
        return reason

    assert asyncio.run(asyncio.wait_for(scenario(), 60)) == "Stopped"
    assert podman("ps", "--all", "--quiet") == ""


def test_a_killed_supervisor_leaves_no_container(bench: Bench, podman: Podman) -> None:
    async def scenario() -> None:
        workloads = workloads_of(bench, podman)
        run = contained(bench, "echo up > $TUNESMITH_CHECKPOINT_DIR/up; sleep 600")
        await workloads.ensure(run)
        await until_file(workloads.checkpoint_path(run.trial_uid) / "up")
        os.kill(supervisor_of(bench, run), 9)
        assert isinstance(await ended(workloads_of(bench, podman), run), JobLost)

    asyncio.run(asyncio.wait_for(scenario(), 60))
    assert podman("ps", "--all", "--quiet") == ""


def test_a_container_whose_client_was_killed_is_ended_before_the_next_start(
    bench: Bench, podman: Podman
) -> None:
    run = contained(
        bench, "n=$TUNESMITH_CHECKPOINT_DIR/up; test -e $n && exit 0; echo 1 > $n; sleep 600"
    )
    run.spec["spec"]["backoffLimit"] = 1

    async def scenario() -> str:
        workloads = workloads_of(bench, podman)
        await workloads.ensure(run)
        await until_file(workloads.checkpoint_path(run.trial_uid) / "up")
        started = bench.attempt(run).started()
        assert started is not None
        os.kill(started.program.pid, 9)
        reason, _ = await finished(workloads, run)
        return reason

    assert asyncio.run(asyncio.wait_for(scenario(), 60)) == "CompletionsReached"
    assert podman("ps", "--all", "--quiet") == ""


def test_an_image_that_cannot_be_had_is_told_in_podmans_words(bench: Bench, podman: Podman) -> None:
    spec = job_of("/bin/true", image="localhost/nobody:1", imagePullPolicy="Never")
    condition = end_of(asyncio.run(ended(workloads_of(bench, podman), bench.run(spec))))
    assert condition["reason"] == "StartFailed"
    assert "localhost/nobody:1" in condition["message"]


def test_without_an_image_or_a_client_it_never_starts(bench: Bench, podman: Podman) -> None:
    with pytest.raises(Invalid, match="no image"):
        asyncio.run(workloads_of(bench, podman).ensure(bench.run(job_of("/bin/true"))))
    nowhere = replace(podman, environ={**podman.environ, "PATH": "/nowhere"})
    with pytest.raises(Invalid, match="podman is not on the PATH"):
        asyncio.run(workloads_of(bench, nowhere).ensure(contained(bench, "true")))


def test_memory_limits_are_imposed(bench: Bench, podman: Podman) -> None:
    limits = {"cpu": "500m", "memory": "32Mi"}
    script = "cat /sys/fs/cgroup/memory/memory.limit_in_bytes /sys/fs/cgroup/memory.max 2>/dev/null"
    run = contained(bench, f"{script}; true", resources={"limits": limits})
    workloads = workloads_of(bench, podman)
    _, output = asyncio.run(finished(workloads, run))
    assert output == f"{32 << 20}\n" or any("cannot limit" in told for told in bench.notices)


def test_names_of_containers_are_of_one_attempt() -> None:
    assert len({container_name("a", 1), container_name("a", 2), container_name("b", 1)}) == 3
