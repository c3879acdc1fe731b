# SPDX-License-Identifier: Apache-2.0
"""What a suggestion costs: CPU of the service over gRPC and of the libraries, beside peers.

    python benchmarks/algorithms/latency.py --quick      # a few minutes
    python benchmarks/algorithms/latency.py --json

Ten mixed parameters. The service gets what Katib's controller sends, every trial in every request,
the newest one added each time; beside it a null service that decodes a request, looks every
trial's name up in a set and replies. CPU is the whole server process's, user and system.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import grpc
from environments import ONE_THREAD, OPTUNA, python_of, variables

from tunesmith_api.problem import (
    Direction,
    History,
    Objective,
    Outcome,
    OutcomeState,
    Problem,
    Proposal,
    history_digest,
)
from tunesmith_api.search_space import (
    Distribution,
    DoubleParameter,
    IntParameter,
    ListParameter,
    SearchSpace,
)
from tunesmith_proto import wire
from tunesmith_proto.katib import api_pb2
from tunesmith_proto.v1 import suggestions_pb2
from tunesmith_suggestion.chance import generator
from tunesmith_suggestion.katib_messages import experiment_message, trial_messages
from tunesmith_suggestion.messages import message_digest, outcome_message, problem_message
from tunesmith_suggestion.registry import Registry
from tunesmith_suggestion.space import compile_space

LOG: Final = Distribution.LOG_UNIFORM
SPACE: Final = SearchSpace(
    (
        *(DoubleParameter(f"x{i}", -5.0, 5.0) for i in range(4)),
        *(DoubleParameter(f"l{i}", 1e-5, 1.0, distribution=LOG) for i in range(2)),
        IntParameter("i0", 1, 32),
        IntParameter("i1", 1, 100),
        ListParameter("c0", tuple("abcd")),
        ListParameter("c1", tuple("abc")),
    )
)
FAST: Final = ("random", "sobol", "tpe", "multivariate-tpe")
SLOW: Final = ("bayesianoptimization", "cmaes", "auto")
NULL: Final = "null service"


@dataclass(frozen=True, slots=True)
class Figure:
    """One measured number; `ratio` is to the peer or floor of the same run, named in `beside`."""

    what: str
    value: float
    unit: str
    ratio: float | None = None
    beside: str = ""

    def line(self) -> str:
        ratio = "" if self.ratio is None else f"   {self.ratio:7.3f} x {self.beside}"
        return f"{self.what:<66} {self.value:10.3f} {self.unit}{ratio}"


# ---- what is asked ------------------------------------------------------------------------------


def a_problem(algorithm: str, name: str = "latency") -> Problem:
    return Problem(name, name, algorithm, {}, SPACE, (Objective("loss", Direction.MINIMIZE),), 1)


def a_history(count: int) -> History:
    """Points at random, losses of a bowl with noise."""
    space, chance = compile_space(SPACE), generator("latency", "1", 0, 0)
    found = []
    for k in range(count):
        point = space.draw(chance)
        loss = sum(float(point[f"x{i}"]) ** 2 for i in range(4)) + float(chance.random())
        found.append(Outcome(k, point, OutcomeState.SUCCEEDED, {"loss": loss}))
    return History(tuple(found))


class Katib:
    """Requests as Katib's controller sends them."""

    def __init__(self, most: int) -> None:
        self._trials = trial_messages(a_problem("random"), a_history(most))
        for k, trial in enumerate(self._trials):
            # What else the controller fills in: a second metric and the times of the run.
            trial.spec.objective.additional_metric_names.append("accuracy")
            metric = api_pb2.Metric(name="accuracy", value=f"0.{k * 7919 % 1_000_003:06}")
            trial.status.observation.metrics.append(metric)
            clock = f"{k // 3600 % 24:02}:{k // 60 % 60:02}:{k % 60:02}"
            trial.status.start_time = trial.status.completion_time = f"2026-11-02T{clock}Z"

    def request(self, algorithm: str, trials: int, batch: int, name: str = "latency") -> bytes:
        return api_pb2.GetSuggestionsRequest(
            experiment=experiment_message(a_problem(algorithm, name), {}),
            trials=self._trials[:trials],
            current_request_number=batch,
            total_request_number=trials + batch,
        ).SerializeToString()


# ---- services -----------------------------------------------------------------------------------


