# SPDX-License-Identifier: Apache-2.0
"""A real API server says who calls: a trial's pod can do nothing but report its own attempt.

The services run as processes, with the rights that they have in an installation and no more.
"""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import pytest
from authorities import Authority, authority
from cluster_client import Json
from cluster_programs import Tier, require
from known_callers import DENIED, OK, UNKNOWN, about, answer, from_address
from pod_identities import (
    AUDIENCE,
    OBSERVATION_RULES,
    SUGGESTION_RULES,
    SYSTEM,
    Objects,
    forged,
    marks_of,
    may,
    reference,
    service,
)
from running_cluster import Cluster, api_tier, free_ports

from tunesmith_proto import wire

CRDS = Path(__file__).parents[2] / "deploy" / "crds"
UNAVAILABLE = grpc.StatusCode.UNAVAILABLE
METHODS = [
    method
    for name in (wire.OBSERVATIONS, wire.KATIB_DB_MANAGER)
    for method in wire.SERVICES[name].values()
]
KATIB_METHODS = list(wire.SERVICES[wire.KATIB_DB_MANAGER].values())
REPORT = wire.SERVICES[wire.OBSERVATIONS]["Report"]
READ_BY_NAME = wire.SERVICES[wire.KATIB_DB_MANAGER]["GetObservationLog"]


@dataclass
class World:
    """Trial `a` of namespace team in attempt 2, others beside it, and services."""

    cluster: Cluster
    folder: Path
    ours: Authority
    team: Objects
    other: Objects
    trial: Json
    target: str = ""
    katib: str = ""
    tokens: dict[str, str] = field(default_factory=dict)

    def about(self, method: wire.Method, attempt: int = 2) -> Any:
        """A request about attempt 2 of trial `a`."""
        return about(method, self.trial["metadata"]["uid"], attempt, "a", "team")

    async def asked(self, method: wire.Method, token: str | None, attempt: int = 2) -> Any:
        async with self.channel() as channel:
            return await answer(channel, method, self.about(method, attempt), token)

    def channel(self, target: str = "") -> Any:
        trusting = grpc.ssl_channel_credentials(self.ours.pem)
        options = [("grpc.use_local_subchannel_pool", 1)]
        return grpc.aio.secure_channel(target or self.target, trusting, options=options)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("identity")
    with ExitStack() as stack:
        programs = require(Tier.API)
        cluster = stack.enter_context(api_tier(programs, folder / "logs", controllers=False))
        cluster.apply(CRDS)
        trials = "/apis/kubeflow.org/v1beta1/trials"
        cluster.wait_until(lambda: cluster.exists(trials), "trials are served")
        cluster.create_namespace(SYSTEM)
        found = _filled(cluster, folder)
        tls = _certificate(folder, found.ours)
        config = may(cluster, "tunesmith-observation", OBSERVATION_RULES)
        ports = free_ports(2)
        found.target, found.katib = (f"127.0.0.1:{port}" for port in ports)
        stack.enter_context(
            service(
                *("db-manager", "--cluster", "--kubeconfig", str(config), "--namespace", SYSTEM),
                *("--listen", found.target, *tls, "--db", f"sqlite:///{folder}/rows.db"),
                *("--katib-listen", f"0.0.0.0:{ports[1]}"),
                ports=ports,
                log=folder / "observation.log",
            )
        )
        yield found


def _certificate(folder: Path, ours: Authority) -> list[str]:
    pair = ours.issue()
    (folder / "tls.crt").write_bytes(pair.certificate)
    (folder / "tls.key").write_bytes(pair.key)
    return ["--tls-cert", str(folder / "tls.crt"), "--tls-key", str(folder / "tls.key")]


