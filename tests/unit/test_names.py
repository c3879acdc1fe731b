# SPDX-License-Identifier: Apache-2.0
"""Names of trials carry their ordinal and never collide within an experiment."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunesmith_api.names import base36, request_id, trial_name, trial_ordinal

END = 36**7
# All widths equally often, and their edges.
ORDINALS = st.one_of(
    *(st.integers(36**width // 36, 36**width - 1) for width in range(1, 8)),
    st.sampled_from([0, 36**4 - 1, 36**4, 36**5 - 1, 36**5, 36**6 - 1, 36**6, END - 1]),
)


@given(ORDINALS, ORDINALS, st.text(max_size=12))
def test_two_ordinals_of_an_experiment_never_share_a_name(a: int, b: int, uid: str) -> None:
    assert (trial_name("quick", uid, a) == trial_name("quick", uid, b)) == (a == b)


@given(ORDINALS, st.text(max_size=12))
def test_a_name_tells_its_ordinal(ordinal: int, uid: str) -> None:
    assert trial_ordinal(trial_name("quick", uid, ordinal)) == ordinal


@given(ORDINALS, st.text(max_size=12))
def test_a_name_is_the_experiments_and_eight_characters_that_kubernetes_takes(
    ordinal: int, uid: str
) -> None:
    assert re.fullmatch(r"quick-[0-9a-z]{8}", trial_name("quick", uid, ordinal))


def test_experiments_of_one_name_have_trials_of_different_names() -> None:
    found = {trial_name("quick", f"uid-{n}", 0) for n in range(200)}

    assert len(found) > 190


@pytest.mark.parametrize("ordinal", [-1, END])
def test_an_ordinal_out_of_range_is_refused(ordinal: int) -> None:
    with pytest.raises(ValueError, match="ordinal"):
        trial_name("quick", "uid", ordinal)


@pytest.mark.parametrize("name", ["", "quick", "quick-short", "quick-UPPERCAS", "quick-abcdefg٣"])
def test_a_foreign_name_has_no_ordinal(name: str) -> None:
    assert trial_ordinal(name) is None


@given(st.integers(0, END))
def test_base36_is_read_back_by_int(number: int) -> None:
    assert int(base36(number), 36) == number


def test_a_request_is_named_by_experiment_first_ordinal_and_count() -> None:
    assert request_id("uid", 4, 2) != request_id("uid", 4, 3)
    assert request_id("uid", 4, 2) == request_id("uid", 4, 2)
