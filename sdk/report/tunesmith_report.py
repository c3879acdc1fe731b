# SPDX-License-Identifier: Apache-2.0
"""Report metrics from training code: ``report(step=3, loss=0.21, accuracy=0.95)``; keep
checkpoints in ``checkpoint_dir()``; end well when ``should_stop()`` says so.

Training scripts import it; in a trial the metrics collector reads the file that it appends to
(named by the environment variable ``TUNESMITH_METRICS_FILE``). Outside a trial the same call
prints ``step=3 loss=0.21 accuracy=0.95``, which Katib's default StdOut filter reads, so one script
works on a desk, in tunesmith and in Katib. Standard library only, Python 3.8 or newer.

A line of the file is one JSON object, in ASCII, that ends in a newline::

    {"timestamp": "2025-01-31T09:30:00.123456Z", "step": 3, "loss": 0.21, "accuracy": 0.95}

JSON has no NaN or infinities: they are the strings "NaN", "Infinity" and "-Infinity".

There is no state between calls (no open file, no lock, no buffer), so threads and forks need no
care; each line is one append by the kernel, so lines of several processes never mix on a local
file system. On NFS, appends from several machines can overwrite each other: one file per machine.
"""

from __future__ import annotations

import errno
import json
import math
import numbers
import operator
import os
import sys
from datetime import datetime, timezone
from pathlib import Path
from typing import Mapping, SupportsFloat, SupportsIndex, Union

__all__ = ["checkpoint_dir", "report", "should_stop"]
__version__ = "0.1.0"

METRICS_FILE_VARIABLE = "TUNESMITH_METRICS_FILE"
CHECKPOINT_VARIABLE = "TUNESMITH_CHECKPOINT_DIR"
STOP_FILE_VARIABLE = "TUNESMITH_STOP_FILE"
MAX_LINE_BYTES = 1 << 20
MAX_NAME_BYTES = 250
_RESERVED_NAMES = ("step", "timestamp")

_Number = Union[int, float]


def report(
    step: SupportsIndex | None = None, *, all_ranks: bool = False, **metrics: SupportsFloat
) -> None:
    """Report the values of one moment: one line, all its metrics together.

    step: the epoch or iteration, an integer; left out of the line when None.
    metrics: numbers, or anything with ``float()`` such as NumPy and PyTorch scalars. Names that
        are no Python identifiers go in as ``report(**{"val/accuracy": 0.9})``.
    all_ranks: report from every process of a distributed job. By default only rank 0 does and
        the call does nothing elsewhere; the rank is RANK (torchrun, PyTorchJob), else
        OMPI_COMM_WORLD_RANK (MPI), else PET_NODE_RANK together with LOCAL_RANK, of which both
        must be 0. What is unset, or is no integer, counts as 0.

    TypeError, naming the metric: not a number. ValueError: no metric at all; a name that is
    empty, above 250 bytes, reserved, or not printable; a number no 64-bit float can hold; a line
    above 1 MiB. OSError: the file cannot be written, or took only part of the line.
    """
    if not (all_ranks or _is_first_rank(os.environ)):
        return
    values = _checked(metrics)
    pairs = values if step is None else {"step": _step(step), **values}
    line = _json_line(datetime.now(timezone.utc), pairs)
    path = os.environ.get(METRICS_FILE_VARIABLE)
    if path:
        _append(path, line)
    else:
        _print(pairs)


def checkpoint_dir() -> Path:
    """The trial's own directory for checkpoints, which exists.

    A trial that is run again (after a pause, or because its machine went away) finds there what it
    has left; so does a trial that continues another one, in a copy. Outside a trial it is
    ``checkpoints`` in the current directory. OSError: it cannot be made.
    """
    path = Path(os.environ.get(CHECKPOINT_VARIABLE) or "checkpoints")
    path.mkdir(parents=True, exist_ok=True)
    return path


def should_stop() -> bool:
    """Whether the trial should save what it has and end: it was stopped early, paused, or its
    experiment is over. One look at the disk; call it as often as once a step. SIGTERM comes right
    after, and after a grace period the program is killed. Outside a trial: False.
    """
    path = os.environ.get(STOP_FILE_VARIABLE)
    return bool(path) and os.path.exists(str(path))