def _filled(cluster: Cluster, folder: Path) -> World:
    team, other = Objects.new(cluster, "team"), Objects.new(cluster, "other")
    trial, sibling = team.trial("a", 2), team.trial("b", 1)
    namesake = other.trial("a", 2)
    world = World(cluster, folder, authority("ours"), team, other, trial)
    jobs = {
        "own": team.attempt(trial, 2),
        "sibling": team.attempt(sibling, 1),
        "namesake": other.attempt(namesake, 2),
    }
    team.pod("own", jobs["own"], marks_of(trial, 2))
    team.pod("plain", jobs["own"])  # its operator has copied no annotations
    team.pod("sibling", jobs["sibling"], marks_of(sibling, 1))
    other.pod("namesake", jobs["namesake"], marks_of(namesake, 2))
    _former(world)
    _liars(world, jobs["own"])
    world.tokens |= {
        "own": team.token("own"),
        "plain": team.token("plain"),
        "sibling": team.token("sibling"),
        "namesake": other.token("namesake"),
        "controller": cluster.service_account_token(SYSTEM, "tunesmith-controller", AUDIENCE),
    }
    return world


def _former(world: World) -> None:
    """Trial `c`: its first attempt is being stopped, the second is recorded and not begun."""
    trial = world.team.trial("c", 1)
    world.team.pod("former", world.team.attempt(trial, 1), marks_of(trial, 1))
    world.team.record(trial, 2, "")
    world.tokens["former"] = world.team.token("former")


def _liars(world: World, job: Json) -> None:
    """Pods that say they are of trial `a`, as somebody could who may create pods, and whose lies
    can be told."""
    team, other, trial, marks = world.team, world.other, world.trial, marks_of(world.trial, 2)
    forged_job = team.job("a-forged", trial, marks)
    elsewhere = other.job("b", None, marks)
    lone = team.job("lone", None, marks)
    team.pod("unowned", None, marks)
    team.pod("of-trial", trial, marks)
    team.pod("of-forged-job", forged_job, marks)
    team.pod("of-lone-job", lone, marks)
    other.pod("of-job-elsewhere", job, marks)
    other.pod("of-trial-elsewhere", trial, marks)
    other.pod("of-other-job", elsewhere, marks)
    team.pod("of-no-job", {**reference(job), "uid": "0" * 8}, marks)
    team.pod("of-absent-job", {**reference(job), "name": "absent"}, marks)
    team.pod("not-controlled", {**reference(job), "controller": False}, marks)
    team.pod("wrong-attempt", job, marks_of(trial, 3))
    team.pod("wrong-trial", job, {**marks, "tunesmith.dev/trial-uid": "other"})
    team.pod("of-a-namespace", {**reference(job), "apiVersion": "v1", "kind": "Namespace"}, marks)
    team.pod("of-nothing", {**reference(job), "apiVersion": "x.org/v1", "kind": "Nothing"}, marks)
    team.pod("of-path", {**reference(job), "apiVersion": "../v1", "kind": "Job"}, marks)
    team.pod("of-false-trial", {**reference(trial), "apiVersion": "x.org/v1"}, marks)
    below = lone
    for number in range(6):
        below = team.pod(f"chain-{number}", {**reference(below)}, marks)
        below = {"apiVersion": "v1", "kind": "Pod", **below}
    world.tokens |= {f"liar {name}": team.token(name) for name in TEAM_LIARS}
    world.tokens |= {f"liar {name}": other.token(name) for name in OTHER_LIARS}


TEAM_LIARS = {
    "unowned": "Pod unowned has no owner",
    "of-trial": "Pod of-trial is not the job of trial a: that is a Job",
    "of-forged-job": "Job a-forged is not the job of trial a",
    "of-lone-job": "Job lone has no owner",
    "of-no-job": "Job a is another one than it says",
    "of-absent-job": "Job absent is gone",
    "not-controlled": "Pod not-controlled has no owner",
    "wrong-attempt": "annotations are not those of attempt 2 of trial a",
    "wrong-trial": "annotations are not those of attempt 2 of trial a",
    "of-a-namespace": "Namespace of v1 is in no namespace",
    "of-nothing": "the cluster has no kind Nothing of x.org/v1",
    "of-path": "reference is no apiVersion, kind and name",
    "of-false-trial": "the cluster has no kind Trial of x.org/v1",
    "chain-5": "more than 5 owners above each other",
}
OTHER_LIARS = {
    "of-job-elsewhere": "Job a is another one than it says",
    "of-trial-elsewhere": "Trial a is another one than it says",
    "of-other-job": "Job b has no owner",
}


def run(scenario: Callable[[], Awaitable[None]]) -> None:
    asyncio.run(asyncio.wait_for(scenario(), 100))


