"""SQLite's write-ahead log is removed under a running server: nothing that was acknowledged is
lost, and whoever watches the server learns of it at once."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from kit.server import stored, wait_until
from kit.soap import new_id
from kit.wire import get, post

ENVELOPE = (
    b'<e:Envelope xmlns:e="http://schemas.xmlsoap.org/soap/envelope/"><e:Body>'
    b"<SubmitDeliveryReceipt><MessageIdentifier>%s</MessageIdentifier><Report>0</Report>"
    b"</SubmitDeliveryReceipt></e:Body></e:Envelope>"
)


def acknowledged(server, name):
    body = post(server.port, ENVELOPE % name.encode()).body
    return b"<Report>0</Report>" in body


def removed(path):
    path.unlink()


def replaced(path):
    other = path.with_name("other")
    other.write_bytes(b"")
    other.rename(path)


def beside(server, end):
    return Path(f"{server.database}{end}")


def readyz(server):
    return get(server.port, "/readyz").body


@pytest.mark.parametrize("end", ["-wal", "-shm"])
@pytest.mark.parametrize("change", [removed, replaced])
def test_what_is_not_in_the_database_yet_is_saved_though_nobody_posts(serve, end, change):
    server = serve()
    names = [new_id() for _ in range(20)]
    assert all(acknowledged(server, name) for name in names)
    change(beside(server, end))
    wait_until(lambda: b"restart the server" in readyz(server), "/readyz says it")
    # The poll may see what is the matter before the writer has saved and said so.
    wait_until(lambda: "safe in the database's file" in server.log, "the log says it")
    assert f"{end} was removed or replaced" in server.log
    server.kill()
    assert sorted(stored(f"sqlite:///{server.database}")) == sorted(names)


def test_what_is_acknowledged_from_then_on_is_kept_and_stored_after_a_restart(serve):
    server = serve()
    before, after = ([new_id() for _ in range(20)] for _ in range(2))
    assert all(acknowledged(server, name) for name in before)
    beside(server, "-wal").unlink()
    assert all(acknowledged(server, name) for name in after)  # also what comes at that moment
    server.kill()
    server.start()
    wait_until(lambda: len(server.receipts()) == 40, "the spool is drained")
    assert sorted(each["message_id"] for each in server.receipts()) == sorted(before + after)
    wait_until(lambda: readyz(server) == b"ready\n", "all is well again")


def test_other_connections_come_and_go_and_nothing_is_the_matter(serve):
    server = serve()
    for _ in range(3):
        assert acknowledged(server, new_id())
        other = sqlite3.connect(server.database)
        other.execute("PRAGMA journal_mode=WAL")
        assert other.execute("SELECT count(*) FROM receipts").fetchone()[0] > 0
        other.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        other.close()
    assert acknowledged(server, new_id())
    assert readyz(server) == b"ready\n"
    assert "removed or replaced" not in server.log
