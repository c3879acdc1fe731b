# SPDX-License-Identifier: Apache-2.0
"""Admission on one machine: defaults, then every rule, then what this machine cannot run.

Called by whoever stores an Experiment for a person (`LocalPlane.submit`, `tunesmith validate`).
"""

from __future__ import annotations

from collections.abc import Sequence

from tunesmith_api.defaulting import default
from tunesmith_api.validation import FieldError, unsupported, validate
from tunesmith_controller.ports import Json
from tunesmith_controller.trial import gjson


class Refused(Exception):
    """The object is not admitted; `errors` are all of its faults."""

    def __init__(self, errors: Sequence[FieldError]) -> None:
        super().__init__("; ".join(f"{error.field}: {error.message}" for error in errors))
        self.errors = tuple(errors)


def admit(experiment: Json) -> Json:
    """The Experiment as it will be stored, with every default. Raises Refused."""
    # Loaded here: NumPy costs more than the whole check.
    from tunesmith_suggestion.registry import Registry  # noqa: PLC0415

    defaulted = default(experiment)
    errors = validate(defaulted, algorithms=Registry().names(), check_condition=gjson.check)
    if not errors:
        errors = unsupported(defaulted)
    if errors:
        raise Refused(errors)
    return defaulted
