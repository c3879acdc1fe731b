# SPDX-License-Identifier: Apache-2.0
"""The scripted workloads of simulations: what the contract suite does not say of them."""

from __future__ import annotations

import asyncio

from local_attempts import job_of
from scripted_workloads import ScriptedWorkloads

from tunesmith_controller.ports import JobAbsent, JobLost, Key, TrialRun
from tunesmith_controller.workloads.testing import has_failed, has_succeeded, is_over, until

RUN = TrialRun(Key("Trial", "default", "trial-1"), "uid-1", 1, job_of("train"), "main")
ATTEMPT = ("uid-1", 1)


def test_a_job_that_vanished_and_is_ensured_again_counts_as_a_second_start() -> None:
    async def scenario() -> list[tuple[str, int]]:
        world = ScriptedWorkloads()
        await world.ensure(RUN)
        await world.ensure(RUN)
        assert world.starts == [ATTEMPT]
        world.vanish(*ATTEMPT)
        assert await world.observe(RUN) == JobAbsent()
        await world.ensure(RUN)
        return world.starts

    assert asyncio.run(scenario()) == [ATTEMPT, ATTEMPT]


def test_a_script_ends_runs_on_the_loops_time_well_or_with_an_exit_code() -> None:
    async def scenario(script: float | tuple[float, int]) -> bool:
        world = ScriptedWorkloads(lambda run: script)
        await world.ensure(RUN)
        assert world.active() == [ATTEMPT]
        state = await until(world, RUN, is_over, seconds=5)
        return has_succeeded(state) and not has_failed(state)

    assert asyncio.run(scenario(0.001))
    assert not asyncio.run(scenario((0.001, 137)))


def test_what_is_lost_stays_lost() -> None:
    async def scenario() -> object:
        world = ScriptedWorkloads()
        await world.ensure(RUN)
        world.lose(*ATTEMPT)
        world.finish(*ATTEMPT)
        return await world.ensure(RUN)

    assert asyncio.run(scenario()) == JobLost("its machine is gone")