async def _answers(world: World, token: str | None) -> dict[str, Any]:
    async with world.channel() as channel:
        return {
            method.path: await answer(channel, method, world.about(method), token)
            for method in METHODS
        }


OWN = {method.path: OK if method.name in ("Report", "Sources") else DENIED for method in METHODS}


def every(code: Any) -> dict[str, Any]:
    return {method.path: code for method in METHODS}


def test_a_trial_reports_its_own_attempt_and_no_token_does_more(world: World) -> None:
    async def scenario() -> None:
        assert await _answers(world, world.tokens["own"]) == OWN
        assert await _answers(world, world.tokens["plain"]) == OWN
        for name in ("sibling", "namesake", "former"):
            assert await _answers(world, world.tokens[name]) == every(DENIED), name
        assert await _answers(world, world.tokens["controller"]) == every(OK)

    run(scenario)


def test_an_attempt_is_its_own_only(world: World) -> None:
    async def scenario() -> None:
        for attempt in (1, 3):
            assert await world.asked(REPORT, world.tokens["own"], attempt) is DENIED
        trials = "/apis/kubeflow.org/v1beta1/namespaces/team/trials/c"
        uid = world.cluster.api.request("GET", trials)["metadata"]["uid"]
        async with world.channel() as channel:
            for attempt, code in ((1, OK), (2, DENIED)):
                request = about(REPORT, uid, attempt, "c", "team")
                assert await answer(channel, REPORT, request, world.tokens["former"]) is code

    run(scenario)


@pytest.mark.parametrize(("name", "why"), [*TEAM_LIARS.items(), *OTHER_LIARS.items()])
def test_a_pod_that_lies_may_nothing_and_is_told_why(world: World, name: str, why: str) -> None:
    async def scenario() -> None:
        token = world.tokens[f"liar {name}"]
        assert await _answers(world, token) == every(DENIED)
        async with world.channel() as channel:
            call = wire.call(channel, wire.OBSERVATIONS, "Report")
            with pytest.raises(grpc.aio.AioRpcError, match=why):
                await call(world.about(REPORT), metadata=[("authorization", f"Bearer {token}")])

    run(scenario)


def test_who_shows_nothing_of_use_is_asked_for_a_token(world: World) -> None:
    token = world.tokens["own"]
    later, earlier = int(time.time()) + 3600, int(time.time()) - 3600
    shown = {
        "nothing": None,
        "no token": "opensesame",
        "an API server's token": world.team.token("own", None),
        "another service's token": world.team.token("own", "vault"),
        "an expired token": forged(token, exp=earlier),
        "a changed token": forged(token, exp=later),
        "another's audience": forged(world.team.token("own", "vault"), aud=[AUDIENCE]),
        "a cut token": token[:-4],
    }

    async def scenario() -> None:
        for what, each in shown.items():
            assert await _answers(world, each) == every(UNKNOWN), what

    run(scenario)


def test_an_account_without_a_trials_pod_may_nothing(world: World) -> None:
    tokens = {
        "bound to no pod": world.team.token(),
        "our controller's name elsewhere": world.cluster.service_account_token(
            "team", "tunesmith-controller", AUDIENCE
        ),
        "another of our accounts": world.cluster.service_account_token(
            SYSTEM, "tunesmith-suggestion", AUDIENCE
        ),
    }

    async def scenario() -> None:
        for what, token in tokens.items():
            assert await _answers(world, token) == every(DENIED), what

    run(scenario)


def test_a_deleted_pods_token_is_nobodys(world: World) -> None:
    job = world.cluster.api.request("GET", "/apis/batch/v1/namespaces/team/jobs/a")
    job |= {"apiVersion": "batch/v1", "kind": "Job"}
    world.team.pod("brief", job)
    token = world.team.token("brief")
    world.cluster.api.request("DELETE", "/api/v1/namespaces/team/pods/brief?gracePeriodSeconds=0")

    async def scenario() -> None:
        assert await world.asked(REPORT, token) is UNKNOWN

    run(scenario)


