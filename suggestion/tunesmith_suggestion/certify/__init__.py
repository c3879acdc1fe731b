# SPDX-License-Identifier: Apache-2.0
"""A black-box conformance suite for services of Katib's api.v1.beta1.Suggestion.

It asks what Katib's controller asks, and what happens to it on bad days, and needs nothing of the
service but its address. `tunesmith certify` prints what it finds. For an algorithm that can be
imported, `tunesmith_suggestion.testing.AlgorithmContract` asks more.

| module | what it is |
|---|---|
| `run` | the checks in their order: `certify`, `run_checks` |
| `settings_checks`, `proposal_checks`, `history_checks`, `life_checks` | the checks |
| `lab` | experiments as Katib's controller runs them; every reply is held against its space |
| `cases` | the search spaces, and what a point of one is |
| `service` | the service as calls: the port, and gRPC behind it |
| `verdicts` | what a check found |
"""

from tunesmith_suggestion.certify.lab import FULL, QUICK, Lab, Sizes, Subject
from tunesmith_suggestion.certify.run import CHECKS, certify, run_checks
from tunesmith_suggestion.certify.service import CallFailed, GrpcService, Service, Unreachable
from tunesmith_suggestion.certify.verdicts import Check, Verdict

__all__ = [
    "CHECKS",
    "FULL",
    "QUICK",
    "CallFailed",
    "Check",
    "GrpcService",
    "Lab",
    "Service",
    "Sizes",
    "Subject",
    "Unreachable",
    "Verdict",
    "certify",
    "run_checks",
]
