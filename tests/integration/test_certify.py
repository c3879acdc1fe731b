# SPDX-License-Identifier: Apache-2.0
"""`certify` finds nothing wrong with our services, and finds what is wrong with broken ones."""

from __future__ import annotations

import shlex
import sys
import tempfile
from collections.abc import Collection, Iterator
from pathlib import Path

import broken_services as broken
import pytest
from command_line import CommandLine
from service_processes import service_at

from tunesmith_suggestion.certify import (
    CHECKS,
    FULL,
    QUICK,
    Check,
    GrpcService,
    Subject,
    Verdict,
    certify,
)
from tunesmith_suggestion.registry import BUILT_IN

pytestmark = pytest.mark.integration

EXAMPLE = Path(__file__).parents[2] / "examples" / "digits" / "tpe.yaml"
CHEAP = {"grid", "multivariate-tpe", "random", "sobol", "tpe"}
"""Algorithms that get the long look."""


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    """Short enough for a socket."""
    with tempfile.TemporaryDirectory(prefix="ts-") as name:
        yield Path(name)


@pytest.fixture(scope="module")
def ours(folder: Path) -> Iterator[str]:
    """Where our service listens."""
    with service_at(folder / "ours.sock"):
        yield f"unix:{folder}/ours.sock"


@pytest.fixture
def cli(tmp_path: Path) -> CommandLine:
    return CommandLine(tmp_path, tmp_path / "home")


def names(checks: Collection[Check], verdict: Verdict) -> set[str]:
    return {check.name for check in checks if check.verdict is verdict}


def found(
    service: broken.Honest,
    folder: Path,
    *only: str,
    algorithm: str = "random",
    timeout_s: float = 20.0,
) -> list[Check]:
    """What is found in a service, by some of the checks."""
    skip = set(CHECKS) - set(only)
    with (
        broken.served(service, folder) as target,
        GrpcService(target, timeout_s) as connected,
    ):
        connected.wait(5)
        checks = certify(connected, Subject(algorithm), sizes=QUICK, skip=skip)
    return [check for check in checks if check.name in only]


# ---- our services -------------------------------------------------------------------------------


@pytest.mark.parametrize("name", sorted(BUILT_IN))
def test_our_algorithms_are_certified(name: str, ours: str) -> None:
    with GrpcService(ours, 60) as service:
        checks = certify(service, Subject(name), sizes=FULL if name in CHEAP else QUICK)
    assert [check for check in checks if check.verdict is Verdict.FAIL] == []
    assert names(checks, Verdict.SKIP) <= {"space-categorical", "space-discrete", "used-up"}
    assert [check.name for check in checks] == list(CHECKS)


def test_a_service_that_is_really_restarted_goes_on_with_the_same_points(folder: Path) -> None:
    path = folder / "again.sock"
    running = [service_at(path)]
    running[0].__enter__()

    def restart() -> None:
        running.pop().__exit__(None, None, None)
        running.append(service_at(path))
        running[0].__enter__()

    try:
        with GrpcService(f"unix:{path}", 20) as service:
            skip = set(CHECKS) - {"restart"}
            checks = certify(service, Subject("tpe"), sizes=QUICK, restart=restart, skip=skip)
    finally:
        running.pop().__exit__(None, None, None)
    (check,) = (check for check in checks if check.name == "restart")
    assert check.verdict is Verdict.PASS
    assert "restarted, with the points of a service that kept running" in check.evidence


# ---- broken ones --------------------------------------------------------------------------------


def test_nothing_is_found_in_an_honest_service(folder: Path) -> None:
    checks = found(broken.Honest(), folder, *CHECKS)
    assert names(checks, Verdict.PASS) == set(CHECKS), checks


