# SPDX-License-Identifier: Apache-2.0
"""The sidecar and the launcher of a pod as real processes, with a real observation service."""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import sys
import time
from pathlib import Path
from typing import Any

import grpc
import pytest
from authorities import authority
from pod_processes import Bench, on_bench, until

from tunesmith_metrics_collector.collector import AttemptName
from tunesmith_metrics_collector.unsent import deliver, read
from tunesmith_observation.servicer import ObservationsServicer
from tunesmith_proto import wire
from tunesmith_proto.v1 import observations_pb2 as pb

pytestmark = pytest.mark.integration

MANY = "for i in range(2000): print(f'loss={i}', flush=i % 100 == 0)"


def test_what_a_program_prints_is_collected_and_repeated(tmp_path: Path) -> None:
    async def scenario(bench: Bench) -> None:
        pod = bench.pod()
        assert await pod.run(sys.executable, "-c", MANY) == 0
        assert await bench.service.values() == [str(i) for i in range(2000)]
        assert await bench.service.sources() == {"stdout": True, "push": True}
        assert pod.log == (pod.shared / "output").read_bytes()
        assert not (pod.folder / "termination-log").exists()

    on_bench(tmp_path, scenario)


@pytest.mark.parametrize(
    ("script", "code", "values"),
    [
        ("echo loss=0.25", 0, ["0.25"]),
        ("echo loss=0.5; exit 1", 1, ["0.5"]),
        ("printf loss=0.75; kill -9 $$", 137, ["0.75"]),
        ("true", 0, []),
    ],
)
def test_short_programs_are_collected_whole(
    tmp_path: Path, script: str, code: int, values: list[str]
) -> None:
    async def scenario(bench: Bench) -> None:
        assert await bench.pod().run("sh", "-c", script) == code
        assert await bench.service.values() == values
        assert await bench.service.sources() == {"stdout": True, "push": True}

    on_bench(tmp_path, scenario)


def test_a_pod_whose_program_never_started_ends_too(tmp_path: Path) -> None:
    async def scenario(bench: Bench) -> None:
        pod = bench.pod()
        await pod.start_sidecar()
        assert await pod.end() == 0
        assert await bench.service.sources() == {"stdout": True, "push": True}

    on_bench(tmp_path, scenario)


def test_a_sidecar_killed_anywhere_loses_and_doubles_nothing(tmp_path: Path) -> None:
    async def scenario(bench: Bench) -> None:
        pod, chance = bench.pod(), random.Random(7)
        sidecar = await pod.start_sidecar()
        script = f"import time\n{MANY}\n".replace("print(", "time.sleep(0.002); print(")
        program = await pod.train(sys.executable, "-c", script)
        while program.returncode is None:
            await asyncio.sleep(chance.uniform(0.05, 0.9))
            sidecar.kill()
            await sidecar.wait()
            sidecar = await pod.start_sidecar()
        assert len(pod.sidecars) > 4
        assert await pod.end() == 0
        assert await bench.service.values() == [str(i) for i in range(2000)]
        assert len(await bench.service.log.sources("uid-1", 1)) == 2
        assert pod.log == (pod.shared / "output").read_bytes()

    on_bench(tmp_path, scenario)


def test_a_sidecar_that_is_ended_alone_does_not_report_the_end(tmp_path: Path) -> None:
    async def scenario(bench: Bench) -> None:
        pod = bench.pod("--grace", "1.5")
        await pod.start_sidecar()
        program = await pod.train("sh", "-c", "echo loss=1; sleep 4; echo loss=2")
        await until((pod.shared / "output").exists, "the program has begun")
        assert await pod.end() == 0
        assert not any((await bench.service.sources()).values())
        await pod.start_sidecar()
        await program.wait()
        assert await pod.end() == 0
        assert await bench.service.values() == ["1", "2"]
        assert all((await bench.service.sources()).values())

    on_bench(tmp_path, scenario)


