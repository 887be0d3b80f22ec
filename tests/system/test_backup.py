"""Backing up while the server runs, and restoring: the commands of docs/operations.md, as they
stand there but for the paths."""

from __future__ import annotations

import os
import re
import sqlite3
import subprocess
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from threading import Event, Thread

from sqlalchemy import make_url

from kit.server import Server, environment, wait_until
from kit.soap import envelope, new_id
from kit.wire import get, post
from receiptd.store.database.engine import open_engine

PAGE = Path(__file__).parents[2] / "docs" / "operations.md"


def blocks() -> list[str]:
    """The shell blocks of "Back up and restore": SQLite's two, PostgreSQL's two, and not the last,
    which fetches the receipts between backup and restore from the old database."""
    section = re.search(r"^## Back up and restore\n(.*?)^## ", PAGE.read_text(), re.S | re.M)
    assert section
    found = re.findall(r"```sh\n(.*?)```", section[1], re.S)
    assert len(found) == 5
    return found[:4]


@contextmanager
def traffic(server: Server) -> Iterator[list[str]]:
    """Posts receipts all the time; gives the identifiers of those that were acknowledged."""
    acknowledged: list[str] = []
    over = Event()

    def run() -> None:
        while not over.is_set():
            message_id = new_id()
            if b"<Report>0</Report>" in post(server.port, envelope(message_id)).body:
                acknowledged.append(message_id)

    thread = Thread(target=run)
    thread.start()
    try:
        wait_until(lambda: len(acknowledged) > 20, "receipts are acknowledged")
        yield acknowledged
    finally:
        over.set()
        thread.join()


def sqlite_statements(block: str, path: Path) -> Iterator[str]:
    """What a block has sqlite3 do to the database that is at `path` here."""
    for database, statement in re.findall(r'^sqlite3 (\S+) "(.*)"$', block, re.M):
        assert database in ("/var/lib/receiptd/receipts.db", "/var/backups/receipts.db")
        if Path(database).parent.name == path.parent.name:
            yield statement


def test_sqlite_is_backed_up_under_load_and_restored(serve, tmp_path):
    backing_up, restoring = blocks()[:2]
    backups = tmp_path / "backups"
    backups.mkdir()
    backup = backups / "receipts.db"
    server = serve()
    (statement,) = sqlite_statements(backing_up, Path("receiptd/receipts.db"))
    (check,) = sqlite_statements(backing_up, backup)
    with (
        traffic(server) as acknowledged,
        closing(sqlite3.connect(server.database, isolation_level=None)) as database,
    ):
        before = list(acknowledged)
        database.execute(statement.replace("/var/backups/receipts.db", str(backup)))
        wait_until(lambda: len(acknowledged) > len(before) + 20, "receipts come behind it")
    with closing(sqlite3.connect(backup)) as copy:
        assert copy.execute(check).fetchall() == [("ok",)]
        kept = {row[0] for row in copy.execute("SELECT message_id FROM receipts")}
    assert set(before) <= kept < set(acknowledged)

    # A crash, so that there is a -wal file that does not go with the backup.
    server.kill()
    assert server.database.with_name("receipts.db-wal").stat().st_size > 0
    removing, copying = re.findall(r"^(?:rm|cp) .*$", restoring, re.M)
    for command in (removing, copying):
        command = command.replace("/var/lib/receiptd", str(server.folder))
        subprocess.run(command.replace("/var/backups", str(backups)), shell=True, check=True)
    server.start()
    assert {each["message_id"] for each in server.receipts()} == kept
    assert b"<Report>0</Report>" in post(server.port, envelope("AFTER")).body
    # One that was in the backup is known, one that was not is new.
    (lost,) = sorted(set(acknowledged) - kept)[:1]
    for message_id in (before[0], lost):
        assert b"<Report>0</Report>" in post(server.port, envelope(message_id)).body
    found = [each["message_id"] for each in server.receipts()]
    assert sorted(found) == sorted({*kept, "AFTER", lost})


def test_postgresql_is_backed_up_under_load_and_restored(
    serve, postgresql, new_postgresql_database, tmp_path
):
    backing_up, restoring = blocks()[2:]
    url = new_postgresql_database()
    database = str(make_url(url).database)
    variables = {
        "PATH": f"{postgresql.programs}:{os.environ['PATH']}",
        "PGHOST": str(make_url(url).query["host"]),
        "PGUSER": str(make_url(url).username),
    }

    def run(block: str) -> None:
        # The database's name here, wherever it is a word of its own.
        block = re.sub(r"\breceipts(?=_before\b|\b(?!\.dump))", database, block)
        subprocess.run(
            ["bash", "-euo", "pipefail", "-c", block],
            cwd=tmp_path,
            env=environment() | variables,
            check=True,
        )

    def stored() -> set[str]:
        engine = open_engine(url, writes=False)
        with engine.connect() as connection:
            found = connection.exec_driver_sql("SELECT message_id FROM receipts").scalars().all()
        engine.dispose()
        assert len(found) == len(set(found))
        return set(found)

    server = serve(options=("--database", url))
    with traffic(server) as acknowledged:
        before = list(acknowledged)
        run(backing_up)
        wait_until(lambda: len(acknowledged) > len(before) + 20, "receipts come behind it")
    assert server.stop() == 0
    assert stored() == set(acknowledged)
    try:
        run(restoring)
        kept = stored()
        assert set(before) <= kept < set(acknowledged)
        server.start()
        assert get(server.port, "/readyz").text == "ready\n"
        for message_id in (before[0], "AFTER"):
            assert b"<Report>0</Report>" in post(server.port, envelope(message_id)).body
        assert stored() == kept | {"AFTER"}
        assert server.stop() == 0
    finally:
        postgresql.drop(f"{database}_before")
