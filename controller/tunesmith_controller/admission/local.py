# SPDX-License-Identifier: Apache-2.0
"""Admission: defaults, then every rule, then what the world in question cannot run.

Called by whoever stores an Experiment for a person (`LocalPlane.submit`, `tunesmith validate`, the
API server, in a cluster the webhooks), for a new one with `admit`, for a changed one with
`admit_update`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

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


@dataclass(frozen=True, slots=True)
class World:
    """Where an Experiment will run. A cluster runs any kind of job as it is; its configuration may
    name services of other people, which judge their settings themselves, for `algorithms` and for
    early `stopping`."""

    is_cluster: bool = False
    algorithms: frozenset[str] = frozenset()
    stopping: frozenset[str] = frozenset()


LAPTOP: Final = World()


def admit(
    experiment: Json, *, config_map: ConfigMapLookup | None = None, world: World = LAPTOP
) -> Json:
    """The Experiment as it will be stored, with every default. Raises Refused.

    `config_map(namespace, name)` gives a stored ConfigMap or None; without it a template that is
    in a ConfigMap is not looked at.
    """
    template = _stored_template(experiment, config_map)
    defaulted = default(experiment, template=template)
    errors = _faults(defaulted, config_map, world) or _deeper_faults(defaulted, template, world)
    if errors:
        raise Refused(errors)
    return defaulted


def admit_update(old: Json, new: Json, *, world: World = LAPTOP) -> Json:
    """The changed Experiment as it will be stored, with every default. Raises Refused.

    What was already wrong with `old` is not held against it, so that an object from elsewhere can
    still be labelled, paused and deleted. A template in a ConfigMap is not looked at again.
    """
    defaulted = default(new)
    errors = validate_update(old, defaulted)
    if _spec(defaulted) != _spec(old):
        before = set(_all_faults(default(old), world))
        named = {error.path for error in errors}
        found = _all_faults(defaulted, world)
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


def _all_faults(defaulted: Json, world: World) -> list[FieldError]:
    return _faults(defaulted, None, world) or _deeper_faults(defaulted, None, world)


def _deeper_faults(valid: Json, template: Json | None, world: World) -> list[FieldError]:
    """Of an Experiment that is right in itself."""
    found = [] if world.is_cluster else unsupported(valid, template=template)
    return [*found, *_settings_faults(valid, world)]


def _settings_faults(valid: Json, world: World) -> list[FieldError]:
    # Loaded here, as below: NumPy costs more than the whole check.
    from tunesmith_controller.admission import settings_rules  # noqa: PLC0415
    from tunesmith_earlystopping.core import LocalRules  # noqa: PLC0415
    from tunesmith_suggestion.registry import Registry  # noqa: PLC0415

    spec = (parsed := Experiment.parse(valid)).spec
    found: list[FieldError] = []
    if spec.algorithm is None or spec.algorithm.algorithm_name not in world.algorithms:
        found += settings_rules.algorithm_faults(parsed, Registry())
    if spec.early_stopping is None or spec.early_stopping.algorithm_name not in world.stopping:
        found += settings_rules.stopping_faults(parsed, LocalRules())
    return found


def _faults(defaulted: Json, lookup: ConfigMapLookup | None, world: World) -> list[FieldError]:
    from tunesmith_earlystopping.core import LocalRules  # noqa: PLC0415
    from tunesmith_suggestion.registry import Registry  # noqa: PLC0415

    return validate(
        defaulted,
        algorithms=sorted({*Registry().names(), *world.algorithms}),
        early_stopping=sorted({*LocalRules().names(), *world.stopping}),
        check_condition=gjson.check,
        config_map=lookup,
    )