def test_an_outage_that_ends_within_the_grace_period_costs_nothing(tmp_path: Path) -> None:
    async def scenario(bench: Bench) -> None:
        await bench.service.stop()
        pod = bench.pod()
        await pod.start_sidecar()
        await (await pod.train(sys.executable, "-c", MANY)).wait()
        pod.sidecars[-1].send_signal(signal.SIGTERM)
        await asyncio.sleep(1)
        await bench.service.start()
        assert await asyncio.wait_for(pod.sidecars[-1].wait(), 30) == 0
        assert await bench.service.values() == [str(i) for i in range(2000)]

    on_bench(tmp_path, scenario)


def test_rows_that_could_not_be_delivered_are_found_in_the_log(tmp_path: Path) -> None:
    async def scenario(bench: Bench) -> None:
        pod = bench.pod("--grace", "4")
        await pod.start_sidecar()
        report = "import tunesmith_report as t; t.report(step=1, loss=0.5, other=1)"
        script = f"print('loss=77', flush=True); input(); {report}\n{MANY}"
        program = await asyncio.create_subprocess_exec(
            *(str(pod.shared / "launcher"), "-dir", str(pod.shared), "--"),
            *(sys.executable, "-c", script),
            env={**os.environ, "TUNESMITH_METRICS_FILE": f"{pod.shared}/metrics.jsonl"},
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.DEVNULL,
        )
        pod.programs.append(program)
        async with asyncio.timeout(20):
            while not await bench.service.values():
                await asyncio.sleep(0.05)
        await bench.service.stop()
        await program.communicate(b"go on\n")
        began = time.monotonic()
        assert await pod.end() == 0
        assert time.monotonic() - began < 4
        told = json.loads((pod.folder / "termination-log").read_text())
        assert told["unsentRows"] == 2001
        found = read(pod.log.decode().splitlines(), AttemptName("uid-1", 1, "t1", "ns"))
        assert found.is_complete
        assert await deliver(found, bench.service.log)
        rows = await bench.service.log.rows("uid-1", 1)
        printed = [row.value for row in rows if row.source.startswith("stdout@")]
        assert printed == ["77", *(str(i) for i in range(2000))]
        assert await bench.service.values() == ["0.5"]
        assert await bench.service.sources() == {"stdout": True, "push": True}
        assert (await bench.service.log.sources("uid-1", 1)).keys() == {row.source for row in rows}

    on_bench(tmp_path, scenario)


def test_pods_of_one_attempt_follow_each_other(tmp_path: Path) -> None:
    async def scenario(bench: Bench) -> None:
        for number in range(3):
            pod = bench.pod()
            pod.uid = f"{9 - number}"
            script = f"for i in 1 2 3; do echo loss={number}$i; done; exit 1"
            assert await pod.run("sh", "-c", script) == 1
        values = await bench.service.values()
        assert values == [f"{pod}{line}" for pod in range(3) for line in (1, 2, 3)]

    on_bench(tmp_path, scenario)


def test_a_container_that_is_started_again_in_its_pod_goes_on(tmp_path: Path) -> None:
    async def scenario(bench: Bench) -> None:
        pod = bench.pod()
        await pod.start_sidecar()
        assert await (await pod.train("sh", "-c", "echo loss=1; printf loss=2; exit 1")).wait() == 1
        assert await (await pod.train("sh", "-c", "echo loss=3")).wait() == 0
        assert await pod.end() == 0
        assert await bench.service.values() == ["1", "2", "3"]

    on_bench(tmp_path, scenario)


def test_the_file_collector_reads_the_file_and_not_what_is_printed(tmp_path: Path) -> None:
    async def scenario(bench: Bench) -> None:
        path = tmp_path / "m.json"
        pod = bench.pod(collector="File", metricsPath=str(path), metricsFormat="JSON")
        line = json.dumps({"loss": 0.125})
        assert await pod.run("sh", "-c", f"echo loss=9; echo '{line}' > {path}") == 0
        assert await bench.service.values() == ["0.125"]
        assert await bench.service.sources() == {"file": True, "push": True}
        assert pod.log == b""

    on_bench(tmp_path, scenario)


