# SPDX-License-Identifier: Apache-2.0
"""Our GJSON evaluator gives what tidwall/gjson gives: a table, Katib's conditions, and a search.

The search leaves out what `gjson`'s docstring lists as different on purpose: whatever `check`
refuses, brackets in texts, keys that a multipath makes twice, literals behind a query, long
wildcards, hexadecimal numbers and unpaired surrogates.
"""

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from tunesmith_controller.trial import gjson

pytestmark = [pytest.mark.oracle, pytest.mark.timeout(300)]  # the first run builds the oracle

Go = Callable[[str, str, bool], Any]


def go_result(go: Go, document: object, path: str, katib: bool = False) -> gjson.Result:
    answer = go(json.dumps(document, ensure_ascii=False), path, katib)
    value = json.loads(answer.raw, object_pairs_hook=first_wins) if answer.exists else None
    return gjson.Result(answer.exists, value)


def first_wins(pairs: list[tuple[str, object]]) -> dict[str, object]:
    return {key: dict(reversed(pairs))[key] for key, _ in pairs}


def typed(value: object) -> object:
    """A value in which 1, 1.0 and True differ, and so do two orders of keys."""
    if isinstance(value, dict):
        return [(key, typed(item)) for key, item in value.items()]
    if isinstance(value, list):
        return ["list", *map(typed, value)]
    return type(value).__name__, value


def assert_same(go: Go, document: object, path: str) -> None:
    ours, theirs = gjson.get(document, path), go_result(go, document, path)
    assert (ours.exists, typed(ours.value)) == (theirs.exists, typed(theirs.value)), (
        f"path {path}\ndocument {json.dumps(document)}\nGo {theirs}\nours {ours}"
    )


# -- the table -------------------------------------------------------------------------------------

FLEET = {
    "owner": {"name": "Ada", "home.port": "Cork", "crew": 12},
    "ships": [
        {"name": "Gull", "tons": 44, "ports": ["Cork", "Brest"], "hull": {"steel": True}},
        {"name": "Heron", "tons": 68.5, "ports": ["Brest", "Vigo"], "hull": {"steel": False}},
        {"name": "Ibis", "tons": -3, "ports": [], "note": None, "hull": {"steel": "1"}},
        {"name": "Gannet", "tons": 1e3, "ports": [["deep"]], "armed": False},
    ],
    "pets": ["cat", "gull", "", "7", 7, None, True, False, [], {"": 1}],
    "a|b": {"*": "star", "?": "mark", "\\": "slash", "#": "hash", "": "void", "é": "accent"},
    "@type": {"@this": 1, "!x": 2, "[y": 3, "𝄞?": 4},
    "big": [10**400, -(10**400), 2**53, 2**53 + 1],
    "grid": [[1, 2], [3, [4, 5]], []],
    "first": {"list": [{"id": 1}], "x": {"y": 1}},
    "final": {"list": [{"id": 2}, {"id": 3}], "x": {"z": 2}},
}

