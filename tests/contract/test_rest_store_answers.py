# SPDX-License-Identifier: Apache-2.0
"""What `RestStore` makes of the answers of a Kubernetes API, told by a scripted transport."""

from __future__ import annotations

import asyncio
import json
from collections import deque
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest

from tunesmith_api.errors import (
    AlreadyExists,
    Conflict,
    Expired,
    Invalid,
    NotFound,
    PortError,
    Unavailable,
)
from tunesmith_controller.ports import Json, Key, WatchEvent
from tunesmith_controller.stores.rest import RestStore
from tunesmith_controller.stores.rest_errors import Cause, Denied, Rejected, TryLater
from tunesmith_controller.stores.rest_transport import ApiReply, ApiRequest, ApiStream

KEY = Key("Trial", "default", "a")
CUT = b"cut off"
"""As a line: the connection breaks here."""


# ---- an API that answers as it is told ----------------------------------------------------------


@dataclass
class Lines:
    """A stream of these lines, which then ends."""

    reply: ApiReply
    lines: deque[bytes] = field(default_factory=deque)
    hang: bool = False

    async def next_line(self) -> bytes | None:
        if not self.lines:
            if self.hang:
                await asyncio.Event().wait()
            return None
        line = self.lines.popleft()
        if line is CUT:
            raise Unavailable("connection reset")
        return line

    async def aclose(self) -> None:
        self.lines.clear()


class Script:
    """`ApiTransport` that gives its answers in turn and keeps what it was asked."""

    def __init__(self, *answers: ApiReply | Lines | Exception) -> None:
        self.asked: list[ApiRequest] = []
        self._answers = deque(answers)

    async def request(self, request: ApiRequest) -> ApiReply:
        answer = self._next(request)
        assert isinstance(answer, ApiReply)
        return answer

    async def stream(self, request: ApiRequest, *, silence_s: float) -> ApiStream:
        answer = self._next(request)
        return answer if isinstance(answer, Lines) else Lines(answer)

    def _next(self, request: ApiRequest) -> ApiReply | Lines:
        self.asked.append(request)
        answer = self._answers.popleft()
        if isinstance(answer, Exception):
            raise answer
        return answer

    def bodies(self) -> list[Any]:
        return [json.loads(request.body or b"null") for request in self.asked]

    def calls(self) -> list[tuple[str, str]]:
        return [(request.method, request.path) for request in self.asked]


def answer(body: Any, status: int = 200, **headers: str) -> ApiReply:
    text = body if isinstance(body, str) else json.dumps(body)
    return ApiReply(status, {k.replace("_", "-"): v for k, v in headers.items()}, text.encode())


def refusal(code: int, reason: str = "", **more: Any) -> Json:
    """A Status object."""
    return {"kind": "Status", "status": "Failure", "code": code, "reason": reason, **more}


def trial(version: str = "1", **more: Any) -> Json:
    metadata = {"name": "a", "namespace": "default", "uid": "u", "resourceVersion": version}
    head = {"apiVersion": "kubeflow.org/v1beta1", "kind": "Trial", "metadata": metadata}
    return {**head, "spec": {"size": 1}, **more}


def stream(*events: tuple[str, Json] | bytes, hang: bool = False) -> Lines:
    lines = [
        event if isinstance(event, bytes) else json.dumps(_event(*event)).encode()
        for event in events
    ]
    return Lines(ApiReply(200, {}), deque(lines), hang)


def _event(type_: str, obj: Json) -> Json:
    return {"type": type_, "object": obj}


def run(scenario: Coroutine[Any, Any, Any]) -> Any:
    return asyncio.run(asyncio.wait_for(scenario, 10))


def raised(reply: ApiReply) -> PortError:
    with pytest.raises(PortError) as caught:
        run(RestStore(Script(reply)).get(KEY))
    return caught.value


