# SPDX-License-Identifier: Apache-2.0
"""The algorithms, stopping rules and their settings for people, from the declarations that check
experiments.

Loaded by `Client.algorithms` when it is called: the algorithms bring NumPy.
"""

from __future__ import annotations

from tunesmith.views import AlgorithmKind, AlgorithmView, SettingView
from tunesmith_api.errors import Invalid
from tunesmith_earlystopping.registry import Registry as StoppingRules
from tunesmith_suggestion.registry import Registry
from tunesmith_suggestion.settings import Setting, SettingValue


def all_algorithms() -> list[AlgorithmView]:
    """Ours and those that other packages registered, by name."""
    registry = Registry()
    return [_algorithm(registry, name) for name in registry.names()]


def all_rules() -> list[AlgorithmView]:
    """Early stopping rules, ours and those that other packages registered, by name."""
    rules = StoppingRules()
    return [_rule(rules, name) for name in rules.names()]


def _algorithm(registry: Registry, name: str) -> AlgorithmView:
    try:
        found = registry.find(name)
    except Invalid as error:
        return AlgorithmView(name, problem=str(error))
    return AlgorithmView(name, found.version, tuple(map(_setting, found.settings)))


def _setting(setting: Setting) -> SettingView:
    return SettingView(
        name=setting.name,
        default=_text(setting.default),
        allowed=setting.allowed,
        help=setting.help,
        aliases=setting.aliases,
    )


def _rule(rules: StoppingRules, name: str) -> AlgorithmView:
    kind = AlgorithmKind.EARLY_STOPPING
    try:
        found = rules.find(name)
    except Invalid as error:
        return AlgorithmView(name, problem=str(error), kind=kind)
    settings = tuple(
        SettingView(s.name, _text(s.default), s.allowed, s.help, ()) for s in found.settings
    )
    return AlgorithmView(name, settings=settings, kind=kind)


def _text(value: SettingValue | str | None) -> str:
    """As it is written in an experiment."""
    if value is None or isinstance(value, str):
        return value or ""
    return str(value).lower() if isinstance(value, bool) else f"{value:g}"
