# SPDX-License-Identifier: Apache-2.0
"""A watch as lines of JSON: what fits a selection, bookmarks, and an end that the client can use.

An object that no longer fits is told as DELETED, as Kubernetes does.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable
from dataclasses import dataclass
from typing import Final

from tunesmith_controller.apiserver.answers import encoded, fault_of, status_of
from tunesmith_controller.apiserver.selectors import Selection
from tunesmith_controller.ports import Change, Json, ObjectStore, PortError, WatchEvent

BOOKMARK_S: Final = 10.0
LONGEST_S: Final = 1800.0

Seen = Callable[[Json], Iterable[Json]]
"""What an object of the store is to the client: itself, or the pods of a trial."""


@dataclass(frozen=True, slots=True)
class Wish:
    """What is watched. `kind` is the store's, `shown` names what the client gets."""

    kind: str
    shown: str
    api_version: str
    namespace: str | None
    version: str
    bookmarks: bool
    seconds: float
    is_stored: bool = True


async def lines(
    store: ObjectStore, wish: Wish, selected: Selection, seen: Seen
) -> AsyncIterator[bytes]:
    """Ends after the seconds that the client asked for, or with an ERROR event."""
    told: set[str] = set()
    events = store.watch(wish.kind, namespace=wish.namespace, resource_version=wish.version)
    version = wish.version
    upcoming: asyncio.Future[WatchEvent] | None = None
    deadline = asyncio.get_running_loop().time() + wish.seconds
    try:
        while (left := deadline - asyncio.get_running_loop().time()) > 0:
            upcoming = upcoming or asyncio.ensure_future(_next(events))
            await asyncio.wait([upcoming], timeout=min(left, BOOKMARK_S))
            if not upcoming.done():
                if wish.bookmarks and version:
                    yield _line(Change.BOOKMARK, _bookmark(wish, version))
                continue
            event, upcoming = upcoming.result(), None
            version = event.object["metadata"].get("resourceVersion", version)
            if event.change is not Change.BOOKMARK:
                for change, obj in _told(event, selected, seen, told, wish.is_stored):
                    yield _line(change, obj)
    except StopAsyncIteration:
        return
    except PortError as error:
        yield _line("ERROR", status_of(fault_of(error)))
    finally:
        if upcoming is not None:
            upcoming.cancel()


async def _next(events: AsyncIterator[WatchEvent]) -> WatchEvent:
    return await anext(events)


def _told(
    event: WatchEvent, selected: Selection, seen: Seen, told: set[str], is_stored: bool
) -> list[tuple[str, Json]]:
    """The client's view of a change. `told` are uids that it knows to fit; what is not stored
    appears when it is first seen."""
    found: list[tuple[str, Json]] = []
    for obj in seen(event.object):
        uid = str(obj["metadata"].get("uid"))
        fits = selected.fits(obj) and event.change is not Change.DELETED
        if fits:
            is_new = uid not in told and (event.change is Change.ADDED or not is_stored)
            found.append(("ADDED" if is_new else "MODIFIED", obj))
            told.add(uid)
        elif (
            event.change is Change.DELETED and (uid in told or selected.fits(obj))
        ) or uid in told:
            found.append(("DELETED", obj))
            told.discard(uid)
    return found


def _line(type_: str, obj: Json) -> bytes:
    return encoded({"type": str(type_), "object": obj}) + b"\n"


def _bookmark(wish: Wish, version: str) -> Json:
    return {
        "kind": wish.shown,
        "apiVersion": wish.api_version,
        "metadata": {"resourceVersion": version, "creationTimestamp": None},
    }
