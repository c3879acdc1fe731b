# SPDX-License-Identifier: Apache-2.0
"""Asking a service that speaks only Katib's api.v1.beta1.Suggestion: requests out, replies in.

Every request carries all trials, never a delta: such a service takes what it gets for the whole
history. Used by `grpc_suggestions` for targets that do not know tunesmith.v1.
"""

from __future__ import annotations

import json

from tunesmith_api.problem import Problem
from tunesmith_controller.hosts.delta import in_order
from tunesmith_controller.ports import Ask, SearchEnded, Suggested
from tunesmith_proto.katib import api_pb2 as pb
from tunesmith_suggestion.katib_messages import experiment_message, trial_messages

_SETTINGS = "algorithm_settings"


def validate_request(problem: Problem) -> pb.ValidateAlgorithmSettingsRequest:
    return pb.ValidateAlgorithmSettingsRequest(
        experiment=experiment_message(problem, problem.settings)
    )


def suggest_request(ask: Ask) -> pb.GetSuggestionsRequest:
    """As Katib's controller sends it: settings that a reply gave back replace the user's."""
    settings = dict(ask.problem.settings) | _given_back(ask.recorded)
    return pb.GetSuggestionsRequest(
        experiment=experiment_message(ask.problem, settings),
        trials=trial_messages(ask.problem, ask.history),
        current_request_number=ask.count,
        total_request_number=ask.first_ordinal + ask.count,
    )


def suggested(ask: Ask, reply: pb.GetSuggestionsReply) -> Suggested | SearchEnded:
    """Settings in the reply (Katib's hyperband keeps its state there) travel as `recorded`."""
    if not reply.parameter_assignments:
        return SearchEnded("the algorithm service returned no assignments")
    new = {s.name: s.value for s in reply.algorithm.algorithm_settings}
    settings = _given_back(ask.recorded) | new
    return Suggested(
        assignments=[
            in_order(ask.problem.space, {a.name: a.value for a in one.assignments})
            for one in reply.parameter_assignments
        ],
        recorded=json.dumps({_SETTINGS: settings}, sort_keys=True) if settings else "",
    )


def _given_back(recorded: str) -> dict[str, str]:
    """Settings of an earlier reply; none in what another kind of service recorded."""
    try:
        found = json.loads(recorded or "{}")
    except ValueError:
        return {}
    settings = found.get(_SETTINGS) if isinstance(found, dict) else None
    return {str(k): str(v) for k, v in settings.items()} if isinstance(settings, dict) else {}