def test_who_may_create_pods_in_a_namespace_may_speak_for_its_trials(world: World) -> None:
    """What is not prevented: nothing tells such a pod from one that the Job made."""
    job = world.cluster.api.request("GET", "/apis/batch/v1/namespaces/team/jobs/a")
    job |= {"apiVersion": "batch/v1", "kind": "Job"}
    world.team.pod("perfect-lie", job, marks_of(world.trial, 2))

    async def scenario() -> None:
        assert await _answers(world, world.team.token("perfect-lie")) == OWN

    run(scenario)


def test_a_trial_may_be_a_pod(world: World) -> None:
    trial = world.team.trial("p", 1, kind="Pod")
    pod = world.team.pod("p", trial, marks_of(trial, 1))
    world.team.record(trial, 1, pod["metadata"]["uid"])
    token = world.team.token("p")

    async def scenario() -> None:
        async with world.channel() as channel:
            request = about(REPORT, trial["metadata"]["uid"], 1, "p", "team")
            assert await answer(channel, REPORT, request, token) is OK
            assert await answer(channel, REPORT, world.about(REPORT), token) is DENIED

    run(scenario)


# ---- Katib's clients ----------------------------------------------------------------------------


def test_katibs_clients_are_known_by_their_pods_addresses(world: World) -> None:
    team, other = world.team, world.other
    team.runs_at("own", "127.0.2.1")
    team.runs_at("sibling", "127.0.2.2")
    other.runs_at("namesake", "127.0.2.3")
    team.runs_at("unowned", "127.0.2.4")
    job = world.cluster.api.request("GET", "/apis/batch/v1/namespaces/team/jobs/a")
    job |= {"apiVersion": "batch/v1", "kind": "Job"}
    team.pod("on-node", job, hostNetwork=True)
    team.runs_at("on-node", "127.0.2.5")
    team.pod("over", job)
    team.runs_at("over", "127.0.2.6", "Succeeded")
    for pod in ("twin-1", "twin-2"):
        team.pod(pod, job)
        team.runs_at(pod, "127.0.2.7")
    expected = {
        # (address, about trial a): what it may besides reading
        "127.0.2.1": {"ReportObservationLog": OK, "GetObservationLog": OK},
        "127.0.2.2": {},
        "127.0.2.3": {"ReportObservationLog": OK, "GetObservationLog": OK},  # of its own `a`
        **{
            f"127.0.2.{number}": {"GetObservationLog": OK}
            for number in (4, 5, 6, 7, 8)  # of no trial, or of more than one
        },
    }

    async def scenario() -> None:
        for address, may_do in expected.items():
            async with from_address(world.katib, address) as channel:
                for method in KATIB_METHODS:
                    found = await answer(channel, method, world.about(method))
                    assert found is may_do.get(method.name, DENIED), (address, method.path)
        async with from_address(world.katib, "127.0.2.1") as channel:
            for method in wire.SERVICES[wire.OBSERVATIONS].values():
                found = await answer(channel, method, world.about(method))
                assert found is grpc.StatusCode.UNIMPLEMENTED, method.path

    run(scenario)


def test_a_name_is_the_callers_own_trials_where_two_have_it(world: World) -> None:
    """The rows that the pod of `other/a` reported above are not those of `team/a`."""
    world.team.runs_at("own", "127.0.2.1")
    world.other.runs_at("namesake", "127.0.2.3")
    report = wire.SERVICES[wire.KATIB_DB_MANAGER]["ReportObservationLog"]
    delete = wire.SERVICES[wire.OBSERVATIONS]["Delete"]
    read = wire.SERVICES[wire.KATIB_DB_MANAGER]["GetObservationLog"]

    async def values(address: str) -> int:
        async with from_address(world.katib, address) as channel:
            reply = await wire.call(channel, wire.KATIB_DB_MANAGER, "GetObservationLog")(
                world.about(read)
            )
            return len(reply.observation_log.metric_logs)

    async def scenario() -> None:
        assert await world.asked(delete, world.tokens["controller"]) is OK
        before = await values("127.0.2.3")
        async with from_address(world.katib, "127.0.2.3") as channel:
            assert await answer(channel, report, world.about(report)) is OK
        assert await values("127.0.2.3") >= max(before, 1)
        assert await values("127.0.2.1") == 0

    run(scenario)


# ---- the suggestion service ---------------------------------------------------------------------