@pytest.mark.parametrize(
    ("service", "check", "evidence"),
    [
        (broken.OutsideBounds, "space-double", "is outside [0.5, 4.0]"),
        (broken.IgnoresSteps, "space-steps", "plus a multiple of"),
        (broken.WritesIntegersAsFloats, "space-int", "is not written as an integer"),
        (broken.InventsChoices, "space-categorical", "is not one of"),
        (broken.LeavesFixedParametersOut, "space-one-value", "only: missing"),
        (broken.OneTooMany, "first-batch", "4 assignments where 3 were asked for"),
        (broken.OneTooMany, "batch-of-none", "1 assignment where 0 were asked for"),
        (broken.RepeatsTheBatch, "goes-on", "only points that were told before"),
        (broken.RepeatsTheBatch, "restart", "after the restart it proposes what it was told"),
        (broken.OnePointABatch, "distinct", "7 of 8 points came twice"),
        (broken.EndsEarly, "goes-on", "no assignments after 6 trials"),
        (broken.HasNoSeed, "same-seed", "begin with different points"),
        (broken.HasOneSeed, "other-seed", "11, 12 and 13 give the same points"),
        (broken.AcceptsEverything, "unknown-setting", "a misspelt one would be, too"),
        (broken.HasNoHealth, "health", "Check answered UNIMPLEMENTED"),
        (broken.Remembers, "unknown-trials", "UNKNOWN: Exception calling application"),
        (broken.Remembers, "restart", "UNKNOWN: Exception calling application"),
        (broken.NeedsNumbers, "not-a-number", "could not convert string to float"),
        (broken.NeedsASuccess, "failed", "arg is an empty sequence"),
        (broken.WantsEachTrialOnce, "duplicate-trials", "trial is finished already"),
        (broken.EndsWhilePointsAreLeft, "used-up", "ended with 2 of 6 points"),
        (broken.MixesExperiments, "at-once", ""),
    ],
)
def test_a_defect_is_found_and_named(
    service: type[broken.Honest], check: str, evidence: str, folder: Path
) -> None:
    (judged,) = found(service(), folder, check)
    assert judged.verdict is Verdict.FAIL, judged
    assert evidence in judged.evidence


def test_a_limit_of_four_mebibytes_is_found_and_explained(folder: Path) -> None:
    skip = set(CHECKS) - {"long-history"}
    with (
        broken.served(broken.RefusesLargeMessages(), folder) as target,
        GrpcService(target, 20) as service,
    ):
        checks = certify(service, Subject("random"), skip=skip)
    (check,) = (check for check in checks if check.verdict is Verdict.FAIL)
    assert check.name == "long-history"
    assert "10,000 trials" in check.evidence and "max_receive_message_length" in check.evidence


def test_a_call_that_never_ends_fails_at_its_deadline(folder: Path) -> None:
    goes_on, deadline = found(broken.Stalls(), folder, "goes-on", "deadline", timeout_s=0.5)
    assert "GetSuggestions answered DEADLINE_EXCEEDED" in goes_on.evidence
    assert "the deadline is 0.5 s" in deadline.evidence


def test_nothing_more_is_asked_of_a_service_that_died(folder: Path) -> None:
    checks = found(broken.DiesOfUnknownTrials(), folder, "first-batch", "unknown-trials", "at-once")
    assert [check.verdict for check in checks] == [Verdict.PASS, Verdict.FAIL, Verdict.SKIP]
    assert checks[2].evidence == "the service does not answer any more"


def test_nothing_is_asked_after_every_problem_was_refused(folder: Path) -> None:
    accepts, batch = found(broken.RefusesEverything(), folder, "accepts", "first-batch")
    assert accepts.evidence == "every ordinary problem is refused: not today"
    assert (batch.verdict, batch.evidence) == (Verdict.SKIP, "no problem was accepted")


