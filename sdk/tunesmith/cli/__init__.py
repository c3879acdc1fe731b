# SPDX-License-Identifier: Apache-2.0
"""The command line: parses, calls `tunesmith.Client`, prints. No logic of its own."""

from __future__ import annotations

import errno
import os
import sys
import traceback
from pathlib import Path
from typing import NoReturn


def main() -> None:
    """The entry point: runs a command and turns every error into a sentence and an exit status."""
    # Imported here so that shell completion pays only for what it uses.
    from tunesmith.cli.app import app  # noqa: PLC0415
    from tunesmith.errors import TunesmithError  # noqa: PLC0415

    try:
        try:
            app(prog_name="tunesmith")
        finally:
            sys.stdout.flush()
    except TunesmithError as error:
        from tunesmith.cli.output import print_error  # noqa: PLC0415

        print_error(error)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        sys.exit(130)
    except Exception as error:  # noqa: BLE001 - the last handler: a defect of ours, said as one
        if isinstance(error, OSError) and error.errno in (errno.EPIPE, errno.EIO):
            _nobody_reads()
        _defect(error)
        sys.exit(70)


def _nobody_reads() -> NoReturn:
    """The reader of our output went away (`| head`, a closed terminal): quiet, and no second error
    when stdout is flushed at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    sys.exit(141)


def _defect(error: Exception) -> None:
    """A defect: one sentence for the user, the traceback into a file (or shown with --debug)."""
    if os.environ.get("TUNESMITH_DEBUG"):
        traceback.print_exception(error)
        return
    print(f"error: a defect in tunesmith: {type(error).__name__}: {error}", file=sys.stderr)
    path = _write_traceback(error)
    where = f"the details are in {path}" if path else "run it again with --debug to see the details"
    print(f"hint: {where}; please report them", file=sys.stderr)


def _write_traceback(error: Exception) -> Path | None:
    from tunesmith.home import logs_folder  # noqa: PLC0415

    try:
        path = logs_folder() / f"defect-{os.getpid()}.txt"
        path.write_text("".join(traceback.format_exception(error)))
    except OSError:
        return None
    return path
