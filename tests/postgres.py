"""A real PostgreSQL on a free loopback port, in a folder of its own, for the tests that need one.

The server refuses to run as root, so it runs as the user "postgres" then, which Debian's package
makes.
"""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from types import TracebackType
from typing import Any

import psycopg
import pytest

from agent.sim.net.mosquitto import free_port

_NAMES = count(1)


def find_programs() -> Path:
    """The folder with initdb and pg_ctl: Debian keeps them out of everybody's path."""
    on_path = shutil.which("initdb")
    if on_path:
        return Path(on_path).resolve().parent
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    if not found:
        pytest.fail("PostgreSQL is missing: apt-get install postgresql (scripts/test)")
    return found[-1].parent


class Postgres:
    """One server; ``database()`` makes an empty database and returns its address."""

    def __init__(self, *, durable: bool = True) -> None:
        """Without *durable* it is quicker: enough where nobody cuts the power."""
        self._durable = durable
        self.port = free_port()
        self._programs = find_programs()
        self._folder = Path(tempfile.mkdtemp(prefix="kaopass-pg-"))
        self._as: dict[str, Any] = {}
        self._empty: list[str] = []
        if os.getuid() == 0:
            user = pwd.getpwnam("postgres")
            os.chown(self._folder, user.pw_uid, user.pw_gid)
            self._as = {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}

    def start(self) -> None:
        data = str(self._folder / "data")
        self._run("initdb", "-D", data, "-A", "trust", "-U", "city", "--no-sync", "-E", "UTF8")
        options = f"-p {self.port} -h 127.0.0.1 -k {self._folder} -c max_connections=50"
        if not self._durable:
            options += " -c fsync=off"
        log = str(self._folder / "log")
        self._run("pg_ctl", "-D", data, "-o", options, "-l", log, "-w", "start")

    def stop(self) -> None:
        self._run("pg_ctl", "-D", str(self._folder / "data"), "-m", "immediate", "-w", "stop")
        shutil.rmtree(self._folder)

    @property
    def pid(self) -> int:
        """The server's first process, whose children do the work."""
        return int((self._folder / "data" / "postmaster.pid").read_text().split()[0])

    def database(self) -> str:
        if self._empty:
            return self._empty.pop()
        name = f"city{next(_NAMES)}"
        with psycopg.connect(self._address("postgres"), autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name}")
        return self._address(name)

    def give_back(self, database: str) -> None:
        """Empty *database* for whoever asks next: a new one takes twenty times as long."""
        with psycopg.connect(database, autocommit=True) as connection:
            connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )
            connection.execute("DROP SCHEMA public CASCADE")
            connection.execute("CREATE SCHEMA public")
        self._empty.append(database)

    def _address(self, name: str) -> str:
        return f"postgresql://city@127.0.0.1:{self.port}/{name}"

    def _run(self, program: str, *arguments: str) -> None:
        said = self._folder / f"{program}.txt"
        with said.open("wb") as out:  # no pipe: the server inherits it, so it would never end
            done = subprocess.run(
                [str(self._programs / program), *arguments],
                cwd=self._folder,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                check=False,
                **self._as,
            )
        if done.returncode:
            pytest.fail(f"{program}: {said.read_text()}")

    def __enter__(self) -> Postgres:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """One server for the whole run; every test asks it for a database of its own."""
    with Postgres(durable=False) as server:
        yield server


@pytest.fixture
def postgres_database(postgres: Postgres) -> Iterator[str]:
    """The address of an empty database."""
    database = postgres.database()
    yield database
    postgres.give_back(database)
