# SPDX-License-Identifier: Apache-2.0
"""Real PostgreSQL and MariaDB servers on loopback, each with a data directory of its own.

They end with the process that started them, however that ends. A missing program skips the test, or
fails it with CI=true: `tests/set-up.sh` installs what is needed.
"""

from __future__ import annotations

import itertools
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pymysql
import pytest
from sqlalchemy import create_engine, text

_NAMES = itertools.count(1)
_START_S = 60.0


class DatabaseServer:
    """One server. `start` and `stop` may be repeated; what was committed stays."""

    scheme = ""
    user = ""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = _free_port()
        self._process: subprocess.Popen[bytes] | None = None

    def prepare(self) -> None:
        """Makes the data directory."""
        raise NotImplementedError

    def argv(self) -> Sequence[str]:
        raise NotImplementedError

    def url(self, database: str) -> str:
        return f"{self.scheme}://{self.user}@127.0.0.1:{self.port}/{database}"

    def new_database(self) -> str:
        """The URL of an empty one."""
        name = f"observations_{next(_NAMES)}"
        engine = create_engine(self.url(self.main), isolation_level="AUTOCOMMIT")
        with engine.connect() as connection:
            connection.execute(text(f"CREATE DATABASE {name}"))
        engine.dispose()
        return self.url(name)

    main = ""
    """A database that is always there."""

    def start(self) -> None:
        """Returns when it answers. Not on a thread: it would end with that."""
        with (self.folder / "server.log").open("ab") as log:
            argv = ["setpriv", "--pdeathsig", "KILL", *self._identity(), *self.argv()]
            self._process = subprocess.Popen(argv, stdout=log, stderr=log, stdin=subprocess.DEVNULL)
        deadline = time.monotonic() + _START_S
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise AssertionError((self.folder / "server.log").read_text()[-2000:])
            time.sleep(0.1)

    def stop(self, number: signal.Signals = signal.SIGKILL) -> None:
        if self._process is not None:
            self._process.send_signal(signal.SIGCONT)
            self._process.send_signal(number)
            self._process.wait(timeout=30)
            self._process = None

    def pause(self) -> None:
        """It takes connections and answers nothing."""
        for pid in self._pids():
            os.kill(pid, signal.SIGSTOP)

    def resume(self) -> None:
        for pid in self._pids():
            os.kill(pid, signal.SIGCONT)

    def _pids(self) -> list[int]:
        assert self._process is not None
        own = self._process.pid
        children = Path(f"/proc/{own}/task/{own}/children").read_text().split()
        return [own, *map(int, children)]

    def _identity(self) -> Sequence[str]:
        return ()

    def _answers(self) -> bool:
        engine = create_engine(self.url(self.main))
        try:
            with engine.connect() as connection:
                connection.execute(text("SELECT 1"))
        except Exception:  # noqa: BLE001 - whatever a driver says, it does not answer yet
            return False
        finally:
            engine.dispose()
        return True


class Postgres(DatabaseServer):
    scheme, user, main = "postgresql+pg8000", "tunesmith", "postgres"

    def prepare(self) -> None:
        if os.geteuid() == 0:
            shutil.chown(self.folder, "postgres", "postgres")
        options = ["--auth=trust", "--no-sync", "--encoding=UTF8", "--locale=C", "-U", self.user]
        argv = ["setpriv", *self._identity(), _postgres("initdb"), "-D", self._data, *options]
        subprocess.run(argv, check=True, capture_output=True, timeout=60)

    def argv(self) -> Sequence[str]:
        where = ["-h", "127.0.0.1", "-p", str(self.port), "-k", self._data]
        return [_postgres("postgres"), "-D", self._data, *where, "-c", "fsync=off"]

    @property
    def _data(self) -> str:
        return str(self.folder / "data")

    def _identity(self) -> Sequence[str]:
        """It refuses to be root."""
        if os.geteuid() != 0:
            return ()
        return ("--reuid=postgres", "--regid=postgres", "--clear-groups")


class MariaDB(DatabaseServer):
    scheme, user, main = "mysql+pymysql", "root", "mysql"

    def prepare(self) -> None:
        options = ["--auth-root-authentication-method=normal", "--skip-test-db", "--user=root"]
        argv = [_program("mariadb-install-db"), "--no-defaults", f"--datadir={self._data}"]
        subprocess.run([*argv, *options], check=True, capture_output=True, timeout=60)

    def argv(self) -> Sequence[str]:
        where = [f"--port={self.port}", "--bind-address=127.0.0.1"]
        where += [f"--socket={self.folder}/s", f"--datadir={self._data}", "--user=root"]
        return [_program("mariadbd"), "--no-defaults", *where, "--innodb-buffer-pool-size=32M"]

    @property
    def _data(self) -> str:
        return str(self.folder / "data")

    def _answers(self) -> bool:
        try:
            pymysql.connect(host="127.0.0.1", port=self.port, user=self.user).close()
        except pymysql.Error:
            return False
        return True


@contextmanager
def running(kind: type[DatabaseServer]) -> Iterator[DatabaseServer]:
    """A server that is up."""
    require(kind)
    # Not below pytest's folders, which only their owner may enter.
    with tempfile.TemporaryDirectory(prefix="tunesmith-db-") as folder:
        server = kind(Path(folder))
        server.prepare()
        server.start()
        try:
            yield server
        finally:
            server.stop(signal.SIGKILL)


def require(kind: type[DatabaseServer]) -> None:
    """Skips, or fails with CI=true, where the server is not installed."""
    try:
        _postgres("initdb") if kind is Postgres else _program("mariadbd")
    except FileNotFoundError as missing:
        reason = f"database lane: {missing} is not installed: run tests/set-up.sh"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)


def _postgres(name: str) -> str:
    found = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"))
    return str(found[-1]) if found else _program(name)


def _program(name: str) -> str:
    path = shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")
    if path is None:
        raise FileNotFoundError(name)
    return path


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
