# SPDX-License-Identifier: Apache-2.0
"""Real clusters as fixtures; see README.md in this folder for what they offer."""

from collections.abc import Iterator

import pytest
from cluster_programs import Tier, require
from node_tier import node_tier
from running_cluster import Cluster, api_tier


@pytest.fixture(scope="session")
def api_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """etcd, API server and controller manager of this session, shared by its tests."""
    programs = require(Tier.API)
    with api_tier(programs, tmp_path_factory.mktemp("api-cluster")) as cluster:
        yield cluster


@pytest.fixture(scope="session")
def node_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A whole node of this session with containers and our images, shared by its tests."""
    programs = require(Tier.NODE)
    with node_tier(programs, tmp_path_factory.mktemp("node-cluster")) as cluster:
        yield cluster
