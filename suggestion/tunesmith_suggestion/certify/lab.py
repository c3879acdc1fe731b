# SPDX-License-Identifier: Apache-2.0
"""Where checks are made: a service, what is asked of it, and experiments as Katib's controller
would run them. Every reply is held against its search space, whatever the check is about."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Final

from tunesmith_api.problem import Direction, Objective, Problem
from tunesmith_api.search_space import SearchSpace
from tunesmith_proto.katib import api_pb2 as pb
from tunesmith_suggestion.certify.cases import (
    MIXED,
    NUMBERS,
    Texts,
    faults,
    loss,
    shown,
    with_steps,
)
from tunesmith_suggestion.certify.service import CallFailed, Service, Unreachable
from tunesmith_suggestion.certify.verdicts import Defect, NotApplicable, plural
from tunesmith_suggestion.katib_messages import experiment_message

METRIC: Final = "validation-loss"
RANDOM_STATE: Final = "random_state"
MANY: Final = 100_000
"""A space with as many points is large: what repeats there does not repeat by chance."""
_RECONNECT_S: Final = 20.0
_PARALLEL: Final = 3
_MORE_METRICS: Final = ("validation-accuracy", "training-loss", "training-accuracy")
_LABEL: Final = "katib.kubeflow.org/experiment"
_BEGAN: Final = "2026-01-01T00:00:00Z"

Assignment = pb.GetSuggestionsReply.ParameterAssignments
Condition = pb.TrialStatus.TrialConditionType
SUCCEEDED: Final = pb.TrialStatus.SUCCEEDED
WITH_A_RESULT: Final = (pb.TrialStatus.SUCCEEDED, pb.TrialStatus.EARLYSTOPPED)
ENDED: Final = (
    pb.TrialStatus.SUCCEEDED,
    pb.TrialStatus.FAILED,
    pb.TrialStatus.EARLYSTOPPED,
    pb.TrialStatus.KILLED,
    pb.TrialStatus.METRICSUNAVAILABLE,
)


@dataclass(frozen=True, slots=True)
class Subject:
    """What is certified. `space` takes the place of the ordinary search space where given.

    `one_experiment`: a process of the service serves one experiment, as those of Katib's images
    do; it is restarted before each.
    """

    algorithm: str
    settings: Mapping[str, str] = field(default_factory=dict)
    space: SearchSpace | None = None
    one_experiment: bool = False


@dataclass(frozen=True, slots=True)
class Sizes:
    """How much is asked: a longer look finds more."""

    batches: tuple[int, ...] = (1, 8, 64)
    told: int = 30
    rounds: int = 5
    long_history: int = 10_000


FULL: Final = Sizes()
QUICK: Final = Sizes(batches=(1, 8), told=12, rounds=2, long_history=1_000)


class Search:
    """One experiment as Katib's controller runs it: all trials are told with every question, and
    the settings of a reply come back with the next one."""

    def __init__(self, service: Service, problem: Problem) -> None:
        self.problem = problem
        self.trials: list[pb.Trial] = []
        self._service = service
        self._settings = dict(problem.settings)
        self._asked = 0
        self._objective = self.message().spec.objective
        self._suggested: dict[tuple[tuple[str, str], ...], Assignment] = {}

    @property
    def space(self) -> SearchSpace:
        return self.problem.space

    def message(self) -> pb.Experiment:
        return experiment_message(self.problem, self._settings)

    def ask(self, count: int) -> list[dict[str, str]]:
        """The next points, one or more. Raises Defect, CallFailed."""
        found = self.ask_any(count)
        if not found:
            left = self.space.cardinality
            of = "" if left is None else f" of {plural(left, 'point')}"
            told = plural(len(self.trials), "trial")
            raise Defect(f"no assignments after {told}: that ends the search in a space{of}")
        return found

    def ask_any(self, count: int) -> list[dict[str, str]]:
        """The next points; none when the search has ended. Raises Defect, CallFailed."""
        self._asked += count
        reply = self._service.suggest(
            pb.GetSuggestionsRequest(
                experiment=self.message(),
                trials=self.trials,
                current_request_number=count,
                total_request_number=max(self._asked, len(self.trials) + count),
            )
        )
        if len(reply.parameter_assignments) > count:
            got = len(reply.parameter_assignments)
            raise Defect(f"{plural(got, 'assignment')} where {count} were asked for")
        self._settings |= {s.name: s.value for s in reply.algorithm.algorithm_settings}
        return [self._point(assignment) for assignment in reply.parameter_assignments]

    def tell(
        self,
        points: Iterable[Texts],
        *conditions: Condition,
        value: str | None = None,
    ) -> None:
        """Adds a trial a point, with the conditions in turn (default: all succeeded). `value` is
        what they report in place of a number."""
        for k, texts in enumerate(points):
            condition = conditions[k % len(conditions)] if conditions else SUCCEEDED
            self.trials.append(self._trial(texts, condition, value))

    def _point(self, assignment: Assignment) -> dict[str, str]:
        texts = {pair.name: pair.value for pair in assignment.assignments}
        if wrong := faults(self.space, assignment):
            raise Defect(f"not a point of the search space: {'; '.join(wrong)} (in {shown(texts)})")
        self._suggested[_key(texts)] = assignment
        return texts

    def _trial(self, texts: Texts, condition: Condition, value: str | None) -> pb.Trial:
        number = len(self.trials)
        direction = self.problem.objective.direction
        found = loss(self.space, texts) * (1 if direction is Direction.MINIMIZE else -1)
        has_result = condition in WITH_A_RESULT
        metrics = [pb.Metric(name=METRIC, value=repr(found) if value is None else value)]
        metrics += [pb.Metric(name=name, value=repr(1.0 - found)) for name in _MORE_METRICS]
        suggested = self._suggested.pop(_key(texts), Assignment())
        return pb.Trial(
            name=suggested.trial_name or f"{self.problem.experiment_name}-{number:08d}",
            spec=pb.TrialSpec(
                labels={**suggested.labels, _LABEL: self.problem.experiment_name},
                objective=self._objective,
                parameter_assignments=pb.TrialSpec.ParameterAssignments(
                    assignments=[pb.ParameterAssignment(name=n, value=v) for n, v in texts.items()]
                ),
            ),
            status=pb.TrialStatus(
                start_time=_BEGAN,
                completion_time=_BEGAN if condition in ENDED else "",
                condition=condition,
                observation=pb.Observation(metrics=metrics if has_result else []),
            ),
        )


def _key(texts: Texts) -> tuple[tuple[str, str], ...]:
    return tuple(sorted(texts.items()))


@dataclass
class Lab:
    """What a check works with. `run_id` makes the names of this run's experiments its own.

    `restart` ends the service and starts it again; None where that cannot be done.
    """

    service: Service
    subject: Subject
    sizes: Sizes = FULL
    run_id: str = "1"
    restart: Callable[[], None] | None = None
    validates: bool = True
    """False once the service has said that it does not; Katib lets it accept everything."""
    _made: int = 0

    # ---- experiments ----------------------------------------------------------------------------

    def search(
        self,
        space: SearchSpace | None = None,
        *,
        settings: Mapping[str, str] | None = None,
        direction: Direction = Direction.MINIMIZE,
    ) -> Search:
        """A new experiment: in the ordinary space, with the settings of the subject and these."""
        if self.subject.one_experiment:
            self.restart_now()
        return Search(self.service, self._problem(space or self.space, settings or {}, direction))

    def again(self, search: Search) -> Search:
        """An experiment of another name that was told the same."""
        other = self.search(search.space, settings=search.problem.settings)
        other.trials = list(search.trials)
        return other

    def refusal(self, space: SearchSpace, settings: Mapping[str, str] | None = None) -> str | None:
        """Why the service does not take a problem; None when it does."""
        problem = self._problem(space, settings or {}, Direction.MINIMIZE)
        try:
            self.service.validate(experiment_message(problem, problem.settings))
        except CallFailed as failed:
            if failed.code == "INVALID_ARGUMENT":
                return failed.details or "without a word"
            if failed.code != "UNIMPLEMENTED":
                raise
            self.validates = False
        return None

    def _problem(
        self, space: SearchSpace, settings: Mapping[str, str], direction: Direction
    ) -> Problem:
        self._made += 1
        name = f"certify-{self.run_id}-{self._made}"
        given = {**self.subject.settings, **settings}
        objectives = [Objective(metric, direction) for metric in (METRIC, *_MORE_METRICS)]
        return Problem(
            name,
            name,
            self.subject.algorithm,
            given,
            space,
            tuple(objectives),
            0,
            parallel=_PARALLEL,
        )

    # ---- what is known of the service -----------------------------------------------------------

    @cached_property
    def space(self) -> SearchSpace:
        """The ordinary search space: the subject's, or the first of ours that the service takes.

        Raises Defect when it takes none.
        """
        given = self.subject.space
        tried = [MIXED, NUMBERS, with_steps(MIXED), with_steps(NUMBERS)]
        first = None
        for space in tried if given is None else [given]:
            refused = self.refusal(space)
            if refused is None:
                return space
            first = first or refused
        raise Defect(f"every ordinary problem is refused: {first}")

    @cached_property
    def validates_names(self) -> bool:
        """Whether settings that do not exist are refused."""
        return self.refusal(self.space, {"no_such_setting": "1"}) is not None

    @cached_property
    def is_seeded(self) -> bool:
        """Whether random_state fixes the points of a first batch."""
        if self.refusal(self.space, {RANDOM_STATE: "11"}) is not None:
            return False
        one, other = (self.search(settings={RANDOM_STATE: "11"}).ask(4) for _ in range(2))
        return one == other

    def needs_many(self, space: SearchSpace) -> None:
        """Raises NotApplicable where points may repeat by chance."""
        count = space.cardinality
        if count is not None and count < MANY:
            raise NotApplicable(f"points may repeat: the search space has {plural(count, 'point')}")

    # ---- restarts -------------------------------------------------------------------------------

    def restart_now(self) -> None:
        """Raises Defect when the service does not come back, NotApplicable without a command."""
        if self.restart is None:
            raise NotApplicable("the service cannot be restarted from here: give --restart-command")
        self.restart()
        try:
            self.service.reconnect(_RECONNECT_S)
        except Unreachable as error:
            raise Defect(f"after the restart, {error}") from None

    def after_restart(self, search: Search) -> Search:
        """The search, going on with a service that never saw it."""
        if self.restart is None:
            return self.again(search)
        self.restart_now()
        return search


def batches(search: Search, sizes: Sequence[int]) -> list[dict[str, str]]:
    """The points of several batches, each told as succeeded before the next."""
    found: list[dict[str, str]] = []
    for size in sizes:
        points = search.ask(size)
        search.tell(points)
        found += points
    return found
