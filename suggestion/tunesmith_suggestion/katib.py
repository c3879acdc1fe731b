# SPDX-License-Identifier: Apache-2.0
"""Katib's api.v1.beta1.Suggestion over the same algorithms, without a network.

Every call carries all trials, so nothing is kept that an answer depends on; what is remembered of
earlier requests saves reading the same bytes again (`katib_requests`). For Katib's controller, its
clients and Kubeflow's OptimizationJob. `servicer` puts it on gRPC.

Numbering: the trials of a request get the ordinals 0, 1, ... in its order; new ones start behind
them, and behind what `total_request_number` says was handed out before (Katib leaves some trials
out of its requests, and their points must not be proposed again). An algorithm that walks its
space is asked for those of the trials left out once more: they come first, and are dropped.
"""

from __future__ import annotations

import logging
from functools import lru_cache
from typing import Final

from google.protobuf.message import DecodeError

from tunesmith_api.errors import Invalid
from tunesmith_api.problem import Exhausted, Problem
from tunesmith_proto.katib import api_pb2 as pb
from tunesmith_suggestion.core import MAX_COUNT, check_count, valid_algorithm, without_budget
from tunesmith_suggestion.katib_messages import assignments_message, problem_of
from tunesmith_suggestion.katib_requests import Envelope, Trials, counted, in_order, opened
from tunesmith_suggestion.protocol import Algorithm, reads_history, walks
from tunesmith_suggestion.registry import Registry

logger = logging.getLogger(__name__)

_MOST_EXPERIMENTS: Final = 256


class KatibCore:
    """Answers Katib's two methods. Safe from several threads."""

    def __init__(self, registry: Registry | None = None, *, max_count: int = MAX_COUNT) -> None:
        self._registry = registry or Registry()
        self._max_count = max_count
        self._trials = Trials()
        self._asked = lru_cache(maxsize=_MOST_EXPERIMENTS)(self._read)

    def validate(
        self, request: pb.ValidateAlgorithmSettingsRequest
    ) -> pb.ValidateAlgorithmSettingsReply:
        """Raises Invalid with everything that is wrong."""
        valid_algorithm(self._registry, problem_of(request.experiment))
        return pb.ValidateAlgorithmSettingsReply()

    def suggest(self, request: pb.GetSuggestionsRequest) -> pb.GetSuggestionsReply:
        """No assignments when the search has ended. Raises Invalid for a bad problem or count."""
        return self.suggest_to(opened(request.SerializeToString(deterministic=True)))

    def suggest_to(self, envelope: Envelope) -> pb.GetSuggestionsReply:
        """The same for a request that is still bytes."""
        problem, algorithm = self._asked(envelope.experiment)
        reads = reads_history(algorithm, problem)
        told = self._trials.told(problem, envelope) if reads else counted(envelope)
        if told is None:
            return self.suggest_to(in_order(envelope))
        count = told.rest.current_request_number
        check_count(count, self._max_count)
        if count == 0:
            return pb.GetSuggestionsReply()
        handed_out = told.rest.total_request_number - count
        first = max(told.trials, handed_out)
        left_out = first - told.trials if walks(algorithm) else 0
        found = algorithm.suggest(problem, told.history, range(first - left_out, first + count), "")
        if isinstance(found, Exhausted):
            logger.info("experiment %s: %s", problem.experiment_name, found.reason)
            return pb.GetSuggestionsReply()
        texts = (problem.space.texts(values) for values in found.assignments[left_out:])
        return pb.GetSuggestionsReply(parameter_assignments=[assignments_message(t) for t in texts])

    @staticmethod
    def algorithm_of(request: bytes) -> str:
        """The name in a request that can be read."""
        experiment = pb.Experiment.FromString(opened(request).experiment)
        return experiment.spec.algorithm.algorithm_name

    def _read(self, experiment: bytes) -> tuple[Problem, Algorithm]:
        """The problem in an experiment's bytes, and who solves it. Raises Invalid."""
        try:
            problem = problem_of(pb.Experiment.FromString(experiment))
        except DecodeError as error:
            raise Invalid(f"the experiment of the request is malformed: {error}") from None
        return problem, valid_algorithm(self._registry, without_budget(problem))
