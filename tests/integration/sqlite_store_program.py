# SPDX-License-Identifier: Apache-2.0
"""What the other processes of test_sqlite_store.py do: `python sqlite_store_program.py ACTION …`.

Every line on standard output is JSON and is written only after the store has answered.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import resource
import subprocess
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from tunesmith_controller.clock import SystemClock, SystemRng
from tunesmith_controller.ports import Change, Conflict, Json, Key, Unavailable
from tunesmith_controller.stores.sqlite import SqliteStore

KIB = 1024
ROOM = 400 * KIB
COUNTER = Key("Trial", "default", "counter")


def opened(path: Path) -> SqliteStore:
    return SqliteStore(path, SystemClock(), SystemRng(), poll_interval_s=0.02)


def tell(**facts: Any) -> None:
    print(json.dumps(facts), flush=True)


def sealed(name: str, text: str) -> Json:
    """An object whose spec says whether it is whole."""
    return {
        "apiVersion": "kubeflow.org/v1beta1",
        "kind": "Trial",
        "metadata": {
            "name": name,
            "namespace": "default",
            "labels": {"writer": name.partition("-")[0]},
        },
        "spec": {"text": text, "seal": hashlib.sha256(text.encode()).hexdigest()},
    }


def is_whole(obj: Json) -> bool:
    spec = obj["spec"]
    return bool(spec["seal"] == hashlib.sha256(spec["text"].encode()).hexdigest())


async def write(path: Path, prefix: str) -> None:
    """Creates, changes and deletes for ever, eight objects at a time."""
    store = opened(path)

    async def one(lane: int) -> None:
        number = 0
        while True:
            name = f"{prefix}-{lane}-{number}"
            for text in (name, name * 50 * (lane + 1)):
                body = sealed(name, text)
                written = await (store.create(body) if text == name else store.update(body))
                tell(name=name, version=written["metadata"]["resourceVersion"])
            if number % 3 == 2:
                await store.delete(Key("Trial", "default", name))
                tell(name=name, deleted=True)
            number += 1

    await asyncio.gather(*[one(lane) for lane in range(8)])


async def count(path: Path, times: str) -> None:
    """Adds one to the counter, so many times, never over another's change."""
    store = opened(path)
    conflicts = 0
    for _ in range(int(times)):
        while True:
            current = await store.get(COUNTER)
            current["spec"]["size"] += 1
            try:
                await store.update(current)
                break
            except Conflict:
                conflicts += 1
    tell(conflicts=conflicts)
    store.close()


async def watch(path: Path, last: str) -> None:
    """Tells every change of Trials until one of that name is added."""
    store = opened(path)
    async for event in store.watch("Trial"):
        if event.change is Change.BOOKMARK:
            tell(ready=True)
            continue
        metadata = event.object["metadata"]
        tell(
            change=event.change,
            name=metadata["name"],
            version=int(metadata["resourceVersion"]),
            status=event.object.get("status"),
        )
        if metadata["name"] == last:
            break
    store.close()


async def cascade(path: Path) -> None:
    """Deletes an owner, and dies as soon as that is answered."""
    await opened(path).delete(Key("Experiment", "default", "owner"))
    tell(deleted=True)
    await asyncio.Event().wait()


async def full_disk(folder: Path) -> None:
    """Fills a file system of its own, which only this process sees, again and again."""
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16m", "tmpfs", str(folder)], check=True)
    ballast = folder / "ballast"

    def fill() -> None:
        free = os.statvfs(folder)
        ballast.write_bytes(bytes(free.f_bavail * free.f_bsize - ROOM))

    fill()
    await _survive(folder / "objects.db", stop=fill, go_on=ballast.unlink)


async def limited_file(folder: Path) -> None:
    """The same with a limit on the size of files, which needs no rights."""

    def limit(size: int) -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))

    def stop() -> None:
        limit(max((file.stat().st_size for file in folder.iterdir()), default=0) + ROOM)

    stop()
    await _survive(folder / "objects.db", stop=stop, go_on=lambda: limit(resource.RLIM_INFINITY))


async def _survive(path: Path, *, stop: Callable[[], None], go_on: Callable[[], None]) -> None:
    """Writes until there is no room, looks, makes room, writes, and takes the room away again."""
    store = opened(path)
    kept: set[str] = set()
    for turn in range(5):
        before = len(kept)
        message = await _until_refused(store, turn, kept)
        listed = {obj["metadata"]["name"] for obj in (await store.list("Trial")).items}
        tell(turn=turn, refused=message, kept=len(kept) - before, lost=sorted(kept - listed))
        go_on()
        await store.create(sealed(f"after-{turn}", "x" * ROOM))
        kept.add(f"after-{turn}")
        stop()
    store.close()


async def _until_refused(store: SqliteStore, turn: int, kept: set[str]) -> str:
    for number in range(1000):
        name = f"t{turn}-{number}"
        try:
            await store.create(sealed(name, "x" * 10 * KIB))
        except Unavailable as error:
            return str(error)
        kept.add(name)
    return ""


ACTIONS: dict[str, Callable[..., Awaitable[None]]] = {
    "write": write,
    "count": count,
    "watch": watch,
    "cascade": cascade,
    "full_disk": full_disk,
    "limited_file": limited_file,
}

if __name__ == "__main__":
    asyncio.run(ACTIONS[sys.argv[1]](Path(sys.argv[2]), *sys.argv[3:]))  # type: ignore[arg-type]