def test_an_unknown_argv_leaves_the_output_to_who_reads_the_pods_log(tmp_path: Path) -> None:
    async def scenario(bench: Bench) -> None:
        pod = bench.pod("--mode", "podLog")
        await pod.start_sidecar()
        (pod.shared / "metrics.jsonl").write_text('{"loss": 0.5}\n')
        assert await pod.end() == 0
        assert await bench.service.values() == ["0.5"]
        assert await bench.service.sources() == {"stdout": False, "push": True}

    on_bench(tmp_path, scenario)


def test_a_link_that_the_program_made_is_not_followed(tmp_path: Path) -> None:
    async def scenario(bench: Bench) -> None:
        pod = bench.pod()
        (tmp_path / "token").write_text("loss=666 secret\n")
        await pod.start_sidecar()
        (pod.shared / "output").symlink_to(tmp_path / "token")
        (pod.shared / "metrics.jsonl").symlink_to(tmp_path / "token")
        assert await pod.end() == 0
        assert await bench.service.values() == []
        assert b"secret" not in pod.log
        states = (await bench.service.log.sources("uid-1", 1)).values()
        assert not any("secret" in line for state in states for line in state.notes.last_lines)

    on_bench(tmp_path, scenario)


class Stopping(ObservationsServicer):
    """Says that a trial should stop once it has reported a certain value, or been asked often."""

    told = 0

    async def Report(self, request: pb.ReportRows, context: Any) -> pb.Acknowledgement:
        answer = await super().Report(request, context)
        self.told += any(row.value == "3" for row in request.rows) or bool(self.told)
        if self.told > 1:
            answer.stop_reason = "the median of 3 trials is better"
        return answer


def test_a_stop_in_a_reply_ends_the_program(tmp_path: Path) -> None:
    async def scenario(bench: Bench) -> None:
        await bench.service.stop()
        server = grpc.aio.server()
        server.add_generic_rpc_handlers(
            (wire.handler(wire.OBSERVATIONS, Stopping(bench.service.log)),)
        )
        server.add_insecure_port(bench.service.address)
        await server.start()
        try:
            pod = bench.pod()
            script = "for i in 1 2 3; do echo loss=$i; done; sleep 300"
            assert await asyncio.wait_for(pod.run("sh", "-c", script), 30) == 0
        finally:
            await server.stop(None)
        end = json.loads((pod.shared / "exit.json").read_text())
        assert (end["stopped"], end["reason"]) == (True, "the median of 3 trials is better")
        assert await bench.service.values() == ["1", "2", "3"]

    on_bench(tmp_path, scenario)


def test_a_stop_that_the_service_was_told_ends_a_silent_program(tmp_path: Path) -> None:
    async def scenario(bench: Bench) -> None:
        pod = bench.pod()
        running = asyncio.create_task(pod.run("sh", "-c", "echo loss=1; sleep 300"))
        async with asyncio.timeout(30):
            while await bench.service.values() != ["1"]:
                await asyncio.sleep(0.05)
            await bench.service.log.stop("uid-1", 1, "it will not get better")
            assert await running == 0
        end = json.loads((pod.shared / "exit.json").read_text())
        assert (end["stopped"], end["reason"]) == (True, "it will not get better")

    on_bench(tmp_path, scenario)


class Guarded(ObservationsServicer):
    """Knows one token."""

    token = "first"

    async def Report(self, request: pb.ReportRows, context: Any) -> pb.Acknowledgement:
        shown = dict(context.invocation_metadata()).get("authorization")
        if shown != f"Bearer {self.token}":
            await context.abort(grpc.StatusCode.UNAUTHENTICATED, f"unknown: {shown}")
        return await super().Report(request, context)


