# SPDX-License-Identifier: Apache-2.0
"""Katib's ConfigMap as its users have it, its defaults, and errors that name the entry."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tunesmith_controller.clock import SystemClock, SystemRng
from tunesmith_controller.katib_config import (
    CONFIG_MAP,
    ConfigSource,
    ControllerStart,
    ImageEntry,
    KatibConfig,
    TrialResource,
    parse,
)
from tunesmith_controller.ports import Invalid, Json, Key, Unavailable
from tunesmith_controller.stores.memory import MemoryStore

# In the form of the file that Katib's standalone installation has.
KATIBS = """
apiVersion: config.kubeflow.org/v1beta1
kind: KatibConfig
init:
  certGenerator: {enable: true}
  controller:
    webhookPort: 8443
    trialResources:
      - TrainJob.v1alpha1.trainer.kubeflow.org
      - Job.v1.batch
runtime:
  metricsCollectors:
    - {kind: StdOut, image: "ghcr.io/kubeflow/katib/file-metrics-collector:v0.19.0"}
    - kind: TensorFlowEvent
      image: ghcr.io/kubeflow/katib/tfevent-metrics-collector:v0.19.0
      resources: {limits: {memory: 1Gi}}
  suggestions:
    - {algorithmName: random, image: "ghcr.io/kubeflow/katib/suggestion-hyperopt:v0.19.0"}
    - algorithmName: pbt
      image: ghcr.io/kubeflow/katib/suggestion-pbt:v0.19.0
      serviceAccountName: pbt
      persistentVolumeClaimSpec:
        accessModes: [ReadWriteMany]
        resources: {requests: {storage: 5Gi}}
  earlyStoppings:
    - {algorithmName: medianstop, image: "ghcr.io/kubeflow/katib/earlystopping-medianstop:v0.19.0"}