# ---- errors -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "reason", "expected"),
    [
        (400, "BadRequest", Rejected),
        (401, "Unauthorized", Denied),
        (403, "Forbidden", Denied),
        (404, "NotFound", NotFound),
        (405, "MethodNotAllowed", Rejected),
        (409, "AlreadyExists", AlreadyExists),
        (409, "Conflict", Conflict),
        (409, "", Conflict),
        (410, "Expired", Expired),
        (410, "Gone", Expired),
        (413, "RequestEntityTooLarge", Rejected),
        (422, "Invalid", Rejected),
        (429, "TooManyRequests", TryLater),
        (500, "InternalError", TryLater),
        (503, "ServiceUnavailable", TryLater),
        (504, "Timeout", TryLater),
    ],
)
def test_a_refusal_becomes_our_error_with_the_servers_words(
    code: int, reason: str, expected: type[PortError]
) -> None:
    error = raised(answer(refusal(code, reason, message="because of this"), code))
    assert type(error) is expected
    assert str(error) == "get Trial/default/a: because of this"


def test_rejected_objects_and_denied_or_late_answers_are_errors_of_the_port() -> None:
    assert issubclass(Rejected, Invalid)
    assert issubclass(Denied, Unavailable) and issubclass(TryLater, Unavailable)


def test_the_causes_of_a_refused_object_are_kept() -> None:
    causes = [
        {"field": "spec.x", "message": "must be a number", "reason": "FieldValueInvalid"},
        {"field": "spec.y", "message": "is missing"},
    ]
    error = raised(answer(refusal(422, "Invalid", details={"causes": causes}), 422))
    assert isinstance(error, Rejected)
    assert error.causes == (
        Cause("spec.x", "must be a number", "FieldValueInvalid"),
        Cause("spec.y", "is missing"),
    )


@pytest.mark.parametrize(
    ("reply", "seconds"),
    [
        (answer(refusal(429), 429, retry_after="7"), 7.0),
        (answer(refusal(503, details={"retryAfterSeconds": 3}), 503), 3.0),
        (answer("overloaded", 503, retry_after="soon"), None),
    ],
)
def test_a_server_may_say_when_to_come_again(reply: ApiReply, seconds: float | None) -> None:
    error = raised(reply)
    assert isinstance(error, TryLater)
    assert error.retry_after_s == seconds


@pytest.mark.parametrize(
    "body", ["404 page not found", "<html>no such site</html>", {"detail": "Not Found"}]
)
def test_a_404_that_no_api_server_wrote_is_not_the_end_of_an_object(body: Any) -> None:
    error = raised(answer(body, 404))
    assert type(error) is Unavailable
    assert "is the kind installed?" in str(error)


@pytest.mark.parametrize("body", ["", "<html>welcome</html>", "[1]"])
def test_a_success_without_an_object_is_no_answer(body: str) -> None:
    assert type(raised(answer(body))) is Unavailable


def test_a_list_without_a_version_is_no_list() -> None:
    with pytest.raises(Unavailable):
        run(RestStore(Script(answer({"items": []}))).list("Trial"))


# ---- addresses ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("key", "path"),
    [
        (KEY, "/apis/kubeflow.org/v1beta1/namespaces/default/trials/a"),
        (Key("ConfigMap", "x", "c"), "/api/v1/namespaces/x/configmaps/c"),
        (Key("Namespace", "", "x"), "/api/v1/namespaces/x"),
        (Key("Trial", "x", "a b?"), "/apis/kubeflow.org/v1beta1/namespaces/x/trials/a%20b%3F"),
    ],
)
def test_kinds_are_where_kubernetes_has_them(key: Key, path: str) -> None:
    script = Script(answer(trial()))
    run(RestStore(script).get(key))
    assert script.calls() == [("GET", path)]


@pytest.mark.parametrize("name", ["", ".", "..", "../secrets/b", "a%2fb"])
def test_no_name_leads_to_another_path(name: str) -> None:
    store = RestStore(Script())
    with pytest.raises(NotFound):
        run(store.get(Key("Trial", "default", name)))
    with pytest.raises(NotFound):
        run(store.delete(Key("Trial", name, "a")))


def test_kinds_and_versions_that_the_table_does_not_have_are_invalid() -> None:
    store = RestStore(Script())
    for draft in (trial(kind="Secret"), trial(apiVersion="kubeflow.org/v1"), {"kind": "Trial"}):
        with pytest.raises(Invalid):
            run(store.create(draft))


