# SPDX-License-Identifier: Apache-2.0
"""SqliteStore with real files, real processes that are killed, and disks that are full."""

from __future__ import annotations

import asyncio
import importlib.util
import json
import random
import shutil
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
from deterministic import CountingRng, TickingClock

from tunesmith_controller.clock import SystemClock, SystemRng
from tunesmith_controller.ports import (
    Change,
    Expired,
    Invalid,
    Json,
    Key,
    NotFound,
    ObjectList,
    Unavailable,
    WatchEvent,
)
from tunesmith_controller.stores.sqlite import SqliteStore
from tunesmith_controller.stores.sqlite_rows import read_list

pytestmark = pytest.mark.integration

PROGRAM = Path(__file__).with_name("sqlite_store_program.py")
PATIENCE_S = 30.0


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state" / "objects.db"


@contextmanager
def opened(path: Path, **options: Any) -> Iterator[SqliteStore]:
    store = SqliteStore(path, SystemClock(), SystemRng(), poll_interval_s=0.02, **options)
    try:
        yield store
    finally:
        store.close()


@contextmanager
def process(*arguments: str | Path) -> Iterator[subprocess.Popen[str]]:
    """The program doing something; killed at the end if it still runs."""
    argv = [sys.executable, str(PROGRAM), *map(str, arguments)]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as running:
        try:
            yield running
        finally:
            running.kill()


def lines(running: subprocess.Popen[str]) -> list[Json]:
    """All that it says until it ends. A line that its death cut short says nothing."""
    assert running.stdout is not None
    text = running.stdout.read()
    return [json.loads(line) for line in text.splitlines(keepends=True) if line.endswith("\n")]


def finished(*arguments: str | Path) -> list[Json]:
    with process(*arguments) as running:
        said = lines(running)
        assert running.wait(PATIENCE_S) == 0
        return said


def trial(name: str, *, kind: str = "Trial", owner: Json | None = None, **more: Any) -> Json:
    metadata: Json = {"name": name, "namespace": "default"}
    if owner is not None:
        uid = owner["metadata"]["uid"]
        metadata["ownerReferences"] = [
            {"apiVersion": "v1", "kind": "Experiment", "name": "owner", "uid": uid}
        ]
    return {"apiVersion": "v1", "kind": kind, "metadata": metadata, **more}


def listed(store: SqliteStore, kind: str = "Trial") -> ObjectList:
    return asyncio.run(store.list(kind))


async def take(watch: AsyncIterator[WatchEvent], count: int) -> list[WatchEvent]:
    found: list[WatchEvent] = []
    async with asyncio.timeout(PATIENCE_S):
        while len(found) < count:
            event = await anext(watch)
            if event.change is not Change.BOOKMARK:
                found.append(event)
    return found


async def until(condition: Callable[[], Any]) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while not await condition():
            await asyncio.sleep(0.01)


# ---- crashes ------------------------------------------------------------------------------------


def _program() -> Any:
    spec = importlib.util.spec_from_file_location("sqlite_store_program", PROGRAM)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _killed_while_writing(path: Path, prefix: str, after_s: float) -> list[Json]:
    """What a writer was told before it was killed, `after_s` after its first acknowledgement."""
    with process("write", path, prefix) as running:
        assert running.stdout is not None
        first = running.stdout.readline()
        timer = threading.Timer(after_s, running.kill)
        timer.start()
        said = [json.loads(first), *lines(running)]
        timer.join()
    return said


