# SPDX-License-Identifier: Apache-2.0
"""Gives each attempt its own metrics file where all name the same one.

Katib's File collector reads a path of the container, such as /var/log/katib/metrics.log; on one
machine trials that run side by side would share it. Where a command or a variable names that path,
it gets the attempt's own instead. `job_spec.py` calls it, in process mode only.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import PurePosixPath
from typing import Final

KATIBS_FOLDER: Final = PurePosixPath("/var/log/katib")
_BEFORE: Final = r"(?<![\w./-])"
_AFTER: Final = r"(?=$|[^\w.-])"
_AFTER_FOLDER: Final = r"(?=$|/|[^\w.-])"


def redirection(declared: str, own: str) -> Callable[[str], str]:
    """Replaces the declared path wherever it stands as a whole path in a text, with `own`; and its
    folder, where that is Katib's own, with the folder of `own`."""
    path, target = PurePosixPath(declared), PurePosixPath(own)
    rules = [(re.compile(_BEFORE + re.escape(str(path)) + _AFTER), str(target))]
    if path.parent == KATIBS_FOLDER:
        folder = re.compile(_BEFORE + re.escape(str(path.parent)) + _AFTER_FOLDER)
        rules.append((folder, str(target.parent)))

    def redirected(text: str) -> str:
        for pattern, replacement in rules:
            text = pattern.sub(lambda _: replacement, text)  # noqa: B023 - called at once
        return text

    return redirected
