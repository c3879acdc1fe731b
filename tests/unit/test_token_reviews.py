# SPDX-License-Identifier: Apache-2.0
"""How often the API server is asked who a token is, and what it is not asked at all."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from tunesmith_controller.identity.answers import Kept, Shared
from tunesmith_controller.identity.token_reviews import ReviewSettings, TokenReviews
from tunesmith_controller.ports import Unavailable
from tunesmith_controller.stores.rest_transport import ApiReply, ApiRequest, ApiStream
from tunesmith_proto.callers import AUDIENCE, NotAuthenticated, ServiceCaller

NOW = 1_000_000.0
OWN = frozenset({("kubeflow", "controller")})
CONTROLLER = ServiceCaller("kubeflow", "controller")


def token(account: str = "controller", **claims: Any) -> str:
    said = {"aud": [AUDIENCE], "exp": NOW + 600, "account": account, **claims}
    payload = base64.urlsafe_b64encode(json.dumps(said).encode()).decode().rstrip("=")
    return f"e30.{payload}.signature"


class Reviewer:
    """An API server that believes what tokens say, and counts."""

    def __init__(self) -> None:
        self.asked = 0
        self.open = asyncio.Event()
        self.open.set()
        self.is_away = False
        self.audiences = [AUDIENCE]

    async def request(self, request: ApiRequest) -> ApiReply:
        self.asked += 1
        await self.open.wait()
        if self.is_away:
            raise Unavailable("no answer")
        shown = json.loads(request.body or b"")["spec"]["token"]
        payload = shown.split(".")[1]
        account = json.loads(base64.urlsafe_b64decode(payload + "=="))["account"]
        status: dict[str, Any] = {
            "authenticated": account != "nobody",
            "audiences": self.audiences,
            "user": {"username": f"system:serviceaccount:kubeflow:{account}"},
        }
        if account == "human":
            status["user"]["username"] = "jane"
        return ApiReply(201, {}, json.dumps({"status": status}).encode())

    async def stream(self, request: ApiRequest, *, silence_s: float) -> ApiStream:
        raise NotImplementedError


def on(scenario: Callable[[Reviewer, TokenReviews], Awaitable[None]], **settings: Any) -> None:
    async def run() -> None:
        reviewer = Reviewer()
        reviews = TokenReviews(reviewer, OWN, settings=ReviewSettings(**settings), now=lambda: NOW)
        await scenario(reviewer, reviews)

    asyncio.run(run())


async def refusal(reviews: TokenReviews, shown: str) -> str:
    with pytest.raises(NotAuthenticated) as caught:
        await reviews.authenticate(shown)
    return str(caught.value)


def test_callers_at_the_same_time_share_a_review_also_when_the_first_leaves() -> None:
    async def scenario(reviewer: Reviewer, reviews: TokenReviews) -> None:
        reviewer.open.clear()
        asking = [asyncio.create_task(reviews.authenticate(token())) for _ in range(5)]
        while not reviewer.asked:
            await asyncio.sleep(0)
        asking[0].cancel()
        await asyncio.sleep(0)
        reviewer.open.set()
        assert await asyncio.gather(*asking[1:]) == [CONTROLLER] * 4
        assert await reviews.authenticate(token()) == CONTROLLER
        assert reviewer.asked == 1

    on(scenario)


@pytest.mark.parametrize(("expires", "kept_s"), [(NOW + 600, 0.05), (NOW + 0.05, 60)])
def test_an_answer_is_kept_until_the_token_expires_and_no_longer_than_it_may_be(
    expires: float, kept_s: float
) -> None:
    async def scenario(reviewer: Reviewer, reviews: TokenReviews) -> None:
        shown = token(exp=expires)
        await reviews.authenticate(shown)
        await reviews.authenticate(shown)
        assert reviewer.asked == 1
        await asyncio.sleep(0.06)
        await reviews.authenticate(shown)
        assert reviewer.asked == 2

    on(scenario, kept_s=kept_s)


def test_who_is_refused_is_not_reviewed_again_at_once() -> None:
    async def scenario(reviewer: Reviewer, reviews: TokenReviews) -> None:
        for account in ("nobody", "human"):
            for _ in range(3):
                await refusal(reviews, token(account))
        assert reviewer.asked == 2
        await asyncio.sleep(0.06)
        await refusal(reviews, token("nobody"))
        assert reviewer.asked == 3

    on(scenario, refused_s=0.05)


def test_an_api_server_that_is_away_is_nobodys_fault_and_not_remembered() -> None:
    async def scenario(reviewer: Reviewer, reviews: TokenReviews) -> None:
        reviewer.is_away = True
        with pytest.raises(Unavailable):
            await reviews.authenticate(token())
        reviewer.is_away = False
        assert await reviews.authenticate(token()) == CONTROLLER
        reviewer.is_away = True
        assert await reviews.authenticate(token()) == CONTROLLER

    on(scenario)


def test_a_server_that_does_not_know_audiences_authenticates_nobody() -> None:
    async def scenario(reviewer: Reviewer, reviews: TokenReviews) -> None:
        reviewer.audiences = []
        assert "is not for audience" in await refusal(reviews, token())

    on(scenario)


@pytest.mark.parametrize(
    ("shown", "why"),
    [
        ("opensesame", "no service account's"),
        ("a.b.c", "no service account's"),
        ("e30.W10.x", "no service account's"),
        ("e30.e30.x", "not for audience"),
        (token(aud=["https://kubernetes.default.svc"]), "not for audience"),
        (token(aud={AUDIENCE: 1}), "not for audience"),
        (token(exp=NOW - 61), "has expired"),
        (token(exp="never"), "does not say when it expires"),
        ("e30." + base64.urlsafe_b64encode(b"[" * 3000).decode() + ".x", "no service account's"),
    ],
)
def test_what_can_be_no_token_for_us_is_not_sent_to_the_api_server(shown: str, why: str) -> None:
    async def scenario(reviewer: Reviewer, reviews: TokenReviews) -> None:
        assert why in await refusal(reviews, shown)
        assert reviewer.asked == 0

    on(scenario)


def test_so_many_reviews_wait_and_no_more() -> None:
    async def scenario(reviewer: Reviewer, reviews: TokenReviews) -> None:
        reviewer.open.clear()
        asking = [
            asyncio.create_task(reviews.authenticate(token(salt=number))) for number in range(5)
        ]
        for _ in range(20):
            await asyncio.sleep(0)
        assert reviewer.asked == 2
        with pytest.raises(Unavailable, match="5 callers wait"):
            await reviews.authenticate(token(salt=5))
        reviewer.open.set()
        assert await asyncio.gather(*asking) == [CONTROLLER] * 5

    on(scenario, at_once=2, waiting=3)


def test_what_nobody_asked_for_is_forgotten_first() -> None:
    time = [0.0]
    kept: Kept[str, int] = Kept(2, clock=lambda: time[0])
    kept.put("a", 1, 10)
    kept.put("b", 2, 5)
    assert kept.get("a") == 1
    kept.put("c", 3, 10)
    assert (kept.get("a"), kept.get("b"), kept.get("c")) == (1, None, 3)
    time[0] = 10
    assert (kept.get("a"), kept.get("c"), len(kept)) == (None, None, 0)
    kept.put("d", 4, 0)
    assert kept.get("d") is None


def test_an_error_reaches_everybody_who_asked_and_the_next_one_asks_anew() -> None:
    async def scenario() -> None:
        shared: Shared[str, int] = Shared(1, 10)
        answers: list[Any] = [Unavailable("later"), 7]

        async def ask() -> int:
            await asyncio.sleep(0)
            answer = answers.pop(0)
            if isinstance(answer, Exception):
                raise answer
            return int(answer)

        both = await asyncio.gather(
            shared.one("k", ask), shared.one("k", ask), return_exceptions=True
        )
        assert [type(each) for each in both] == [Unavailable, Unavailable]
        assert await shared.one("k", ask) == 7

    asyncio.run(scenario())
