# SPDX-License-Identifier: Apache-2.0
"""The policy of Trials, case by case."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import given
import pytest

from tunesmith_api.metrics import Row
from tunesmith_api.observations import SourceNotes, SourceState
from tunesmith_api.resources import MetricsCollectorSpec, StopRecord, Trial, rfc3339
from tunesmith_controller.ports import JobAbsent, JobLost, JobPresent, JobState, JobWaiting
from tunesmith_controller.trial.decide import (
    HELD,
    PAUSED,
    JobRefused,
    Limits,
    Plan,
    Snapshot,
    Step,
    decide,
)

LIMITS = Limits(poll_s=5, grace_s=60, lost_retries=2)
COMPLETE = {"stdout": SourceState(offset=10, ended=True)}


def decided(trial: Trial, **read: Any) -> Plan:
    return decide(Snapshot(trial, **read), given.NOW, LIMITS)


def state_of(plan: Plan) -> tuple[str, str]:
    assert plan.status is not None
    last = plan.status.conditions[-1]
    return last.type, last.reason


def message_of(plan: Plan) -> str:
    assert plan.status is not None
    return plan.status.conditions[-1].message


def losses(*values: str) -> list[Row]:
    return [Row(seq, "loss", value) for seq, value in enumerate(values)]


def test_a_new_trial_is_its_first_attempt_on_record() -> None:
    new = given.trial(state="Pending", attempt=0)
    assert decided(new, job=JobAbsent()) == Plan(step=Step.START)
    plan = decided(new, job=JobPresent("job-1", given.job()))
    assert plan.status is not None and plan.status.run is not None
    assert [each.type for each in plan.status.conditions] == ["Created", "Running"]
    assert (plan.status.run.attempt, plan.status.run.job_uid) == (1, "job-1")
    waiting = decided(new, job=JobWaiting("waiting for 1 CPU"))
    assert state_of(waiting)[0] == "Created"


def test_a_recorded_attempt_without_a_job_is_started() -> None:
    assert decided(given.trial(), job=JobAbsent()) == Plan(step=Step.START)


def test_a_seen_job_makes_it_running_and_is_recorded_by_uid() -> None:
    plan = decided(given.trial(), job=JobPresent("job-1", given.job()))
    assert state_of(plan) == ("Running", "TrialRunning")
    assert plan.status is not None and plan.status.run is not None
    assert plan.status.run.job_uid == "job-1"


def test_a_reason_to_wait_goes_when_the_same_job_runs_on() -> None:
    hindered = given.trial(state="Running", job_uid="job-1", waiting="the image cannot be pulled")
    plan = decided(hindered, job=JobPresent("job-1", given.job()))
    assert state_of(plan)[0] == "Running"
    assert plan.status is not None and plan.status.run is not None
    assert plan.status.run.waiting == ""


def test_waiting_says_why_once() -> None:
    plan = decided(given.trial(), job=JobWaiting("waiting for 1 CPU"))
    assert plan.status is not None and plan.status.run is not None
    assert plan.status.run.waiting == "waiting for 1 CPU"
    again = given.trial().with_(status=plan.status)
    assert decided(again, job=JobWaiting("waiting for 1 CPU")).status is None


def test_a_running_job_changes_nothing() -> None:
    trial = given.trial(state="Running", job_uid="job-1")
    assert decided(trial, job=JobPresent("job-1", given.job())) == Plan(again=5)


def test_a_vanished_job_is_a_new_attempt_never_a_silent_second_run() -> None:
    plan = decided(given.trial(state="Running", job_uid="job-1"), job=JobAbsent())
    assert plan.step is None
    assert plan.status is not None and plan.status.run is not None
    assert (plan.status.run.attempt, plan.status.run.job_uid) == (2, "")


def test_lost_attempts_have_a_budget() -> None:
    plan = decided(given.trial(state="Running", lost=2), job=JobLost("the machine restarted"))
    assert state_of(plan) == ("Failed", "TrialFailed")
    assert "the machine restarted" in message_of(plan)


def test_a_job_that_can_never_start_fails_with_the_sentence() -> None:
    plan = decided(given.trial(), job=JobRefused("command 'trian.py' was not found"))
    assert state_of(plan) == ("Failed", "TrialFailed")
    assert "trian.py" in message_of(plan)


def test_failure_is_looked_at_before_success_and_keeps_the_jobs_reason() -> None:
    job = given.job("Complete", "Failed", reason="OOMKilled", message="exit code 137")
    plan = decided(given.trial(state="Running"), job=JobPresent("j", job))
    assert state_of(plan) == ("Failed", "TrialFailed. Job reason: OOMKilled")
    assert message_of(plan) == "exit code 137"


def test_success_waits_until_the_rows_are_complete() -> None:
    job = JobPresent("j", given.job("Complete"))
    open_source = {"stdout": SourceState(offset=10, ended=False)}
    trial = given.trial(state="Running")
    plan = decided(trial, job=job, sources=open_source, rows=losses("0.5"), waited=59)
    assert plan.status is None and plan.again is not None


def test_success_with_rows_observes_min_max_and_latest() -> None:
    plan = decided(
        given.trial(state="Running"),
        job=JobPresent("j", given.job("Complete")),
        sources=COMPLETE,
        rows=losses("0.5", "0.2", "0.3"),
    )
    assert state_of(plan)[0] == "Succeeded"
    assert plan.status is not None and plan.status.observation is not None
    (loss,) = plan.status.observation.metrics
    assert (loss.min, loss.max, loss.latest) == ("0.2", "0.5", "0.3")


FORESEEN = JobPresent("j", given.job(), foreseen=given.job("Complete"))


def test_a_success_that_is_foreseen_counts_as_soon_as_the_rows_are_complete() -> None:
    trial, rows = given.trial(state="Running", job_uid="j"), losses("0.5")
    ended = decided(trial, job=FORESEEN, rows=rows, sources=COMPLETE)
    assert state_of(ended)[0] == "Succeeded"
    going = {"stdout": SourceState(ended=False)}
    assert decided(trial, job=FORESEEN, rows=rows, sources=going, waited=600) == Plan(again=5)


def test_a_job_that_is_about_to_succeed_is_neither_stopped_nor_released_before_it_has() -> None:
    ended = given.trial(state="Succeeded", job_uid="j")
    assert decided(ended, job=FORESEEN) == Plan(again=5)
    assert decided(ended, job=JobPresent("j", given.job("Complete"))).step is Step.RELEASE


def test_what_is_foreseen_never_fails_a_trial() -> None:
    odd = given.trial(state="Running", job_uid="j")
    odd = odd.with_(spec=odd.spec.with_(success_condition='status.conditions.#(type=="Mine")#'))
    assert decided(odd, job=FORESEEN, rows=losses("0.5"), sources=COMPLETE) == Plan(again=5)


def test_an_end_lets_its_job_go_in_the_same_write_where_jobs_are_swept() -> None:
    sweeping = replace(LIMITS, sweeps=True)

    def ended(job: JobPresent) -> Plan:
        trial = given.trial(state="Running", job_uid="j")
        read = Snapshot(trial, job=job, rows=losses("0.5"), sources=COMPLETE)
        return decide(read, given.NOW, sweeping)

    for job in (
        JobPresent("j", given.job("Complete")),
        JobPresent("j", given.job("Failed")),
        FORESEEN,
    ):
        plan = ended(job)
        assert plan.status is not None and plan.status.run is not None
        assert (plan.status.run.released, plan.then) == (True, Step.RELEASE)
    running = ended(JobPresent("j", given.job()))
    assert running.then is None


def test_silence_is_metrics_unavailable_at_once_when_nothing_can_follow() -> None:
    notes = SourceNotes(metric_names=("los",), last_lines=("los=0.5",), filter="f")
    plan = decided(
        given.trial(state="Running"),
        job=JobPresent("j", given.job("Complete")),
        sources={"stdout": SourceState(ended=True, notes=notes)},
    )
    assert state_of(plan)[0] == "MetricsUnavailable"
    message = message_of(plan)
    assert "'loss'" in message and "did you mean 'los'" in message and "los=0.5" in message


def test_a_collector_that_never_ends_its_report_costs_only_the_grace_period() -> None:
    plan = decided(
        given.trial(state="Running"), job=JobPresent("j", given.job("Complete")), waited=60
    )
    assert state_of(plan)[0] == "MetricsUnavailable"


@pytest.mark.parametrize("value", ["nan", "inf", "-Infinity", "oops"])
def test_a_metric_that_was_never_finite_is_unavailable_and_said_so(value: str) -> None:
    plan = decided(
        given.trial(state="Running"),
        job=JobPresent("j", given.job("Complete")),
        sources=COMPLETE,
        rows=losses(value),
    )
    assert state_of(plan)[0] == "MetricsUnavailable"
    assert value in message_of(plan)


def test_nan_never_wins_over_numbers() -> None:
    plan = decided(
        given.trial(state="Running"),
        job=JobPresent("j", given.job("Complete")),
        sources=COMPLETE,
        rows=losses("nan", "0.4", "inf"),
    )
    assert plan.status is not None and plan.status.observation is not None
    (loss,) = plan.status.observation.metrics
    assert (loss.min, loss.max, loss.latest) == ("0.4", "0.4", "inf")


def test_a_job_over_without_a_matching_condition_fails_and_shows_both() -> None:
    trial = given.trial(state="Running")
    odd = trial.with_(spec=trial.spec.with_(success_condition="status.nope"))
    plan = decided(odd, job=JobPresent("j", given.job("Complete")))
    assert state_of(plan) == ("Failed", "ConditionNeverMatched")
    assert "status.nope" in message_of(plan) and "Complete" in message_of(plan)


def test_when_the_experiment_is_over_running_trials_are_killed_and_then_stopped() -> None:
    trial = given.trial(state="Running", job_uid="j")
    running = JobPresent("j", given.job())
    plan = decided(trial, job=running, experiment_over="goal reached")
    assert state_of(plan)[0] == "Killed"
    assert plan.status is not None
    assert decided(trial.with_(status=plan.status), job=running).step is Step.STOP


def test_an_ended_trial_releases_its_job_once() -> None:
    trial = given.trial(state="Succeeded", loss=1.0)
    plan = decided(trial, job=JobPresent("j", given.job("Complete")))
    assert plan.step is Step.RELEASE
    assert plan.status is not None
    assert decided(trial.with_(status=plan.status), job=None) == Plan()


def test_a_decided_end_is_final_whatever_the_job_says_later() -> None:
    trial = given.trial(state="Killed", released=True)
    assert decided(trial, job=JobPresent("j", given.job("Complete"))) == Plan()


def test_deletion_stops_first_and_forgets_afterwards() -> None:
    trial = given.trial(state="Running", deleting=True)
    assert decided(trial, job=JobPresent("j", given.job())).step is Step.STOP
    assert decided(trial, job=JobPresent("j", given.job("Failed"))).step is Step.FORGET


def test_a_pause_records_the_next_attempt_before_it_stops_the_running_one() -> None:
    trial = given.trial(state="Running", job_uid="j")
    plan = decided(trial, job=JobPresent("j", given.job()), paused=PAUSED)
    assert plan.step is None
    assert plan.status is not None and plan.status.run is not None
    assert (plan.status.run.attempt, plan.status.run.lost) == (2, 0)
    interrupted = trial.with_(status=plan.status)
    plan = decided(interrupted, job=JobAbsent(), paused=PAUSED, earlier_over=False)
    assert plan.step is Step.STOP_EARLIER
    assert decided(interrupted, job=JobAbsent(), paused=PAUSED).step is None


def test_an_attempt_that_ended_before_the_pause_keeps_its_result() -> None:
    plan = decided(
        given.trial(state="Running"),
        job=JobPresent("j", given.job("Complete")),
        sources=COMPLETE,
        rows=losses("0.5"),
        paused=PAUSED,
    )
    assert state_of(plan)[0] == "Succeeded"


def test_a_condition_that_cannot_be_evaluated_fails_and_says_so() -> None:
    trial = given.trial(state="Running")
    odd = trial.with_(spec=trial.spec.with_(failure_condition="status|@pretty"))
    plan = decided(odd, job=JobPresent("j", given.job()))
    assert state_of(plan) == ("Failed", "TrialFailed. Job reason: ConditionUnusable")
    assert "@pretty" in message_of(plan)


# ---- early stops, limits, places ----------------------------------------------------------------

EARNED = StopRecord(rule="medianstop", metric="loss", message="worse than the median")
RUNNING = {"job": JobPresent("job-1", given.job())}
OVER = {"job": JobPresent("job-1", given.job("Failed"))}


def running(**run: Any) -> Trial:
    return given.trial(state="Running", job_uid="job-1", **run)


def stopping() -> Trial:
    return running(stopping=EARNED.json())


def test_an_earned_stop_is_on_record_before_anything_is_stopped() -> None:
    plan = decided(running(), stop=EARNED, **RUNNING)
    assert plan.step is None
    assert plan.status is not None and plan.status.run is not None
    assert plan.status.run.stopping == EARNED


def test_a_recorded_stop_is_carried_out_whatever_is_wished_later() -> None:
    for wish in ({}, {"paused": "paused"}, {"experiment_over": "all trials have ended"}):
        assert decided(stopping(), **RUNNING, **wish).step is Step.STOP


@pytest.mark.parametrize("job", [OVER["job"], JobLost("gone"), JobAbsent()])
def test_a_stopped_trial_keeps_its_metrics_however_its_job_ended(job: JobState) -> None:
    plan = decided(stopping(), job=job, sources=COMPLETE, rows=losses("0.9", "0.8"))
    assert state_of(plan) == ("EarlyStopped", "TrialEarlyStopped")
    assert message_of(plan) == "worse than the median"
    assert plan.status is not None and plan.status.observation is not None
    assert plan.status.observation.metrics[0].latest == "0.8"


def test_the_last_rows_of_a_stopped_trial_are_waited_for_but_not_for_ever() -> None:
    assert decided(stopping(), **OVER).status is None
    assert state_of(decided(stopping(), **OVER, waited=60.0))[0] == "EarlyStopped"


def limited(seconds_ago: int) -> Trial:
    started = given.NOW - timedelta(seconds=seconds_ago)
    trial = running(startedAt=rfc3339(started))
    return trial.with_(spec=trial.spec.with_(active_deadline_seconds=10))


def test_an_attempt_that_has_used_its_time_fails_and_is_looked_at_in_time() -> None:
    assert decided(limited(8), **RUNNING).again == 2.0
    assert state_of(decided(limited(10), **RUNNING)) == ("Failed", "TrialDeadlineExceeded")


def test_a_trial_that_has_succeeded_in_time_is_not_failed_by_a_late_look() -> None:
    plan = decided(
        limited(100),
        job=JobPresent("job-1", given.job("Complete")),
        sources=COMPLETE,
        rows=losses("0.5"),
    )
    assert state_of(plan)[0] == "Succeeded"


def test_the_time_of_an_attempt_begins_when_its_job_is_seen() -> None:
    plan = decided(given.trial(), **RUNNING)
    assert plan.status is not None and plan.status.run is not None
    assert plan.status.run.started_at == given.NOW


def test_a_trial_without_a_place_is_interrupted_and_says_why() -> None:
    assert decided(running(), paused=HELD, **RUNNING).status is not None
    waiting = decided(given.trial(attempt=2), paused=HELD, job=JobAbsent())
    assert waiting.status is not None and waiting.status.run is not None
    assert waiting.status.run.waiting == HELD


def test_a_running_trial_may_outlive_its_experiment_and_one_that_waits_may_not() -> None:
    over = {"experiment_over": "the goal is reached", "may_finish": True}
    assert decided(running(), **RUNNING, **over).status is None
    assert state_of(decided(given.trial(), job=JobAbsent(), **over))[0] == "Killed"
    assert state_of(decided(running(), **RUNNING, experiment_over="over"))[0] == "Killed"


@pytest.mark.parametrize(
    ("collector", "said"),
    [
        ({"collector": {"kind": "Push"}}, "tunesmith.report(loss=0.93) works everywhere"),
        (
            {
                "collector": {"kind": "File"},
                "source": {"fileSystemPath": {"path": "/var/log/m.json", "format": "JSON"}},
            },
            'Write it to /var/log/m.json as a line `{"loss": 0.93}`',
        ),
    ],
)
def test_what_to_do_about_missing_metrics_depends_on_who_collects(
    collector: dict[str, Any], said: str
) -> None:
    trial = given.trial(state="Running")
    spec = trial.spec.with_(metrics_collector=MetricsCollectorSpec.parse(collector))
    job = JobPresent("j", given.job("Complete"))
    plan = decided(trial.with_(spec=spec), job=job, sources=COMPLETE)
    assert said in message_of(plan)
