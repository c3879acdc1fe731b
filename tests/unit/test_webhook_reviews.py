# SPDX-License-Identifier: Apache-2.0
"""What the webhooks answer: defaults and faults of Experiments, collectors for trials' pods, and
sentences for whatever is no review."""

from __future__ import annotations

import asyncio
import base64
import copy
import json
from typing import Any

import httpx
import pytest
from given import experiment
from hypothesis import given as for_all
from hypothesis import strategies as st
from starlette.applications import Starlette

from tunesmith_controller.admission.collection import CollectionPlan, mark
from tunesmith_controller.admission.local import World
from tunesmith_controller.admission.pods import InjectionSettings, inject, is_injected
from tunesmith_controller.clock import SystemClock, SystemRng
from tunesmith_controller.stores.memory import MemoryStore
from tunesmith_controller.webhook.handlers import ExperimentReviews, PodReviews
from tunesmith_controller.webhook.json_patch import json_patch
from tunesmith_controller.webhook.server import MOST_BYTES, webhook_app

Json = dict[str, Any]
SETTINGS = InjectionSettings("test.local/tunesmith:1")
PLAN = CollectionPlan("digits-1", "default", "uid-1", 1, "main", metrics=("loss",))


async def cluster() -> World:
    return World(is_cluster=True, algorithms=frozenset({"theirs"}))


class TestClient:
    """Posts to the application, without a network."""

    __test__ = False

    def __init__(self, app: Starlette) -> None:
        self._app = app

    def post(self, path: str, **content: Any) -> httpx.Response:
        async def scenario() -> httpx.Response:
            transport = httpx.ASGITransport(app=self._app)
            async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
                return await client.post(path, **content)

        return asyncio.run(scenario())


@pytest.fixture
def client() -> TestClient:
    store = MemoryStore(SystemClock(), SystemRng())
    return TestClient(webhook_app(ExperimentReviews(store, cluster), PodReviews(SETTINGS)))


def review(obj: Json, old: Json | None = None) -> Json:
    request = {"uid": "7", "operation": "CREATE" if old is None else "UPDATE", "object": obj}
    whole = {**request, "namespace": "default", **({"oldObject": old} if old else {})}
    return {"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": whole}


def asked(client: TestClient, path: str, obj: Json, old: Json | None = None) -> Json:
    reply = client.post(path, json=review(obj, old))
    assert reply.status_code == 200, reply.text
    answer: Json = reply.json()
    assert answer["apiVersion"] == "admission.k8s.io/v1"
    assert answer["response"]["uid"] == "7"
    response: Json = answer["response"]
    return response


def patched(response: Json, obj: Json) -> Json:
    """The object after the patch of an answer."""
    if "patch" not in response:
        return obj
    assert response["patchType"] == "JSONPatch"
    return applied(json.loads(base64.b64decode(response["patch"])), obj)


def applied(patch: list[Json], obj: Json) -> Json:
    """RFC 6902, for paths of mappings."""
    result = copy.deepcopy(obj)
    for operation in patch:
        *above, last = [
            part.replace("~1", "/").replace("~0", "~") for part in operation["path"].split("/")[1:]
        ]
        place = result
        for part in above:
            place = place[part]
        if operation["op"] != "add":
            assert last in place
        if operation["op"] == "remove":
            del place[last]
        else:
            place[last] = operation["value"]
    return result


# ---- experiments --------------------------------------------------------------------------------


def plain() -> Json:
    """An Experiment as a person writes it: without defaults."""
    found = experiment().json()
    found["spec"].pop("parallelTrialCount", None)
    found.pop("status", None)
    return found


def test_an_experiment_gets_its_defaults(client: TestClient) -> None:
    response = asked(client, "/mutate-experiments", plain())
    assert response["allowed"]
    assert patched(response, plain())["spec"]["parallelTrialCount"] == 3


def test_defaults_are_given_once(client: TestClient) -> None:
    once = patched(asked(client, "/mutate-experiments", plain()), plain())
    assert "patch" not in asked(client, "/mutate-experiments", once)
    assert asked(client, "/validate-experiments", once) == {"uid": "7", "allowed": True}


def test_every_fault_of_an_experiment_is_told_with_its_field(client: TestClient) -> None:
    wrong = plain()
    wrong["spec"]["maxTrialCount"] = 0
    wrong["spec"]["algorithm"] = {"algorithmName": "nobodys"}
    response = asked(client, "/validate-experiments", wrong)
    assert not response["allowed"]
    assert response["status"]["code"] == 422
    fields = {cause["field"] for cause in response["status"]["details"]["causes"]}
    assert {"spec.maxTrialCount", "spec.algorithm.algorithmName"} <= fields
    assert "nobodys" in response["status"]["message"]


def test_what_is_wrong_is_not_refused_before_others_have_changed_it(client: TestClient) -> None:
    wrong = plain()
    wrong["spec"]["maxTrialCount"] = 0
    assert asked(client, "/mutate-experiments", wrong)["allowed"]


def test_algorithms_of_the_configuration_are_known(client: TestClient) -> None:
    theirs = plain()
    theirs["spec"]["algorithm"] = {"algorithmName": "theirs"}
    assert asked(client, "/validate-experiments", theirs)["allowed"]


def test_a_change_that_is_not_allowed_is_refused(client: TestClient) -> None:
    old = patched(asked(client, "/mutate-experiments", plain()), plain())
    new = copy.deepcopy(old)
    new["spec"]["objective"]["type"] = "maximize"
    assert not asked(client, "/validate-experiments", new, old)["allowed"]


