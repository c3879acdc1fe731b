# SPDX-License-Identifier: Apache-2.0
"""The fast reading of points agrees with the search space's own, for texts good and bad."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from tunesmith_api.search_space import SearchSpace
from tunesmith_suggestion.reading import reader_of
from tunesmith_suggestion.testing import CHECKED, points, search_spaces

ODD = ["", " 3 ", "3.0", "1e3", "1_0", "-0", "+5", "٣", "²", "nan", "inf", "1e400", "0x10", "None"]


@settings(CHECKED, max_examples=400)
@given(
    space=search_spaces(4),
    seed=st.integers(0, 1000),
    change=st.none()
    | st.tuples(
        st.integers(0, 3),
        st.sampled_from(ODD) | st.integers().map(str) | st.floats().map(repr) | st.text(max_size=8),
    ),
    other=st.sampled_from(["same", "same", "more", "fewer"]),
)
def test_the_fast_reading_and_the_careful_one_agree(
    space: SearchSpace, seed: int, change: tuple[int, str] | None, other: str
) -> None:
    texts = space.texts(points(space, 1, seed=seed)[0])
    if change is not None:
        names = [p.name for p in space]
        texts[names[change[0] % len(names)]] = change[1]
    if other == "more":
        texts["one more"] = "1"
    elif other == "fewer":
        texts.popitem()
    found = reader_of(space).values(texts)
    if space.violations(texts):
        assert found is None
    else:
        assert found == space.values(texts)
        assert list(found) == [p.name for p in space]