class Server:
    """A service in a process of its own, on a Unix socket."""

    def __init__(self, process: subprocess.Popen[bytes], socket: Path) -> None:
        self._process = process
        options = [("grpc.max_send_message_length", -1), ("grpc.max_receive_message_length", -1)]
        self._channel = grpc.insecure_channel(f"unix:{socket}", options=options)
        grpc.channel_ready_future(self._channel).result(timeout=30)
        self._katib = self._channel.unary_unary(
            wire.SERVICES[wire.KATIB_SUGGESTION]["GetSuggestions"].path
        )
        self._ours = wire.call(self._channel, wire.SUGGESTIONS, "Suggest")

    def ask(self, request: bytes) -> bytes:
        reply: bytes = self._katib(request, timeout=600)
        return reply

    def ask_ours(self, request: suggestions_pb2.SuggestRequest) -> suggestions_pb2.SuggestReply:
        reply: suggestions_pb2.SuggestReply = self._ours(request, timeout=600)
        return reply

    def cpu(self) -> float:
        """Seconds so far, of all its threads, which live as long as it does."""
        tasks = Path(f"/proc/{self._process.pid}/task").iterdir()
        return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks) / 1e9

    def rss_mib(self) -> float:
        status = Path(f"/proc/{self._process.pid}/status").read_text()
        line = next(line for line in status.splitlines() if line.startswith("VmRSS"))
        return int(line.split()[1]) / 1024

    def close(self) -> None:
        self._channel.close()
        self._process.terminate()
        self._process.wait(10)


@contextmanager
def served(*arguments: str) -> Iterator[Server]:
    """`python ARGUMENTS --listen unix:...`"""
    with tempfile.TemporaryDirectory() as folder:
        socket = Path(folder, "s")
        process = subprocess.Popen(
            [sys.executable, *arguments, "--listen", f"unix:{socket}"],
            env={**os.environ, **ONE_THREAD},
            stderr=subprocess.DEVNULL,
        )
        while not socket.exists():
            if process.poll() is not None:
                raise RuntimeError(f"the service ended with {process.returncode}")
            time.sleep(0.002)
        server = Server(process, socket)
        try:
            yield server
        finally:
            server.close()


OURS: Final = ("-m", "tunesmith_suggestion")
FLOOR: Final = (__file__, "--null")


class NullService:
    """Decodes, finds what is new by name, replies with as many assignments as asked."""

    def __init__(self) -> None:
        self._names: set[str] = set()

    def GetSuggestions(
        self, request: api_pb2.GetSuggestionsRequest, context: object
    ) -> api_pb2.GetSuggestionsReply:
        new = [trial for trial in request.trials if trial.name not in self._names]
        self._names.update(trial.name for trial in new)
        pair = api_pb2.ParameterAssignment(name="x0", value="0.5")
        one = api_pb2.GetSuggestionsReply.ParameterAssignments(assignments=[pair] * len(SPACE))
        return api_pb2.GetSuggestionsReply(
            parameter_assignments=[one] * request.current_request_number
        )


def run_null(address: str) -> None:
    server = grpc.server(
        ThreadPoolExecutor(1), options=[("grpc.max_receive_message_length", 1 << 30)]
    )
    server.add_generic_rpc_handlers((wire.handler(wire.KATIB_SUGGESTION, NullService()),))
    server.add_insecure_port(address)
    server.start()
    server.wait_for_termination()


# ---- measurements -------------------------------------------------------------------------------


def steady(server: Server, requests: Sequence[bytes]) -> float:
    """Milliseconds of CPU a request, after the first one."""
    server.ask(requests[0])
    before = server.cpu()
    for request in requests[1:]:
        server.ask(request)
    return (server.cpu() - before) / (len(requests) - 1) * 1000


def service_figures(
    katib: Katib, sizes: Sequence[int], batches: Sequence[int], repeats: int
) -> Iterator[Figure]:
    for size in sizes:
        for batch in batches:
            growing = range(size - repeats, size + 1)
            with served(*FLOOR) as null:
                floor = steady(null, [katib.request("random", n, batch) for n in growing])
            yield Figure(f"GetSuggestions, {size:,} trials, batch {batch}: {NULL}", floor, "ms")
            for name in FAST + SLOW:
                few = growing if name in FAST else growing[-4:]
                with served(*OURS) as server:
                    cost = steady(server, [katib.request(name, n, batch) for n in few])
                what = f"GetSuggestions, {size:,} trials, batch {batch}: {name}"
                yield Figure(what, cost, "ms", cost / floor, NULL)


