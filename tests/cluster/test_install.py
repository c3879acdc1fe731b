# SPDX-License-Identifier: Apache-2.0
"""`tunesmith install`, `uninstall` and `doctor` against a real API server, where no pod runs."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import yaml
from cluster_client import Json, Refused
from cluster_programs import Tier, require
from installed_pods import OURS, installed, lead, pods, run_everything, tunesmith
from running_cluster import Cluster, api_tier

pytestmark = [pytest.mark.integration, pytest.mark.timeout(180)]

HOOKS = "/apis/admissionregistration.k8s.io/v1"
RBAC = "/apis/rbac.authorization.k8s.io/v1"
CRDS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
KATIB = "/apis/kubeflow.org/v1beta1"
KINDS = (
    f"{HOOKS}/mutatingwebhookconfigurations",
    f"{HOOKS}/validatingwebhookconfigurations",
    f"{RBAC}/clusterroles",
    f"{RBAC}/clusterrolebindings",
    f"{RBAC}/roles",
    f"{RBAC}/rolebindings",
    CRDS,
    "/api/v1/configmaps",
    "/api/v1/secrets",
    "/api/v1/services",
    "/api/v1/serviceaccounts",
    "/api/v1/persistentvolumeclaims",
    "/apis/apps/v1/deployments",
    "/apis/apps/v1/statefulsets",
    "/apis/policy/v1/poddisruptionbudgets",
    "/apis/networking.k8s.io/v1/networkpolicies",
)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """One of its own: definitions come and go."""
    with api_tier(require(Tier.API), tmp_path_factory.mktemp("install-cluster")) as found:
        yield found


@pytest.fixture
def home(cluster: Cluster) -> Iterator[str]:
    """A namespace where Pod Security "restricted" is enforced; nothing of ours is left."""
    namespace = cluster.namespace_of_test()
    label = {"pod-security.kubernetes.io/enforce": "restricted"}
    path = f"/api/v1/namespaces/{namespace}"
    cluster.api.request("PATCH", path, {"metadata": {"labels": label}})
    yield namespace
    done = tunesmith(cluster, "uninstall", "-n", namespace, "--yes", "--all")
    assert done.returncode == 0, done.stderr
    cluster.delete_namespace(namespace)


def ours(cluster: Cluster) -> dict[str, Json]:
    """All objects of all installations, by path and name."""
    return {
        f"{path} {each['metadata'].get('namespace', '')}/{each['metadata']['name']}": each
        for path in KINDS
        for each in cluster.api.request("GET", f"{path}?{OURS}")["items"]
        if "deletionTimestamp" not in each["metadata"]
    }


def findings(cluster: Cluster, namespace: str) -> dict[str, Json]:
    done = tunesmith(cluster, "doctor", "-n", namespace, "-o", "json")
    found = {each["subject"]: each for each in json.loads(done.stdout)}
    faulty = any(each["fault"] for each in found.values())
    assert done.returncode == int(faulty), done.stderr
    return found


def faults(cluster: Cluster, namespace: str) -> dict[str, str]:
    found = findings(cluster, namespace)
    return {subject: each["fault"] for subject, each in found.items() if each["fault"]}


# ---- what is installed --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "count"),
    [
        ((), 5),
        (("--database", "mysql"), 5),
        (("--database", "sqlite", "--no-webhooks"), 3),
        (("--database", "sqlite", "--only", "HERE"), 3),
    ],
    ids=["postgres", "mysql", "sqlite", "namespaced"],
)
def test_everything_is_accepted_where_pod_security_is_restricted(
    cluster: Cluster, home: str, words: tuple[str, ...], count: int
) -> None:
    installed(cluster, "-n", home, *(home if word == "HERE" else word for word in words))
    cluster.wait_until(lambda: len(pods(cluster, home)) == count, f"{count} pods", 30)


def test_an_external_database_gets_the_password_that_is_given_and_no_server(
    cluster: Cluster, home: str, tmp_path: Any
) -> None:
    url = "postgresql+pg8000://tuner@db.example:5432/rows"
    refused = tunesmith(cluster, "install", "-n", home, "--db-url", url, "--wait", "0")
    assert refused.returncode == 2 and "--database-password-file" in refused.stderr
    file = tmp_path / "password"
    file.write_text("given\n")
    installed(cluster, "-n", home, "--db-url", url, "--database-password-file", str(file))
    secret = cluster.api.request("GET", f"/api/v1/namespaces/{home}/secrets/tunesmith-database")
    assert base64.b64decode(secret["data"]["password"]) == b"given"
    cluster.wait_until(lambda: len(pods(cluster, home)) == 4, "four pods", 30)


def test_installing_twice_changes_nothing(cluster: Cluster, home: str) -> None:
    first = installed(cluster, "-n", home)
    assert "created  Deployment tunesmith-controller" in first
    before = ours(cluster)
    second = installed(cluster, "-n", home)
    assert "0 created, 0 changed" in second
    after = ours(cluster)
    assert before.keys() == after.keys()
    for name, obj in before.items():
        generation = obj["metadata"].get("generation")
        assert after[name]["metadata"].get("generation") == generation, name
        assert after[name].get("data") == obj.get("data"), name


def test_what_was_chosen_stays_until_something_else_is_chosen(cluster: Cluster, home: str) -> None:
    installed(cluster, "-n", home, "--database", "sqlite", "--no-webhooks", "--no-katib-clients")
    said = installed(cluster, "-n", home)
    assert "database sqlite" in said and "without webhooks" in said and "0 created" in said
    names = {name.rpartition("/")[2] for name in ours(cluster)}
    assert not names & {"katib-db-manager", "tunesmith.kubeflow.org", "tunesmith-postgres"}
    installed(cluster, "-n", home, "--webhooks", "--katib-clients")
    names = {name.rpartition("/")[2] for name in ours(cluster)}
    assert {"katib-db-manager", "tunesmith.kubeflow.org"} <= names
    said = installed(cluster, "-n", home, "--no-webhooks")
    assert "removed  MutatingWebhookConfiguration tunesmith.kubeflow.org" in said
    names = {name.rpartition("/")[2] for name in ours(cluster)}
    assert "tunesmith.kubeflow.org" not in names


def test_what_people_wrote_and_the_password_stay(cluster: Cluster, home: str) -> None:
    installed(cluster, "-n", home)
    secret = f"/api/v1/namespaces/{home}/secrets/tunesmith-database"
    before = cluster.api.request("GET", secret)["data"]
    text = "apiVersion: config.kubeflow.org/v1beta1\nkind: KatibConfig\nruntime: {}\n"
    written = {"data": {"katib-config.yaml": text}}
    config = f"/api/v1/namespaces/{home}/configmaps/katib-config"
    cluster.api.request("PATCH", config, written)
    installed(cluster, "-n", home)
    assert cluster.api.request("GET", config)["data"] == written["data"]
    assert cluster.api.request("GET", secret)["data"] == before
    assert len(base64.b64decode(before["password"])) >= 24


def test_what_is_printed_can_be_applied(cluster: Cluster, home: str) -> None:
    done = tunesmith(cluster, "install", "-n", home, "--print")
    assert done.returncode == 0 and "kubectl create secret generic" in done.stderr
    objects = list(yaml.safe_load_all(done.stdout))
    assert len(objects) > 30 and not [each for each in objects if each["kind"] == "Secret"]
    cluster.apply(objects)
    cluster.wait_until(lambda: len(pods(cluster, home)) == 5, "five pods", 30)


# ---- who else is there --------------------------------------------------------------------------


def test_nothing_is_installed_beside_katib(cluster: Cluster, home: str) -> None:
    other = cluster.namespace_of_test()
    pod = {"containers": [{"name": "manager", "image": "katib"}]}
    selected = {"app": "katib"}
    body = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "katib-controller", "namespace": other},
        "spec": {
            "selector": {"matchLabels": selected},
            "template": {"metadata": {"labels": selected}, "spec": pod},
        },
    }
    cluster.apply(body)
    before = ours(cluster).keys()
    done = tunesmith(cluster, "install", "-n", home, "--wait", "0")
    assert done.returncode == 2
    assert f"Deployment {other}/katib-controller" in done.stderr
    assert "--take-over" in done.stderr
    assert ours(cluster).keys() == before
    assert "Katib" in faults(cluster, home)
    cluster.kubectl("scale", "-n", other, "deployment/katib-controller", "--replicas", "0")
    installed(cluster, "-n", home)
    cluster.delete_namespace(other)


def test_two_installations_never_look_after_the_same_experiments(
    cluster: Cluster, home: str
) -> None:
    team, second = cluster.namespace_of_test(), cluster.namespace_of_test()
    small = ("--database", "sqlite")
    installed(cluster, "-n", team, "--only", team, *small)
    refused = tunesmith(cluster, "install", "-n", home, "--wait", "0")
    assert refused.returncode == 2 and f"for namespace {team}" in refused.stderr
    installed(cluster, "-n", home, "--only", home, *small)
    tunesmith(cluster, "uninstall", "-n", team, "--yes", "--all")
    assert cluster.exists(f"{KATIB}/trials")  # the other one needs them
    assert not faults(cluster, home).keys() & {"definition trials.kubeflow.org"}
    installed(cluster, "-n", home, "--only", "")
    refused = tunesmith(cluster, "install", "-n", second, "--only", second, "--wait", "0")
    assert refused.returncode == 2 and "for all namespaces" in refused.stderr
    for namespace in (team, second):
        cluster.delete_namespace(namespace)


# ---- until it works -----------------------------------------------------------------------------


def test_waiting_says_what_hinders(cluster: Cluster, home: str) -> None:
    installed(cluster, "-n", home)
    cluster.wait_until(lambda: len(pods(cluster, home)) == 5, "five pods", 30)
    for pod in pods(cluster, home):
        if "suggestion" in pod["metadata"]["name"]:
            waiting = {"reason": "ImagePullBackOff", "message": "Back-off pulling image"}
            state = {"state": {"waiting": waiting}, "ready": False, "restartCount": 0}
            container = {"name": "suggestion", "image": "none", "imageID": "", **state}
            path = f"/api/v1/namespaces/{home}/pods/{pod['metadata']['name']}/status"
            status = {"phase": "Pending", "containerStatuses": [container]}
            cluster.api.request("PATCH", path, {"status": status})
    done = tunesmith(cluster, "install", "-n", home, "--wait", "3")
    assert done.returncode == 3
    assert "ImagePullBackOff: Back-off pulling image" in done.stderr
    assert "no default StorageClass" in done.stderr
    assert f"tunesmith doctor -n {home}" in done.stderr
    run_everything(cluster, home, 5)
    done = tunesmith(cluster, "install", "-n", home, "--wait", "30")
    assert done.returncode == 0, done.stderr
    assert "tunesmith-controller is ready" in done.stdout


def test_waiting_names_a_quota_that_refuses_pods(cluster: Cluster, home: str) -> None:
    quota = {"metadata": {"name": "none"}, "spec": {"hard": {"pods": "0"}}}
    cluster.api.request("POST", f"/api/v1/namespaces/{home}/resourcequotas", quota)
    done = tunesmith(cluster, "install", "-n", home, "--database", "sqlite", "--wait", "6")
    assert done.returncode == 3
    assert "exceeded quota" in done.stderr


# ---- doctor -------------------------------------------------------------------------------------


@pytest.fixture
def healthy(cluster: Cluster, home: str) -> str:
    installed(cluster, "-n", home)
    run_everything(cluster, home, 5)
    assert faults(cluster, home) == {}
    return home


def deleted(path: str) -> Callable[[Cluster, str], None]:
    return lambda cluster, home: _delete(cluster, path.format(home=home))


def _delete(cluster: Cluster, path: str) -> None:
    cluster.api.request("DELETE", path)


def _spoil(cluster: Cluster, home: str) -> None:
    path = f"/api/v1/namespaces/{home}/secrets/tunesmith-observation-tls"
    junk = base64.b64encode(b"no certificate").decode()
    cluster.api.request("PATCH", path, {"data": {"tls.crt": junk}})


def _distrust(cluster: Cluster, home: str) -> None:
    path = f"{HOOKS}/validatingwebhookconfigurations/tunesmith.kubeflow.org"
    found = cluster.api.request("GET", path)
    for hook in found["webhooks"]:
        hook["clientConfig"].pop("caBundle")
    cluster.api.request("PUT", path, found)


def _narrow(cluster: Cluster, home: str) -> None:
    path = f"{RBAC}/clusterroles/tunesmith-controller-{home}"
    rules = [r for r in cluster.api.request("GET", path)["rules"] if "events" not in r["resources"]]
    cluster.api.request("PATCH", path, {"rules": rules})


def _misread(cluster: Cluster, home: str) -> None:
    path = f"/api/v1/namespaces/{home}/configmaps/katib-config"
    cluster.api.request("PATCH", path, {"data": {"katib-config.yaml": "runtime: ["}})


def _other_image(cluster: Cluster, home: str) -> None:
    words = ("set", "image", "-n", home, "deployment/tunesmith-observation", "db-manager=old:0")
    cluster.kubectl(*words)


def _abandon(cluster: Cluster, home: str) -> None:
    lead(cluster, home, "somebody-who-went")


def _away(cluster: Cluster, home: str) -> None:
    cluster.kubectl("scale", "-n", home, "statefulset/tunesmith-postgres", "--replicas", "0")
    words = ("--force", "--grace-period=0", "--ignore-not-found")
    cluster.kubectl("delete", "pod", "-n", home, "tunesmith-postgres-0", *words)


FAULTS: list[tuple[Callable[[Cluster, str], None], str, str]] = [
    (deleted(f"{CRDS}/trials.kubeflow.org"), "definition trials", "not there"),
    (_narrow, "rights of tunesmith-controller everywhere", "create events"),
    (
        deleted(f"{RBAC}/clusterrolebindings/tunesmith-suggestion-reviews-{{home}}"),
        "rights of tunesmith-suggestion everywhere",
        "create tokenreviews",
    ),
    (
        deleted("/api/v1/namespaces/{home}/secrets/tunesmith-suggestion-tls"),
        "certificate of tunesmith-suggestion",
        "not there",
    ),
    (_spoil, "certificate of tunesmith-observation", "cannot be read"),
    (_distrust, "ValidatingWebhookConfiguration", "another authority"),
    (
        deleted(f"{HOOKS}/mutatingwebhookconfigurations/tunesmith.kubeflow.org"),
        "MutatingWebhookConfiguration",
        "not there",
    ),
    (
        deleted("/api/v1/namespaces/{home}/services/katib-db-manager"),
        "Service katib-db-manager",
        "not there",
    ),
    (
        deleted("/apis/apps/v1/namespaces/{home}/deployments/tunesmith-suggestion"),
        "Deployment tunesmith-suggestion",
        "not there",
    ),
    (_misread, "ConfigMap katib-config", "no YAML"),
    (_other_image, "versions of images", "old:0 of tunesmith-observation"),
    (_abandon, "leader", "somebody-who-went"),
    (_away, "Service tunesmith-postgres", "no pod"),
]


def test_doctor_names_every_fault_and_says_what_mends_it(cluster: Cluster, healthy: str) -> None:
    for make, _, _ in FAULTS:
        make(cluster, healthy)

    def not_named() -> list[tuple[str, str]]:
        found = faults(cluster, healthy)
        return [
            (subject, said)
            for _, subject, said in FAULTS
            if not any(n.startswith(subject) and said in fault for n, fault in found.items())
        ]

    cluster.wait_until(lambda: not not_named(), "all faults are named", 30)
    found = findings(cluster, healthy).values()
    assert all(each["next"] for each in found if each["fault"])
    installed(cluster, "-n", healthy)
    assert sum("tunesmith install" in each["next"] for each in found) >= 7
    left = findings(cluster, healthy).values()
    assert not [each for each in left if "tunesmith install" in each["next"]]


def test_doctor_says_which_kinds_are_missing_and_which_may_not_be_created(
    cluster: Cluster, home: str
) -> None:
    installed(cluster, "-n", home)
    for name, version, kind in (("ray", "ray.io/v1", "RayJob"), ("pods", "v1", "Pod")):
        template = {"trialSpec": {"apiVersion": version, "kind": kind}}
        body = {"metadata": {"name": name}, "spec": {"trialTemplate": template}}
        body |= {"apiVersion": "kubeflow.org/v1beta1", "kind": "Experiment"}
        path = f"{KATIB}/namespaces/{home}/experiments"
        cluster.api.request("POST", path, body)
    found = findings(cluster, home)
    assert "does not have it" in found["kind RayJob of ray.io/v1"]["fault"]
    pod = found["kind Pod of v1"]
    assert "may not create pods" in pod["fault"]
    for command in pod["next"].split(" && "):
        cluster.kubectl(*command.split()[1:])
    cluster.wait_until(
        lambda: not findings(cluster, home)["kind Pod of v1"]["fault"], "the right", 20
    )
    cluster.kubectl("delete", "clusterrole", "trial-kinds-pods")
    done = tunesmith(cluster, "doctor", "-n", home, account=(home, "nobody"))
    assert done.returncode in (1, 3)
    assert "forbidden" in done.stdout + done.stderr


def test_without_a_cluster_a_sentence_says_so(tmp_path: Any, cluster: Cluster) -> None:
    config = tmp_path / "kubeconfig"
    text = cluster.kubeconfig.read_text()
    port = json.loads(text)["clusters"][0]["cluster"]["server"].rpartition(":")[2]
    config.write_text(text.replace(f":{port}", ":1"))
    other = Cluster(config, *[None] * 5)  # type: ignore[arg-type]
    for verb in (("doctor",), ("install",), ("uninstall", "--yes")):
        done = tunesmith(other, *verb)
        assert done.returncode == 3
        assert "does not answer" in done.stderr and "Traceback" not in done.stderr


def test_where_nothing_is_installed_doctor_says_how(cluster: Cluster, home: str) -> None:
    found = findings(cluster, home)["tunesmith"]
    assert found["next"] == f"tunesmith install -n {home}"


# ---- and away -----------------------------------------------------------------------------------


def test_uninstalling_keeps_experiments_rows_and_passwords(cluster: Cluster, home: str) -> None:
    installed(cluster, "-n", home)
    path = f"{KATIB}/namespaces/{home}/experiments"
    body = {"apiVersion": "kubeflow.org/v1beta1", "kind": "Experiment", "metadata": {"name": "e"}}
    cluster.api.request("POST", path, {**body, "spec": {}})
    done = tunesmith(cluster, "uninstall", "-n", home, "--yes")
    assert done.returncode == 0, done.stderr
    assert cluster.exists(f"{path}/e")
    left = {name.rpartition("/")[2] for name in ours(cluster)}
    assert left == {
        "experiments.kubeflow.org",
        "suggestions.kubeflow.org",
        "trials.kubeflow.org",
        "tunesmith-database",
        "tunesmith-observation",
        "tunesmith-postgres",
        "katib-config",
    }


def test_uninstalling_all_leaves_nothing(cluster: Cluster, home: str) -> None:
    installed(cluster, "-n", home)
    run_everything(cluster, home, 5)
    for plural, kind in (("experiments", "Experiment"), ("trials", "Trial")):
        body = {"apiVersion": "kubeflow.org/v1beta1", "kind": kind, "spec": {}}
        body["metadata"] = {"name": "held", "finalizers": ["clean-metrics-in-db.example/held"]}
        cluster.api.request("POST", f"{KATIB}/namespaces/{home}/{plural}", body)
    for pod in pods(cluster, home):  # nobody is there to let go
        path = f"/api/v1/namespaces/{home}/pods/{pod['metadata']['name']}/status"
        cluster.api.request("PATCH", path, {"status": {"phase": "Failed", "conditions": []}})
    done = tunesmith(cluster, "uninstall", "-n", home, "--yes", "--all")
    assert done.returncode == 0, done.stderr
    cluster.wait_until(lambda: not ours(cluster), "nothing is left", 60)
    cluster.wait_until(lambda: not cluster.exists(f"{KATIB}/trials"), "no definitions", 30)
    with pytest.raises(Refused):
        cluster.api.request("GET", f"/api/v1/namespaces/{home}/configmaps/tunesmith-ca")


def test_uninstalling_asks(cluster: Cluster, home: str) -> None:
    installed(cluster, "-n", home)
    before = ours(cluster).keys()
    done = tunesmith(cluster, "uninstall", "-n", home)
    assert done.returncode == 1
    assert ours(cluster).keys() == before