PATHS = r"""
owner.name
owner.none
owner.name.none
owner.home\.port
ships
ships.1.name
ships.01.name
ships.9
ships.-1
ships.#
ships.#.name
ships.#.note
ships.#.none
ships.#.ports.#
ships.#.ports.0
ships|1|name
ships.1|name
owner|none
owner.#
pets.#
pets.4
pets.5
pets.9.
grid.1.1.0
grid.#.0
grid.#.#
grid.#.1|0
grid.#.#|0
a\|b.\*
a\|b.\?
a\|b.\\
a\|b.\#
a\|b.
a\|b.é
a*b.*
a?b.?
sh?ps.*
o*.cr*w
*.name
*.list.#
*.list.1.id
*.list.#(id>1)#
f*.list.#(id>1)#
f*.list.#(id>2)
*.x.z
**r.name
@type.@this
@type.!x
@type.\[y
@type.?\?
@this
@this.owner.name
@this|owner|@this|name
owner.@this.name
none.@this
none|@this
none|[name]
none.[name]
none.none|[name]
none|!true
ships.#(name=="Ibis")
ships.#(name=="Ibis").tons
ships.#(name="Ibis").tons
ships.#(name == "Ibis" ).tons
ships.#(name==Ibis).tons
ships.#[name=="Ibis"].tons
ships.#(name=="none")
ships.#(name=="none").tons
ships.#(name=="none")#
ships.#(name=="none")#.tons
ships.#(name=="none")#|0
ships.#(name=="none")#.tons|0
ships.#(name=="Gull")#|0
ships.#(name=="Gull")#.0
ships.#(name=="Gull")#.name
ships.#(name=="Gull")#|name
ships.#(name=="Gull")#.name|0
ships.#(name=="Gull")#|#
ships.#(name=="Gull")#.#
ships.#(name!="Gull")#.name
ships.#(name%"G*")#.name
ships.#(name!%"G*")#.name
ships.#(name%"?u*l").name
ships.#(name>"Gull")#.name
ships.#(name>="Gull")#.name
ships.#(name<"Gull")#.name
ships.#(name<="Gull")#.name
ships.#(tons>44)#.name
ships.#(tons>=44)#.name
ships.#(tons<44)#.name
ships.#(tons<=44)#.name
ships.#(tons==68.50)#.name
ships.#(tons==1000)#.name
ships.#(tons!=44)#.name
ships.#(tons=="44")#.name
ships.#(tons>"x")#.name
ships.#(tons%"4*")#.name
ships.#(hull.steel==true)#.name
ships.#(hull.steel!=true)#.name
ships.#(hull.steel<true)#.name
ships.#(hull.steel>=false)#.name
ships.#(hull==1)#.name
ships.#(note)#.name
ships.#(note==null)#.name
ships.#(armed)#.name
ships.#(hull.steel==~true)#.name
ships.#(hull.steel==~false)#.name
ships.#(hull.steel!=~true)#.name
ships.#(note==~null)#.name
ships.#(note==~*)#.name
ships.#(note!=~*)#.name
ships.#(note==~huh)#.name
ships.#(ports.#(=="Brest"))#.name
ships.#(ports.#(=="Brest")#)#.name
ships.#(ports.#(=="Brest")#|0)#.name
ships.#(ports.#>1)#.name
ships.#(ports.#(%"V*"))#|#(tons>1)#|0.name
ships.#(hull.steel==true)#|#(name=="Gull")#
ships.#(name=="Gull")x.tons
ships.#(name=="Gull")#x
ships.#()#
ships.#(name!"Gull")#.name
ships.#(name!)#
ships.#(name==="Gull")#
pets.#(=="cat")
pets.#(>"cat")#
pets.#(>3)#
pets.#(!%"*u*")#
pets.#(==true)#
pets.#(==~false)#
pets.#(=="")#
pets.#(=="\u0063at")
big.#(>1e308)#
big.#(<-1e308)#
big.#(==9007199254740993)#
grid.#(#>1)#
grid.#(0>1)#
[owner.name,ships.#.name,none]
{owner.name,"all":ships.#.name,plain:pets.0,none}
{owner.name,owner.crew}.crew
{owner.home\.port,ships.#,@this.owner}
{ships.#(name=="Gull"),"q,]":pets.0}
owner.{name,crew}
ships.#.{name,tons}
ships.#.[name,tons]|0
ships.#.{name,tons}|#
ships.#.{"n":name}|0
ships.#.ports.#|0
ships.#(tons>1)#.{name,p:ports.#}
ships.#(tons>1)#.[name,tons]|1.0
ships.1.[name,tons]
[]
{}
{owner.@none:owner}
[[owner.name],{a:owner.crew}]
!true
!null
!"text"
!12.5
!{"a":[1,{"b":2}]}.a.1.b
![1,2]|#
{owner.name,"kind":!"ship","n":!1}
ships.#.!1
@other
owner.@other
#
#.name
""".strip("\n").split("\n")


@pytest.mark.parametrize("path", PATHS)
def test_the_table_gives_what_go_gives(go_gjson: Go, path: str) -> None:
    assert_same(go_gjson, FLEET, path)


def test_a_list_at_the_root_gives_what_go_gives(go_gjson: Go) -> None:
    for path in ("#", "0", "#.name", "#(tons>44)#.name", "1.name", "[0.name,#]", "name", "*.name"):
        assert_same(go_gjson, FLEET["ships"], path)


# -- Katib's conditions ----------------------------------------------------------------------------


def by_type(name: str, status: str = "True") -> str:
    return f'status.conditions.#(type=="{name}")#|#(status=="{status}")#'


CONDITIONS = (
    *map(by_type, ("Complete", "Completed", "Succeeded", "Failed")),
    by_type("Succeeded", "False"),
    'status.[@this].#(jobStatus=="SUCCEEDED")#',
    'status.[@this].#(jobStatus=="FAILED")#',
    'status.[@this].#(jobStatus=="STOPPED")#',
    'status.[@this].#(jobDeploymentStatus=="Failed")#',
    'status.[@this].#(applicationState.state=="COMPLETED")#',
    'status.[@this].#(applicationState.state=="FAILED")#',
    'status.[@this].#(applicationState.state=="SUBMISSION_FAILED")#',
    'status.[@this].#(phase=="Succeeded")#',
    'status.[@this].#(phase=="Failed")#',
    'status.[@this].#(phase=="Error")#',
)


def job(kind: str, **status: object) -> dict[str, object]:
    metadata = {"name": "trial-1", "labels": {"a.b/c": "d"}, "generation": 1}
    return {"apiVersion": "v1", "kind": kind, "metadata": metadata, "status": status}


