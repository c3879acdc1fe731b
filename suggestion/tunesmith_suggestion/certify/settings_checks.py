# SPDX-License-Identifier: Apache-2.0
"""Checks before the first trial: health, and what is said to good and bad problems."""

from __future__ import annotations

from tunesmith_proto import wire
from tunesmith_suggestion.certify.lab import RANDOM_STATE, Lab
from tunesmith_suggestion.certify.verdicts import Defect, NotApplicable, plural

_WRONG = "certainly-not"


def health(lab: Lab) -> str:
    name = wire.KATIB_HEALTH_SERVICE
    status = lab.service.health(name)
    if status != "SERVING":
        raise Defect(f"{name} is {status}: the probe of Katib's Deployment would never pass")
    return f"{name} is SERVING"


def accepts_a_good_problem(lab: Lab) -> str:
    space = lab.space
    given = ", ".join(f"{name}={value}" for name, value in lab.subject.settings.items())
    return f"{plural(len(space), 'parameter')} are accepted with {given or 'no settings'}"


def refuses_an_unknown_setting(lab: Lab) -> str:
    _validates(lab)
    refused = lab.refusal(lab.space, {"no_such_setting": "1"})
    if refused is None:
        raise Defect("the setting no_such_setting is accepted, so a misspelt one would be, too")
    return f"refused: {refused}"


def refuses_a_bad_value(lab: Lab) -> str:
    _validates(lab)
    names = list(lab.subject.settings)
    if lab.validates_names and lab.refusal(lab.space, {RANDOM_STATE: "11"}) is None:
        names.append(RANDOM_STATE)
    if not names:
        raise NotApplicable("no setting is known: give one with --setting NAME=VALUE")
    refusals = {name: lab.refusal(lab.space, {name: _WRONG}) for name in names}
    accepted = [name for name, refused in refusals.items() if refused is None]
    if len(accepted) == len(names):
        raise Defect(f"{', '.join(accepted)}={_WRONG} is accepted")
    also = f"; {', '.join(accepted)} may be any text" if accepted else ""
    return f"refused: {next(refused for refused in refusals.values() if refused)}{also}"


def _validates(lab: Lab) -> None:
    """Raises NotApplicable for a service without validation."""
    if not lab.validates:
        raise NotApplicable("ValidateAlgorithmSettings is UNIMPLEMENTED; Katib accepts everything")
