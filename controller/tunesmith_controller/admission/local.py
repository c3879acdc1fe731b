# SPDX-License-Identifier: Apache-2.0
"""Admission on one machine: defaults, then every rule, then what this machine cannot run.

Called by whoever stores an Experiment for a person (`LocalPlane.submit`, `tunesmith validate`, the
API server), for a new one with `admit`, for a changed one with `admit_update`.
"""

from __future__ import annotations

from collections.abc import Sequence

from tunesmith_api.defaulting import default
from tunesmith_api.reading import read
from tunesmith_api.resources import Experiment
from tunesmith_api.template_source import ConfigMapLookup, TemplateSourceError, stored_template
from tunesmith_api.validation import FieldError, unsupported, validate, validate_update
from tunesmith_controller.ports import Json
from tunesmith_controller.trial import gjson


class Refused(Exception):
    """The object is not admitted; `errors` are all of its faults."""

    def __init__(self, errors: Sequence[FieldError]) -> None:
        super().__init__("; ".join(str(error) for error in errors))
        self.errors = tuple(errors)


def admit(experiment: Json, *, config_map: ConfigMapLookup | None = None) -> Json:
    """The Experiment as it will be stored, with every default. Raises Refused.

    `config_map(namespace, name)` gives a stored ConfigMap or None; without it a template that is
    in a ConfigMap is not looked at.
    """
    template = _stored_template(experiment, config_map)
    defaulted = default(experiment, template=template)
    errors = _faults(defaulted, config_map)
    if not errors:
        errors = [*unsupported(defaulted, template=template), *_settings_faults(defaulted)]
    if errors:
        raise Refused(errors)
    return defaulted


def admit_update(old: Json, new: Json) -> Json:
    """The changed Experiment as it will be stored, with every default. Raises Refused.

    What was already wrong with `old` is not held against it, so that an object from elsewhere can
    still be labelled, paused and deleted. A template in a ConfigMap is not looked at again.
    """
    defaulted = default(new)
    errors = validate_update(old, defaulted)
    if _spec(defaulted) != _spec(old):
        before = set(_all_faults(default(old)))
        named = {error.path for error in errors}
        found = _all_faults(defaulted)
        errors += [e for e in found if e not in before and e.path not in named]
    if errors:
        raise Refused(errors)
    return defaulted


def _spec(experiment: object) -> object:
    return experiment.get("spec") if isinstance(experiment, dict) else None


def _stored_template(experiment: Json, lookup: ConfigMapLookup | None) -> Json | None:
    """The job in the ConfigMap that is asked for, if it can be read; `validate` says why not."""
    parsed = read(experiment).experiment
    if parsed is None or lookup is None:
        return None
    try:
        return stored_template(parsed, lookup)
    except TemplateSourceError:
        return None


def _all_faults(defaulted: Json) -> list[FieldError]:
    return _faults(defaulted, None) or [*unsupported(defaulted), *_settings_faults(defaulted)]


def _settings_faults(valid: Json) -> list[FieldError]:
    # Loaded here, as below: NumPy costs more than the whole check.
    from tunesmith_controller.admission import settings_rules  # noqa: PLC0415
    from tunesmith_earlystopping.core import LocalRules  # noqa: PLC0415
    from tunesmith_suggestion.registry import Registry  # noqa: PLC0415

    parsed = Experiment.parse(valid)
    return [
        *settings_rules.algorithm_faults(parsed, Registry()),
        *settings_rules.stopping_faults(parsed, LocalRules()),
    ]


def _faults(defaulted: Json, lookup: ConfigMapLookup | None) -> list[FieldError]:
    from tunesmith_earlystopping.core import LocalRules  # noqa: PLC0415
    from tunesmith_suggestion.registry import Registry  # noqa: PLC0415

    return validate(
        defaulted,
        algorithms=Registry().names(),
        early_stopping=LocalRules().names(),
        check_condition=gjson.check,
        config_map=lookup,
    )
