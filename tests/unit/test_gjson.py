# SPDX-License-Identifier: Apache-2.0
"""GJSON paths and Katib's conditions, as far as they can be told without Go.

tests/oracles/test_gjson_against_go.py compares the same evaluator with tidwall/gjson.
"""

import time
from collections.abc import Mapping

import pytest

from tunesmith_controller.trial import gjson
from tunesmith_controller.trial.gjson_check import MAX_LENGTH, MAX_PARTS

MISSING = object()

RUNS = [
    {"id": "r1", "loss": 0.5, "tags": ["gpu", "big"], "ok": True},
    {"id": "r2", "loss": 2, "tags": ["cpu"], "ok": False},
    {"id": "r3", "loss": 0.25, "tags": [], "note": None},
]
DOCUMENT = {
    "team": {"lead": "Ada", "time.zone": "UTC", "size": 3, "remote": False, "none": None},
    "runs": RUNS,
    "values": [1, "two", None, True, [3]],
}


def given(path: str) -> object:
    result = gjson.get(DOCUMENT, path)
    assert result.exists or result.value is None
    return result.value if result.exists else MISSING


@pytest.mark.parametrize(
    ("path", "want"),
    [
        ("team.lead", "Ada"),
        ("team.none", None),
        ("team.nobody", MISSING),
        ("team.lead.x", MISSING),
        (r"team.time\.zone", "UTC"),
        ("te*.l?ad", "Ada"),
        (r"te\*.lead", MISSING),
        ("runs.1.id", "r2"),
        ("runs.9", MISSING),
        ("runs.#", 3),
        ("runs.#.id", ["r1", "r2", "r3"]),
        ("runs.#.note", [None]),
        ("runs.#.tags.#", [2, 1, 0]),
        ("runs|0|id", "r1"),
        ("@this.team.size", 3),
        ("team.@this|size", 3),
    ],
)
def test_a_path_finds_keys_items_and_lengths(path: str, want: object) -> None:
    assert given(path) == want


@pytest.mark.parametrize(
    ("path", "want"),
    [
        ('runs.#(id=="r2").loss', 2),
        ('runs.#(id=="r9")', MISSING),
        ('runs.#(id=="r9")#', []),
        ("runs.#(loss<1)#.id", ["r1", "r3"]),
        ("runs.#(loss>=0.5)#.id", ["r1", "r2"]),
        ('runs.#(id%"*1").id', "r1"),
        ('runs.#(id!%"*1")#.id', ["r2", "r3"]),
        ("runs.#(ok==true)#.id", ["r1"]),
        ("runs.#(ok!=true)#.id", ["r2"]),
        ("runs.#(note)#.id", ["r3"]),
        ("runs.#(ok==~false)#.id", ["r2", "r3"]),
        ("runs.#(note==~*)#.id", ["r3"]),
        ('runs.#(tags.#(=="gpu"))#.id', ["r1"]),
        ("runs.#(tags.#>1).id", "r1"),
        ("values.#(>0)", 1),
        ('values.#(=="two")', "two"),
    ],
)
def test_a_query_finds_the_first_or_all_that_match(path: str, want: object) -> None:
    assert given(path) == want


@pytest.mark.parametrize(
    ("path", "want"),
    [
        ("runs.#(loss<1)#|0.id", "r1"),
        ("runs.#(loss<1)#.0.id", []),
        ("runs.#(loss<1)#|id", MISSING),
        ("runs.#(loss<1)#|#", 2),
        ("runs.#(loss<1)#|#(ok==true)#|#", 1),
        ("runs.#.tags|1.0", "cpu"),
        ("runs.#(loss<1)#.id|0", "r1"),
        ('runs.#(id=="r9")#.id|0', []),  # as Go: without a match it never comes to the bar
    ],
)
def test_a_bar_after_an_array_applies_to_the_array_not_to_its_items(
    path: str, want: object
) -> None:
    assert given(path) == want


@pytest.mark.parametrize(
    ("path", "want"),
    [
        ("[team.lead,runs.#,nothing]", ["Ada", 3]),
        ('{team.lead,"n":runs.#,plain:team.size}', {"lead": "Ada", "n": 3, "plain": 3}),
        ("{runs.#(id=r1)}", {"_": RUNS[0]}),
        ("team.{lead,size}.size", 3),
        ("nothing.[x]", []),
        ('[!"text",!{"a":[1]}]|1.a.0', 1),
    ],
)
def test_multipaths_and_literals_make_new_values(path: str, want: object) -> None:
    assert given(path) == want


def test_true_and_one_are_different_values() -> None:
    items = [1, True, "true", "1"]
    assert gjson.get(items, "#(==true)#").value == [True, "true"]
    assert gjson.get(items, "#(==1)#").value == [1, "1"]


def test_a_value_made_from_a_path_is_not_shared_between_evaluations() -> None:
    first = gjson.get({}, "!{}").value
    assert isinstance(first, dict)
    first["spoilt"] = True
    assert gjson.get({}, "!{}").value == {}


# -- conditions ------------------------------------------------------------------------------------

SUCCEEDED = 'status.conditions.#(type=="Complete")#|#(status=="True")#'


def job(*conditions: Mapping[str, object]) -> dict[str, object]:
    return {"kind": "Job", "status": {"conditions": list(conditions)}}


def test_a_condition_that_holds_gives_the_jobs_own_reason_and_message() -> None:
    done = {"type": "Complete", "status": "True", "reason": "Done", "message": "all pods"}
    met = gjson.condition_met(
        job({"type": "SuccessCriteriaMet", "status": "True"}, done), SUCCEEDED
    )
    assert met == gjson.Met("Done", "all pods")