def conditions(*pairs: tuple[str, str]) -> list[dict[str, str]]:
    words = {"reason": "Because", "message": 'it "ended" <so> \u00e9'}
    return [{"type": kind, "status": status, **words} for kind, status in pairs]


JOBS = (
    {"kind": "Job", "metadata": {"name": "new"}},
    job("Job"),
    job("Job", active=1, conditions=[]),
    job("Job", conditions=conditions(("SuccessCriteriaMet", "True"), ("Complete", "True"))),
    job("Job", conditions=conditions(("FailureTarget", "True"), ("Failed", "True"))),
    job("Job", conditions=conditions(("Suspended", "False"), ("Complete", "False"))),
    job("PyTorchJob", conditions=conditions(("Created", "True"), ("Running", "False"))),
    job("PyTorchJob", conditions=conditions(("Running", "False"), ("Succeeded", "True"))),
    job("TFJob", conditions=conditions(("Restarting", "True"), ("Failed", "True"))),
    job("MPIJob", conditions=conditions(("Succeeded", "True")), replicaStatuses={"Launcher": {}}),
    job("TrainJob", conditions=conditions(("Suspended", "False"), ("Complete", "True"))),
    job("JobSet", conditions=conditions(("Completed", "True")), terminalState="Completed"),
    job("RayJob", jobStatus="SUCCEEDED", jobDeploymentStatus="Complete", message="done"),
    job("RayJob", jobStatus="FAILED", jobDeploymentStatus="Failed", reason="AppFailed"),
    job("RayJob", jobStatus="STOPPED", jobDeploymentStatus="Running"),
    job("SparkApplication", applicationState={"state": "COMPLETED"}),
    job("SparkApplication", applicationState={"state": "FAILED", "errorMessage": "driver"}),
    job("SparkApplication", applicationState={"state": "SUBMISSION_FAILED"}),
    job("Workflow", phase="Succeeded", nodes={"n": {"phase": "Succeeded"}}),
    job("Workflow", phase="Failed", message="child failed"),
    job("Workflow", phase="Error"),
    job("PipelineRun", conditions=conditions(("Succeeded", "False"))),
    job("PipelineRun", conditions=conditions(("Succeeded", "Unknown"))),
    job("Odd", conditions={"type": "Complete", "status": "True"}),
    job("Odd", conditions=["Complete", None, 1]),
)


def katibs_rule(result: gjson.Result) -> gjson.Met | None:
    value = result.value[0] if isinstance(result.value, list) and result.value else result.value
    if not isinstance(value, dict):
        return None
    return gjson.Met(value.get("reason", ""), value.get("message", ""))


@pytest.mark.parametrize("katib", [False, True], ids=["newest gjson", "the gjson of Katib"])
@pytest.mark.parametrize("condition", CONDITIONS)
def test_katibs_conditions_decide_as_in_go(go_gjson: Go, condition: str, katib: bool) -> None:
    ours = [gjson.condition_met(job, condition) for job in JOBS]
    assert ours == [katibs_rule(go_result(go_gjson, job, condition, katib)) for job in JOBS]
    assert any(ours) and not all(ours)


# -- the search ------------------------------------------------------------------------------------

KEYS = st.sampled_from(
    ["a", "b", "c", "type", "x.y", "p|q", "*", "#", "0", "", "é", '"', "\\", "@t"]
)
TEXTS = st.sampled_from(
    ["a", "b", "ab", "abc", "True", "true", "f", "0", "1", "", "é𝄞", "x|y", "\\a"]
)
NUMBERS = st.sampled_from([0, 1, 2, -1, 1.5, 1e3, 10**20, 2**53 + 1])
SCALARS = st.one_of(TEXTS, NUMBERS, st.sampled_from([None, True, False]))
DOCUMENTS = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(KEYS, inner, max_size=4)
        | st.lists(st.dictionaries(KEYS, inner, max_size=3), max_size=3)
    ),
    max_leaves=12,
).filter(lambda document: isinstance(document, (dict, list)))

OPERATORS = st.sampled_from(["==", "=", "!=", "<", "<=", ">", ">=", "%", "!%"])
PATTERNS = [
    "a*",
    "*b",
    "?",
    "*",
    "a?c",
    "*\\*",
    "~true",
    "~false",
    "~null",
    "~*",
    "1_0",
    "nan",
    "1e2",
]
RIGHT_SIDES = st.one_of(TEXTS, st.sampled_from(PATTERNS), NUMBERS.map(str))
WILD = st.sampled_from(["*", "?", "a*", "*e", "t?pe", "**", "*a*", "x*y", "*\\**"])
ODD = st.sampled_from(["@this", "#", "3#", "#x", "01", "-1", "@t", "!", "a#", " a"])
LITERALS = st.sampled_from(
    ["!true", "!null", "!-1.5", '!"a"', "!{}", '!{"a":[1,{"b":2}]}', "![1,2]"]
)
SEPARATORS = st.sampled_from(["."] * 3 + ["|"])


