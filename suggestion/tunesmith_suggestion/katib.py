# SPDX-License-Identifier: Apache-2.0
"""Katib's api.v1.beta1.Suggestion over the same algorithms, without a network and without memory.

Every call carries all trials, so nothing is kept. For Katib's controller, its clients and
Kubeflow's OptimizationJob. `servicer` puts it on gRPC.

Numbering: the trials of a request get the ordinals 0, 1, ... in its order; new ones start behind
them, and behind what `total_request_number` says was handed out before (Katib leaves some trials
out of its requests, and their points must not be proposed again). An algorithm that walks its
space is asked for those of the trials left out once more: they come first, and are dropped.
"""

from __future__ import annotations

import logging

from tunesmith_api.problem import Exhausted
from tunesmith_proto.katib import api_pb2 as pb
from tunesmith_suggestion.core import MAX_COUNT, check_count, valid_algorithm, without_budget
from tunesmith_suggestion.katib_messages import assignments_message, history_of, problem_of
from tunesmith_suggestion.protocol import walks
from tunesmith_suggestion.registry import Registry

logger = logging.getLogger(__name__)


class KatibCore:
    """Answers Katib's two methods."""

    def __init__(self, registry: Registry | None = None, *, max_count: int = MAX_COUNT) -> None:
        self._registry = registry or Registry()
        self._max_count = max_count

    def validate(
        self, request: pb.ValidateAlgorithmSettingsRequest
    ) -> pb.ValidateAlgorithmSettingsReply:
        """Raises Invalid with everything that is wrong."""
        valid_algorithm(self._registry, problem_of(request.experiment))
        return pb.ValidateAlgorithmSettingsReply()

    def suggest(self, request: pb.GetSuggestionsRequest) -> pb.GetSuggestionsReply:
        """No assignments when the search has ended. Raises Invalid for a bad problem or count."""
        problem = problem_of(request.experiment)
        algorithm = valid_algorithm(self._registry, without_budget(problem))
        count = request.current_request_number
        check_count(count, self._max_count)
        if count == 0:
            return pb.GetSuggestionsReply()
        history = history_of(problem, request.trials)
        handed_out = request.total_request_number - count
        first = max(len(request.trials), handed_out)
        left_out = first - len(request.trials) if walks(algorithm) else 0
        found = algorithm.suggest(problem, history, range(first - left_out, first + count), "")
        if isinstance(found, Exhausted):
            logger.info("experiment %s: %s", problem.experiment_name, found.reason)
            return pb.GetSuggestionsReply()
        texts = (problem.space.texts(values) for values in found.assignments[left_out:])
        return pb.GetSuggestionsReply(parameter_assignments=[assignments_message(t) for t in texts])
