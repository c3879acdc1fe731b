# SPDX-License-Identifier: Apache-2.0
"""Rows that Katib's db-manager has written arrive once, whatever interrupts."""

from __future__ import annotations

import asyncio
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from database_servers import DatabaseServer
from katib_rows_written import emptied, katibs, steps, write

from tunesmith_api.errors import Invalid
from tunesmith_observation.by_name import Window
from tunesmith_observation.database import Access, sqlite_url
from tunesmith_observation.katib_import import (
    Imported,
    KnownTrial,
    import_rows,
    katib_url,
)
from tunesmith_observation.sql import SqlObservationLog

pytest_plugins = ("database_fixtures",)
pytestmark = pytest.mark.integration


def imported(url: str, log: SqlObservationLog, trials: dict[str, KnownTrial]) -> Imported:
    return asyncio.run(import_rows(Access(katib_url(url)), log, trials, lambda _: None))


def test_rows_of_known_and_of_unknown_trials_arrive_once(
    database_server: DatabaseServer, tmp_path: Path
) -> None:
    mixed = [row for pair in zip(steps("a", 50), steps("b", 50), strict=True) for row in pair]
    mixed += [
        ("a", "2024-05-01 11:00:00", "accuracy", "nan"),
        ("a", "2024-05-01 11:00:00", "n", ""),
    ]
    url = katibs(database_server, mixed)
    log = SqlObservationLog.open(sqlite_url(tmp_path / "rows.db"))
    trials = {"a": KnownTrial("uid-of-a", "team")}

    for new in (102, 0):
        found = imported(url, log, trials)
        assert (found.rows, found.new, found.of) == (102, new, 102)
        assert (set(found.trials), found.unknown, found.left_out) == ({"a", "b"}, {"b"}, {})

    async def read() -> tuple[list[str], list[str], list[int]]:
        rows = [row async for page in log.pages("uid-of-a", 1) for row in page.rows]
        by_name = await log.rows_by_trial_name("team", "a", Window(metric="loss"))
        kept = await log.rows_by_trial_name("", "b")
        assert [row.value for row in by_name] == [row.value for row in rows[:50]]
        return [r.value for r in rows], [r.value for r in kept], [r.time_us for r in kept]

    values, kept, times = asyncio.run(read())
    assert values == [*(f"{n}.5" for n in range(50)), "nan", ""]
    assert kept == [f"{n}.5" for n in range(50)]
    assert times[:2] == [1714557600250000, 1714557601250000]
    asyncio.run(log.aclose())


def test_what_cannot_be_stored_is_said_and_hinders_no_other_trial(
    database_server: DatabaseServer, tmp_path: Path
) -> None:
    long = ("long", "2024-05-01 10:00:00", "loss", "9" * 5000)
    url = katibs(database_server, [long, *steps("fine", 3)])
    log = SqlObservationLog.open(sqlite_url(tmp_path / "rows.db"))
    found = imported(url, log, {})
    assert list(found.left_out) == ["long"]
    assert "1024" in found.left_out["long"] or "1,024" in found.left_out["long"]
    assert len(asyncio.run(log.rows_by_trial_name("", "fine"))) == 3
    asyncio.run(log.aclose())


def test_rows_that_katib_writes_after_an_import_are_copied_by_the_next(
    database_server: DatabaseServer, tmp_path: Path
) -> None:
    url = katibs(database_server, steps("a", 3))
    log = SqlObservationLog.open(sqlite_url(tmp_path / "rows.db"))
    assert imported(url, log, {}).new == 3
    write(url, [("b", "2024-05-01 12:00:00", "loss", "7"), *steps("a", 1)])
    assert imported(url, log, {}).new == 2
    found = asyncio.run(log.rows_by_trial_name("", "a"))
    assert [row.value for row in found] == ["0.5", "1.5", "2.5", "0.5"]
    asyncio.run(log.aclose())


def test_another_database_is_refused_with_a_sentence(
    database_server: DatabaseServer, tmp_path: Path
) -> None:
    log = SqlObservationLog.open(sqlite_url(tmp_path / "rows.db"))
    with pytest.raises(Invalid, match="observation_logs"):
        imported(emptied(database_server), log, {})
    asyncio.run(log.aclose())


def test_an_import_that_is_killed_is_done_by_doing_it_again(
    database_server: DatabaseServer, tmp_path: Path
) -> None:
    rows = [row for n in range(40) for row in steps(f"trial-{n}", 1000)]
    url = katibs(database_server, rows)
    target = f"sqlite:///{tmp_path}/rows.db"
    command = [sys.executable, "-m", "tunesmith", "import", "katib-db", url, "--to", target]
    for batches in (1, 2, 3):  # so many are there, then it is killed in the next one
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        assert process.stderr is not None
        for _ in range(batches):
            assert b"of 40,000 rows" in process.stderr.readline()
        process.send_signal(signal.SIGKILL)
        process.wait(timeout=10)
        process.stderr.close()
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=100)
    assert done.returncode == 0, done.stderr
    copied = re.fullmatch(r"40,000 rows of 40 trials: ([0-9,]+) copied\n", done.stdout)
    assert copied is not None
    assert int(copied[1].replace(",", "")) <= 10_000  # what was there is not sent again
    log = SqlObservationLog.open(target)
    for n in range(40):
        found = asyncio.run(log.rows_by_trial_name("", f"trial-{n}"))
        assert [row.value for row in found] == [f"{k}.5" for k in range(1000)]
    asyncio.run(log.aclose())


def test_databases_that_are_not_there_are_a_sentence(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tunesmith", "import", "katib-db"]
    urls = ("mysql://root@127.0.0.1:1/katib", "nonsense")
    for url in urls:
        words = [*command, url, "--to", f"sqlite:///{tmp_path}/rows.db"]
        done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=60)
        assert done.returncode in (2, 3)
        assert done.stderr.startswith("error: ")
        assert "Traceback" not in done.stderr
