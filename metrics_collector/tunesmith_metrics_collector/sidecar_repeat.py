# SPDX-License-Identifier: Apache-2.0
"""`Repeater`: what the program prints, once more as the sidecar's own output, where Katib's SDK and
its web interface look for it. Run by sidecar_process.py, in a thread: nobody knows how fast the
container runtime takes it.
"""

from __future__ import annotations

import logging
import os
import threading
from pathlib import Path
from typing import Final

_CHUNK: Final = 256 << 10
_FIRST_POLL, _LAST_POLL = 0.1, 1.0

log = logging.getLogger(__name__)


class Repeater:
    """From the beginning of the file, also in a sidecar that was started again, for that one's log
    begins anew; after what the launcher has given back to the disk, if it has."""

    def __init__(self, path: Path, descriptor: int) -> None:
        self._path = path
        self._out = descriptor
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run, name="repeat", daemon=True)
        self.offset = 0
        """Up to here it has been repeated."""

    def start(self) -> None:
        self._thread.start()

    def finish(self, seconds: float) -> None:
        """Nothing more will be written. Waits for the rest to be repeated, but not longer."""
        self._end.set()
        self._thread.join(max(seconds, 0.0))

    def _run(self) -> None:
        try:
            self._repeat()
        except OSError as error:
            log.warning("the output is not repeated here any more: %s", error)

    def _repeat(self) -> None:
        source = self._opened()
        if source is None:
            return
        try:
            self.offset = _first_data(source)
            pause = _FIRST_POLL
            while True:
                is_last = self._end.is_set()  # before reading: what comes later is not the end
                if self._pass_on(source):
                    pause = _FIRST_POLL
                elif is_last:
                    return
                else:
                    self._end.wait(pause)
                    pause = min(2 * pause, _LAST_POLL)
        finally:
            os.close(source)

    def _opened(self) -> int | None:
        while True:
            is_last = self._end.is_set()
            try:
                return os.open(self._path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
            except FileNotFoundError:
                if is_last:
                    return None
            self._end.wait(_FIRST_POLL)

    def _pass_on(self, source: int) -> bool:
        data = os.pread(source, _CHUNK, self.offset)
        view = memoryview(data)
        while view:
            view = view[os.write(self._out, view) :]
        self.offset += len(data)
        return bool(data)


def _first_data(source: int) -> int:
    try:
        return os.lseek(source, 0, os.SEEK_DATA)
    except OSError:  # no data yet, or a file system that does not know
        return 0
