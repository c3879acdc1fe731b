# SPDX-License-Identifier: Apache-2.0
"""Settings of rules declared as data: one declaration gives validation, defaults and help.

Settings arrive as texts (Katib's EarlyStoppingSetting). Rules declare `Setting`s and read them
with `read_settings`; `setting_problems` words what is wrong for the experiment's author.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tunesmith_api.field_errors import did_you_mean
from tunesmith_api.search_space import parse_int

SettingValue = int | str


@dataclass(frozen=True, slots=True)
class Setting:
    """One setting: an integer from `at_least` on, or one of `choices` where there are any."""

    name: str
    default: SettingValue
    help: str
    at_least: int = 0
    choices: tuple[str, ...] = ()

    @property
    def allowed(self) -> str:
        """The type and range in words: "an integer >= 1", "median or mean"."""
        return " or ".join(self.choices) or f"an integer >= {self.at_least}"

    def parse(self, text: str) -> SettingValue:
        """The typed value. Raises ValueError on any other text."""
        if self.choices:
            if text.strip() not in self.choices:
                raise ValueError(f"{text!r} is not {self.allowed}")
            return text.strip()
        number = parse_int(text)
        if number < self.at_least:
            raise ValueError(f"{text} is out of range")
        return number


def setting_problems(rule: str, declared: Sequence[Setting], given: Mapping[str, str]) -> list[str]:
    """What is wrong with the settings, one sentence each; empty when nothing is."""
    return _read(rule, declared, given)[1]


def read_settings(
    rule: str, declared: Sequence[Setting], given: Mapping[str, str]
) -> dict[str, SettingValue]:
    """The typed settings, defaults filled in. Raises ValueError with every problem found."""
    values, problems = _read(rule, declared, given)
    if problems:
        raise ValueError("; ".join(problems))
    return values


def _read(
    rule: str, declared: Sequence[Setting], given: Mapping[str, str]
) -> tuple[dict[str, SettingValue], list[str]]:
    known = {setting.name: setting for setting in declared}
    values = {setting.name: setting.default for setting in declared}
    problems: list[str] = []
    for name, text in sorted(given.items()):
        setting = known.get(name)
        if setting is None:
            problems.append(_unknown(rule, name, known))
            continue
        try:
            values[name] = setting.parse(text)
        except ValueError:
            problems.append(f"setting {name!r} is {text!r}; it must be {setting.allowed}")
    return values, problems


def _unknown(rule: str, name: str, known: Mapping[str, Setting]) -> str:
    hint = did_you_mean(name, known)
    spelled = ", ".join(sorted(known)) or "none"
    return f"unknown setting {name!r} for rule {rule!r}{hint and f'; {hint}'} (known: {spelled})"
