# SPDX-License-Identifier: Apache-2.0
"""Real clusters as fixtures; see README.md in this folder for what they offer."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
from cluster_programs import Tier, require
from controlled_cluster import Services
from node_tier import node_tier
from running_cluster import Cluster, api_tier


@pytest.fixture(scope="session")
def api_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """etcd, API server and controller manager of this session, shared by its tests."""
    programs = require(Tier.API)
    with api_tier(programs, tmp_path_factory.mktemp("api-cluster")) as cluster:
        yield cluster


@pytest.fixture(scope="module")
def node_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A whole node with containers and our images, shared by the tests of a file: an idle one
    takes a sixth of a processor from whatever runs after it."""
    programs = require(Tier.NODE)
    with node_tier(programs, tmp_path_factory.mktemp("node-cluster")) as cluster:
        yield cluster


@pytest.fixture(scope="session")
def katib_cluster(api_cluster: Cluster) -> Cluster:
    """The API tier with our definitions of Katib's kinds, and the namespace of an installation."""
    api_cluster.apply(Path(__file__).parents[2] / "deploy" / "crds")
    for plural in ("experiments", "suggestions", "trials"):
        path = f"/apis/kubeflow.org/v1beta1/{plural}"
        api_cluster.wait_until(partial(api_cluster.exists, path), f"{plural} are served")
    if not api_cluster.exists("/api/v1/namespaces/kubeflow"):
        api_cluster.create_namespace("kubeflow")
    return api_cluster


@pytest.fixture(scope="session")
def services(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Services]:
    """A suggestion and an observation service."""
    found = Services(tmp_path_factory.mktemp("services"))
    found.start()
    yield found
    found.end()
