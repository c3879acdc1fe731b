# SPDX-License-Identifier: Apache-2.0
"""SetTrialStatus on a Kubernetes-shaped API: one condition is written, once, whatever goes on."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import httpx
import pytest
from deterministic import CountingRng, TickingClock

from tunesmith_api.errors import Conflict, Invalid, NotFound, Unavailable
from tunesmith_controller.ports import Key
from tunesmith_controller.stores.memory import MemoryStore
from tunesmith_earlystopping.stop_sink import ApiOptions, NotConfigured, TrialPatcher

KEY = Key("Trial", "team", "t-1")
NOON_IN_DELHI = datetime(2026, 1, 2, 17, 30, tzinfo=timezone(timedelta(hours=5, minutes=30)))
OPTIONS = ApiOptions("http://127.0.0.1:8001", "team")


class Api:
    """The two calls of an API server that the sink makes, over a real store."""

    def __init__(self) -> None:
        self.store = MemoryStore(TickingClock(), CountingRng())
        self.calls: list[str] = []
        self.tokens: set[str | None] = set()
        self.before_patch: Callable[[], Any] | None = None

    async def __call__(self, request: httpx.Request) -> httpx.Response:
        self.calls.append(request.method)
        self.tokens.add(request.headers.get("Authorization"))
        path = f"/apis/kubeflow.org/v1beta1/namespaces/team/trials/{KEY.name}"
        try:
            if request.method == "GET" and request.url.path == path:
                return httpx.Response(200, json=await self.store.get(KEY))
            assert (request.method, request.url.path) == ("PATCH", f"{path}/status")
            assert request.headers["Content-Type"] == "application/merge-patch+json"
            if self.before_patch is not None:
                await self.before_patch()
            patched = await self.store.patch(KEY, json.loads(request.content), status=True)
            return httpx.Response(200, json=patched)
        except NotFound as error:
            return httpx.Response(404, text=str(error))
        except Conflict as error:
            return httpx.Response(409, text=str(error))

    async def create(self, *states: str) -> None:
        conditions = [{"type": state, "status": "True", "reason": state} for state in states]
        trial = {
            "apiVersion": "kubeflow.org/v1beta1",
            "kind": "Trial",
            "metadata": {"name": KEY.name, "namespace": KEY.namespace},
            "status": {"conditions": conditions, "startTime": "2026-01-02T11:00:00Z"},
        }
        await self.store.create(trial)

    async def touch(self) -> None:
        """Somebody else writes."""
        label = str(len(self.calls))
        await self.store.patch(KEY, {"metadata": {"labels": {"touched": label}}})

    async def status(self) -> dict[str, Any]:
        found: dict[str, Any] = (await self.store.get(KEY))["status"]
        return found

    def patcher(self, options: ApiOptions = OPTIONS) -> TrialPatcher:
        return TrialPatcher(options, lambda: NOON_IN_DELHI, httpx.MockTransport(self))


def test_a_running_trial_gets_the_condition_that_katib_writes_with_utc_times() -> None:
    async def scenario() -> None:
        api = Api()
        await api.create("Created", "Running")
        await api.patcher()(KEY.name)
        status = await api.status()
        assert status["startTime"] == "2026-01-02T11:00:00Z"
        found = [(c["type"], c["status"]) for c in status["conditions"]]
        assert found == [("Created", "True"), ("Running", "False"), ("EarlyStopped", "True")]
        assert status["conditions"][-1] == {
            "type": "EarlyStopped",
            "status": "True",
            "reason": "TrialEarlyStopped",
            "message": "Trial is early stopped",
            "lastUpdateTime": "2026-01-02T12:00:00Z",
            "lastTransitionTime": "2026-01-02T12:00:00Z",
        }

    asyncio.run(scenario())


@pytest.mark.parametrize("state", ["EarlyStopped", "Succeeded", "Failed", "Killed"])
def test_an_ended_trial_stays_as_it_is(state: str) -> None:
    async def scenario() -> None:
        api = Api()
        await api.create("Created", "Running", state)
        before = await api.store.get(KEY)
        await api.patcher()(KEY.name)
        assert await api.store.get(KEY) == before
        assert api.calls == ["GET"]

    asyncio.run(scenario())


def test_a_write_that_another_one_overtakes_is_tried_again_on_what_it_left() -> None:
    async def scenario() -> None:
        api = Api()
        await api.create("Created", "Running")

        async def touch_twice() -> None:
            if api.calls.count("PATCH") <= 2:
                await api.touch()

        api.before_patch = touch_twice
        await api.patcher()(KEY.name)
        assert api.calls == ["GET", "PATCH"] * 3
        assert (await api.status())["conditions"][-1]["type"] == "EarlyStopped"
        assert "touched" in (await api.store.get(KEY))["metadata"]["labels"]

    asyncio.run(scenario())


def test_a_trial_that_never_holds_still_is_not_chased_for_ever() -> None:
    async def scenario() -> None:
        api = Api()
        await api.create("Created", "Running")
        api.before_patch = api.touch
        with pytest.raises(Unavailable, match="changed 8 times"):
            await api.patcher()(KEY.name)

    asyncio.run(scenario())


def test_a_trial_that_does_not_exist_is_not_found() -> None:
    with pytest.raises(NotFound):
        asyncio.run(Api().patcher()(KEY.name))


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (httpx.Response(403, text="trials is forbidden"), Invalid),
        (httpx.Response(401), Invalid),
        (httpx.Response(503), Unavailable),
        (httpx.Response(429), Unavailable),
        (httpx.Response(200, text="<html>"), Invalid),
        (httpx.Response(200, json=[]), Invalid),
    ],
)
def test_what_a_repeat_can_mend_is_told_from_what_it_cannot(
    answer: httpx.Response, error: type[Exception]
) -> None:
    patcher = TrialPatcher(OPTIONS, transport=httpx.MockTransport(lambda _: answer))
    with pytest.raises(error, match=r"trials/t-1"):
        asyncio.run(patcher(KEY.name))


def test_an_api_that_does_not_answer_is_unavailable() -> None:
    patcher = TrialPatcher(ApiOptions("http://127.0.0.1:9", "team"))
    with pytest.raises(Unavailable, match=r"no answer from http://127\.0\.0\.1:9"):
        asyncio.run(patcher(KEY.name))


def test_the_token_is_read_anew_for_every_call(tmp_path: Path) -> None:
    async def scenario() -> None:
        api, file = Api(), tmp_path / "token"
        await api.create("Created", "Running")
        patcher = api.patcher(ApiOptions(OPTIONS.url, "team", token_file=file))
        for token in ("first", "second"):
            file.write_text(f"{token}\n")
            await patcher(KEY.name)
        assert api.tokens == {"Bearer first", "Bearer second"}
        file.unlink()
        with pytest.raises(Invalid, match=f"cannot read {file}"):
            await patcher(KEY.name)

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (ApiOptions("10.0.0.1:6443", "team"), "neither http"),
        (ApiOptions("https://10.0.0.1:6443", ""), "--namespace"),
        (ApiOptions("http://10.0.0.1", "team", Path("token")), "plain text: use https"),
    ],
)
def test_unusable_options_are_explained(options: ApiOptions, sentence: str) -> None:
    assert sentence in options.problem()


def test_usable_options_have_no_problem() -> None:
    assert OPTIONS.problem() == ""
    assert ApiOptions("https://10.0.0.1:6443", "team", Path("token")).problem() == ""
    assert ApiOptions("http://localhost:8001", "team", Path("token")).problem() == ""


def test_without_an_api_the_sentence_says_how_to_name_one() -> None:
    with pytest.raises(Invalid, match=r"--api URL --token-file FILE --namespace NAMESPACE"):
        asyncio.run(NotConfigured()("t-1"))


def test_the_clock_is_utc_when_none_is_given() -> None:
    async def scenario() -> None:
        api = Api()
        await api.create("Created", "Running")
        before = datetime.now(UTC).replace(microsecond=0)
        await TrialPatcher(OPTIONS, transport=httpx.MockTransport(api))(KEY.name)
        written = (await api.status())["conditions"][-1]["lastUpdateTime"]
        assert before <= datetime.fromisoformat(written) <= datetime.now(UTC)

    asyncio.run(scenario())