def _expect_whole(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        query = "SELECT min(version), max(version), count(*) FROM events"
        first, last, count = connection.execute(query).fetchone()
        assert last - first + 1 == count
        dangling = (
            "SELECT count(*) FROM labels l LEFT JOIN objects o ON o.id = l.object_id"
            " WHERE o.id IS NULL"
        )
        assert connection.execute(dangling).fetchone() == (0,)


def _expect_acknowledged(objects: dict[str, Json], said: list[Json]) -> None:
    """Deleted ones are gone, others there at least as new; one write of each lane may be newer."""
    deleted = {line["name"] for line in said if "deleted" in line}
    assert not deleted & objects.keys()
    missing = []
    for line in said:
        if line["name"] in deleted or "version" not in line:
            continue
        obj = objects.get(line["name"])
        if obj is None:
            missing.append(line["name"])
        else:
            assert int(obj["metadata"]["resourceVersion"]) >= int(line["version"])
    # A deletion may have happened without being acknowledged, once in each of the eight lanes.
    assert all(int(name.rpartition("-")[2]) % 3 == 2 for name in missing)
    lanes = [name.rpartition("-")[0] for name in set(missing)]
    assert len(lanes) == len(set(lanes))


@pytest.mark.timeout(240)
def test_a_writer_killed_thirty_times_loses_and_halves_nothing(path: Path) -> None:
    is_whole = _program().is_whole
    chance = random.Random(1)
    for number in range(30):
        prefix = f"w{number:02d}"
        said = _killed_while_writing(path, prefix, after_s=chance.uniform(0, 0.15))
        _expect_whole(path)
        with opened(path) as store:
            found = asyncio.run(store.list("Trial", labels={"writer": prefix})).items
        assert all(is_whole(obj) for obj in found)
        _expect_acknowledged({obj["metadata"]["name"]: obj for obj in found}, said)


def test_a_collection_that_a_crash_interrupted_goes_on_at_the_next_start(path: Path) -> None:
    async def given() -> None:
        with opened(path) as store:
            owner = await store.create(trial("owner", kind="Experiment"))
            calls = [store.create(trial(f"t{number}", owner=owner)) for number in range(4000)]
            await asyncio.gather(*calls)

    asyncio.run(given())
    with process("cascade", path) as running:
        assert running.stdout is not None
        assert json.loads(running.stdout.readline()) == {"deleted": True}
        running.kill()
        running.wait()
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT count(*) FROM gone").fetchone() == (1,)

    async def all_gone(store: SqliteStore) -> bool:
        return not (await store.list("Trial")).items

    with opened(path) as store:
        asyncio.run(until(lambda: all_gone(store)))
    _expect_whole(path)


# ---- several processes --------------------------------------------------------------------------


def test_two_processes_count_to_a_thousand_together(path: Path) -> None:
    with opened(path) as store:
        asyncio.run(store.create(trial("counter", spec={"size": 0})))
        with ThreadPoolExecutor(2) as pool:
            told = list(pool.map(lambda _: finished("count", path, "500"), range(2)))
        counter = asyncio.run(store.get(Key("Trial", "default", "counter")))
    assert counter["spec"] == {"size": 1000}
    assert counter["metadata"]["generation"] == 1001
    assert all(len(said) == 1 for said in told)


def test_a_watcher_in_another_process_sees_every_change_in_order(path: Path) -> None:
    async def given(store: SqliteStore) -> list[tuple[str, str, int]]:
        made = []
        for number in range(100):
            name = f"t{number}"
            created = await store.create(trial(name))
            changed = await store.update_status(trial(name, status={"x": number}))
            made.append(("ADDED", name, int(created["metadata"]["resourceVersion"])))
            made.append(("MODIFIED", name, int(changed["metadata"]["resourceVersion"])))
            if number % 2:
                await store.delete(Key("Trial", "default", name))
                made.append(("DELETED", name, made[-1][2] + 1))
        await store.create(trial("last"))
        return [*made, ("ADDED", "last", made[-1][2] + 1)]

    with opened(path) as store, process("watch", path, "last") as running:
        assert running.stdout is not None
        assert json.loads(running.stdout.readline()) == {"ready": True}
        made = asyncio.run(given(store))
        seen = [(line["change"], line["name"], line["version"]) for line in lines(running)]
    assert seen == made


def test_a_new_file_can_be_opened_by_many_processes_at_once(path: Path) -> None:
    with ThreadPoolExecutor(6) as pool:
        for number in range(3):
            fresh = path.with_name(f"fresh{number}.db")
            stores = list(
                pool.map(
                    lambda _, fresh=fresh: SqliteStore(fresh, SystemClock(), SystemRng()), range(6)
                )
            )
            for place, store in enumerate(stores):
                asyncio.run(store.create(trial(f"t{place}")))
            assert len(listed(stores[0]).items) == 6
            for store in stores:
                store.close()


def test_a_write_waits_for_another_process_and_then_gives_up_with_a_sentence(path: Path) -> None:
    with opened(path, busy_timeout_s=0.1) as store, closing(sqlite3.connect(path)) as other:
        other.isolation_level = None
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(Unavailable, match="locked: another process"):
            asyncio.run(store.create(trial("a")))
        assert listed(store).items == []
        other.execute("ROLLBACK")
        asyncio.run(store.create(trial("a")))
        assert len(listed(store).items) == 1


# ---- disks --------------------------------------------------------------------------------------


def _expect_survived(said: list[Json], sentence: str) -> None:
    assert [line["turn"] for line in said] == [0, 1, 2, 3, 4]
    for line in said:
        assert sentence in line["refused"]
        assert line["kept"] > 0
        assert line["lost"] == []


def test_a_full_disk_refuses_writes_keeps_what_was_written_and_recovers(tmp_path: Path) -> None:
    unshare = shutil.which("unshare")
    argv = [str(unshare), "--map-root-user", "--mount", sys.executable, str(PROGRAM)]
    if unshare is None or subprocess.run([*argv[:3], "true"], check=False).returncode:
        pytest.skip("no user namespaces here, which a small file system of our own needs")
    ran = subprocess.run(
        [*argv, "full_disk", str(tmp_path)], check=True, stdout=subprocess.PIPE, timeout=PATIENCE_S
    )
    _expect_survived([json.loads(line) for line in ran.stdout.splitlines()], "the disk is full")


def test_a_file_that_may_not_grow_refuses_writes_and_recovers(tmp_path: Path) -> None:
    _expect_survived(finished("limited_file", tmp_path), str(tmp_path / "objects.db"))
    _expect_whole(tmp_path / "objects.db")


def test_the_directory_and_the_files_are_the_user_s_alone(path: Path) -> None:
    with opened(path) as store:
        asyncio.run(store.create(trial("a")))
        modes = {file.name: file.stat().st_mode & 0o777 for file in path.parent.iterdir()}
    assert path.parent.stat().st_mode & 0o777 == 0o700
    assert modes == {"objects.db": 0o600, "objects.db-wal": 0o600, "objects.db-shm": 0o600}


@pytest.mark.parametrize("content", [b"not a database at all" * 500, b"SQLite format 3\0" * 300])
def test_a_file_that_is_no_database_is_named_and_left_alone(path: Path, content: bytes) -> None:
    path.parent.mkdir()
    path.write_bytes(content)
    with pytest.raises(Unavailable, match=r"objects\.db is not a readable tunesmith database"):
        SqliteStore(path, SystemClock(), SystemRng())
    assert path.read_bytes() == content


def test_a_file_damaged_while_in_use_is_unavailable(path: Path) -> None:
    async def given(store: SqliteStore) -> None:
        await asyncio.gather(
            *[store.create(trial(f"t{n}", spec={"text": "x" * 3000})) for n in range(200)]
        )

    with opened(path) as store:
        asyncio.run(given(store))
    damaged = bytearray(path.read_bytes())
    damaged[4096:] = bytes(len(damaged) - 4096)
    path.write_bytes(damaged)
    with pytest.raises(Unavailable, match=r"objects\.db"), opened(path) as store:
        listed(store)


def test_a_directory_that_cannot_be_made_is_unavailable(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(Unavailable, match="cannot be opened"):
        SqliteStore(tmp_path / "file" / "objects.db", SystemClock(), SystemRng())


def test_a_file_of_a_newer_tunesmith_is_refused_and_left_alone(path: Path) -> None:
    with opened(path) as store:
        asyncio.run(store.create(trial("a")))
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA user_version=7")
    with pytest.raises(Invalid, match=r"newer tunesmith \(schema 7, this one knows 1\): upgrade"):
        SqliteStore(path, SystemClock(), SystemRng())


# ---- one process --------------------------------------------------------------------------------


def test_everything_is_there_after_a_restart(path: Path) -> None:
    with opened(path) as store:
        created = asyncio.run(store.create(trial("a", status={"x": 1})))
        before = listed(store)
    with opened(path) as store:
        assert listed(store) == before == ObjectList([created], before.resource_version)
        asyncio.run(store.create(trial("b")))
        watch = store.watch("Trial", resource_version=before.resource_version)
        [event] = asyncio.run(take(watch, 1))
        assert event.object["metadata"]["name"] == "b"


def test_a_cancelled_write_leaves_no_transaction_behind(path: Path) -> None:
    async def scenario(store: SqliteStore) -> None:
        for number in range(50):
            call = asyncio.create_task(store.create(trial(f"t{number}")))
            for _ in range(number % 5):
                await asyncio.sleep(0)
            call.cancel()
            await asyncio.wait([call])
        await store.create(trial("after"))
        assert (await store.get(Key("Trial", "default", "after")))["metadata"]["uid"]

    with opened(path, busy_timeout_s=1) as store, opened(path, busy_timeout_s=1) as other:
        asyncio.run(scenario(store))
        asyncio.run(other.create(trial("theirs")))


def test_a_refused_write_leaves_those_beside_it_alone(path: Path) -> None:
    async def scenario(store: SqliteStore) -> list[Any]:
        calls: list[Awaitable[Any]] = []
        for number in range(30):
            calls.append(store.create(trial(f"t{number}")))
            calls.append(store.delete(Key("Trial", "default", f"none{number}")))
        return await asyncio.gather(*calls, return_exceptions=True)

    with opened(path) as store:
        outcomes = asyncio.run(scenario(store))
        assert [type(outcome) for outcome in outcomes] == [dict, NotFound] * 30
        assert len(listed(store).items) == 30


def test_a_watcher_far_behind_catches_up_from_the_file(path: Path) -> None:
    async def scenario(store: SqliteStore) -> list[str]:
        watch = store.watch("Trial")
        await store.create(trial("a"))
        await take(watch, 1)
        for start in range(0, 2500, 100):
            calls = [store.create(trial(f"t{start + n:04d}")) for n in range(100)]
            await asyncio.gather(*calls)
        events = await take(watch, 2500)
        return [event.object["metadata"]["resourceVersion"] for event in events]

    with opened(path) as store:
        versions = [int(version) for version in asyncio.run(scenario(store))]
    assert versions == list(range(versions[0], versions[0] + 2500))


def test_the_log_of_changes_is_bounded_in_number_and_bytes(path: Path) -> None:
    async def write(store: SqliteStore, count: int, size: int) -> None:
        await store.create(trial("a"))
        for number in range(count):
            status = {"text": "x" * size, "number": number}
            await store.update_status(trial("a", status=status))
        await store.delete(Key("Trial", "default", "a"))

    def kept() -> tuple[int, int]:
        with closing(sqlite3.connect(path)) as connection:
            query = "SELECT count(*), sum(length(object)) FROM events"
            number, size = connection.execute(query).fetchone()
            return int(number), int(size)

    with opened(path, history=64) as store:
        asyncio.run(write(store, 200, 10))
        assert kept()[0] in range(64, 67)
        with pytest.raises(Expired):
            asyncio.run(take(store.watch("Trial", resource_version="2"), 1))
        asyncio.run(write(store, 60, 1_400_000))
        assert kept()[1] <= 64 * 1024 * 1024 + 1_500_000
        asyncio.run(write(store, 2, 10))


def test_a_closed_store_says_so_and_ends_its_watches(path: Path) -> None:
    async def scenario() -> None:
        store = SqliteStore(path, TickingClock(), CountingRng())
        watch = store.watch("Trial")
        assert (await anext(watch)).change is Change.BOOKMARK
        waiting = asyncio.create_task(take(watch, 1))
        await asyncio.sleep(0)
        await asyncio.to_thread(store.close)
        calls = [waiting, store.list("Trial"), store.create(trial("a")), take(watch, 1)]
        outcomes = await asyncio.gather(*calls, return_exceptions=True)
        assert [type(outcome) for outcome in outcomes] == [Unavailable] * 4
        store.close()

    asyncio.run(scenario())


def test_a_watcher_catches_up_with_very_many_changes_of_another_process(path: Path) -> None:
    async def scenario(store: SqliteStore, other: SqliteStore) -> None:
        watch = store.watch("Trial")
        assert (await anext(watch)).change is Change.BOOKMARK
        calls = [other.create(trial(f"t{number:04d}")) for number in range(1500)]
        made = await asyncio.gather(*calls)
        assert [event.object for event in await take(watch, 1500)] == made
        made.append(await other.create(trial("later")))
        assert (await take(watch, 1))[0].object == made[-1]

    with opened(path) as store, opened(path) as other:
        asyncio.run(scenario(store, other))


def test_an_idle_store_with_a_watcher_costs_next_to_no_time(path: Path) -> None:
    async def scenario(store: SqliteStore) -> float:
        await store.create(trial("a"))
        waiting = asyncio.create_task(take(store.watch("Trial"), 2))
        await asyncio.sleep(0.1)
        before = time.process_time()
        await asyncio.sleep(0.5)
        spent = time.process_time() - before
        waiting.cancel()
        return spent

    with opened(path) as store:
        assert asyncio.run(scenario(store)) < 0.05


@pytest.mark.parametrize("labels", [{"x": "1"}, {"x": "1", "y": "2"}])
def test_a_list_by_labels_reads_only_what_has_the_first(path: Path, labels: dict[str, str]) -> None:
    asked: list[str] = []
    with opened(path), closing(sqlite3.connect(path)) as connection:
        connection.set_trace_callback(asked.append)
        read_list(connection, "Trial", None, labels)
        connection.set_trace_callback(None)
        plan = [row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN {asked[0]}")]
    wanted = ["SEARCH l0 USING PRIMARY KEY (key=? AND value=?)"]
    wanted += ["SEARCH l1 USING PRIMARY KEY (key=? AND value=? AND object_id=?)"] * (
        len(labels) - 1
    )
    wanted += ["SEARCH o USING INTEGER PRIMARY KEY (rowid=?)", "USE TEMP B-TREE FOR ORDER BY"]
    assert plan == wanted
