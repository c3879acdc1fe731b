# SPDX-License-Identifier: Apache-2.0
"""Faults of an object a person wrote: where, what is wrong, what would be right.

Made by validation and by the reader of experiment files; shown by the CLI, the SDK and, in a
cluster, by the webhook's answer.
"""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Collection, Hashable, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any, Final

Path = tuple[str | int, ...]

_WORD: Final = re.compile(r"[A-Za-z_][-A-Za-z0-9_]*")
_LONGEST_VALUE: Final = 60
_LONGEST_MESSAGE: Final = 600
_LONGEST_GUESS: Final = 80
_MOST_GUESSES: Final = 512
_ALIKE: Final = 0.7


@dataclass(frozen=True, slots=True)
class FieldError:
    """One fault. `hint` says what to do where the message does not."""

    path: Path
    message: str
    hint: str = ""

    @property
    def field(self) -> str:
        """The path as text: `spec.parameters[2].feasibleSpace.max`."""
        return field_text(self.path)

    def __str__(self) -> str:
        where = f"{self.field}: " if self.path else ""
        return f"{where}{self.message}" + (f" ({self.hint})" if self.hint else "")


def field_text(path: Path) -> str:
    """Keys that are no plain words are quoted: `metadata.labels["a.b/c"]`."""
    text = ""
    for part in path:
        if isinstance(part, int):
            text += f"[{part}]"
        elif _WORD.fullmatch(part):
            text += f".{part}"
        else:
            text += f"[{json.dumps(part)}]"
    return text.removeprefix(".")


def shown(value: Any) -> str:
    """A value in a sentence: short, and recognisable as what stands in the file."""
    if value is None or isinstance(value, bool):
        return json.dumps(value)
    if isinstance(value, dict | list | tuple):
        return "a mapping" if isinstance(value, dict) else "a list"
    if isinstance(value, int) and abs(value) >= 2**63:
        return "a very large number"
    text = repr(value) if isinstance(value, str | int | float) else f"a {type(value).__name__}"
    return text if len(text) <= _LONGEST_VALUE else f"{text[:_LONGEST_VALUE]}…"


def clipped(error: FieldError) -> FieldError:
    """The same fault with a message that fits on a screen, whatever value it quotes."""
    if len(error.message) <= _LONGEST_MESSAGE:
        return error
    return FieldError(error.path, f"{error.message[:_LONGEST_MESSAGE]}…", error.hint)


def closest(name: str, known: Iterable[str]) -> str | None:
    """The known word that was probably meant; capitals, `_` and `-` do not count."""
    if len(name) > _LONGEST_GUESS:
        return None
    plain = {_plain(word): word for word in islice(known, _MOST_GUESSES)}
    found = difflib.get_close_matches(_plain(name), plain, n=1, cutoff=_ALIKE)
    return plain[found[0]] if found else None


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """A hint, or "" when nothing is alike."""
    found = closest(name, known)
    return f"did you mean {found}?" if found else ""


def listed(words: Collection[str], most: int = 12) -> str:
    """Words for a sentence, in their order; "none" for an empty collection."""
    first = list(words)[:most]
    more = len(words) - len(first)
    return (", ".join(first) or "none") + (f" and {more} more" if more else "")


def repeated(values: Iterable[Hashable]) -> Iterator[tuple[int, int]]:
    """Each value that occurred before: its index, and the index of the first occurrence."""
    seen: dict[Hashable, int] = {}
    for index, value in enumerate(values):
        first = seen.setdefault(value, index)
        if first != index:
            yield index, first


def _plain(word: str) -> str:
    return word.lower().replace("_", "").replace("-", "")