"""
DEFAULTS = {
    "requests": {"cpu": "50m", "memory": "10Mi", "ephemeral-storage": "500Mi"},
    "limits": {"cpu": "500m", "memory": "100Mi", "ephemeral-storage": "5Gi"},
}


def suggestions(*entries: str) -> KatibConfig:
    return parse("runtime:\n  suggestions:\n" + "".join(f"    - {entry}\n" for entry in entries))


def test_katibs_own_file_is_read() -> None:
    config = parse(KATIBS)
    assert config.algorithms() == {"random", "pbt"}
    assert config.stopping_rules() == {"medianstop"}
    start = config.start()
    assert start.makes_certificates
    assert start.trial_resources == (
        TrialResource("TrainJob", "v1alpha1", "trainer.kubeflow.org"),
        TrialResource("Job", "v1", "batch"),
    )
    assert start.trial_resources[0].api_version == "trainer.kubeflow.org/v1alpha1"


def test_an_entry_has_katibs_defaults() -> None:
    entry = parse(KATIBS).suggestion("random")
    assert entry is not None
    assert entry.container == {
        "name": "suggestion",
        "image": "ghcr.io/kubeflow/katib/suggestion-hyperopt:v0.19.0",
        "imagePullPolicy": "IfNotPresent",
        "resources": DEFAULTS,
    }
    assert entry.mount_path == "/opt/katib/data"
    assert entry.claim == {
        "accessModes": ["ReadWriteOnce"],
        "resources": {"requests": {"storage": "1Gi"}},
    }
    assert (entry.service_account, entry.volume) == ("", None)


def test_what_is_given_stays() -> None:
    entry = parse(KATIBS).suggestion("pbt")
    assert entry is not None
    assert entry.service_account == "pbt"
    assert entry.claim["accessModes"] == ["ReadWriteMany"]
    assert entry.claim["resources"]["requests"]["storage"] == "5Gi"


def test_everything_else_in_an_entry_is_the_container() -> None:
    entry = suggestions(
        "{algorithmName: a, image: i, command: [run], env: [{name: A, value: b}], name: mine}"
    ).suggestion("a")
    assert entry is not None
    assert entry.container["command"] == ["run"]
    assert entry.container["env"] == [{"name": "A", "value": "b"}]
    assert entry.container["name"] == "mine"


def test_a_negative_quantity_means_none() -> None:
    entry = suggestions(
        '{algorithmName: a, image: i, resources: {limits: {cpu: "-1"}, requests: {cpu: 2}}}'
    ).suggestion("a")
    assert entry is not None
    assert entry.container["resources"] == {
        "requests": {**DEFAULTS["requests"], "cpu": 2},
        "limits": {"memory": "100Mi", "ephemeral-storage": "5Gi"},
    }


def test_the_last_of_several_entries_counts() -> None:
    entry = suggestions("{algorithmName: a, image: old}", "{algorithmName: a, image: new}")
    found = entry.suggestion("a")
    assert found is not None
    assert found.container["image"] == "new"


def test_a_strange_pull_policy_is_katibs_default() -> None:
    config = parse("runtime: {earlyStoppings: [{algorithmName: a, image: i, imagePullPolicy: X}]}")
    assert config.stopping_rule("a") == ImageEntry("a", "i", "IfNotPresent", DEFAULTS)


def test_collectors_have_their_own_limits() -> None:
    found = parse(KATIBS).collector("TensorFlowEvent")
    assert found is not None
    assert found.resources["limits"]["memory"] == "1Gi"
    assert parse(KATIBS).collector("Nobody") is None


@pytest.mark.parametrize("text", ["", "{}", "runtime: null"])
def test_nothing_is_all_defaults(text: str) -> None:
    config = parse(text)
    assert config.algorithms() == frozenset()
    assert config.suggestion("random") is None
    assert config.start() == ControllerStart()


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        ("{algorithmName: a}", "runtime.suggestions[0] (a).image is missing"),
        ("{algorithmName: a, image: ' '}", "runtime.suggestions[0] (a).image is missing"),
        (
            "{algorithmName: a, image: i, ports: [{containerPort: 6789}]}",
            "runtime.suggestions[0] (a).ports has the port 6789",
        ),
        ("{algorithmName: a, image: i, resources: 3}", "(a).resources is no mapping"),
    ],
)
def test_a_wrong_entry_is_named(entry: str, words: str) -> None:
    with pytest.raises(Invalid) as error:
        suggestions(entry).suggestion("a")
    assert str(error.value).startswith("ConfigMap katib-config, katib-config.yaml: ")
    assert words in str(error.value)


def test_a_wrong_entry_hinders_nobody_else() -> None:
    config = suggestions("{algorithmName: a, image: i, ports: 1}", "{algorithmName: b, image: i}")
    assert config.suggestion("b") is not None
    assert config.algorithms() == {"a", "b"}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a: [", "is no YAML"),
        ("- 1", "is no mapping"),
        ("kind: Else", "kind is 'Else', not 'KatibConfig'"),
        ("runtime: 3", "runtime is no mapping"),
    ],
)
def test_a_wrong_file_is_said(text: str, words: str) -> None:
    with pytest.raises(Invalid, match=words):
        parse(text)


@pytest.mark.parametrize(
    ("controller", "words"),
    [
        ("{trialResources: [Job]}", r"trialResources\[0\] is 'Job', not of the form"),
        ("{webhookPort: many}", "init.controller.webhookPort is 'many', no whole number"),
        ("{enableLeaderElection: 1}", "enableLeaderElection is 1, not true or false"),
    ],
)
def test_a_wrong_start_is_said(controller: str, words: str) -> None:
    with pytest.raises(Invalid, match=words):
        parse(f"init: {{controller: {controller}}}").start()


# ---- reading it ---------------------------------------------------------------------------------


class CountedStore(MemoryStore):
    """Counts reads, and fails them while `broken`."""

    reads = 0
    broken = False

    async def get(self, key: Key) -> Json:
        self.reads += 1
        if self.broken:
            raise Unavailable("nobody answers")
        return await super().get(key)


def config_map(text: str) -> dict[str, Any]:
    metadata = {"name": CONFIG_MAP, "namespace": "kubeflow"}
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": metadata,
        "data": {"katib-config.yaml": text},
    }


def test_a_change_is_seen_at_the_next_use() -> None:
    async def scenario() -> list[frozenset[str]]:
        store = CountedStore(SystemClock(), SystemRng())
        source = ConfigSource(store, "kubeflow", fresh_s=0)
        seen = [(await source.current()).algorithms()]
        await store.create(config_map(KATIBS))
        seen.append((await source.current()).algorithms())
        return seen

    assert asyncio.run(scenario()) == [frozenset(), {"random", "pbt"}]


def test_many_uses_at_once_are_one_read() -> None:
    async def scenario() -> int:
        store = CountedStore(SystemClock(), SystemRng())
        source = ConfigSource(store, "kubeflow")
        await asyncio.gather(*(source.current() for _ in range(50)))
        return store.reads

    assert asyncio.run(scenario()) == 1


def test_what_was_read_last_stays_while_the_api_is_away() -> None:
    async def scenario() -> frozenset[str]:
        store = CountedStore(SystemClock(), SystemRng())
        await store.create(config_map(KATIBS))
        source = ConfigSource(store, "kubeflow", fresh_s=0)
        await source.current()
        store.broken = True
        return (await source.current()).algorithms()

    assert asyncio.run(scenario()) == {"random", "pbt"}


def test_what_was_never_read_is_unavailable() -> None:
    async def scenario() -> None:
        store = CountedStore(SystemClock(), SystemRng())
        store.broken = True
        await ConfigSource(store, "kubeflow").current()

    with pytest.raises(Unavailable):
        asyncio.run(scenario())
