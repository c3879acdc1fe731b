# SPDX-License-Identifier: Apache-2.0
"""Real PostgreSQL and MariaDB servers for tests: own data directory, own port on loopback.

As root they run as another user, which both insist on. A server ends with the process that started
it, whatever ends that. `database_fixtures.py` has them as fixtures.
"""

from __future__ import annotations

import ctypes
import itertools
import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, ClassVar

import pytest
from sqlalchemy import URL, NullPool, create_engine, exc

from tunesmith_observation.database import Access

PASSWORD = "canary p@ss/word"
"""Must never be seen in what tunesmith says."""

_READY_SECONDS = 60.0
_PR_SET_PDEATHSIG = 1
_NUMBERS = itertools.count(1)


class DatabaseServer(ABC):
    """A server of this session. `start` after `kill` goes on with the same data."""

    name: ClassVar[str]
    user: ClassVar[str]
    drivername: ClassVar[str]
    maintenance: ClassVar[str]
    ends_with: ClassVar[signal.Signals]

    def __init__(self, fsync: bool = False) -> None:
        """Without `fsync` a crash of the machine loses data, and the death of a process does not:
        that is what tests need."""
        self.fsync = fsync
        self.port = _free_port()
        self._account = _account(self.user)
        self.folder = Path(tempfile.mkdtemp(prefix=f"tunesmith-{self.name}-"))
        self._give(self.folder)
        self._output = self.folder / "output"
        self.password_file = self.folder / "password"
        self.password_file.write_text(f"{PASSWORD}\n")
        self._process: subprocess.Popen[bytes] | None = None
        self._make()
        self.start()

    @abstractmethod
    def _make(self) -> None:
        """Makes the data directory."""

    @abstractmethod
    def _argv(self) -> Sequence[str | Path]:
        """The server in the foreground."""

    # ---- as a database ---------------------------------------------------------------------------

    def access(self, database: str, connections: int = 6, seconds: float = 10.0) -> Access:
        """How the observation log reaches a database of this server."""
        url = URL.create(self.drivername, "tunesmith", None, "127.0.0.1", self.port, database)
        return Access(url, connections, self.password_file, seconds)

    def new_database(self) -> str:
        """An empty database; its name."""
        database = f"observations_{next(_NUMBERS)}"
        self.execute(f"CREATE DATABASE {database}")
        return database

    def execute(self, statement: str, database: str = "") -> list[tuple[object, ...]]:
        """Runs one statement outside a transaction; its rows, if it has any."""
        url = self.access(database or self.maintenance).url.set(password=PASSWORD)
        engine = create_engine(url, poolclass=NullPool, isolation_level="AUTOCOMMIT")
        with engine.connect() as connection:
            result = connection.exec_driver_sql(statement)
            return [tuple(row) for row in result] if result.returns_rows else []

    # ---- as a process ----------------------------------------------------------------------------

    def start(self) -> None:
        """Returns when it answers."""
        self.launch()
        self.wait_for_it()

    def launch(self) -> None:
        """Returns at once. To be called in a thread that lives on: it ends with the thread."""
        with self._output.open("ab") as stream:
            self._process = subprocess.Popen(
                [str(word) for word in self._argv()],
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=stream,
                start_new_session=True,
                preexec_fn=self._dies_with_us,  # noqa: PLW1509 - takes no lock
                **self._as_user(),
            )

    def wait_for_it(self) -> None:
        """Raises AssertionError with its last words when it does not come to answer."""
        assert self._process is not None
        deadline = time.monotonic() + _READY_SECONDS
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > deadline:
                said = self._output.read_text()[-2000:]
                raise AssertionError(f"{self.name} did not start: {said}")
            time.sleep(0.02)

    def _answers(self) -> bool:
        try:
            return self.execute("SELECT 1") == [(1,)]
        except (exc.DBAPIError, OSError):
            return False

    def kill(self) -> None:
        """Like a crash: SIGKILL to all its processes."""
        self._signal(signal.SIGKILL)
        assert self._process is not None
        self._process.wait(20)

    def pause(self) -> None:
        """It still accepts connections, and answers nothing."""
        self._signal(signal.SIGSTOP)

    def go_on(self) -> None:
        self._signal(signal.SIGCONT)

    def end(self) -> None:
        """Ends it and removes its data."""
        if self._process is not None and self._process.poll() is None:
            self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _signal(self, number: signal.Signals) -> None:
        assert self._process is not None
        for pid in (self._process.pid, *_children(self._process.pid)):
            with suppress(ProcessLookupError):
                os.kill(pid, number)

    def _dies_with_us(self) -> None:
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, self.ends_with)

    def _as_user(self) -> dict[str, Any]:
        if self._account is None:
            return {}
        return {"user": self._account.pw_uid, "group": self._account.pw_gid, "extra_groups": []}

    def _give(self, path: Path) -> None:
        if self._account is not None:
            os.chown(path, self._account.pw_uid, self._account.pw_gid)

    def _run(self, *argv: str | Path) -> None:
        done = subprocess.run(
            [str(word) for word in argv],
            cwd=self.folder,
            capture_output=True,
            text=True,
            check=False,
            **self._as_user(),
        )
        assert done.returncode == 0, f"{argv[0]}: {done.stdout[-1000:]}{done.stderr[-2000:]}"