def _is_first_rank(environ: Mapping[str, str]) -> bool:
    # One variable decides, the most exact first: an elastic torchrun may give RANK 0 to a node
    # whose PET_NODE_RANK is 1.
    for name in ("RANK", "OMPI_COMM_WORLD_RANK"):
        rank = _rank(environ, name)
        if rank is not None:
            return rank == 0
    return not (_rank(environ, "PET_NODE_RANK") or _rank(environ, "LOCAL_RANK"))


def _rank(environ: Mapping[str, str], name: str) -> int | None:
    # A doubled metric can be seen and mended, a lost one cannot: what is no rank counts as unset.
    try:
        return int(environ.get(name, ""))
    except ValueError:
        return None


def _checked(metrics: Mapping[str, SupportsFloat]) -> dict[str, _Number | str]:
    if not metrics:
        raise ValueError("report() needs at least one metric, such as report(loss=0.3)")
    return {_name(name): _json_value(_number(name, value)) for name, value in metrics.items()}


def _name(name: str) -> str:
    if not name:
        raise ValueError("a metric name is empty")
    if name in _RESERVED_NAMES:
        raise ValueError(f"the metric name {name!r} is reserved: choose another")
    if not name.isprintable():  # newlines, control characters, lone surrogates
        raise ValueError(f"metric name {name!r}: newlines and control characters are not allowed")
    size = len(name.encode("utf-8"))
    if size > MAX_NAME_BYTES:
        start = name[:40]
        raise ValueError(f"metric name {start!r}...: {size} bytes, the limit is {MAX_NAME_BYTES}")
    return name


def _number(name: str, value: SupportsFloat) -> _Number:
    # float() would read text, and NumPy's would drop the imaginary part of a complex number.
    is_complex = isinstance(value, numbers.Complex) and not isinstance(value, numbers.Real)
    if is_complex or not hasattr(type(value), "__float__"):
        raise _not_a_number(name, value)
    try:
        as_float = float(value)
    except OverflowError:
        raise ValueError(f"metric {name!r}: too large for a 64-bit float") from None
    except (TypeError, ValueError, RuntimeError) as error:  # an array; PyTorch's is a RuntimeError
        raise _not_a_number(name, value) from error
    return int(value) if isinstance(value, int) else as_float


def _not_a_number(name: str, value: object) -> TypeError:
    kind = f"{type(value).__module__}.{type(value).__qualname__}"
    return TypeError(
        f"metric {name!r}: {kind} is not a number; pass an int, a float or a scalar of NumPy or "
        "PyTorch (for an array, its mean() or item())"
    )


def _json_value(number: _Number) -> _Number | str:
    if math.isfinite(number):
        return number
    if math.isnan(number):
        return "NaN"
    return "Infinity" if number > 0 else "-Infinity"


def _step(step: SupportsIndex) -> int:
    try:
        return operator.index(step)
    except TypeError:
        raise TypeError(f"step: expected an integer, got {step!r}") from None


def _json_line(moment: datetime, pairs: Mapping[str, _Number | str]) -> bytes:
    timestamp = moment.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    line = json.dumps({"timestamp": timestamp, **pairs}, allow_nan=False).encode("ascii") + b"\n"
    if len(line) > MAX_LINE_BYTES:
        raise ValueError(f"one report is {len(line)} bytes, the limit is {MAX_LINE_BYTES}")
    return line


def _append(path: str, line: bytes) -> None:
    # Opened anew each time: nothing to share between threads, to inherit by a fork, or to leak.
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        written = os.write(descriptor, line)
    finally:
        os.close(descriptor)
    if written != len(line):  # the rest in a second write could land behind another's line
        text = f"only {written} of {len(line)} bytes were written (is the disk full?)"
        raise OSError(errno.EIO, text, path)


def _print(pairs: Mapping[str, _Number | str]) -> None:
    # One write with its newline: print() makes two, and another thread may come between them.
    sys.stdout.write(" ".join(f"{name}={value}" for name, value in pairs.items()) + "\n")
    sys.stdout.flush()
