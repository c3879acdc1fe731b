# SPDX-License-Identifier: Apache-2.0
"""Our GJSON evaluator gives what tidwall/gjson gives: the language, and Katib's conditions."""

from typing import Protocol

import pytest

from tunesmith_controller.trial import gjson

pytestmark = [pytest.mark.oracle, pytest.mark.timeout(300)]  # the first run builds the oracle


class Go(Protocol):
    """tidwall/gjson (conftest.py)."""

    def get(self, document: object, path: str, *, katib: bool = False) -> gjson.Result: ...
    def assert_same(self, document: object, path: str) -> None: ...


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
def test_the_table_gives_what_go_gives(gjson_of_go: Go, path: str) -> None:
    gjson_of_go.assert_same(FLEET, path)


def test_a_list_at_the_root_gives_what_go_gives(gjson_of_go: Go) -> None:
    for path in ("#", "0", "#.name", "#(tons>44)#.name", "1.name", "[0.name,#]", "name", "*.name"):
        gjson_of_go.assert_same(FLEET["ships"], path)


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
def test_katibs_conditions_decide_as_in_go(gjson_of_go: Go, condition: str, katib: bool) -> None:
    ours = [gjson.condition_met(job, condition) for job in JOBS]
    assert ours == [katibs_rule(gjson_of_go.get(job, condition, katib=katib)) for job in JOBS]
    assert any(ours) and not all(ours)