class PostgreSQL(DatabaseServer):
    """PostgreSQL, each of whose connections is a process."""

    name = "postgresql"
    user = "postgres"
    drivername = "postgresql+pg8000"
    maintenance = "postgres"
    ends_with = signal.SIGQUIT

    def _make(self) -> None:
        initdb = _program("initdb")
        self._give(self.password_file)
        self._run(
            *(initdb, "-D", self.folder / "data", "-U", "tunesmith", "-E", "UTF8"),
            *("--auth=scram-sha-256", f"--pwfile={self.password_file}", "--no-sync"),
            "--locale=C.UTF-8",
        )

    def _argv(self) -> Sequence[str | Path]:
        settings = {
            "listen_addresses": "127.0.0.1",
            "port": str(self.port),
            "unix_socket_directories": "",
            "fsync": "on" if self.fsync else "off",
            "max_connections": "60",
            "shared_buffers": "32MB",
        }
        words = [word for pair in settings.items() for word in ("-c", "=".join(pair))]
        return [_program("postgres"), "-D", self.folder / "data", *words]


class MariaDB(DatabaseServer):
    """MariaDB, which stands for MySQL too."""

    name = "mariadb"
    user = "mysql"
    drivername = "mysql+pymysql"
    maintenance = "mysql"
    ends_with = signal.SIGKILL

    def _make(self) -> None:
        self._run(
            *(_program("mariadb-install-db"), "--no-defaults", f"--datadir={self.folder / 'data'}"),
            *("--auth-root-authentication-method=normal", "--skip-test-db", "--skip-name-resolve"),
        )
        grants = self.folder / "grants.sql"
        grants.write_text(
            f"CREATE USER IF NOT EXISTS tunesmith@'127.0.0.1' IDENTIFIED BY '{PASSWORD}';\n"
            "GRANT ALL ON *.* TO tunesmith@'127.0.0.1';\n"
        )
        self._give(grants)

    def _argv(self) -> Sequence[str | Path]:
        return [
            *(_program("mariadbd"), "--no-defaults", f"--datadir={self.folder / 'data'}"),
            *("--bind-address=127.0.0.1", f"--port={self.port}", "--skip-name-resolve"),
            *(f"--socket={self.folder / 's'}", f"--init-file={self.folder / 'grants.sql'}"),
            f"--innodb-flush-log-at-trx-commit={1 if self.fsync else 2}",
            *("--innodb-buffer-pool-size=64M", "--character-set-server=latin1"),
        ]


def missing(server: type[DatabaseServer]) -> str:
    """The program that is not installed; empty when all are."""
    wanted = {
        PostgreSQL: ("postgres", "initdb"),
        MariaDB: ("mariadbd", "mariadb-install-db"),
    }[server]
    return next((name for name in wanted if not _found(name)), "")


def running(server: type[DatabaseServer]) -> Iterator[DatabaseServer]:
    """For a fixture. Skips where it is not installed, and fails so in CI."""
    if name := missing(server):
        sentence = f"{name} is not installed: run tests/set-up.sh"
        if os.environ.get("CI") == "true":
            pytest.fail(sentence)
        pytest.skip(sentence)
    found = server()
    try:
        yield found
    finally:
        found.end()


def _found(name: str) -> str | None:
    newest_first = sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    places = [os.environ.get("PATH", ""), "/usr/sbin", *map(str, newest_first)]
    return shutil.which(name, path=os.pathsep.join(places))


def _program(name: str) -> str:
    found = _found(name)
    assert found is not None, name
    return found


def _account(name: str) -> pwd.struct_passwd | None:
    """Who runs the server: root may not."""
    if os.geteuid() != 0:
        return None
    try:
        return pwd.getpwnam(name)
    except KeyError:
        return pwd.getpwnam("nobody")


def _children(pid: int) -> list[int]:
    if sys.platform != "linux":
        return []
    listed = Path(f"/proc/{pid}/task/{pid}/children")
    return [int(word) for word in listed.read_text().split()] if listed.exists() else []


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
