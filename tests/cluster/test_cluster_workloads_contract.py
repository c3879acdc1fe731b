# SPDX-License-Identifier: Apache-2.0
"""`KubernetesWorkloads` through the contract suite, with a real API server and Job controller."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Iterator

import pytest
from cluster_transport import transport_to
from cluster_trials import job_of, trial_run
from fake_kubelet import FakeKubelet
from running_cluster import Cluster

from tunesmith_controller.ports import JobPresent, TrialRun, Workloads
from tunesmith_controller.workloads.cluster import KubernetesWorkloads
from tunesmith_controller.workloads.testing import WorkloadsContract, has_succeeded, until

pytestmark = pytest.mark.integration

_NUMBERS = itertools.count(1)


class TestKubernetesWorkloads(WorkloadsContract):
    @pytest.fixture(autouse=True)
    def namespace_of_the_test(self, api_cluster: Cluster) -> Iterator[None]:
        self.cluster = api_cluster
        self.namespace = api_cluster.namespace_of_test()
        with FakeKubelet(api_cluster, self.namespace) as self.kubelet:
            yield
        api_cluster.delete_namespace(self.namespace)

    def open(self) -> Workloads:
        return KubernetesWorkloads(transport_to(self.cluster))

    def run(self, *command: str, kind: str = "Job") -> TrialRun:
        name = f"experiment-{next(_NUMBERS):08d}"
        return trial_run(self.cluster, self.namespace, name, job_of(*command, kind=kind))

    def succeeding(self) -> TrialRun:
        return self.run("end", "well")

    def failing(self) -> TrialRun:
        return self.run("end", "badly")

    def unending(self) -> TrialRun:
        return self.run("wait")

    def impossible(self) -> TrialRun:
        return self.run("end", "well", kind="NoSuchJob")

    async def finish(self, run: TrialRun) -> None:
        self.kubelet.finish(run.trial.name)

    def starts(self, run: TrialRun) -> int:
        return len(self.kubelet.started.get(run.trial_uid, ()))

    # What a real API server answers differs in form:

    def test_a_job_keeps_the_spec_it_was_given_and_its_uid(self) -> None:
        """The API adds defaults, and the pods' metadata are ours."""
        run = self.succeeding()
        state = asyncio.run(self._ended(run))
        assert isinstance(state, JobPresent)
        given, made = run.spec["spec"]["template"]["spec"], state.manifest["spec"]["template"]
        assert made["spec"]["containers"][0]["command"] == given["containers"][0]["command"]
        assert state.manifest["spec"]["backoffLimit"] == 0
        assert state.manifest["metadata"]["namespace"] == run.trial.namespace
        assert state.manifest["metadata"]["uid"] == state.uid

    def test_a_running_job_has_no_end_and_is_active(self) -> None:
        run = self.unending()

        async def scenario() -> JobPresent:
            workloads = await self._running(run)
            state = await until(
                workloads,
                run,
                lambda state: (
                    isinstance(state, JobPresent)
                    and state.manifest.get("status", {}).get("active") == 1
                ),
                self.seconds,
            )
            assert isinstance(state, JobPresent)
            await self._finished(workloads, run)
            return state

        assert not has_succeeded(asyncio.run(scenario()))
