# SPDX-License-Identifier: Apache-2.0
"""A trial's checkpoint directory: made before its first attempt, maybe with what its parent has
left; all attempts of the trial share it. Called by `process.py`.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tunesmith_controller.workloads import supervisor


def provide(checkpoint: Path, parent: Path | None) -> bool:
    """Makes the directory (0700) unless it is there; False when the parent's is missing.

    With a parent it appears complete or not at all: a crash in between begins it anew. Of several
    controllers one makes it, the others wait for that. Raises OSError.
    """
    with _alone_in(checkpoint.parent):
        if checkpoint.is_dir():
            return True
        prefix = f".{checkpoint.name}-"
        for left in checkpoint.parent.glob(f"{prefix}*"):  # by a crash or a full disk
            shutil.rmtree(left)
        draft = Path(tempfile.mkdtemp(prefix=prefix, dir=checkpoint.parent))
        found = parent is None or parent.is_dir()
        if parent is not None and found:
            shutil.copytree(parent, draft, symlinks=True, dirs_exist_ok=True, ignore=_special_files)
            draft.chmod(0o700)
            _sync(draft)
        draft.rename(checkpoint)
        supervisor.sync_folder(str(checkpoint.parent))
        return found


@contextmanager
def _alone_in(folder: Path) -> Iterator[None]:
    """One at a time, over all threads and processes; a crash ends it."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _special_files(folder: str, names: list[str]) -> list[str]:
    """Sockets and pipes mean nothing in a copy."""
    paths = {name: os.path.join(folder, name) for name in names}
    return [
        name
        for name, path in paths.items()
        if not (os.path.islink(path) or os.path.isfile(path) or os.path.isdir(path))
    ]


def _sync(folder: Path) -> None:
    """What was copied is on the disk before it gets its name."""
    for root, _, files in os.walk(folder):
        for name in files:
            path = os.path.join(root, name)
            if os.path.islink(path):
                continue
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
        supervisor.sync_folder(root)
