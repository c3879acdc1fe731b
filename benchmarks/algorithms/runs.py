# SPDX-License-Identifier: Apache-2.0
"""Runs methods on problems and keeps one JSON line a run. Called by `efficiency`.

A method is a process of its own environment (`peers/`), which is measured there; the problem is
evaluated here. Runs that a result file has are not run again.
"""

from __future__ import annotations

import json
import subprocess
import tempfile
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any, Final

from environments import python_of, variables
from methods import MARKS, TRIALS, Method, Mode
from problems import BenchProblem

from tunesmith_api.search_space import DoubleParameter, IntParameter, Parameter, Value

_PEERS: Final = Path(__file__).with_name("peers")
_EVALUATING = threading.Lock()


class MethodError(RuntimeError):
    """The method's process failed or ended; the text is its own."""


@dataclass(frozen=True, slots=True)
class Task:
    """One run that is wanted."""

    method: Method
    mode: Mode
    problem: BenchProblem
    seed: int

    @property
    def key(self) -> tuple[str, str, int]:
        return (self.mode.value, self.problem.name, self.seed)


@dataclass(frozen=True, slots=True)
class Run:
    """A result. `improvements`: (evaluation from 1, normalised regret of the best loss so far).

    `cpu` is the processor time of the method in seconds, evaluations not counted. `error` is why
    the method gave up; it then has no regrets.
    """

    method: str
    version: str
    mode: str
    problem: str
    seed: int
    improvements: tuple[tuple[int, float], ...]
    regret: Mapping[str, float]
    cpu: float
    error: str = ""

    @property
    def key(self) -> tuple[str, str, int]:
        return (self.mode, self.problem, self.seed)

    def curve(self) -> list[float]:
        """The regret of the best after 1 ... TRIALS evaluations."""
        found: list[float] = []
        steps = dict(self.improvements)
        for evaluation in range(1, TRIALS + 1):
            found.append(steps.get(evaluation, found[-1] if found else 1.0))
        return found


def read_runs(path: Path) -> list[Run]:
    """The runs of a result file; none where there is no file."""
    if not path.exists():
        return []
    rows = [json.loads(line) for line in path.read_text().splitlines() if line.strip()]
    return [Run(**{**row, "improvements": tuple(map(tuple, row["improvements"]))}) for row in rows]


class Process:
    """A method's process. Used by one thread."""

    def __init__(self, method: Method) -> None:
        script, *arguments = method.script
        self._said = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the process
        self._process = subprocess.Popen(
            [str(python_of(method.environment)), str(_PEERS / script), *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._said,
            text=True,
            env=dict(variables(method.environment)),
        )

    def call(self, **request: Any) -> dict[str, Any]:
        """One request, one reply. Raises MethodError."""
        assert self._process.stdin is not None and self._process.stdout is not None  # noqa: S101
        try:
            self._process.stdin.write(json.dumps(request) + "\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            raise self._ended() from None
        line = self._process.stdout.readline()
        if not line:
            raise self._ended()
        reply: dict[str, Any] = json.loads(line)
        if "error" in reply:
            raise MethodError(reply["error"])
        return reply

    def _ended(self) -> MethodError:
        status = self._process.wait()
        self._said.seek(0)
        last = self._said.read().decode(errors="replace").strip().rpartition("\n")[2]
        return MethodError(f"its process ended with {status}: {last[-300:]}")

    def close(self) -> None:
        self._process.kill()
        self._process.communicate()
        self._said.close()


def run(process: Process, task: Task) -> Run:
    """One search of TRIALS evaluations; a failure of the method is a Run with an error."""
    version, error, losses, cpu = "", "", list[float](), 0.0
    try:
        version = str(process.call(start=_start(task))["version"])
        while len(losses) < TRIALS:
            count = min(task.mode.batch, TRIALS - len(losses))
            points = process.call(ask=count)["points"]
            told = [_evaluate(task, point) for point in points]
            losses += told
            cpu = float(process.call(tell=told)["cpu"])
    except MethodError as failure:
        error = str(failure)
    regrets = [task.problem.normalised(loss) for loss in losses]
    return Run(
        task.method.name,
        version,
        *task.key,
        improvements=() if error else tuple(_improvements(regrets)),
        regret={} if error else {str(n): _rounded(min(regrets[:n])) for n in MARKS},
        cpu=_rounded(cpu),
        error=error,
    )


def _improvements(regrets: Sequence[float]) -> Iterator[tuple[int, float]]:
    best = float("inf")
    for evaluation, regret in enumerate(regrets, start=1):
        if regret < best:
            best = regret
            yield evaluation, _rounded(regret)


def _rounded(number: float) -> float:
    return float(f"{number:.6g}")


def _start(task: Task) -> dict[str, Any]:
    space = [_axis(parameter) for parameter in task.problem.space]
    return {"space": space, "seed": task.seed, "parallel": task.mode.batch, "trials": TRIALS}


def _axis(parameter: Parameter) -> dict[str, Any]:
    if isinstance(parameter, DoubleParameter | IntParameter):
        kind = "int" if isinstance(parameter, IntParameter) else "double"
        bounds = {"low": parameter.low, "high": parameter.high}
        log = parameter.distribution.is_log
        return {"name": parameter.name, "kind": kind, **bounds, "log": log}
    return {"name": parameter.name, "kind": "choice", "choices": list(parameter.choices)}


def _evaluate(task: Task, point: Mapping[str, Value]) -> float:
    space = task.problem.space
    if wrong := space.violations({p.name: p.text(point[p.name]) for p in space}):
        raise MethodError(f"proposed no point of the space: {'; '.join(wrong)}")
    with _EVALUATING:
        return task.problem.evaluate(point, task.seed)


def run_all(tasks: Iterable[Task], folder: Path, jobs: int) -> Iterator[Run]:
    """Runs every task, `jobs` at a time; each result is appended to its file in `folder` as soon
    as it is there. Raises what a worker could not handle, an environment that fails to start say.
    """
    folder.mkdir(parents=True, exist_ok=True)
    waiting: SimpleQueue[Task] = SimpleQueue()
    for task in tasks:
        waiting.put(task)
    total = waiting.qsize()
    done: SimpleQueue[Run | BaseException] = SimpleQueue()
    threads = [
        threading.Thread(target=_work, args=(waiting, done), daemon=True) for _ in range(jobs)
    ]
    for thread in threads:
        thread.start()
    for _ in range(total):
        result = done.get()
        if isinstance(result, BaseException):
            raise result
        with (folder / f"{result.method}.jsonl").open("a") as file:
            file.write(json.dumps(asdict(result)) + "\n")
        yield result


def _work(waiting: SimpleQueue[Task], done: SimpleQueue[Run | BaseException]) -> None:
    """Takes tasks until none is left; a process serves all tasks of its method in a row."""
    process: Process | None = None
    serving = ""
    try:
        while True:
            task = waiting.get_nowait()
            if process is None or serving != task.method.name:
                if process is not None:
                    process.close()
                process, serving = Process(task.method), task.method.name
            result = run(process, task)
            if result.error:  # whatever state it left behind
                process.close()
                process = None
            done.put(result)
    except Empty:
        pass
    except BaseException as error:  # noqa: BLE001 - raised again by the reader
        done.put(error)
    finally:
        if process is not None:
            process.close()
