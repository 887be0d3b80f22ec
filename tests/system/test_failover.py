"""A PostgreSQL with a synchronous standby loses its primary: nothing acknowledged is lost."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import create_engine

from kit.load import Load
from kit.server import stored, wait_until
from kit.wire import get


class Cluster:
    """A primary and its standby, on Unix sockets of one folder, which ports tell apart."""

    def __init__(self, programs: Path, owner: int) -> None:
        self._programs = programs
        self._user = pwd.getpwuid(owner).pw_name if os.getuid() == 0 else None
        self.folder = Path(tempfile.mkdtemp(prefix="receiptd-failover-"))
        if self._user:
            os.chown(self.folder, owner, -1)
        self.ports = {"primary": 5432, "standby": 5433}

    def begin(self) -> None:
        """Start both, the standby in step with the primary."""
        self._run(
            "initdb", "--auth=trust", "--username=postgres", "--pgdata", self._data("primary")
        )
        self._start("primary")
        source = f"host={self.folder} port={self.ports['primary']} user=postgres"
        target = ("--pgdata", self._data("standby"), "--write-recovery-conf", "--checkpoint=fast")
        self._run("pg_basebackup", "--dbname", f"{source} application_name=standby", *target)
        self._start("standby")
        self.execute("primary", "ALTER SYSTEM SET synchronous_standby_names = 'standby'")
        self.execute("primary", "SELECT pg_reload_conf()")
        asks = "SELECT sync_state FROM pg_stat_replication"
        wait_until(lambda: self.execute("primary", asks) == [("sync",)], "they are in step")

    def url(self, *names: str) -> str:
        """The URL of the one of these that takes writes."""
        hosts = ",".join(str(self.folder) for _ in names)
        ports = ",".join(str(self.ports[name]) for name in names)
        address = f"host={hosts}&port={ports}"
        return f"postgresql+psycopg://postgres@/postgres?{address}&target_session_attrs=read-write"

    def stop_at_once(self, name: str) -> None:
        """End one as a crash does."""
        self._run("pg_ctl", "stop", "--mode=immediate", "--pgdata", self._data(name))

    def promote(self) -> None:
        """Make the standby the primary."""
        self._run("pg_ctl", "promote", "--pgdata", self._data("standby"))

    def remove(self) -> None:
        """End both, with their files."""
        for name in self.ports:
            if Path(self._data(name), "postmaster.pid").exists():
                self.stop_at_once(name)
        shutil.rmtree(self.folder)

    def execute(self, name: str, statement: str) -> list[tuple[object, ...]]:
        """The rows of a statement at one of them."""
        url = f"postgresql+psycopg://postgres@/postgres?host={self.folder}&port={self.ports[name]}"
        engine = create_engine(url, isolation_level="AUTOCOMMIT")
        with engine.connect() as connection:
            found = connection.exec_driver_sql(statement)
            rows = [tuple(row) for row in found] if found.returns_rows else []
        engine.dispose()
        return rows

    def _data(self, name: str) -> str:
        return str(self.folder / name)

    def _start(self, name: str) -> None:
        options = f"-p {self.ports[name]} -h '' -k {self.folder} -c fsync=off"
        log = str(self.folder / f"{name}.log")
        self._run("pg_ctl", "start", "--wait", "-D", self._data(name), "-l", log, "-o", options)

    def _run(self, program: str, *arguments: str) -> None:
        subprocess.run(
            [str(self._programs / program), *arguments],
            user=self._user,
            cwd=self.folder,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            timeout=60,
            check=True,
        )


@pytest.fixture
def cluster(postgresql) -> Iterator[Cluster]:
    made = Cluster(postgresql.programs, postgresql.owner)
    try:
        made.begin()
        yield made
    finally:
        made.remove()


def test_the_standby_takes_over_and_nothing_acknowledged_is_lost(serve, cluster):
    server = serve("", options=("--database", cluster.url("primary", "standby")))
    load = Load(server.port, clients=4, persevere=True)

    def more(than: int) -> bool:
        return len(load.acknowledged) > than

    wait_until(lambda: more(200), "posts are stored in both")
    cluster.stop_at_once("primary")
    before = len(load.acknowledged)
    wait_until(lambda: more(before + 100), "posts are taken without a database")
    cluster.promote()
    wait_until(lambda: get(server.port, "/readyz").body == b"ready\n", "the standby takes writes")
    before = len(load.acknowledged)
    wait_until(lambda: more(before + 100), "posts are stored in the new primary")
    load.stop()
    assert not load.unanswered
    assert sorted(stored(cluster.url("standby"))) == sorted(load.acknowledged)
    assert server.stop() == 0
