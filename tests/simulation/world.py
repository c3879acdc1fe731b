# SPDX-License-Identifier: Apache-2.0
"""A whole control plane in one virtual loop: durable ports, a controller that crashes, an oracle.

`simulate(scenario, faults)` runs one experiment to its end and returns a `Report`. What survives a
crash is here: objects, rows, jobs, the suggestion service. A controller is only its tasks and its
connections, see `lives.Life`.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

import sensitive
import verdict
from faults import Fault, FaultPlan, Kind
from in_process_suggestions import InProcessSuggestions, StaticHost
from invariants import Ledger, Violation, conditions_of, has_ended, run_of
from invariants import ordinal_of as number_of
from lives import Life, Surroundings, at_once, random_latency
from memory_observations import MemoryObservationLog
from scenarios import (
    NAME,
    NAMESPACE,
    Scenario,
    duration,
    ordinal_of,
    parameters_of,
    rows_late_by,
)
from scripted_workloads import ScriptedWorkloads
from stopping_rules import CeilingRules
from virtual_loop import SeededRng, VirtualClock, describe_tasks, run
from witnesses import Interview, errors_logged

from tunesmith_api import names
from tunesmith_api.observations import ObservationLog, SourceKey, SourceNotes
from tunesmith_api.observations import Report as Rows
from tunesmith_controller.events import RememberedEvents
from tunesmith_controller.manager.manager import Manager, ManagerSettings
from tunesmith_controller.ports import (
    Json,
    Key,
    Ports,
    TrialRun,
)
from tunesmith_controller.stores.memory import MemoryStore

SETTINGS: Final = ManagerSettings()
RESTART_S: Final = 0.5
"""Virtual seconds from a crash to the next life."""
STOP_S: Final = 0.3
"""Virtual seconds from the stop of a job to its end."""
DEADLINE_S: Final = 1800.0
"""Virtual seconds after which an experiment that has not ended is stuck."""
ANSWER_S: Final = 30.0
"""Virtual seconds within which every answer has come, however often it is asked for."""
QUIET_S: Final = SETTINGS.resync_s * 1.2
"""How long nothing may be written once everything has ended."""

_LATE_WORDS: Final = frozenset({Kind.LATE, Kind.OVERLAP, Kind.DELETE_ALL})
"""After these, a call may arrive that was decided before."""

Controller = Callable[[Ports], Coroutine[Any, Any, None]]
Tamper = Callable[[Ports], Ports]

_SWALLOWED: Final = frozenset({"Quarantined", "ReconcileError", "NameConflict"})
"""Events by which a controller tells people about its own defects."""

READS: Final = frozenset(
    {
        ("store", "get"),
        ("store", "list"),
        ("store", "watch"),
        ("workloads", "observe"),
        ("workloads", "changed"),
        ("host", "ensure"),
        ("host", "release"),
        ("suggestions", "validate"),
        ("observations", "sources"),
        ("observations", "rows"),
    }
)
"""Calls that change nothing outside of the controller."""


def managed(ports: Ports) -> Coroutine[Any, Any, None]:
    """The controller as it is shipped."""
    return Manager(ports, SETTINGS).run()


def remembering(ports: Ports) -> Coroutine[Any, Any, None]:
    """The controller as a cluster has it."""
    settings = replace(SETTINGS, remembers=True, sweeps=True, status_every_s=1.0)
    return Manager(ports, settings).run()


@dataclass(frozen=True, slots=True)
class Setting:
    """How a scenario is run. `seed` None: no chance but in uids and jitter, tasks in their order
    and no latency. `tamper` and `controller` plant bugs."""

    scenario: Scenario = field(default_factory=Scenario)
    faults: tuple[Fault, ...] = ()
    seed: int | None = None
    controller: Controller = managed
    tamper: Tamper = lambda ports: ports


@dataclass(frozen=True, slots=True)
class Report:
    """What became of a run. `ended_at` is the virtual second when nothing was left to do."""

    violations: tuple[Violation, ...]
    final: Any
    plan: FaultPlan
    lives: int
    ended_at: float

    def trace(self, last: int = 60) -> str:
        """The newest steps, for people."""
        return "\n".join(str(step) for step in self.plan.steps[-last:])


def simulate(setting: Setting) -> Report:
    """Runs one experiment to its end, or to the first violation."""
    return run(_World(setting).live(), setting.seed)


class _World:
    def __init__(self, setting: Setting) -> None:
        self._setting = setting
        self._scenario = setting.scenario
        self._plan = FaultPlan(setting.faults)
        self._seed = 0 if setting.seed is None else setting.seed
        self._store = MemoryStore(VirtualClock(), SeededRng(f"store {self._seed}"), 10_000)
        self._suggestions = InProcessSuggestions(sensitive.registry())
        self._workloads = ScriptedWorkloads(self._script, stop_seconds=STOP_S)
        self._events = RememberedEvents()
        # The one look behind a port: the store's own history, where nothing can be missed.
        history = self._store._history
        late_words = any(f.kind in _LATE_WORDS for f in setting.faults)
        self._ledger = Ledger(
            history, self._scenario, lambda: len(self._plan.steps), late_words=late_words
        )
        self._ports = setting.tamper(self._durable())
        self._losses: Counter[str] = Counter()
        self._news = asyncio.Event()
        self._lives = 0
        self._effects = 0
        self._was_paused = False
        self._is_deleted = False
        self._is_extended = False
        self._stopped_for = 0
        self._by_hand = 0
        self._overlapping: list[Life] = []
        self._ended_at = 0.0

    def _durable(self) -> Ports:
        return Ports(
            store=self._store,
            workloads=self._workloads,
            host=StaticHost(),
            suggestions=Interview(self._suggestions, self._violated),
            observations=MemoryObservationLog(),
            clock=VirtualClock(),
            rng=SeededRng(self._seed),
            events=self._events,
            stopping=CeilingRules(),
        )

    # ---- lives ----------------------------------------------------------------------------------

    async def live(self) -> Report:
        asyncio.get_running_loop().set_exception_handler(self._escaped)
        at_once(self._store.create(self._scenario.experiment()))
        with errors_logged(self._violated):
            while not await self._one_life():
                pass
            for life in self._overlapping:
                await self._end(life)
        self._conclude()
        return Report(
            violations=tuple(self._ledger.violations),
            final=verdict.canonical(self._ledger.books),
            plan=self._plan,
            lives=self._lives,
            ended_at=self._ended_at,
        )

    async def _one_life(self) -> bool:
        """Whether there is no need of another."""
        self._lives += 1
        self._suggestions.restart_client()
        life = Life(self._lives, self._around())
        ports = replace(self._ports, rng=SeededRng(f"{self._seed} life {self._lives}"))
        main = life.start(self._setting.controller(life.ports(ports)))
        main.add_done_callback(lambda _: self._news.set())
        is_done = await self._follow(life, main)
        if is_done or not life.is_replaced:
            await self._end(life)
        else:
            self._overlapping.append(life)
        if not is_done and not life.is_replaced:
            await asyncio.sleep(RESTART_S)
        return is_done

    async def _end(self, life: Life) -> None:
        life.kill()
        for task in await life.ended():
            self._violated("G10", f"a task survives its cancellation: {task}")

    def _around(self) -> Surroundings:
        seed = self._setting.seed
        return Surroundings(
            plan=self._plan,
            applied=self._applied,
            happen=self._happen,
            replaced=self._news.set,
            moment=lambda: (self._effects, asyncio.get_running_loop().time()),
            latency=(lambda: 0.0) if seed is None else random_latency(f"{seed} {self._lives}"),
        )

    async def _follow(self, life: Life, main: asyncio.Task[None]) -> bool:
        """Waits for the end of the experiment, of the life, or of patience."""
        while not self._ledger.violations:
            if main.done() and not life.is_over.is_set():
                self._violated("G10", f"the controller ended by itself: {main}")
            elif life.next_is_due:
                return False
            elif self._settled():
                return await self._stays_quiet(life)
            else:
                await self._wait(DEADLINE_S)
        return True

    async def _wait(self, deadline: float) -> None:
        left = deadline - asyncio.get_running_loop().time()
        try:
            async with asyncio.timeout(left):
                await self._news.wait()
        except TimeoutError:
            tasks = describe_tasks(asyncio.get_running_loop())
            states = {name: state for name, state in _states(self._ledger).items()}
            self._violated("G5", f"not ended after {deadline} s: {states}; tasks: {tasks}")
        self._news.clear()

    async def _stays_quiet(self, life: Life) -> bool:
        """Whether the controller lives on for a while; it may write nothing then."""
        self._ended_at = self._ended_at or asyncio.get_running_loop().time()
        if self._scenario.resume_policy == "LongRunning":
            # Its Suggestion goes on: an answer that is under way is stored when it comes.
            await asyncio.sleep(ANSWER_S)
            self._ledger.catch_up()
        writes = self._ledger.books.writes - self._by_hand
        self._news.clear()
        try:
            async with asyncio.timeout(QUIET_S):
                while not life.next_is_due:
                    await self._news.wait()
                    self._news.clear()
        except TimeoutError:
            pass
        self._ledger.catch_up()
        wrote = self._ledger.books.writes - self._by_hand != writes
        if wrote and not self._ledger.late_words:
            self._violated("G10", "something was written after the end")
        return not life.next_is_due

    def _settled(self) -> bool:
        """Whether all has ended and the experiment says so, or everything is gone."""
        if self._is_deleted:
            return not self._ledger.books.objects
        if not self._ledger.settled():
            return False
        if self._goes_on():
            return False
        books = self._ledger.books
        return not any(
            True for top in books.of_kind("Experiment") for _ in verdict.counters(books, top)
        )

    # ---- what calls do to the world -------------------------------------------------------------

    def _applied(self, port: str, method: str, result: Any) -> None:
        self._effects += (port, method) not in READS
        self._ledger.catch_up()
        if self._ledger.violations or self._settled():
            self._news.set()

    def _happen(self, fault: Fault) -> None:
        match fault.kind:
            case Kind.FORGET:
                self._suggestions.restart_service()
            case Kind.LOSE_JOB | Kind.VANISH_JOB:
                self._lose(fault.kind)
            case Kind.PAUSE:
                self._was_paused = True
                self._pause("true")
                asyncio.get_running_loop().call_later(fault.seconds, self._pause, None)
            case Kind.PARALLEL:
                self._was_paused = True
                self._edit(parallelTrialCount=1 + fault.at % 5)
            case Kind.STOP:
                self._stopped_for += 1
                self._annotate(names.ANNOTATION_STOPPED, "true")
                asyncio.get_running_loop().call_later(fault.seconds, self._resume)
            case Kind.DELETE_TRIAL:
                self._delete_trial(fault.at)
            case Kind.DELETE_ALL:
                self._is_deleted = True
                at_once(self._store.delete(Key("Experiment", NAMESPACE, NAME)))
        self._ledger.catch_up()

    def _goes_on(self) -> bool:
        """Whether the end is not the end: a person has undone it, will, or does so now."""
        experiment = self._ledger.books.only("Experiment")
        suggestion = self._ledger.books.only("Suggestion")
        if experiment is None or self._scenario.resume_policy == "Never":
            return False
        if self._stopped_for:
            return True
        reason = conditions_of(experiment)[-1]["reason"]
        if reason == "ExperimentMaxTrialsReached" and not self._is_extended:
            self._is_extended = True
            if self._scenario.extended_by:
                self._edit(maxTrialCount=self._scenario.trials + self._scenario.extended_by)
        ended = int(experiment["status"]["progress"].partition("/")[0])
        is_exhausted = suggestion is not None and bool(
            (suggestion.get("status") or {}).get("searchEnded")
        )
        status, limit = experiment["status"], self._scenario.max_failed
        failed = status.get("trialsFailed", 0) + status.get("trialMetricsUnavailable", 0)
        if limit and failed >= limit:
            return False
        is_undone = reason in ("ExperimentMaxTrialsReached", "ExperimentStopped")
        return is_undone and ended < self._ledger.books.budget and not is_exhausted

    def _resume(self) -> None:
        self._stopped_for -= 1
        self._annotate(names.ANNOTATION_STOPPED, None)
        self._news.set()

    def _pause(self, value: str | None) -> None:
        self._annotate(names.ANNOTATION_PAUSED, value)

    def _annotate(self, name: str, value: str | None) -> None:
        self._patch({"metadata": {"annotations": {name: value}}})

    def _edit(self, **budgets: int) -> None:
        self._patch({"spec": budgets})

    def _patch(self, patch: Json) -> None:
        """What a person does to the experiment, if it is still there."""
        if self._is_deleted:
            return
        before = self._ledger.books.writes
        at_once(self._store.patch(Key("Experiment", NAMESPACE, NAME), patch))
        self._ledger.catch_up()
        self._by_hand += self._ledger.books.writes - before

    def _delete_trial(self, number: int) -> None:
        """Some trial, as long as the experiment runs."""
        books = self._ledger.books
        trials = books.trials()
        if not trials or any(has_ended(top) for top in books.of_kind("Experiment")):
            return
        trial = trials[number % len(trials)]
        books.deleted_by_hand.add(number_of(trial))
        at_once(self._store.delete(Key("Trial", NAMESPACE, trial["metadata"]["name"])))

    def _lose(self, kind: Kind) -> None:
        """The oldest job is lost; or is gone without a trace, once it is on record."""
        for uid, attempt in self._workloads.active():
            recorded = run_of(self._ledger.books.objects.get(uid, {}))
            if kind is Kind.LOSE_JOB:
                self._workloads.lose(uid, attempt)
            elif recorded.get("jobUID") and recorded.get("attempt") == attempt:
                self._workloads.vanish(uid, attempt)
            else:
                continue
            self._losses[uid] += 1
            return

    def _script(self, run: TrialRun) -> tuple[float, int]:
        """A job: prints in two halves, then ends."""
        self._ledger.job_started(run)
        for uid, attempt in self._workloads.active():
            if uid == run.trial_uid and attempt != run.attempt:
                self._violated("G1", f"{run.trial.name}: attempt {attempt} still runs")
        ordinal = ordinal_of(run)
        parameters, seconds = parameters_of(run), duration(ordinal)
        rows = self._scenario.rows(ordinal, parameters, run.attempt)
        half = len(rows) // 2
        loop = asyncio.get_running_loop()
        loop.call_later(seconds / 2, self._print, run, rows[:half], False)
        if self._scenario.ceiling is not None:
            loop.call_later(seconds / 2, self._workloads.hint, run)
        loop.call_later(seconds + rows_late_by(ordinal), self._print, run, rows[half:], True)
        return seconds, self._scenario.exit_code(ordinal)

    def _print(self, run: TrialRun, rows: Sequence[Any], ended: bool) -> None:
        """A collector goes on when its job is lost, and ends when it is stopped."""
        if (run.trial_uid, run.attempt) in self._workloads.stops:
            if not ended:
                return
            rows = ()
        log: ObservationLog = self._ports.observations
        at_once(
            log.append(
                Rows(
                    key=SourceKey(run.trial_uid, run.attempt, "stdout"),
                    rows=rows,
                    offset=rows[-1].seq + 10 if rows else 0,
                    trial_name=run.trial.name,
                    namespace=NAMESPACE,
                    ended=ended,
                    notes=SourceNotes(lines=len(rows)),
                )
            )
        )

    # ---- judgement ------------------------------------------------------------------------------

    def _conclude(self) -> None:
        for told in self._events.told:
            if told.reason in _SWALLOWED:
                self._violated("G10", f"{told.about} {told.reason}: {told.message}")
        if self._is_deleted:
            self._check_nothing_is_left()
        if self._ledger.violations or self._is_deleted:
            return
        ending = verdict.Ending(
            self._scenario,
            self._ledger.books,
            self._workloads.active(),
            self._losses,
            SETTINGS.lost_retries,
            self._was_paused,
        )
        self._ledger.violations.extend(verdict.judge(ending))

    def _check_nothing_is_left(self) -> None:
        """G16: no job, no output, no row."""
        for uid, attempt in self._ledger.books.starts:
            if (uid, attempt) in self._workloads.active():
                self._violated("G16", f"attempt {attempt} of trial {uid} still runs")
            if uid not in self._workloads.removed:
                self._violated("G16", f"the output of trial {uid} is kept")
            if at_once(self._ports.observations.rows(uid, attempt)):
                self._violated("G16", f"rows of trial {uid} are kept")

    def _violated(self, rule: str, what: str) -> None:
        self._ledger.violated(rule, what)
        self._news.set()

    def _escaped(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        self._violated("G10", f"an exception escaped: {context}")


def _states(ledger: Ledger) -> dict[str, str]:
    return {
        obj["metadata"]["name"] + " " + obj["kind"]: (
            f"{[c['type'] for c in obj.get('status', {}).get('conditions', [])]} {run_of(obj)}"
        )
        for obj in ledger.books.objects.values()
    }
