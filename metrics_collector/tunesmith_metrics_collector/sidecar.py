# SPDX-License-Identifier: Apache-2.0
"""`python3 -m tunesmith_metrics_collector.sidecar`: the collector of a trial's pod.

The training container needs the launcher. Where no hook of the container has put it in place (the
pods of tunesmith_controller/admission have one) that is done before anything slow is imported:
nothing but the standard library's fastest parts above `main`. Then `sidecar_process` collects until
the pod ends.
"""

import _signal  # type: ignore[import-not-found]  # what `signal` is made of, without its slow enumerations
import os
import sys

LAUNCHER = "/usr/local/bin/tunesmith-launcher"
"""Where the image has it."""

SHARED = "/tunesmith"


def put_launcher(source: str, folder: str) -> None:
    """FOLDER/launcher, all at once, unless it is there: a sidecar that was started again leaves it
    alone. Raises OSError."""
    target = os.path.join(folder, "launcher")
    hidden = os.path.join(folder, ".launcher")
    with open(source, "rb") as program:
        size = os.fstat(program.fileno()).st_size
        if os.path.lexists(target) and os.lstat(target).st_size == size:
            return
        with open(hidden, "wb", opener=_new) as copy:
            sent = 0
            while sent < size:
                sent += os.sendfile(copy.fileno(), program.fileno(), sent, size - sent)
            os.fchmod(copy.fileno(), 0o755)
    os.rename(hidden, target)


def _new(path: str, flags: int) -> int:
    """A file of our own, also where a sidecar that was killed has left a part of one."""
    if os.path.lexists(path):
        os.unlink(path)
    return os.open(path, flags | os.O_EXCL, 0o700)


def _option(name: str, default: str) -> str:
    arguments = sys.argv[1:]
    return arguments[arguments.index(name) + 1] if name in arguments[:-1] else default


def main() -> int:
    """Returns an exit status."""
    # A program of 10 ms is over before the imports are. Nothing is done about a signal until
    # somebody can handle it; left alone it would kill this process, or, if that is the first of its
    # container, be lost.
    _signal.pthread_sigmask(_signal.SIG_BLOCK, (_signal.SIGTERM, _signal.SIGINT))
    source, folder = _option("--launcher", LAUNCHER), _option("--shared", SHARED)
    try:
        put_launcher(source, folder)
    except OSError as error:
        print(
            f"[tunesmith] cannot put the launcher {source} into {folder}: {error}. Is this image "
            "tunesmith's, and the volume mounted and writable?",
            file=sys.stderr,
        )
        return 1
    # The slow imports come only now: a quarter of a second that training need not wait for.
    from tunesmith_metrics_collector.sidecar_process import run  # noqa: PLC0415

    return run(sys.argv[1:])


if __name__ == "__main__":
    sys.exit(main())
