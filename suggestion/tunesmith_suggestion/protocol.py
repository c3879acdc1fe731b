# SPDX-License-Identifier: Apache-2.0
"""What an algorithm is. Authors of other algorithms implement this and nothing else.

Register one under the entry-point group `tunesmith.algorithms` (name -> zero-argument callable),
and prove it with `tunesmith_suggestion.testing.AlgorithmContract`. Called by `core`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from tunesmith_api.problem import Exhausted, History, Problem, Proposal
from tunesmith_suggestion.settings import Setting


class Algorithm(Protocol):
    """Pure arithmetic: no gRPC, files, clocks, global random state or logging set-up.

    One instance serves many experiments from several threads at once, so it keeps no state that
    an answer depends on; caches are fine when losing them changes nothing but time.
    """

    @property
    def name(self) -> str:
        """The `algorithmName` users write."""
        ...

    @property
    def version(self) -> str:
        """Changes whenever the same inputs would give other points; recorded with every batch."""
        ...

    @property
    def settings(self) -> Sequence[Setting]:
        """The algorithm settings it accepts; every other name is an error."""
        ...

    def validate(self, problem: Problem) -> Sequence[str]:
        """What is wrong with the problem, as sentences for its author; empty when nothing is."""
        ...

    def suggest(
        self, problem: Problem, history: History, ordinals: range, recorded: str
    ) -> Proposal | Exhausted:
        """One assignment an ordinal, from the first on; fewer when fewer are left.

        A pure function of its arguments: the same in any process, on any thread, whatever was
        asked before. Pre: `validate` found nothing, `ordinals` is not empty, `history` holds only
        lower ordinals. Post: every assignment is a point of `problem.space`.
        """
        ...


def walks(algorithm: Algorithm) -> bool:
    """Whether it takes points in one fixed order and leaves out those of the history.

    Such an algorithm says so with an attribute `walks = True`; others need not have it. A client
    that cannot tell which points were handed out before (Katib's leaves some trials out of its
    requests) then knows that they are the first ones of the answer.
    """
    return bool(getattr(algorithm, "walks", False))


def reads_history(algorithm: Algorithm, problem: Problem) -> bool:
    """Whether its answers to a problem depend on the history.

    One whose answers may not says so with a method `reads_history(problem) -> bool`; others need
    not have it. Thousands of trials are then not even decoded.
    """
    asked = getattr(algorithm, "reads_history", None)
    return True if asked is None else bool(asked(problem))
