# SPDX-License-Identifier: Apache-2.0
"""The algorithms and their settings for people, from the declarations that check experiments.

Loaded by `Client.algorithms` when it is called: the algorithms bring NumPy.
"""

from __future__ import annotations

from tunesmith.views import AlgorithmView, SettingView
from tunesmith_api.errors import Invalid
from tunesmith_suggestion.registry import Registry
from tunesmith_suggestion.settings import Setting, SettingValue


def all_algorithms() -> list[AlgorithmView]:
    """Ours and those that other packages registered, by name."""
    registry = Registry()
    return [_algorithm(registry, name) for name in registry.names()]


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


def _text(value: SettingValue | None) -> str:
    """As it is written in an experiment."""
    if value is None:
        return ""
    return str(value).lower() if isinstance(value, bool) else f"{value:g}"
