# SPDX-License-Identifier: Apache-2.0
"""Where the trial template of an Experiment is: in the Experiment itself, or in a ConfigMap.

The text in a ConfigMap is read as YAML once and is a tree from then on, like an inline template,
so that a value can change no other field. Used by `template.render` and by admission.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any, Final

from tunesmith_api.field_errors import Path, field_text, listed, shown
from tunesmith_api.reading import json_faults
from tunesmith_api.resources import ConfigMapSource, Experiment, Json

ConfigMapLookup = Callable[[str, str], Json | None]
"""A stored ConfigMap by namespace and name; None where there is none."""

MAX_TEMPLATE_BYTES: Final = 192 * 1024
"""As JSON, so that a Trial with it can be stored."""

CONFIG_MAP: Final[Path] = ("spec", "trialTemplate", "configMap")

_PLACEHOLDER: Final = re.compile(r"\$\{trialParameters\.([^}]*)\}")
_OPEN, _CLOSE = "\ue000", "\ue001"
_TOKEN: Final = re.compile(f"{_OPEN}([0-9]+){_CLOSE}")


class TemplateError(ValueError):
    """A template that cannot be rendered."""


class TemplateSourceError(TemplateError):
    """The ConfigMap does not hold a template. `field` is the part of `configMap` at fault."""

    def __init__(self, field: str, reason: str, hint: str = "") -> None:
        super().__init__(reason)
        self.field = field
        self.reason = reason
        self.hint = hint


def source_of(experiment: Experiment) -> ConfigMapSource | None:
    """The ConfigMap that is asked for; None for an inline template, or none at all."""
    template = experiment.spec.trial_template
    return template.config_map if template else None


def template_in(source: ConfigMapSource, config_map: Json | None) -> Json:
    """The template at `templatePath` of a ConfigMap; None is one that does not exist.

    Sentences name keys and lines, never what the ConfigMap holds: who may write an Experiment may
    not always read it. Raises TemplateSourceError.
    """
    name = f"ConfigMap {source.config_map_namespace}/{source.config_map_name}"
    if config_map is None:
        hint = "create it, or put it in the Experiment's file, behind a line `---`"
        raise TemplateSourceError("configMapName", f"{name} does not exist", hint)
    data = config_map.get("data")
    entries = data if isinstance(data, dict) else {}
    text, key = entries.get(source.template_path), source.template_path
    if not isinstance(text, str):
        keys = listed([str(known) for known in entries])
        reason = f"{name} has no key {shown(key)}; its keys are: {keys}"
        raise TemplateSourceError("templatePath", reason)
    return _template(text, f"{shown(key)} of {name}")


def stored_template(experiment: Experiment, lookup: ConfigMapLookup) -> Json | None:
    """The template that an Experiment takes from a ConfigMap; None for an inline template, and
    where `configMap` is not complete. Raises TemplateSourceError."""
    source = source_of(experiment)
    if source is None or not (source.config_map_name and source.config_map_namespace):
        return None
    if not source.template_path:
        return None
    return template_in(source, lookup(source.config_map_namespace, source.config_map_name))


def job_template(experiment: Experiment, config_map: Json | None) -> Json:
    """The template of an admitted Experiment. Raises TemplateError."""
    template = experiment.spec.trial_template
    if template is not None and template.trial_spec is not None:
        return template.trial_spec
    source = source_of(experiment)
    if source is None:
        raise TemplateError("the experiment has no trial template (trialSpec or configMap)")
    return template_in(source, config_map)


# ---- the text -----------------------------------------------------------------------------------


def _template(text: str, place: str) -> Json:
    # Loaded here: inline templates need no YAML.
    from tunesmith_api.yaml_text import FileError, documents  # noqa: PLC0415

    if _OPEN in text:
        raise _no_object(f"{place} holds the private character U+E000")
    names = list(dict.fromkeys(_PLACEHOLDER.findall(text)))
    numbered = {name: f"{_OPEN}{number}{_CLOSE}" for number, name in enumerate(names)}
    try:
        # Between [ and ] a brace would end YAML's plain text, and Katib replaces before it reads.
        found = documents(_PLACEHOLDER.sub(lambda match: numbered[match[1]], text), place)
    except FileError as error:
        line = f" (line {error.line})" if error.line else ""
        raise _no_object(f"{place} cannot be read as YAML{line}") from None
    if len(found) != 1:
        raise _no_object(f"{place} holds {len(found)} YAML documents; a template is one object")
    if not isinstance(found[0].value, dict):
        raise _no_object(f"{place} is no object; a template begins with apiVersion and kind")
    template: Json = _restored(found[0].value, names)
    if fault := next(json_faults(template), None):
        raise _no_object(f"{place} is no JSON: {field_text(fault.path)} {fault.message}")
    size = len(json.dumps(template, separators=(",", ":"), ensure_ascii=False).encode())
    if size > MAX_TEMPLATE_BYTES:
        reason = f"{place} has {size} bytes as JSON; at most {MAX_TEMPLATE_BYTES} are possible"
        raise _no_object(reason)
    return template


def _no_object(reason: str) -> TemplateSourceError:
    return TemplateSourceError("templatePath", reason)


def _restored(tree: Any, names: list[str]) -> Any:
    """The tree with its placeholders back, in texts and in keys."""

    def text(value: str) -> str:
        return _TOKEN.sub(lambda match: _placeholder(match, names), value)

    if isinstance(tree, dict):
        return {text(key): _restored(child, names) for key, child in tree.items()}
    if isinstance(tree, list):
        return [_restored(child, names) for child in tree]
    return text(tree) if isinstance(tree, str) else tree


def _placeholder(match: re.Match[str], names: list[str]) -> str:
    number = int(match[1])
    return f"${{trialParameters.{names[number]}}}" if number < len(names) else match[0]
