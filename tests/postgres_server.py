"""A throw-away PostgreSQL server on a unix socket: Debian's, started for a test or benchmark and deleted with it."""

from __future__ import annotations

import itertools
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest

_USER = "synthward"
_ACCOUNT = "postgres"  # of Debian's package; the server refuses to run as root
_PATIENCE_S = 60.0


def binaries() -> Path | None:
    """The folder of the newest PostgreSQL that is installed, if there is one."""
    found = [folder for folder in Path("/usr/lib/postgresql").glob("*/bin") if (folder / "initdb").exists()]
    return max(found, key=lambda folder: int(folder.parent.name), default=None)


def need_postgres() -> None:
    """Skips a test where there is no PostgreSQL; fails it where CI promises one."""
    if binaries() is None or shutil.which("setpriv") is None:
        if os.environ.get("CI"):
            pytest.fail("CI has no PostgreSQL: install Debian's package postgresql")
        pytest.skip("no PostgreSQL: install Debian's package postgresql to run the store's tests on it")


class PostgresServer:
    """A server with its data in folder. durable: whether it flushes to the disk, as it does in use."""

    def __init__(self, folder: Path, *, durable: bool) -> None:
        self._folder = folder
        self._durable = durable
        self._process: subprocess.Popen[bytes] | None = None
        self._databases = itertools.count()
        found = binaries()
        assert found is not None, "call need_postgres first"
        self._bin = found
        self._run([str(found / "initdb"), "--username", _USER, "--auth", "trust", "--no-sync", "--encoding", "UTF8",
                   "--pgdata", str(folder / "data")])  # fmt: skip

    def start(self) -> None:
        """Starts it, and returns when it answers."""
        options = {"listen_addresses": "", "unix_socket_directories": str(self._folder), "max_connections": "200"}
        if not self._durable:
            options["fsync"] = "off"
        arguments = [part for name, value in options.items() for part in ("-c", f"{name}={value}")]
        with (self._folder / "server.log").open("ab") as log:
            self._process = subprocess.Popen(
                [*_as_account(), str(self._bin / "postgres"), "-D", str(self._folder / "data"), *arguments],
                stdout=log, stderr=subprocess.STDOUT, cwd="/",
            )  # fmt: skip
        deadline = time.monotonic() + _PATIENCE_S
        while not self._answers():
            assert self._process.poll() is None, (self._folder / "server.log").read_text()
            assert time.monotonic() < deadline, "PostgreSQL did not start"
            time.sleep(0.02)

    def stop(self) -> None:
        """Ends it at once: open connections are cut, as by an administrator's restart."""
        if self._process is not None:
            self._process.send_signal(signal.SIGINT)
            self._process.wait(timeout=_PATIENCE_S)
            self._process = None

    def restart(self) -> None:
        """Ends and starts it."""
        self.stop()
        self.start()

    def new_database(self) -> str:
        """The SQLAlchemy URL of a new, empty database."""
        name = f"store_{next(self._databases)}"
        with psycopg.connect(self._address("postgres"), autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name}")
        return f"postgresql+psycopg://{_USER}@/{name}?host={self._folder}"

    @property
    def pid(self) -> int:
        """Of the server's first process."""
        assert self._process is not None, "the server is not running"
        return self._process.pid

    def _address(self, database: str) -> str:
        return f"host={self._folder} user={_USER} dbname={database} connect_timeout=5"

    def _answers(self) -> bool:
        try:
            psycopg.connect(self._address("postgres")).close()
        except psycopg.OperationalError:
            return False
        return True

    def _run(self, command: Sequence[str]) -> None:
        done = subprocess.run([*_as_account(), *command], capture_output=True, text=True, check=False, cwd="/")
        assert done.returncode == 0, done.stderr


def _as_account() -> list[str]:
    """Ends with us, however we end; as another user where we are root."""
    other = ["--reuid", _ACCOUNT, "--regid", _ACCOUNT, "--init-groups"] if os.geteuid() == 0 else []
    return ["setpriv", *other, "--pdeathsig", "INT"]


@contextmanager
def postgres_server(*, durable: bool = False) -> Iterator[PostgresServer]:
    """A server that is stopped and deleted at the end. In /tmp, since a socket's path must be short."""
    folder = Path(tempfile.mkdtemp(prefix="synthward-pg-"))
    try:
        if os.geteuid() == 0:
            shutil.chown(folder, _ACCOUNT, _ACCOUNT)
        server = PostgresServer(folder, durable=durable)
        server.start()
        try:
            yield server
        finally:
            server.stop()
    finally:
        shutil.rmtree(folder, ignore_errors=True)