def test_only_the_controller_asks_for_suggestions(world: World, tmp_path: Path) -> None:
    config = may(world.cluster, "tunesmith-suggestion", SUGGESTION_RULES)
    methods = [
        method
        for name in (wire.SUGGESTIONS, wire.KATIB_SUGGESTION)
        for method in wire.SERVICES[name].values()
    ]
    (port,) = free_ports(1)
    target = f"127.0.0.1:{port}"
    words = ("--kubeconfig", str(config), "--namespace", SYSTEM, "--listen", target)
    with service(
        *("suggestion", "--cluster", *words, *_certificate(tmp_path, world.ours)),
        ports=[port],
        log=tmp_path / "suggestion.log",
    ):

        async def scenario() -> None:
            async with world.channel(target) as channel:
                for method in methods:
                    for name, code in (("own", DENIED), ("sibling", DENIED), (None, UNKNOWN)):
                        token = world.tokens[name] if name else None
                        found = await answer(channel, method, method.request(), token)
                        assert found is code, (method.path, name)
                    token = world.tokens["controller"]
                    found = await answer(channel, method, method.request(), token)
                    assert found not in (DENIED, UNKNOWN, UNAVAILABLE), method.path

        run(scenario)


# ---- faults -------------------------------------------------------------------------------------


def test_callers_who_are_known_go_on_while_the_api_server_is_away(world: World) -> None:
    fresh = world.team.token("own")  # nobody has shown it yet
    world.team.runs_at("own", "127.0.2.1")

    async def scenario() -> None:
        known = [world.tokens["own"], world.tokens["controller"]]
        for token in known:
            assert await world.asked(REPORT, token) is OK
        async with from_address(world.katib, "127.0.2.1") as pod:
            world.cluster.stop("kube-apiserver")
            try:
                for token in known:
                    assert await world.asked(REPORT, token) is OK
                assert await world.asked(REPORT, fresh) is UNAVAILABLE
                assert await world.asked(REPORT, "opensesame") is UNKNOWN
                await asyncio.sleep(5.1)  # what was known of an address is forgotten by now
                found = await answer(pod, READ_BY_NAME, world.about(READ_BY_NAME))
                assert found is UNAVAILABLE
            finally:
                await asyncio.to_thread(world.cluster.start, "kube-apiserver")
            assert await world.asked(REPORT, fresh) is OK
            found = await answer(pod, READ_BY_NAME, world.about(READ_BY_NAME))
            assert found is OK

    run(scenario)


def test_a_certificate_is_exchanged_under_calls_and_none_is_refused(world: World) -> None:
    """File by file, as not even the kubelet does it."""
    pair = world.ours.issue()

    async def keep_calling(ended: asyncio.Event) -> int:
        calls = 0
        while not ended.is_set():
            # Each with a connection of its own, as other pods have.
            assert await world.asked(REPORT, world.tokens["own"]) is OK
            calls += 1
        return calls

    async def scenario() -> None:
        ended = asyncio.Event()
        calling = asyncio.create_task(keep_calling(ended))
        await asyncio.sleep(0.2)
        (world.folder / "tls.key").write_bytes(pair.key)
        await asyncio.sleep(0.2)
        (world.folder / "tls.crt").write_bytes(pair.certificate)
        place = ("127.0.0.1", int(world.target.rpartition(":")[2]))
        shown = await asyncio.to_thread(ssl.get_server_certificate, place, timeout=10)
        assert shown == pair.certificate.decode()
        ended.set()
        assert await calling > 10

    run(scenario)


def test_a_token_is_reviewed_once_however_often_it_is_shown(world: World) -> None:
    token = world.team.token("plain")

    def reviews() -> int:
        path = "/apis/authentication.k8s.io/v1/tokenreviews"
        return sum(entry["requestURI"].startswith(path) for entry in world.cluster.audit())

    async def scenario() -> None:
        before = reviews()
        async with world.channel() as channel:
            request = world.about(REPORT)
            # Eight is what one pod may have under way at a time.
            for _ in range(10):
                found = await asyncio.gather(
                    *(answer(channel, REPORT, request, token) for _ in range(8))
                )
                assert set(found) == {OK}
        assert reviews() == before + 1

    run(scenario)
