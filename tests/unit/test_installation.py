# SPDX-License-Identifier: Apache-2.0
"""What an installation is made of: nothing with more rights or privileges than it needs."""

from __future__ import annotations

import asyncio
import itertools
from typing import Any

import pytest
import yaml

from tunesmith.installation.katib_rows import import_job
from tunesmith.installation.manifests import manifests
from tunesmith.installation.options import Database, Installation

ALL = [
    Installation(),
    Installation(database=Database.MYSQL),
    Installation(database=Database.SQLITE, webhooks=False),
    Installation(database=Database.EXTERNAL, database_url="postgresql+pg8000://u@db/x"),
    Installation(cert_manager=True, namespace="tuning"),
    Installation(only="team", database=Database.SQLITE),
]
every = pytest.mark.parametrize("installation", ALL, ids=lambda it: f"{it.database}-{it.namespace}")


def pods(installation: Installation) -> list[dict[str, Any]]:
    kinds = ("Deployment", "StatefulSet")
    found = [each for each in manifests(installation) if each["kind"] in kinds]
    assert len(found) >= 3
    return [each["spec"]["template"]["spec"] for each in found]


def rules(installation: Installation) -> list[dict[str, Any]]:
    objects = manifests(installation)
    return [rule for each in objects for rule in each.get("rules") or []]


@every
def test_pods_are_restricted(installation: Installation) -> None:
    for pod in pods(installation):
        assert pod["securityContext"]["runAsNonRoot"] and pod["securityContext"]["runAsUser"] > 0
        for container in pod["containers"]:
            context = container["securityContext"]
            assert not context["allowPrivilegeEscalation"] and context["readOnlyRootFilesystem"]
            assert context["capabilities"] == {"drop": ["ALL"]}
            assert context["seccompProfile"] == {"type": "RuntimeDefault"}
            assert container["resources"]["requests"] and container["resources"]["limits"]
            mounted = {mount["name"] for mount in container["volumeMounts"]}
            assert mounted == {volume["name"] for volume in pod["volumes"]}


@every
def test_no_right_is_a_wildcard_and_secrets_are_read_by_name(installation: Installation) -> None:
    for rule in rules(installation):
        assert "*" not in rule["verbs"] + rule["resources"] + rule["apiGroups"]
        if "secrets" in rule["resources"]:
            assert rule["verbs"] == ["create"] or rule["resourceNames"]
            assert "list" not in rule["verbs"]


@every
def test_every_binding_is_of_a_role_and_an_account_that_are_there(
    installation: Installation,
) -> None:
    objects = manifests(installation)
    there = {(each["kind"], each["metadata"]["name"]) for each in objects}
    bindings = [each for each in objects if each["kind"].endswith("Binding")]
    assert bindings
    for binding in bindings:
        role = binding["roleRef"]
        assert (role["kind"], role["name"]) in there
        assert ("ServiceAccount", binding["subjects"][0]["name"]) in there


@every
def test_names_are_distinct_and_labelled(installation: Installation) -> None:
    objects = manifests(installation)
    names = [
        (each["kind"], each["metadata"].get("namespace"), each["metadata"]["name"])
        for each in objects
    ]
    assert len(set(names)) == len(names)
    for each in objects[1:]:
        assert each["metadata"]["labels"]["app.kubernetes.io/part-of"] == "tunesmith"


def test_a_namespaced_installation_has_rights_beyond_its_namespace_only_to_ask_who_calls() -> None:
    objects = manifests(Installation(only="team", database=Database.SQLITE))
    wide = [each["roleRef"]["name"] for each in objects if each["kind"] == "ClusterRoleBinding"]
    roles = {each["metadata"]["name"]: each for each in objects if each["kind"] == "ClusterRole"}
    assert wide
    for name in wide:
        assert [rule["resources"] for rule in roles[name]["rules"]] == [["tokenreviews"]]
    assert not [each for each in objects if each["kind"].endswith("WebhookConfiguration")]


def test_two_installations_share_nothing_in_the_cluster_but_definitions_and_kinds() -> None:
    def wide(namespace: str) -> set[tuple[str, str]]:
        installation = Installation(namespace=namespace, only=namespace, database=Database.SQLITE)
        return {
            (each["kind"], each["metadata"]["name"])
            for each in manifests(installation)
            if "namespace" not in each["metadata"]
        }

    shared = {name for _, name in wide("one") & wide("two")}
    assert shared == {
        *(f"{kind}.kubeflow.org" for kind in ("experiments", "suggestions", "trials")),
        "tunesmith-trial-kinds",
        "tunesmith-trial-kinds-known",
        "tunesmith-trial-owners",
        "tunesmith-trial-owners-known",
    }


@every
def test_no_secret_is_in_what_is_printed(installation: Installation) -> None:
    assert not [each for each in manifests(installation) if each["kind"] == "Secret"]
    assert list(yaml.safe_load_all(yaml.safe_dump_all(manifests(installation))))


def test_the_webhook_of_pods_is_asked_about_trials_pods_alone() -> None:
    [mutating] = [
        each for each in manifests(Installation()) if each["kind"].startswith("MutatingWebhook")
    ]
    by_resource = {hook["rules"][0]["resources"][0]: hook for hook in mutating["webhooks"]}
    assert by_resource["pods"]["objectSelector"] == {
        "matchLabels": {"tunesmith.dev/collect": "true"}
    }
    assert by_resource["experiments"]["failurePolicy"] == "Ignore"


@pytest.mark.parametrize(
    ("one", "other"), list(itertools.combinations(["postgres", "mysql", "sqlite"], 2))
)
def test_each_database_gives_another_url(one: str, other: str) -> None:
    def url(name: str) -> str:
        observation = pods(Installation(database=Database(name)))[-1]
        args = observation["containers"][0]["args"]
        return str(args[args.index("--db") + 1])

    assert url(one) != url(other)
    assert "password" not in url(one)


def test_rows_of_a_namespaced_installation_are_those_of_its_own_trials() -> None:
    class Katibs:
        """A cluster with Katib's database."""

        async def get(self, kind: str, name: str, namespace: str = "") -> dict[str, object] | None:
            there = {"katib-postgres": {}, "katib-postgres-secrets": {"POSTGRES_PASSWORD": "eA=="}}
            return {"data": there[name]} if name in there else None

    for only, words in ((None, ["--trials-of-cluster"]), ("team", ["--only", "team"])):
        job = asyncio.run(import_job(Katibs(), Installation(only=only)))  # type: ignore[arg-type]
        assert isinstance(job, dict)
        [container] = job["spec"]["template"]["spec"]["containers"]
        assert container["args"][2] == "postgresql://katib@katib-postgres:5432/katib"
        assert container["args"][-len(words) :] == words
