"""A server whose database does not answer: providers notice nothing, and nothing is lost."""

from __future__ import annotations

import json
import re
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import pytest

from kit.command_line import execute, start
from kit.server import DEADLINE, SOON, environment, locked, stored, wait_until
from kit.wire import get, post

ENVELOPE = (
    b'<e:Envelope xmlns:e="http://schemas.xmlsoap.org/soap/envelope/"><e:Body>'
    b"<SubmitDeliveryReceipt><MessageIdentifier>%s</MessageIdentifier><Report>%s</Report>"
    b"</SubmitDeliveryReceipt></e:Body></e:Envelope>"
)


@pytest.fixture
def server(serve, tmp_path):
    """A server that waits for SQLite's lock but shortly."""
    url = f"sqlite:///{tmp_path / 'server-0' / 'receipts.db'}?timeout=0.3"
    return serve(options=("--database", url))


def acknowledged(server, message_id, report="0"):
    """Post a receipt; whether it was acknowledged."""
    body = post(server.port, ENVELOPE % (message_id.encode(), report.encode())).body
    return b"<Report>0</Report>" in body


def ids(server):
    return [each["message_id"] for each in server.receipts()]


def command(server, *arguments):
    """A command on the server's database."""
    return execute(
        *(*arguments, "--config", str(server.config)),
        *("--database", f"sqlite:///{server.database}"),
    )


def test_a_locked_database_refuses_nobody_and_has_all_afterwards(server):
    assert acknowledged(server, "before")
    with locked(server):
        assert acknowledged(server, "first")
        begun = time.monotonic()
        for number in range(50):
            assert acknowledged(server, f"M{number}")
        assert b"-1</Report>" in post(server.port, ENVELOPE % (b"no status", b"")).body
        assert time.monotonic() - begun < SOON, "nobody waits for the lock"
        assert ids(server) == ["before"]
    expected = ["before", "first", *(f"M{number}" for number in range(50))]
    wait_until(lambda: len(ids(server)) == len(expected), "the spool is drained")
    assert ids(server) == expected
    wait_until(lambda: len(server.rejected()) == 1, "the nonsense is kept as well")
    assert acknowledged(server, "after")
    assert server.log.count("the database does not store") == 1
    wait_until(lambda: server.log.count("the database stores again") == 1, "it says so")


def test_a_postgresql_that_hangs_refuses_nobody_also_when_the_server_ends(serve, own_postgresql):
    url = own_postgresql.url(own_postgresql.new_database())
    server = serve(options=("--database", url))
    assert acknowledged(server, "before")
    with own_postgresql.frozen():
        assert acknowledged(server, "first")
        assert acknowledged(server, "second")
    wait_until(lambda: get(server.port, "/readyz").text == "ready\n", "the spool is drained")
    assert "the database did not answer for 5 s: its connection is broken off" in server.log
    with own_postgresql.frozen(), ThreadPoolExecutor() as clients:
        last = clients.submit(acknowledged, server, "at its end")
        taken = "receiptd_queue_depth 1.0"
        wait_until(
            lambda: taken in get(server.port, "/metrics", server.bearer).text, "the writer has it"
        )
        assert server.stop() == 0
        assert last.result(DEADLINE)
    server.start()
    expected = ["before", "first", "second", "at its end"]
    wait_until(lambda: stored(url) == expected, "all are stored")


def test_a_server_killed_without_its_database_loses_nothing_and_doubles_nothing(server):
    told = []

    def load(worker):
        # Whatever the kill does to the connection is no acknowledgement.
        with suppress(OSError, AssertionError, ValueError, IndexError):
            for number in range(100_000):
                if acknowledged(server, f"K{worker}-{number}"):
                    told.append(f"K{worker}-{number}")
                    if len(told) == 200:
                        server.process.kill()

    with locked(server):
        workers = [threading.Thread(target=load, args=(worker,)) for worker in range(4)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join(60)
        server.process.wait(DEADLINE)
        server.start()
        assert acknowledged(server, "behind them")
        assert ids(server) == []
    wait_until(lambda: "behind them" in ids(server), "the spool is drained")
    stored = ids(server)
    assert len(told) >= 200
    assert set(told) <= set(stored)
    assert len(stored) == len(set(stored))
    assert stored[-1] == "behind them"
    for worker in range(4):
        mine = [each for each in stored if each.startswith(f"K{worker}-")]
        assert mine == [f"K{worker}-{number}" for number in range(len(mine))]


def test_what_a_killed_server_left_is_shown_and_drained_by_command(server):
    with locked(server):
        for number in range(3):
            assert acknowledged(server, f"M{number}")
        (item,) = json.loads(command(server, "spool", "status", "--json").stdout)
        assert (item["in_use"], item["posts"], item["damaged"]) == (True, 3, False)
        assert item["oldest"] < item["newest"]
        server.kill()
    shown = command(server, "spool", "status")
    assert shown.returncode == 0
    assert shown.stdout.splitlines()[2].split()[1:4] == ["left", "behind", "3"]
    drained = command(server, "spool", "drain")
    assert drained.stdout == f"{server.database}-spool: 3 posts stored\n"
    assert drained.returncode == 0
    assert ids(server) == ["M0", "M1", "M2"]
    assert "the spool is empty" in command(server, "spool", "status").stdout
    assert command(server, "spool", "drain").stdout.endswith(": 0 posts stored\n")


def test_draining_leaves_to_a_running_server_what_is_its_own(server):
    with locked(server):
        assert acknowledged(server, "M")
        drained = command(server, "spool", "drain")
        assert drained.returncode == 0
        assert drained.stdout.splitlines() == [
            f"{server.database}-spool: 0 posts stored",
            "files in use by a running receiptd, which drains them: 1",
        ]


def test_several_that_drain_at_once_store_each_post_once(server):
    expected = []
    with locked(server):
        for number in range(6):  # a file of each server that was killed
            if number:
                server.start()
            for post_number in range(20):
                assert acknowledged(server, f"M{number}-{post_number}")
                expected.append(f"M{number}-{post_number}")
            server.kill()
    config = ("--config", str(server.config), "--database", f"sqlite:///{server.database}")
    draining = [start("spool", "drain", *config) for _ in range(3)]
    told = [each.communicate(timeout=60)[0].decode() for each in draining]
    assert [each.returncode for each in draining] == [0, 0, 0]
    counts = [int(re.search(r": (\d+) posts stored", text)[1]) for text in told]
    assert sum(counts) == len(expected)
    rows = server.receipts()
    assert sorted(each["message_id"] for each in rows) == sorted(expected)
    assert {each["repeats"] for each in rows} == {0}


def test_draining_without_a_database_fails_and_loses_nothing(server):
    with locked(server):
        assert acknowledged(server, "M")
        server.kill()
    whole = server.database.read_bytes()
    server.database.write_bytes(b"no database" * 1000)
    drained = command(server, "spool", "drain")
    assert drained.returncode == 1
    assert "the database does not answer" in drained.stderr
    assert "Traceback" not in drained.stderr
    server.database.write_bytes(whole)
    assert command(server, "spool", "drain").returncode == 0
    assert ids(server) == ["M"]


def test_a_spool_that_cannot_be_written_is_said_at_the_start(tmp_path):
    (tmp_path / "file").touch()
    result = execute(
        *("serve", "--listen", "tcp:0:interface=127.0.0.1"),
        cwd=tmp_path,
        env=environment() | {"RECEIPTD_STORE__SPOOL": str(tmp_path / "file" / "spool")},
    )
    assert result.returncode == 1
    assert "Name another folder with store.spool" in result.stderr
    assert "Traceback" not in result.stderr