def incremental_figures(size: int, repeats: int) -> Iterator[Figure]:
    for name in FAST:
        problem, outcomes = problem_message(a_problem(name)), a_history(size).outcomes
        messages = [outcome_message(SPACE, outcome) for outcome in outcomes]
        digests = [message_digest(message) for message in messages]
        with served(*OURS) as server:
            told, before = size - repeats - 1, 0.0
            request = _delta(problem, messages[:told], 0, digests)
            server.ask_ours(request)
            for n in range(told + 1, size + 1):
                if n == told + 2:
                    before = server.cpu()
                server.ask_ours(_delta(problem, messages[:n], n - 1, digests))
            cost = (server.cpu() - before) / (size - told - 1) * 1000
        yield Figure(f"one new trial told of {size:,}, one asked, tunesmith.v1: {name}", cost, "ms")


def _delta(
    problem: suggestions_pb2.Problem,
    outcomes: Sequence[suggestions_pb2.Outcome],
    known: int,
    digests: Sequence[int],
) -> suggestions_pb2.SuggestRequest:
    count = len(outcomes)
    return suggestions_pb2.SuggestRequest(
        problem=problem,
        request_id=f"latency-{count}",
        first_ordinal=count,
        count=1,
        history=suggestions_pb2.History(
            base_digest=history_digest(digests[:known]) if known else "",
            digest=history_digest(digests[:count]),
            outcomes=outcomes[known:],
        ),
    )


def replay_figures(size: int) -> Iterator[Figure]:
    """The records of a whole experiment told again: at once, and one by one."""
    problem, outcomes = problem_message(a_problem("multivariate-tpe")), a_history(size).outcomes
    messages = [outcome_message(SPACE, outcome) for outcome in outcomes]
    total, digests = 0, [""]
    for message in messages:
        total += message_digest(message)
        digests.append(history_digest((total % (1 << 256),)))
    for how, step in (("at once", size), ("one by one", 1)):
        requests = [
            suggestions_pb2.SuggestRequest(
                problem=problem,
                first_ordinal=n,
                history=suggestions_pb2.History(
                    base_digest=digests[n - step],
                    digest=digests[n],
                    outcomes=messages[n - step : n],
                ),
            )
            for n in range(step, size + 1, step)
        ]
        with served(*OURS) as server:
            before = server.cpu()
            for request in requests:
                server.ask_ours(request)
            cost = server.cpu() - before
        yield Figure(f"{size:,} trials told {how}, tunesmith.v1", cost, "s")


def restart_figures(katib: Katib, size: int) -> Iterator[Figure]:
    """The first answer of a service that never saw the trials, less what its first answer to an
    empty history costs: loading is in `cold start`."""
    for name in FAST + SLOW:
        requests = [katib.request(name, n, 1) for n in range(size - 5, size + 1)]
        with served(*OURS) as server:
            cost = steady(server, requests)
            undisturbed = server.ask(requests[-1])
        with served(*OURS) as server:
            server.ask(katib.request(name, 12, 1, "another"))
            before = server.cpu()
            again = server.ask(requests[-1])
            first = (server.cpu() - before) * 1000
        with served(*FLOOR) as null:
            null.ask(katib.request(name, 12, 1, "another"))
            before = null.cpu()
            null.ask(requests[-1])
            floor = (null.cpu() - before) * 1000
        same = "the same" if again == undisturbed else "ANOTHER"
        what = f"first answer after a restart, {size:,} trials: {name} ({same} answer)"
        yield Figure(what, first, "ms", first / cost, "steady")
        yield Figure(
            f"the same beside the {NULL}", first, "ms", first / floor, f"its {floor:.1f} ms"
        )


def cold_start_figures(katib: Katib) -> Iterator[Figure]:
    for name in FAST + SLOW:
        with served(*OURS) as server:
            server.ask(katib.request(name, 12, 1))
            yield Figure(f"cold start to the first answer, CPU: {name}", server.cpu(), "s")


def limit_figures(katib: Katib, most: int) -> Iterator[Figure]:
    request = katib.request("multivariate-tpe", most, 1)
    with served(*OURS) as server:
        before = server.cpu()
        server.ask(request)
        what = f"{most:,} trials in one request of {len(request) / 2**20:.1f} MiB, CPU"
        yield Figure(what, server.cpu() - before, "s")
        yield Figure("memory after it", server.rss_mib(), "MiB")


