# SPDX-License-Identifier: Apache-2.0
"""Katib's api.v1.beta1.EarlyStopping over the same rules, for Katib's controller and its clients.

A rule's threshold is stamped on trials when they are proposed, and their collectors judge by it;
tunesmith's own controller asks `core` at every report instead. Put on gRPC by `server`. Errors
leave as a code and one sentence.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Sequence
from typing import Any, Final, NoReturn, Protocol, TypeVar

import grpc

from tunesmith_api.errors import Invalid, NotFound, Unavailable
from tunesmith_api.problem import Direction
from tunesmith_api.stopping import StopProblem
from tunesmith_earlystopping.peers import Peers
from tunesmith_earlystopping.protocol import Comparison, StoppingRule, TrialRule
from tunesmith_earlystopping.registry import Registry
from tunesmith_earlystopping.stop_sink import NotConfigured, StopSink
from tunesmith_proto.katib import api_pb2 as pb

logger = logging.getLogger(__name__)

READ_SECONDS: Final = 50.0
"""For the logs of one request; Katib's controller waits 60 s for the answer."""
_MARGIN_SECONDS: Final = 1.0

_DIRECTIONS: Final = {pb.MINIMIZE: Direction.MINIMIZE, pb.MAXIMIZE: Direction.MAXIMIZE}
_COMPARISONS: Final = {
    Comparison.EQUAL: pb.EQUAL,
    Comparison.LESS: pb.LESS,
    Comparison.GREATER: pb.GREATER,
}
Reply = TypeVar("Reply")


class Context(Protocol):
    """What of grpc.aio.ServicerContext is used here."""

    async def abort(self, code: Any, details: str) -> NoReturn:
        """Ends the call with a status; `code` is a grpc.StatusCode, which has no types."""
        ...

    def time_remaining(self) -> float | None:
        """Seconds until the caller gives up; None when it never does."""
        ...


class EarlyStoppingServicer:
    """Katib's three methods."""

    def __init__(
        self,
        registry: Registry | None = None,
        sink: StopSink | None = None,
        *,
        read_seconds: float = READ_SECONDS,
    ) -> None:
        self._registry = registry or Registry()
        self._sink = sink or NotConfigured()
        self._peers = Peers()
        self._read_seconds = read_seconds

    async def ValidateEarlyStoppingSettings(
        self, request: pb.ValidateEarlyStoppingSettingsRequest, context: Context
    ) -> pb.ValidateEarlyStoppingSettingsReply:
        """INVALID_ARGUMENT with everything that is wrong."""
        return await _answered(context, self._validated(request.early_stopping))

    async def GetEarlyStoppingRules(
        self, request: pb.GetEarlyStoppingRulesRequest, context: Context
    ) -> pb.GetEarlyStoppingRulesReply:
        """UNAVAILABLE when the DB manager of the request does not give the logs in time."""
        remaining = context.time_remaining()
        limit = self._read_seconds if remaining is None else remaining - _MARGIN_SECONDS
        seconds = max(0.0, min(limit, self._read_seconds))
        return await _answered(context, self._rules(request, seconds))

    async def SetTrialStatus(
        self, request: pb.SetTrialStatusRequest, context: Context
    ) -> pb.SetTrialStatusReply:
        """FAILED_PRECONDITION when trials cannot be written from here."""
        if not request.trial_name:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, "trial_name must be given")
        told = self._told(request.trial_name)
        return await _answered(context, told, grpc.StatusCode.FAILED_PRECONDITION)

    async def _validated(
        self, message: pb.EarlyStoppingSpec
    ) -> pb.ValidateEarlyStoppingSettingsReply:
        self._valid_rule(_problem(message, "", Direction.MINIMIZE))
        return pb.ValidateEarlyStoppingSettingsReply()

    async def _rules(
        self, request: pb.GetEarlyStoppingRulesRequest, seconds: float
    ) -> pb.GetEarlyStoppingRulesReply:
        problem = problem_of(request.experiment)
        rule = self._valid_rule(problem)
        peers = await self._peers.digests(
            request.db_manager_address, problem, request.trials, rule.digest, seconds=seconds
        )
        found = rule.katib_rules(problem, peers)
        return pb.GetEarlyStoppingRulesReply(early_stopping_rules=rule_messages(found))

    async def _told(self, trial_name: str) -> pb.SetTrialStatusReply:
        await self._sink(trial_name)
        return pb.SetTrialStatusReply()

    def _valid_rule(self, problem: StopProblem) -> StoppingRule:
        rule = self._registry.find(problem.rule)
        if problems := rule.validate(problem):
            raise Invalid("; ".join(problems))
        return rule


# ---- messages -----------------------------------------------------------------------------------


def problem_of(experiment: pb.Experiment) -> StopProblem:
    """Raises Invalid for an objective without a direction, or a setting given twice."""
    objective = experiment.spec.objective
    direction = _DIRECTIONS.get(objective.type)
    if direction is None:
        raise Invalid("objective.type must be minimize or maximize")
    return _problem(experiment.spec.early_stopping, objective.objective_metric_name, direction)


def rule_messages(rules: Sequence[TrialRule]) -> list[pb.EarlyStoppingRule]:
    return [
        pb.EarlyStoppingRule(
            name=rule.metric,
            value=repr(rule.threshold),
            comparison=_COMPARISONS[rule.comparison],
            start_step=rule.start_step,
        )
        for rule in rules
    ]


def _problem(message: pb.EarlyStoppingSpec, metric: str, direction: Direction) -> StopProblem:
    settings: dict[str, str] = {}
    for setting in message.algorithm_settings:
        if setting.name in settings:
            raise Invalid(f"setting {setting.name!r} is given twice")
        settings[setting.name] = setting.value
    return StopProblem(message.algorithm_name, metric, direction, settings)


async def _answered(
    context: Context,
    reply: Awaitable[Reply],
    invalid: Any = grpc.StatusCode.INVALID_ARGUMENT,
) -> Reply:
    try:
        return await reply
    except NotFound as error:
        await context.abort(grpc.StatusCode.NOT_FOUND, str(error))
    except Invalid as error:
        await context.abort(invalid, str(error))
    except Unavailable as error:
        await context.abort(grpc.StatusCode.UNAVAILABLE, str(error))
    except Exception:
        logger.exception("early stopping failed")
        await context.abort(
            grpc.StatusCode.INTERNAL,
            "the rule failed; the log of the early stopping service has the trace",
        )