def escaped(key: str) -> str:
    return "".join(f"\\{char}" if char in '.|*?#@\\"' else char for char in key)


@st.composite
def queries(draw: st.DrawFn, depth: int) -> str:
    left = draw(st.one_of(st.just(""), KEYS.map(escaped), paths(depth - 1, literals=False)))
    right = draw(RIGHT_SIDES)
    right = json.dumps(right, ensure_ascii=draw(st.booleans())) if draw(st.booleans()) else right
    right = draw(OPERATORS) + right if draw(st.booleans()) else ""
    return f"#({left}{right})" + draw(st.sampled_from(["", "#", "#"]))


@st.composite
def multipaths(draw: st.DrawFn, depth: int, literals: bool) -> str:
    members = draw(st.lists(paths(depth - 1, literals), max_size=3))
    if draw(st.booleans()):
        return f"[{','.join(members)}]"
    names = ["", '"k 1":', "k2:"]  # no name comes twice
    return "{" + ",".join(name + path for name, path in zip(names, members, strict=False)) + "}"


def paths(depth: int, literals: bool) -> st.SearchStrategy[str]:
    """Either literals or queries: behind a query that meets an object, we have no literals."""
    parts = [KEYS.map(escaped), st.integers(0, 3).map(str), WILD, st.just("#"), ODD]
    if depth > 0:
        parts.append(multipaths(depth, literals))
        parts += [LITERALS] if literals else [queries(depth), queries(depth)]
    return st.lists(st.tuples(SEPARATORS, st.one_of(parts)), min_size=1, max_size=5).map(
        lambda chosen: "".join(mark + part for mark, part in chosen)[1:]
    )


@st.composite
def paths_into(draw: st.DrawFn, document: object) -> str:
    """A path that follows the document for a while, so that it finds something."""
    path = ""
    while isinstance(document, (dict, list)) and document and draw(st.integers(0, 4)):
        if isinstance(document, dict):
            key = draw(st.sampled_from(sorted(document)))
            part, document = escaped(key), document[key]
        else:
            index = draw(st.integers(0, len(document) - 1))
            part = draw(st.one_of(st.just(str(index)), queries(2), queries(1)))
            document = document[index]
        path += part + draw(SEPARATORS)
    ends = [st.sampled_from(["@this", "#", "*", "0"]), queries(1), multipaths(1, literals=False)]
    return path + draw(st.one_of(*ends, paths(2, literals=False)))


NOISE = st.lists(
    st.sampled_from([*'ab.|#()[]{}"\\*?:,~ 01', "#(", ")#", "#.", "@this", "==", "!=", "!%", ">"]),
    min_size=1,
    max_size=14,
).map("".join)


def containers(document: Any) -> list[Any]:
    """The document and the objects and arrays directly in it."""
    inner = document.values() if isinstance(document, dict) else document
    return [document, *(value for value in inner if isinstance(value, (dict, list)))]


SEARCH = settings(deadline=None, suppress_health_check=list(HealthCheck))


@settings(SEARCH, max_examples=300)
@given(data=st.data(), document=DOCUMENTS)
def test_generated_paths_give_what_go_gives(
    go_gjson: Go, data: st.DataObject, document: Any
) -> None:
    asked = st.one_of(paths_into(document), paths_into(document), paths(2, literals=True))
    for path in data.draw(st.lists(asked, min_size=4, max_size=8)):
        for value in containers(document) if gjson.check(path) is None else ():
            assert_same(go_gjson, value, path)


@settings(SEARCH, max_examples=500)
@given(document=DOCUMENTS, path=NOISE)
def test_noise_is_refused_or_gives_what_go_gives(go_gjson: Go, document: Any, path: str) -> None:
    assume(gjson.check(path) is None)
    assert_same(go_gjson, document, path)


@settings(SEARCH, max_examples=200)
@given(document=DOCUMENTS, path=paths(1, literals=False))
def test_conditions_read_an_object_as_gos_encoder_writes_it(
    go_gjson: Go, document: Any, path: str
) -> None:
    assume(gjson.check(path) is None and "{" not in path)  # `{b:x,a:y}` is not sorted in Go
    written = json.loads(json.dumps(document, sort_keys=True))
    met = gjson.condition_met(document, path)
    assert (met is not None) == katib_met(go_result(go_gjson, written, path).value)


def katib_met(value: object) -> bool:
    return isinstance(value, dict) or (isinstance(value, list) and bool(value))