def crowd_figures(katib: Katib, experiments: int, trials: int) -> Iterator[Figure]:
    """Many experiments in one process, asked in turn, twice."""
    what = f"{experiments} experiments of {trials} trials"
    names = [f"experiment-{k}" for k in range(experiments)]
    with served(*OURS) as server:
        for n in (trials, trials + 1):
            before = server.cpu()
            for name in names:
                server.ask(katib.request("multivariate-tpe", n, 1, name))
        cost = (server.cpu() - before) / experiments * 1000
        yield Figure(f"{what}, Katib's protocol, memory", server.rss_mib(), "MiB")
        yield Figure(f"{what}, one asked again", cost, "ms")
    messages = [outcome_message(SPACE, o) for o in a_history(trials + 1).outcomes]
    digests = [message_digest(message) for message in messages]
    with served(*OURS) as server:
        for n, known in ((trials, 0), (trials + 1, trials)):
            before, lost = server.cpu(), 0
            for name in names:
                problem = problem_message(a_problem("multivariate-tpe", name))
                reply = server.ask_ours(_delta(problem, messages[:n], known, digests))
                lost += reply.history_lost
        cost = (server.cpu() - before) / experiments * 1000
        yield Figure(f"{what}, tunesmith.v1, memory", server.rss_mib(), "MiB")
        yield Figure(f"{what}, tunesmith.v1, one asked again ({lost} forgotten)", cost, "ms")


def direct(name: str, trials: int, batch: int, repeats: int) -> tuple[float, int]:
    """CPU seconds of telling one more trial and asking, without a service; distinct points."""
    algorithm, outcomes, recorded = Registry().find(name), a_history(trials + repeats).outcomes, ""
    problem, spent, found = a_problem(name), 0.0, 0
    for k in range(repeats + 1):
        history = History(outcomes[: trials + k])
        began = time.process_time()
        answer = algorithm.suggest(
            problem, history, range(trials + k, trials + k + batch), recorded
        )
        spent += time.process_time() - began if k else 0.0  # the first one loads
        if not isinstance(answer, Proposal):
            raise RuntimeError(answer.reason)
        recorded = answer.recorded or recorded
        found = len({json.dumps(SPACE.texts(point)) for point in answer.assignments})
    return spent / repeats, found


def optuna(method: str, trials: int, batch: int, repeats: int) -> float:
    program = Path(__file__).with_name("peers") / "optuna_latency.py"
    arguments = [str(value) for value in (method, trials, batch, repeats)]
    done = subprocess.run(
        [str(python_of(OPTUNA)), str(program), *arguments],
        env={**variables(OPTUNA)},
        capture_output=True,
        check=True,
        text=True,
    )
    found: float = json.loads(done.stdout.splitlines()[-1])["cpu_s"]
    return found


LIBRARIES: Final = (
    ("multivariate-tpe", "multivariate-tpe", 1_000, 1, 30),
    ("multivariate-tpe", "multivariate-tpe", 10_000, 1, 10),
    ("multivariate-tpe", "multivariate-tpe", 10_000, 64, 1),
    ("bayesianoptimization", "gp", 100, 1, 10),
    ("bayesianoptimization", "gp", 1_000, 1, 3),
)


def library_figures() -> Iterator[Figure]:
    for name, peer, trials, batch, repeats in LIBRARIES:
        theirs = optuna(peer, trials, batch, repeats) * 1000
        # As many of ours as a schedule of fits has in it, so that a refit has its share.
        ours, distinct = direct(name, trials, batch, max(repeats, 50 if name == SLOW[0] else 1))
        what = f"{trials:,} trials, batch {batch}: Optuna {peer}"
        yield Figure(what, theirs, "ms")
        what = f"{trials:,} trials, batch {batch}: {name} ({distinct} distinct)"
        yield Figure(what, ours * 1000, "ms", ours * 1000 / theirs, "Optuna")


def figures(quick: bool) -> Iterator[Figure]:
    katib = Katib(50_000)
    yield from cold_start_figures(katib)
    yield from library_figures()
    sizes, batches = ([1_000, 10_000], [1]) if quick else ([100, 1_000, 10_000], [1, 8, 64])
    yield from service_figures(katib, sizes, batches, 20 if quick else 40)
    yield from incremental_figures(10_000, 40)
    yield from restart_figures(katib, 1_000)
    yield from replay_figures(10_000)
    yield from limit_figures(katib, 50_000)
    yield from crowd_figures(katib, 100, 100)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="fewer sizes and batches")
    parser.add_argument("--json", action="store_true", help="one JSON list in place of lines")
    parser.add_argument("--null", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--listen", default="", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.null:
        run_null(given.listen)
        return
    if not ONE_THREAD.items() <= os.environ.items():
        # BLAS read them when numpy was loaded, so this process has to begin anew.
        again = {**os.environ, **ONE_THREAD}
        os.execve(sys.executable, sys.orig_argv, again)  # noqa: S606 - the same program
    found: list[dict[str, Any]] = []
    for figure in figures(given.quick):
        found.append(asdict(figure))
        if not given.json:
            print(figure.line(), flush=True)
    if given.json:
        print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
