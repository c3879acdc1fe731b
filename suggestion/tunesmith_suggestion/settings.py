# SPDX-License-Identifier: Apache-2.0
"""Algorithm settings declared as data: one declaration gives validation, defaults and help.

Settings arrive as texts (Katib's AlgorithmSetting). Algorithms declare `Setting`s and read them
with `read_settings`; `setting_problems` words what is wrong for the experiment's author.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from tunesmith_api.search_space import parse_finite, parse_int

SettingValue = int | float | bool | str


class SettingType(StrEnum):
    INTEGER = "integer"
    NUMBER = "number"
    BOOLEAN = "true or false"
    CHOICE = "one of"


@dataclass(frozen=True, slots=True)
class Setting:
    """One setting. `above` and `below` are open bounds, `at_least` a closed one.

    `default` None means: unset has its own meaning, told by `help`. `aliases` are other spellings.
    `choices` are what a CHOICE may be; case does not matter.
    """

    name: str
    type: SettingType
    default: SettingValue | None
    help: str
    aliases: tuple[str, ...] = ()
    at_least: float | None = None
    above: float | None = None
    below: float | None = None
    choices: tuple[str, ...] = ()

    @property
    def allowed(self) -> str:
        """The type and range in words: "a number > 0 and < 1"."""
        if self.type is SettingType.CHOICE:
            return f"one of {', '.join(self.choices)}"
        bounds = [
            f"{sign} {bound:g}"
            for sign, bound in ((">=", self.at_least), (">", self.above), ("<", self.below))
            if bound is not None
        ]
        article = {SettingType.INTEGER: "an ", SettingType.NUMBER: "a "}.get(self.type, "")
        return f"{article}{self.type} {' and '.join(bounds)}".rstrip()

    def parse(self, text: str) -> SettingValue:
        """The typed value. Raises ValueError on a text of another type or out of range."""
        if self.type is SettingType.BOOLEAN:
            return _parse_flag(text)
        if self.type is SettingType.CHOICE:
            return _parse_choice(text, self.choices)
        value = parse_int(text) if self.type is SettingType.INTEGER else parse_finite(text)
        if not self._in_range(value):
            raise ValueError(f"{text} is out of range")
        return value

    def _in_range(self, value: float) -> bool:
        return (
            (self.at_least is None or value >= self.at_least)
            and (self.above is None or value > self.above)
            and (self.below is None or value < self.below)
        )


RANDOM_STATE = Setting(
    "random_state",
    SettingType.INTEGER,
    None,
    "Seed of the search. Unset: the experiment's recorded seed.",
    at_least=0,
)

DEDUPE = Setting(
    "dedupe",
    SettingType.BOOLEAN,
    False,
    "Never propose a point twice; a finite search space then ends when every point was proposed.",
)


class SettingValues:
    """Typed settings of one problem, defaults filled in, under every spelling of their names."""

    def __init__(self, values: Mapping[str, SettingValue | None]) -> None:
        self._values = dict(values)

    def optional_integer(self, name: str) -> int | None:
        value = self._values[name]
        return None if value is None else int(value)

    def optional_number(self, name: str) -> float | None:
        value = self._values[name]
        return None if value is None else float(value)

    def integer(self, name: str) -> int:
        return int(self._given(name))

    def number(self, name: str) -> float:
        return float(self._given(name))

    def choice(self, name: str) -> str:
        """As spelled in the declaration's `choices`."""
        return str(self._given(name))

    def flag(self, name: str) -> bool:
        return bool(self._given(name))

    def _given(self, name: str) -> SettingValue:
        value = self._values[name]
        if value is None:
            raise KeyError(name)
        return value


def setting_problems(
    algorithm: str, declared: Sequence[Setting], given: Mapping[str, str]
) -> list[str]:
    """What is wrong with the settings, one sentence each; empty when nothing is."""
    return _read(algorithm, declared, given)[1]


def read_settings(
    algorithm: str, declared: Sequence[Setting], given: Mapping[str, str]
) -> SettingValues:
    """The typed settings. Raises ValueError with every problem found."""
    values, problems = _read(algorithm, declared, given)
    if problems:
        raise ValueError("; ".join(problems))
    spelled = {alias: values[s.name] for s in declared for alias in s.aliases}
    return SettingValues(values | spelled)


def _read(
    algorithm: str, declared: Sequence[Setting], given: Mapping[str, str]
) -> tuple[dict[str, SettingValue | None], list[str]]:
    spellings = {spelling: s for s in declared for spelling in (s.name, *s.aliases)}
    values: dict[str, SettingValue | None] = {s.name: s.default for s in declared}
    problems: list[str] = []
    spelled: dict[str, str] = {}
    for spelling, text in sorted(given.items()):
        setting = spellings.get(spelling)
        if setting is None:
            problems.append(_unknown(algorithm, spelling, spellings))
            continue
        if setting.name in spelled:
            other = spelled[setting.name]
            problems.append(f"settings {other!r} and {spelling!r} are two spellings of one setting")
        spelled[setting.name] = spelling
        try:
            values[setting.name] = setting.parse(text)
        except ValueError:
            problems.append(f"setting {spelling!r} is {text!r}; it must be {setting.allowed}")
    return values, problems


def _unknown(algorithm: str, spelling: str, spellings: Mapping[str, Setting]) -> str:
    close = difflib.get_close_matches(spelling, spellings, n=1)
    hint = f"; did you mean {close[0]!r}?" if close else ""
    known = ", ".join(sorted(spellings)) or "none"
    return f"unknown setting {spelling!r} for algorithm {algorithm!r}{hint} (known: {known})"


def _parse_choice(text: str, choices: Sequence[str]) -> str:
    wanted = text.strip().lower()
    for choice in choices:
        if choice.lower() == wanted:
            return choice
    raise ValueError(f"{text!r} is not one of {', '.join(choices)}")


def _parse_flag(text: str) -> bool:
    match text.strip().lower():
        case "true":
            return True
        case "false":
            return False
    raise ValueError(f"{text!r} is neither true nor false")