def test_an_experiment_under_deletion_is_let_go_whatever_is_wrong_with_it(
    client: TestClient,
) -> None:
    wrong = plain()
    wrong["spec"] = {"maxTrialCount": "many"}
    wrong["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    for path in ("/mutate-experiments", "/validate-experiments"):
        assert asked(client, path, wrong, wrong) == {"uid": "7", "allowed": True}


@pytest.mark.parametrize("spec", [None, [], "text", {"parameters": 3}, {"objective": []}])
def test_an_ill_typed_experiment_is_refused_with_words(client: TestClient, spec: object) -> None:
    wrong = {**plain(), "spec": spec}
    assert asked(client, "/mutate-experiments", wrong)["allowed"]
    response = asked(client, "/validate-experiments", wrong)
    assert not response["allowed"]
    assert response["status"]["message"]


# ---- pods ---------------------------------------------------------------------------------------


def pod(**metadata: Any) -> Json:
    spec = {"containers": [{"name": "main", "image": "i", "command": ["train", "$(A) 'b"]}]}
    found = {"apiVersion": "v1", "kind": "Pod", "metadata": {"generateName": "p-"}, "spec": spec}
    return {**found, "metadata": {**mark(found["metadata"], PLAN), **metadata}}  # type: ignore[arg-type]


def test_a_trials_pod_gets_its_collector(client: TestClient) -> None:
    changed = patched(asked(client, "/mutate-pods", pod()), pod())
    assert changed == inject(pod(), PLAN, SETTINGS)
    assert is_injected(changed)


def test_a_pod_that_has_its_collector_stays_as_it_is(client: TestClient) -> None:
    once = patched(asked(client, "/mutate-pods", pod()), pod())
    assert "patch" not in asked(client, "/mutate-pods", once)


def test_a_pod_without_a_plan_stays_as_it_is(client: TestClient) -> None:
    assert "patch" not in asked(client, "/mutate-pods", {**pod(), "metadata": {"name": "p"}})


@pytest.mark.parametrize(("role", "changed"), [("master", True), ("worker", False)])
def test_only_primary_pods_get_a_collector(client: TestClient, role: str, changed: bool) -> None:
    whole = pod()
    whole["metadata"]["labels"]["role"] = role
    whole["metadata"]["annotations"]["tunesmith.dev/primary-pod-labels"] = '{"role":"master"}'
    assert ("patch" in asked(client, "/mutate-pods", whole)) is changed


def test_a_pod_that_cannot_be_watched_is_refused(client: TestClient) -> None:
    wrong = pod()
    wrong["spec"]["containers"][0]["name"] = "other"
    response = asked(client, "/mutate-pods", wrong)
    assert not response["allowed"]
    assert "no container named 'main'" in response["status"]["message"]


# ---- what is no review --------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/mutate-experiments", "/validate-experiments", "/mutate-pods"])
@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"", "is no JSON"),
        (b"{", "is no JSON"),
        (b"[]", "is no AdmissionReview"),
        (b'{"kind": "AdmissionReview"}', "only admission.k8s.io/v1 is answered"),
        (
            b'{"kind": "AdmissionReview", "apiVersion": "admission.k8s.io/v1"}',
            "has no request with a uid",
        ),
        (
            b'{"kind": "AdmissionReview", "apiVersion": "admission.k8s.io/v1",'
            b'"request": {"uid": "1", "object": 3}}',
            "request.object is no object",
        ),
        (b"\xff\xfe", "is no JSON"),
    ],
)
def test_what_is_no_review_is_answered_with_a_sentence(
    client: TestClient, path: str, body: bytes, words: str
) -> None:
    reply = client.post(path, content=body)
    assert reply.status_code == 400
    assert words in reply.json()["message"]


def test_a_huge_request_is_not_read(client: TestClient) -> None:
    reply = client.post("/mutate-pods", content=b" " * (MOST_BYTES + 1))
    assert reply.status_code == 413
    assert "more than" in reply.json()["message"]


# ---- patches ------------------------------------------------------------------------------------

_TREES = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 3) | st.text("a/~", max_size=3),
    lambda below: st.lists(below, max_size=3) | st.dictionaries(st.text("a/~b", max_size=2), below),
    max_leaves=12,
)
_OBJECTS = st.dictionaries(st.text("a/~b", max_size=2), _TREES)


@for_all(_OBJECTS, _OBJECTS)
def test_a_patch_makes_the_one_of_the_other(before: Json, after: Json) -> None:
    patch = json_patch(before, after)
    result = applied(patch, before)
    assert json.dumps(result, sort_keys=True) == json.dumps(after, sort_keys=True)


def test_nothing_changed_is_no_patch() -> None:
    assert json_patch({"a": [1, {"b": None}]}, {"a": [1, {"b": None}]}) == []


def test_a_store_that_does_not_answer_lets_experiments_through() -> None:
    async def nowhere() -> World:
        from tunesmith_controller.ports import Unavailable

        raise Unavailable("the API server does not answer")

    store = MemoryStore(SystemClock(), SystemRng())
    reviews = ExperimentReviews(store, nowhere)
    app = webhook_app(reviews, PodReviews(SETTINGS))
    response = asked(TestClient(app), "/validate-experiments", plain())
    assert response["allowed"]
    assert asyncio.run(cluster()).is_cluster
