"""Machines that share a database are upgraded one after the other: meanwhile two releases run."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from sqlalchemy import text

from kit.api import call
from kit.releases import earlier_release
from kit.server import Server, environment, stored, wait_until
from kit.soap import envelope
from kit.wire import get, post
from receiptd.store.database.engine import open_engine
from receiptd.store.schema import REVISION

CONFIG = '[[endpoint]]\nprovider = "csoft"\npath = "/soap"\n'
DEAD_END = "http://127.0.0.1:9/"
"""Where nobody listens."""


def acknowledged(server: Server, message_id: str) -> bool:
    """Whether a receipt that is posted to the server is acknowledged."""
    answer = post(server.port, envelope(message_id, username=None, pin=None))
    return answer.status == 200 and b"<Report>0</Report>" in answer.body


def change(url: str, statement: str) -> None:
    """What a migration does to a database."""
    engine = open_engine(url)
    with engine.execution_options(any_revision=True).begin() as connection:
        connection.execute(text(statement))
    engine.dispose()


# --- An earlier release, from before it looked at the revision while it ran


@pytest.fixture(scope="module")
def earlier(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where PYTHONPATH finds an earlier release."""
    return earlier_release(tmp_path_factory.mktemp("earlier"))


@pytest.fixture
def database(new_postgresql_database: Callable[..., str]) -> str:
    """An empty database on PostgreSQL."""
    return new_postgresql_database()


@pytest.fixture
def serve_earlier(
    serve: Callable[..., Server],
    earlier: Path,
    database: str,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> Callable[[], Server]:
    """Starts the earlier release on the database."""

    def start() -> Server:
        with monkeypatch.context() as patch:
            patch.setenv("PYTHONPATH", str(earlier))
            patch.setattr(Server, "last_line", "listening on")
            server = serve(CONFIG, folder=tmp_path / "one", options=("--database", database))
        assert "receiptd 0.1.0" in server.log
        return server

    return start


def upgraded(serve: Callable[..., Server], server: Server, database: str) -> Server:
    """The machine of a server that has ended, with this release."""
    return serve(CONFIG, folder=server.folder, options=("--database", database))


def test_no_receipt_is_lost_or_doubled_while_one_machine_is_upgraded_after_the_other(
    serve, serve_earlier, database
):
    one = serve_earlier()
    taken: list[str] = []
    end = threading.Event()

    def go_on() -> None:
        number = 0
        while not end.is_set() and number < 2000:
            number += 1
            if acknowledged(one, f"L{number}"):
                taken.append(f"L{number}")

    load = threading.Thread(target=go_on)
    load.start()
    try:
        wait_until(lambda: len(taken) > 5, "the earlier release stores")
        # The other machine: it migrates the database while the first one stores.
        two = serve(CONFIG, options=("--database", database))
        after = len(taken)
        wait_until(lambda: len(taken) > after + 5, "the earlier release goes on")
    finally:
        end.set()
        load.join()
    # A provider may repeat any of them, to any machine.
    again = taken[:3] + taken[-3:]
    assert all(acknowledged(two, each) for each in again)
    for number in range(10):
        first, second = (one, two) if number % 2 else (two, one)
        assert acknowledged(first, f"B{number}")
        assert acknowledged(second, f"B{number}")
        taken.append(f"B{number}")
    assert one.stop() == 0
    one = upgraded(serve, one, database)
    assert all(acknowledged(one, each) for each in again)
    wait_until(lambda: len(stored(database)) >= len(taken), "all is stored")
    assert Counter(stored(database)) == Counter(taken)


def test_what_the_earlier_release_had_to_spool_is_stored_by_this_one(
    serve, serve_earlier, database
):
    one = serve_earlier()
    assert acknowledged(one, "before")
    # Tables that it cannot write to any more.
    change(database, "ALTER TABLE receipts RENAME COLUMN message_key TO no_longer")
    sent = [f"S{number}" for number in range(10)]
    assert all(acknowledged(one, each) for each in sent)
    assert "the database does not store" in one.log
    one.stop()
    change(database, "ALTER TABLE receipts RENAME COLUMN no_longer TO message_key")
    two = serve(CONFIG, options=("--database", database))
    assert acknowledged(two, sent[0])
    upgraded(serve, one, database)
    wait_until(lambda: len(stored(database)) >= 11, "the spool is drained")
    assert Counter(stored(database)) == Counter(["before", *sent])


def test_the_earlier_release_does_not_start_on_a_database_of_this_one(earlier, database, serve):
    serve(CONFIG, options=("--database", database))
    done = subprocess.run(
        [sys.executable, "-m", "receiptd", "serve", "--database", database],
        env=environment() | {"PYTHONPATH": str(earlier)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 1
    assert f"at revision {REVISION}" in done.stderr


# --- This release, beside one that will come


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_beside_a_newer_release_what_comes_is_spooled_until_this_one_is_upgraded(
    serve, kind, request
):
    options: tuple[str, ...] = ()
    if kind == "postgresql":
        options = ("--database", request.getfixturevalue("database"))
    forward = f'[[forward]]\nname = "app"\nurl = "{DEAD_END}"\n'
    server = serve(CONFIG + forward, options=options)
    url = options[-1] if options else f"sqlite:///{server.database}"
    assert acknowledged(server, "before")

    change(url, "UPDATE alembic_version SET version_num = '9999'")
    assert all(acknowledged(server, f"S{number}") for number in range(5))
    assert stored(url) == ["before"]
    line = f"knows revisions up to {REVISION}: a newer receiptd has used it; upgrade receiptd"
    assert line in server.log
    assert get(server.port, "/readyz").text.startswith("ready\ndegraded since ")
    message = [{"provider": "csoft", "message_id": "M", "recipient": "447700912345"}]
    assert call(server, "/api/v1/messages", "POST", message).status == 503
    assert server.stop() == 0

    change(url, f"UPDATE alembic_version SET version_num = '{REVISION}'")
    upgraded(serve, server, url)
    wait_until(lambda: len(stored(url)) >= 6, "the spool is drained")
    assert Counter(stored(url)) == Counter(["before", *(f"S{number}" for number in range(5))])
    assert server.log.count("Traceback") == 0