@pytest.mark.parametrize(
    "observed",
    [
        {},
        {"status": {}},
        {"status": {"conditions": None}},
        job(),
        job({"type": "Complete", "status": "False"}),
        job({"type": "Complete", "status": "Unknown"}),
        job({"type": "Failed", "status": "True"}),
        job({"type": "SuccessCriteriaMet", "status": "True"}),
    ],
)
def test_a_job_that_is_not_complete_does_not_meet_the_condition(observed: object) -> None:
    assert gjson.condition_met(observed, SUCCEEDED) is None


def test_reason_and_message_are_empty_when_the_job_gives_none() -> None:
    done = {"type": "Complete", "status": "True", "reason": None, "message": 7}
    assert gjson.condition_met(job(done), SUCCEEDED) == gjson.Met("", "")


def test_an_object_meets_a_condition_and_other_values_do_not() -> None:
    ray = {"status": {"jobStatus": "SUCCEEDED", "message": "ok"}, "spec": {"n": 1, "s": "x"}}
    assert gjson.condition_met(ray, "status") == gjson.Met("", "ok")
    assert gjson.condition_met(ray, 'status.[@this].#(jobStatus=="SUCCEEDED")#') is not None
    assert [gjson.condition_met(ray, path) for path in ("spec.n", "spec.s", "[spec.x]")] == [
        None
    ] * 3


def test_a_wildcard_condition_does_not_depend_on_the_order_of_keys() -> None:
    first, last = {"reason": "first"}, {"reason": "last"}
    expected = gjson.Met("first", "")
    assert gjson.condition_met({"a": first, "b": last}, "*") == expected
    assert gjson.condition_met({"b": last, "a": first}, "*") == expected


# -- what is refused -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "position", "words"),
    [
        ("", 0, "empty"),
        ("status.@pretty", 7, "@pretty is not supported; only @this is"),
        ("a.#(b|@keys.#>0)", 6, "@keys"),
        ("[a,b.@reverse]", 5, "@reverse"),
        ("@this:x", 0, "no argument"),
        ("..a", 0, "JSON lines"),
        ('status.conditions.#(type=="Complete"', 18, "never closed"),
        ("status.conditions.#(type==\"Complete')#", 18, "never closed"),
        ("a.[b,c", 2, "never closed"),
        ("[a]b", 0, "followed by"),
        ("a|!{", 2, "not JSON"),
        ("a|!NULL", 2, "no JSON value"),
        (r'a.#(b=="\d")', 2, "backslash"),
        ("a" * (MAX_LENGTH + 1), MAX_LENGTH, "longer"),
        ("a." * (MAX_PARTS + 1), 2 * MAX_PARTS + 1, "parts"),
    ],
)
def test_what_cannot_be_evaluated_is_refused_with_the_place(
    path: str, position: int, words: str
) -> None:
    with pytest.raises(gjson.GjsonError) as caught:
        gjson.get(DOCUMENT, path)
    error = caught.value
    assert (error.path, error.position) == (path, position)
    assert words in error.reason
    assert gjson.check(path) == str(error)


@pytest.mark.parametrize(
    "path", [SUCCEEDED, SUCCEEDED + "\n", "a", "@type", "a[0]", "a.!x", "#", "["]
)
def test_a_path_that_go_evaluates_passes_the_check(path: str) -> None:
    assert gjson.check(path) is None


# -- bounds ----------------------------------------------------------------------------------------


def seconds(document: object, path: str) -> float:
    started = time.perf_counter()
    try:
        gjson.get(document, path)
    except gjson.GjsonError as error:
        assert "steps" in error.reason
    return time.perf_counter() - started


@pytest.mark.parametrize("stars", ["*a" * 200, "*a*?" * 100, "*" + "?" * 300, "*" + "a" * 300])
def test_wildcards_do_not_take_exponential_time(stars: str) -> None:
    text = "a" * 3000
    document = {text: 1, "texts": [text]}
    assert max(seconds(document, f"{stars}b"), seconds(document, f'texts.#(%"{stars}b")')) < 10


def test_a_long_text_still_matches_a_pattern_of_many_stars() -> None:
    document = ["a" * 3000 + "b"]
    assert gjson.get(document, f'#(%"{"*a" * 100}*b")').exists


def test_an_evaluation_that_grows_without_end_is_stopped() -> None:
    doubling = "|".join(["[@this,@this]"] * 20) + "|" + ".".join(["#"] * 20)
    with pytest.raises(gjson.GjsonError, match="takes more than 400000 steps"):
        gjson.get(DOCUMENT, doubling)


@pytest.mark.parametrize(
    "path",
    [
        "#(" * (MAX_PARTS - 1) + ">0" + ")" * (MAX_PARTS - 1),
        ".".join(["#"] * MAX_PARTS),
        "[" * MAX_PARTS + "]" * MAX_PARTS,
        "{a." * (MAX_PARTS // 2) + "b" + "}" * (MAX_PARTS // 2),
        "!" + "[" * MAX_PARTS + "]" * MAX_PARTS,
        ".".join(["0"] * MAX_PARTS),
    ],
)
def test_the_deepest_path_is_evaluated_on_a_deeper_document(path: str) -> None:
    document: object = 1
    for _ in range(5000):
        document = [document]
    assert gjson.check(path) is None
    gjson.get(document, path)


def test_wildcards_over_a_deep_document_stay_within_the_recursion_limit() -> None:
    document: object = {"reason": "end"}
    for _ in range(5000):
        document = {"a": document}
    assert gjson.condition_met(document, ".".join(["*"] * MAX_PARTS)) == gjson.Met("", "")
