# SPDX-License-Identifier: Apache-2.0
"""docs/algorithms.md names every algorithm, and its tables are the settings that there are."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tunesmith_suggestion.registry import BUILT_IN
from tunesmith_suggestion.settings import Setting

PAGE = (Path(__file__).parents[2] / "docs" / "algorithms.md").read_text()
ROW = re.compile(r"^\| (`.+?`) \| (.+?) \| (.+?) \|$", re.MULTILINE)


def section(name: str) -> str:
    """The text below the heading that names an algorithm."""
    for part in re.split(r"^## ", PAGE, flags=re.MULTILINE)[1:]:
        heading, _, body = part.partition("\n")
        if name in heading.split(" and "):
            return body
    raise AssertionError(f"no section for {name}")


def spellings(setting: Setting) -> set[str]:
    return {setting.name, *setting.aliases}


@pytest.mark.parametrize("name", sorted(BUILT_IN))
def test_the_table_of_settings_is_the_declaration(name: str) -> None:
    declared = list(BUILT_IN[name]().settings)
    rows = {
        frozenset(re.findall(r"`(.+?)`", names)): rest
        for names, *rest in ROW.findall(section(name))
    }
    assert set(rows) == {frozenset(spellings(setting)) for setting in declared}
    for setting in declared:
        allowed, default = rows[frozenset(spellings(setting))]
        assert allowed == setting.allowed
        if setting.default is not None:
            assert default.lower() == str(setting.default).lower()
