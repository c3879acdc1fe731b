# SPDX-License-Identifier: Apache-2.0
"""The API tier does what its README promises."""

import pytest
from cluster_client import Refused
from cluster_processes import ClusterError
from control_plane import API_SERVER, CONTROLLER_MANAGER, ETCD
from killed_runs import killed_run, wait_until_gone
from running_cluster import Cluster

pytestmark = pytest.mark.integration


def config_map(namespace: str, name: str) -> dict[str, object]:
    meta = {"name": name, "namespace": namespace}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta, "data": {"a": "b"}}


def test_objects_outlive_a_restart_of_the_api_server(api_cluster: Cluster) -> None:
    namespace = api_cluster.namespace_of_test()
    api_cluster.apply(config_map(namespace, "kept"))
    before = api_cluster.pids()[API_SERVER]

    api_cluster.restart_api_server()

    assert api_cluster.pids()[API_SERVER] != before
    data = api_cluster.kubectl("get", "cm", "kept", "-n", namespace, "-o", "jsonpath={.data.a}")
    assert data == "b"


def test_objects_outlive_an_outage_of_etcd(api_cluster: Cluster) -> None:
    namespace = api_cluster.namespace_of_test()
    api_cluster.kill(ETCD)
    try:
        # Its checks of health are a moment old.
        api_cluster.wait_until(lambda: not api_cluster.api.ready(), "the API server unready", 20)
    finally:
        api_cluster.start(ETCD)
    api_cluster.wait_until(api_cluster.api.ready, "the API server ready again", 20)
    assert api_cluster.exists(f"/api/v1/namespaces/{namespace}")


def test_a_token_is_for_one_audience_and_names_the_pod(api_cluster: Cluster) -> None:
    namespace = api_cluster.namespace_of_test()
    pod = {"containers": [{"name": "main", "image": "none"}]}
    pods = f"/api/v1/namespaces/{namespace}/pods"
    api_cluster.api.request("POST", pods, {"metadata": {"name": "p"}, "spec": pod})

    token = api_cluster.service_account_token(namespace, "default", "tests", pod="p")

    def review(audience: str) -> dict[str, object]:
        spec = {"token": token, "audiences": [audience]}
        path = "/apis/authentication.k8s.io/v1/tokenreviews"
        status = api_cluster.api.request("POST", path, {"spec": spec})["status"]
        assert isinstance(status, dict)
        return status

    assert not review("others").get("authenticated")
    accepted = review("tests")
    assert accepted["authenticated"]
    assert accepted["user"]["extra"]["authentication.kubernetes.io/pod-name"] == ["p"]  # type: ignore[index]


def test_a_service_account_has_no_rights_of_its_own(api_cluster: Cluster) -> None:
    namespace = api_cluster.namespace_of_test()
    token = api_cluster.service_account_token(namespace, "nobody")
    with pytest.raises(Refused, match="forbidden"):
        api_cluster.api.request("GET", f"/api/v1/namespaces/{namespace}/pods", token=token)


def test_every_request_is_in_the_audit_log_with_its_user(api_cluster: Cluster) -> None:
    namespace = api_cluster.namespace_of_test()
    path = f"/api/v1/namespaces/{namespace}/configmaps/not-there"
    assert not api_cluster.exists(path)
    entries = [entry for entry in api_cluster.audit() if entry["requestURI"] == path]
    assert [(e["user"]["username"], e["verb"], e["responseStatus"]["code"]) for e in entries] == [
        ("admin", "get", 404)
    ]


def test_a_paused_api_server_answers_again_when_resumed(api_cluster: Cluster) -> None:
    api_cluster.pause(API_SERVER)
    try:
        with pytest.raises(ClusterError):
            api_cluster.kubectl("get", "--raw", "/readyz", "--request-timeout=1s")
    finally:
        api_cluster.resume(API_SERVER)
    api_cluster.wait_until(api_cluster.api.ready, "the API server ready", 10)


def test_the_controller_manager_runs_only_while_wanted(api_cluster: Cluster) -> None:
    api_cluster.stop(CONTROLLER_MANAGER)
    try:
        assert CONTROLLER_MANAGER not in api_cluster.pids()
    finally:
        api_cluster.start(CONTROLLER_MANAGER)
    assert CONTROLLER_MANAGER in api_cluster.pids()


def test_a_component_that_cannot_start_shows_its_log(api_cluster: Cluster) -> None:
    api_cluster.stop(CONTROLLER_MANAGER)
    good = api_cluster.components[CONTROLLER_MANAGER].argv
    try:
        good.append("--no-such-flag")
        with pytest.raises(ClusterError, match="unknown flag: --no-such-flag"):
            api_cluster.start(CONTROLLER_MANAGER)
    finally:
        good.remove("--no-such-flag")
        api_cluster.start(CONTROLLER_MANAGER)


@pytest.mark.usefixtures("api_cluster")
def test_nothing_is_left_when_the_test_run_is_killed() -> None:
    scratch, pids = killed_run("api_tier")
    assert len(pids) == 4
    wait_until_gone(scratch, pids)