@pytest.mark.parametrize("one_experiment", [True, False])
def test_a_service_of_one_experiment_passes_where_that_is_said(
    one_experiment: bool, folder: Path
) -> None:
    service = broken.ServesOneExperiment()
    subject = Subject("random", one_experiment=one_experiment)
    with (
        broken.served(service, folder) as target,
        GrpcService(target, 20) as connected,
    ):
        checks = certify(connected, subject, sizes=QUICK, restart=service.restarted)
    failed = names(checks, Verdict.FAIL)
    assert not failed if one_experiment else "space-int" in failed
    assert "at-once" in names(checks, Verdict.SKIP if one_experiment else Verdict.FAIL)


# ---- the command --------------------------------------------------------------------------------


def test_the_command_reports_and_ends_with_0(ours: str, cli: CommandLine) -> None:
    done = cli.run("certify", ours, "--algorithm", "random", "--quick")
    assert done.returncode == 0, done.stderr
    assert "space-log-normal" in done.stdout
    assert f"random at {ours}: certified: {len(CHECKS)} passed, 0 failed" in done.stdout
    assert "next        tunesmith certify" in done.stdout


def test_the_report_for_programs_takes_settings_a_space_and_checks_to_leave_out(
    ours: str, cli: CommandLine
) -> None:
    options = ("--quick", "--skip", "long-history", "--setting", "random_state=4")
    found = cli.json("certify", ours, "--algorithm", "tpe", "--space", str(EXAMPLE), *options)
    assert (found["certified"], found["algorithm"], found["address"]) == (True, "tpe", ours)
    assert found["counts"] == {"pass": len(CHECKS) - 1, "fail": 0, "skip": 1}
    by_name = {check["name"]: check for check in found["checks"]}
    assert by_name["accepts"]["evidence"] == "5 parameters are accepted with random_state=4"
    assert by_name["long-history"]["evidence"] == "left out, as asked for"
    assert "batch-size=" in by_name["first-batch"]["evidence"]


def test_a_failed_check_ends_the_command_with_1_and_is_told_in_full(
    folder: Path, cli: CommandLine
) -> None:
    with broken.served(broken.HasNoHealth(), folder) as target:
        done = cli.run("certify", target, "--algorithm", "random", "--quick")
    assert done.returncode == 1
    assert "health  wanted: the probe of Katib's Deployment passes" in done.stdout
    assert "not certified" in done.stdout and "-o json  # for a bug report" in done.stdout


def test_the_restart_command_is_run_and_a_failing_one_is_told(ours: str, cli: CommandLine) -> None:
    noted = cli.folder / "restarts"
    note = f"open({str(noted)!r}, 'a').write('x')"
    common = ("certify", ours, "--algorithm", "random", "--quick", "--restart-command")
    done = cli.run(*common, shlex.join([sys.executable, "-c", note]))
    assert done.returncode == 0, done.stdout
    assert noted.read_text() == "xx"
    failed = cli.run(
        *common, shlex.join([sys.executable, "-c", "raise SystemExit('no such unit')"])
    )
    assert failed.returncode == 2
    assert "ended with status 1: no such unit" in failed.stderr


def test_nobody_there_is_status_3_with_what_to_do_next(folder: Path, cli: CommandLine) -> None:
    target = f"unix:{folder}/nobody.sock"
    done = cli.run("certify", target, "--algorithm", "tpe", "--timeout", "0.3")
    assert done.returncode == 3
    assert f"nobody answers at {target}" in done.stderr
    assert f"tunesmith suggestion --listen {target} --insecure" in done.stderr


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--skip", "healht"), "there is no check 'healht'; did you mean health?"),
        (("--setting", "gamma"), "gamma: is no NAME=VALUE"),
        (("--space", "nowhere.yaml"), "there is no file 'nowhere.yaml'"),
        (("--one-experiment",), "needs --restart-command"),
    ],
)
def test_a_mistake_in_the_command_is_status_2(
    options: tuple[str, ...], words: str, cli: CommandLine
) -> None:
    done = cli.run("certify", "127.0.0.1:1", "--algorithm", "tpe", *options)
    assert done.returncode == 2
    assert words in " ".join(done.stderr.split())