def test_a_renewed_token_and_a_new_authority_are_used_without_a_restart(tmp_path: Path) -> None:
    async def scenario(bench: Bench) -> None:
        guard, authorities = Guarded(bench.service.log), [authority("one"), authority("two")]

        async def serve(number: int, port: int) -> tuple[Any, int]:
            server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
            server.add_generic_rpc_handlers((wire.handler(wire.OBSERVATIONS, guard),))
            pair = authorities[number].issue()
            credentials = grpc.ssl_server_credentials([(pair.key, pair.certificate)])
            bound = server.add_secure_port(f"127.0.0.1:{port}", credentials)
            await server.start()
            return server, bound

        server, port = await serve(0, 0)
        pod = bench.pod()
        pod.address = f"127.0.0.1:{port}"
        identity = pod.folder / "identity"
        (identity / "ca.crt").write_bytes(authorities[0].pem)
        (identity / "token").write_text("expired")
        await pod.start_sidecar()
        script = "echo loss=1; read x; echo loss=2; exec sleep 300"
        program = await asyncio.create_subprocess_exec(
            *(str(pod.shared / "launcher"), "-dir", str(pod.shared), "--", "sh", "-c", script),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.DEVNULL,
        )
        pod.programs.append(program)
        await asyncio.sleep(1)
        assert await bench.service.values() == []
        (identity / "token").write_text("first")
        await _values(bench, ["1"])
        await server.stop(None)
        guard.token = "second"
        server, _ = await serve(1, port)
        (identity / "token").write_text("second")
        (identity / "ca.crt").write_bytes(authorities[1].pem)
        assert program.stdin is not None
        program.stdin.write(b"\n")
        await _values(bench, ["1", "2"])
        await pod.close()
        await server.stop(None)

    on_bench(tmp_path, scenario)


async def _values(bench: Bench, wanted: list[str]) -> None:
    async with asyncio.timeout(30):
        while await bench.service.values() != wanted:
            await asyncio.sleep(0.05)


def used(pid: int) -> tuple[float, float]:
    """CPU seconds so far, and MiB at most, of a process."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    status = Path(f"/proc/{pid}/status").read_text()
    peak = next(line for line in status.splitlines() if line.startswith("VmHWM"))
    ticks = os.sysconf("SC_CLK_TCK")
    return (int(fields[11]) + int(fields[12])) / ticks, int(peak.split()[1]) / 1024


def test_a_start_costs_a_quarter_of_a_cpu_second_and_waiting_nothing(tmp_path: Path) -> None:
    async def scenario(bench: Bench) -> None:
        pod = bench.pod()
        began = time.monotonic()
        sidecar = await pod.start_sidecar()
        in_place = time.monotonic() - began
        async with asyncio.timeout(20):
            while len(await bench.service.sources()) < 2:
                await asyncio.sleep(0.01)
        ready, (cpu, memory) = time.monotonic() - began, used(sidecar.pid)
        await asyncio.sleep(5)
        idle = used(sidecar.pid)[0] - cpu
        began = time.monotonic()
        await pod.end()
        ended = time.monotonic() - began
        print(
            f"launcher in place after {in_place * 1000:.0f} ms, first report after "
            f"{ready * 1000:.0f} ms, {cpu:.2f} CPU s, {memory:.0f} MiB; {idle / 5:.1%} of a CPU "
            f"while waiting; end {ended * 1000:.0f} ms"
        )
        assert cpu <= 0.25
        assert idle / 5 <= 0.02

    on_bench(tmp_path, scenario)


def test_100_mb_of_output_are_collected_in_64_mib(tmp_path: Path) -> None:
    async def scenario(bench: Bench) -> None:
        pod = bench.pod()
        script = """
line = "epoch {0} step 123456 of 1000000: images 4711 seen, everything goes well so far\\n"
for i in range(2000):
    print(line.format(i) * 620 + f"loss={i}\\n", end="")
"""
        sidecar, began = await pod.start_sidecar(), time.monotonic()
        await (await pod.train(sys.executable, "-c", script)).wait()
        printed = time.monotonic() - began
        sidecar.send_signal(signal.SIGTERM)
        peak = cpu = 0.0
        while sidecar.returncode is None:
            try:
                cpu, peak = used(sidecar.pid)
            except (OSError, StopIteration):
                break
            await asyncio.sleep(0.01)
        assert await sidecar.wait() == 0
        size = (pod.shared / "output").stat().st_size
        print(
            f"{size / 1e6:.0f} MB printed in {printed:.1f} s, collected after "
            f"{time.monotonic() - began:.1f} s, {cpu:.1f} CPU s, {peak:.0f} MiB"
        )
        assert size > 90e6
        assert await bench.service.values() == [str(i) for i in range(2000)]
        assert pod.log == (pod.shared / "output").read_bytes()
        assert peak <= 64

    on_bench(tmp_path, scenario)