def test_items_of_a_list_get_the_kind_that_kubernetes_leaves_out() -> None:
    metadata = {"name": "c", "namespace": "x"}
    script = Script(
        answer({"metadata": {"resourceVersion": "5"}, "items": [{"metadata": metadata}]})
    )
    found = run(RestStore(script).list("ConfigMap", namespace="x", labels={"a": "1", "b": ""}))
    assert found.items == [{"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata}]
    assert script.asked[0].query["labelSelector"] == "a=1,b="


# ---- pages --------------------------------------------------------------------------------------


def page(version: str, *names: str, more: str = "") -> ApiReply:
    items = [{"metadata": {"name": name}} for name in names]
    return answer({"metadata": {"resourceVersion": version, "continue": more}, "items": items})


def test_a_list_is_read_page_by_page() -> None:
    script = Script(page("5", "a", "b", more="token"), page("5", "c"))
    found = run(RestStore(script).list("Trial"))
    assert [item["metadata"]["name"] for item in found.items] == ["a", "b", "c"]
    assert found.resource_version == "5"
    assert [request.query.get("continue") for request in script.asked] == [None, "token"]
    assert all(int(request.query["limit"]) > 0 for request in script.asked)


def test_a_list_whose_next_page_is_forgotten_is_read_again_in_one_piece() -> None:
    gone = answer(refusal(410, "Expired"), 410)
    script = Script(page("5", "a", more="token"), gone, page("9", "a", "b"))
    found = run(RestStore(script).list("Trial"))
    assert (len(found.items), found.resource_version) == (2, "9")
    assert "limit" not in script.asked[-1].query


# ---- writes where Kubernetes is stricter than the port ------------------------------------------


def test_a_status_that_create_drops_is_written_after_it() -> None:
    script = Script(
        answer(trial("1"), 201), answer(trial("1")), answer(trial("2", status={"x": 1}))
    )
    created = run(RestStore(script).create(trial("", status={"x": 1})))
    assert created == trial("2", status={"x": 1})
    assert [method for method, _ in script.calls()] == ["POST", "GET", "PUT"]
    assert script.calls()[-1][1].endswith("/trials/a/status")


def test_a_status_that_create_keeps_takes_no_second_request() -> None:
    script = Script(answer(trial("1", status={"x": 1}), 201))
    run(RestStore(script).create(trial("", status={"x": 1})))
    assert len(script.asked) == 1


def test_a_write_without_a_version_is_repeated_until_nobody_was_quicker() -> None:
    taken = answer(refusal(409, "Conflict"), 409)
    script = Script(
        answer(trial("1")), taken, answer(trial("2")), answer(trial("2")), answer(trial("3"))
    )
    assert run(RestStore(script).update(trial(""))) == trial("3")
    sent = [body["metadata"]["resourceVersion"] for body in script.bodies() if body]
    assert sent == ["1", "2"]


def test_a_conflict_with_nothing_is_not_found() -> None:
    """Kubernetes says 409 for a PUT with a uid to an object that is gone."""
    script = Script(answer(refusal(409, "Conflict"), 409), answer(refusal(404, "NotFound"), 404))
    with pytest.raises(NotFound):
        run(RestStore(script).update(trial("1")))


def test_delete_sends_its_preconditions_and_never_orphans() -> None:
    script = Script(answer(refusal(200)), answer(refusal(200)))
    run(RestStore(script).delete(KEY, uid="u", resource_version="3"))
    run(RestStore(script).delete(KEY))
    first, second = script.bodies()
    assert first["preconditions"] == {"uid": "u", "resourceVersion": "3"}
    assert "preconditions" not in second
    assert first["propagationPolicy"] == second["propagationPolicy"] == "Background"


def test_a_patch_is_a_merge_patch_of_the_object_or_its_status() -> None:
    script = Script(answer(trial()), answer(trial()))
    run(RestStore(script).patch(KEY, {"spec": {"x": None}}))
    run(RestStore(script).patch(KEY, {"status": {"x": 1}}, status=True))
    assert {request.content_type for request in script.asked} == {"application/merge-patch+json"}
    assert [path.rsplit("/", 1)[1] for _, path in script.calls()] == ["a", "status"]


# ---- watches ------------------------------------------------------------------------------------


async def events(script: Script, count: int, start: str = "1") -> list[tuple[str, str]]:
    watch = RestStore(script).watch("Trial", resource_version=start)
    return [_told(await anext(watch)) for _ in range(count)]


def _told(event: WatchEvent) -> tuple[str, str]:
    return event.change.value, event.object["metadata"]["resourceVersion"]


def starts(script: Script) -> list[str]:
    return [request.query["resourceVersion"] for request in script.asked]


@pytest.mark.parametrize("break_", [(), (CUT,)])
def test_a_stream_that_ends_or_breaks_is_resumed_after_the_last_event(
    break_: Sequence[bytes],
) -> None:
    script = Script(
        stream(("ADDED", trial("2")), ("MODIFIED", trial("3")), *break_),
        stream(("DELETED", trial("4"))),
    )
    assert run(events(script, 3)) == [("ADDED", "2"), ("MODIFIED", "3"), ("DELETED", "4")]
    assert starts(script) == ["1", "3"]


def test_a_bookmark_moves_the_place_from_which_a_watch_resumes() -> None:
    bookmark = {"kind": "Trial", "metadata": {"resourceVersion": "50"}}
    script = Script(stream(("BOOKMARK", bookmark)), stream(("ADDED", trial("51"))))
    assert run(events(script, 2)) == [("BOOKMARK", "50"), ("ADDED", "51")]
    assert starts(script) == ["1", "50"]
    assert script.asked[0].query["allowWatchBookmarks"] == "true"


@pytest.mark.parametrize("start", ["", "0"])
def test_a_watch_from_nothing_lists_and_goes_on_from_the_list(start: str) -> None:
    script = Script(page("7", "a", "b"), stream(("DELETED", trial("8"))))

    async def scenario() -> list[str]:
        watch = RestStore(script).watch("Trial", resource_version=start)
        return [(await anext(watch)).change.value for _ in range(4)]

    assert run(scenario()) == ["ADDED", "ADDED", "BOOKMARK", "DELETED"]
    listing, watching = script.asked
    assert "watch" not in listing.query
    assert watching.query["resourceVersion"] == "7"


@pytest.mark.parametrize(
    ("script", "expected"),
    [
        (lambda: Script(stream(("ERROR", refusal(410, "Expired")))), Expired),
        (lambda: Script(answer(refusal(410, "Expired"), 410)), Expired),
        (lambda: Script(stream(("ERROR", refusal(500, "InternalError")))), Unavailable),
        (lambda: Script(answer(refusal(429), 429)), TryLater),
        (lambda: Script(Unavailable("connection refused")), Unavailable),
        (lambda: Script(stream(b"<html>")), Unavailable),
        (lambda: Script(stream(("SURPRISE", trial("2")))), Unavailable),
        (lambda: Script(stream()), Unavailable),
        (lambda: Script(stream(CUT)), Unavailable),
    ],
    ids=[
        "expired event",
        "expired answer",
        "error event",
        "overloaded",
        "refused",
        "no JSON",
        "unknown event",
        "ends at once",
        "breaks at once",
    ],
)
def test_a_watch_that_cannot_go_on_says_why(
    script: Callable[[], Script], expected: type[PortError]
) -> None:
    with pytest.raises(expected):
        run(events(script(), 1))


def test_a_server_that_is_gone_when_a_watch_resumes_is_unavailable() -> None:
    script = Script(stream(("ADDED", trial("2")), CUT), Unavailable("connection refused"))
    with pytest.raises(Unavailable, match="connection refused"):
        run(events(script, 2))


def test_a_cancelled_wait_loses_no_event() -> None:
    script = Script(
        stream(("ADDED", trial("2")), hang=True), stream(("MODIFIED", trial("3")), hang=True)
    )

    async def scenario() -> tuple[str, str]:
        watch = RestStore(script).watch("Trial", resource_version="1")
        await anext(watch)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(anext(watch), 0.01)
        return _told(await anext(watch))

    assert run(scenario()) == ("MODIFIED", "3")
    assert starts(script) == ["1", "2"]
