# SPDX-License-Identifier: Apache-2.0
"""sobol: the k-th point belongs to ordinal k, points are spread evenly, scipy is not waited for."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from collections.abc import Mapping

import numpy as np
import pytest
from scipy.stats import qmc

from tunesmith_api.problem import Exhausted, History, OutcomeState, Problem
from tunesmith_api.search_space import (
    Distribution,
    DoubleParameter,
    IntParameter,
    ListParameter,
    SearchSpace,
    Value,
)
from tunesmith_proto.katib import api_pb2 as katib
from tunesmith_suggestion.algorithms.sobol import MOST_DIMENSIONS, SobolSearch, _sequence
from tunesmith_suggestion.katib import KatibCore
from tunesmith_suggestion.katib_messages import experiment_message, seed_of, trial_messages
from tunesmith_suggestion.testing import SPACE, a_history, a_problem, proposed

BOX = SearchSpace(tuple(DoubleParameter(f"x{i}", 0.0, 1.0) for i in range(5)))


def sobol(space: SearchSpace = BOX, seed: int = 7, **settings: str) -> Problem:
    return a_problem("sobol", space, seed=seed, settings=settings)


def at(problem: Problem, ordinals: range, told: int = 0) -> tuple[Mapping[str, Value], ...]:
    history = a_history(problem.space, told, states=tuple(OutcomeState))
    found = SobolSearch().suggest(problem, history, ordinals, "")
    assert not isinstance(found, Exhausted)
    return found.assignments


def table(problem: Problem, count: int) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    return np.array([[float(v) for v in p.values()] for p in at(problem, range(count))])


def test_the_point_of_an_ordinal_depends_on_nothing_else() -> None:
    problem = sobol(SPACE)
    whole = at(problem, range(40))
    assert at(problem, range(3, 9)) == whole[3:9]
    assert [at(problem, range(k, k + 1), told=k)[0] for k in range(40)] == list(whole)


def test_a_far_ordinal_is_reached_at_once() -> None:
    (far,) = at(sobol(), range(10**6, 10**6 + 1))
    assert far == at(sobol(), range(10**6 - 2, 10**6 + 1))[2]


@pytest.mark.parametrize("seed", range(4))
def test_the_first_points_share_every_axis_and_pair_of_axes_out_evenly(seed: int) -> None:
    found = table(sobol(seed=seed), 256)
    for axis in range(5):
        assert sorted(np.floor(found[:, axis] * 256)) == list(range(256))
    squares = Counter(zip(found[:, 0] // 0.0625, found[:, 1] // 0.0625, strict=True))
    assert set(squares.values()) == {1} and len(squares) == 256


@pytest.mark.parametrize("seed", range(3))
def test_points_are_far_more_even_than_random_ones(seed: int) -> None:
    even = qmc.discrepancy(table(sobol(seed=seed), 128))
    chance = qmc.discrepancy(np.random.default_rng(seed).random((128, 5)))
    assert even < 0.2 * chance


def test_over_seeds_a_point_is_anywhere_and_its_coordinates_independent() -> None:
    first = np.array([list(at(sobol(seed=s), range(1))[0].values()) for s in range(400)], float)
    assert np.abs(first.mean(axis=0) - 0.5).max() < 0.08
    assert np.abs(np.corrcoef(first.T) - np.eye(5)).max() < 0.2


def test_points_are_spread_as_the_parameters_distributions_say() -> None:
    space = SearchSpace(
        (
            DoubleParameter("lr", 1e-4, 1.0, distribution=Distribution.LOG_UNIFORM),
            IntParameter("n", 10, 40, 10),
            ListParameter("kind", ("a", "b", "c", "d")),
        )
    )
    found = at(sobol(space), range(64))
    assert Counter(int(np.floor(np.log10(float(p["lr"])))) for p in found) == Counter(
        dict.fromkeys((-4, -3, -2, -1), 16)
    )
    assert Counter(p["n"] for p in found) == Counter(dict.fromkeys((10, 20, 30, 40), 16))
    assert Counter(p["kind"] for p in found) == Counter(dict.fromkeys("abcd", 16))


def test_random_state_replaces_the_seed_of_the_experiment() -> None:
    with_state = at(sobol(seed=1, random_state="5"), range(4))
    assert (
        with_state == at(sobol(seed=2, random_state="5"), range(4)) == at(sobol(seed=5), range(4))
    )
    assert with_state != at(sobol(seed=1), range(4))


def test_points_are_the_same_in_every_release() -> None:
    """A change here changes what replays of old experiments propose: raise the version."""
    space = SearchSpace((DoubleParameter("x", 0.0, 1.0), IntParameter("n", 0, 10**6)))
    assert [tuple(p.values()) for p in at(sobol(space), range(5, 7))] == [
        (0.9347750238924409, 72939),
        (0.6093100796379357, 517260),
    ]


def test_more_parameters_than_there_are_sequences_for_are_refused() -> None:
    assert MOST_DIMENSIONS == qmc.Sobol.MAXDIM
    wide = SearchSpace(tuple(IntParameter(f"n{i}", 0, 1) for i in range(MOST_DIMENSIONS + 1)))
    assert list(SobolSearch().validate(sobol(wide))) == [
        "sobol has sequences for at most 21201 parameters, got 21202"
    ]


@pytest.mark.parametrize("name", ["grid", "multivariate-tpe", "random", "sobol", "tpe"])
def test_it_and_the_light_algorithms_do_not_wait_for_scipy(name: str) -> None:
    program = (
        "import sys; from tunesmith_suggestion.registry import Registry; "
        "from tunesmith_api.problem import History, Objective, Problem; "
        "from tunesmith_api.search_space import IntParameter, SearchSpace; "
        f"algorithm = Registry().find({name!r}); "
        "space = SearchSpace((IntParameter('n', 1, 9),)); "
        "objectives = (Objective('loss', 'minimize'),); "
        f"problem = Problem('uid', 'exp', {name!r}, {{}}, space, objectives, 1); "
        "algorithm.suggest(problem, History(), range(2), ''); "
        "print([name for name in sys.modules if name.startswith('scipy')])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, check=True, text=True
    )
    assert done.stdout.strip() == "[]"


def test_algorithms_that_need_scipy_load_it_when_they_are_asked_for() -> None:
    program = (
        "import sys, tunesmith_suggestion.server; from tunesmith_suggestion.registry import "
        "Registry; Registry().names(); Registry().find('auto'); Registry().find('cmaes'); "
        "print([name for name in sys.modules if name.startswith('scipy')])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, check=True, text=True
    )
    assert done.stdout.strip() == "[]"


def test_katibs_controller_gets_one_point_after_another() -> None:
    expected = proposed(SobolSearch(), sobol(seed=seed_of("exp")), History(), 9)
    found: list[dict[str, str]] = []
    for count in (4, 2, 3):
        # Every third trial failed, every other third lost its metrics: Katib leaves those out.
        tried = a_history(BOX, len(found), states=tuple(OutcomeState))
        request = katib.GetSuggestionsRequest(
            experiment=experiment_message(sobol(), {}),
            trials=trial_messages(sobol(), tried),
            current_request_number=count,
            total_request_number=len(found) + count,
        )
        reply = KatibCore().suggest(request)
        found += [{a.name: a.value for a in p.assignments} for p in reply.parameter_assignments]
    assert found == [BOX.texts(values) for values in expected]


@pytest.mark.parametrize("dimensions", [1, 2, 7, 60])
def test_the_sequence_below_is_the_one_of_scipy(dimensions: int) -> None:
    theirs = qmc.Sobol(dimensions, scramble=False, bits=32)
    first = np.ldexp(theirs.random(128), 53).astype(np.uint64)
    assert np.array_equal(_sequence(dimensions, range(128)), first)
    theirs.reset()
    theirs.fast_forward(100_000)
    later = np.ldexp(theirs.random(4), 53).astype(np.uint64)
    assert np.array_equal(_sequence(dimensions, range(100_000, 100_004)), later)
