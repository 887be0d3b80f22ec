"""More than can be stored: refused in order, within bounds, and at nobody else's cost."""

from __future__ import annotations

import socket
from contextlib import ExitStack, closing

import pytest

from kit.server import locked, resident, wait_until
from kit.soap import envelope
from kit.wire import get, post, receive

CONFIG = """
[server]
max_body = 1000000

[store]
queue = 20
spool_limit = 2000000

[[endpoint]]
provider = "csoft"
path = "/soap"

[[endpoint]]
provider = "seeme"
path = "/seeme"
"""
SHARE = 10
"""Posts that may wait of one endpoint: half of the queue."""

SEEME = "/seeme?reference=%s&number=36301234567&code=6&timestamp=2013-09-01+09%%3A12%%3A29"


def waiting(server):
    """How many posts wait to be stored."""
    for line in get(server.port, "/metrics", server.bearer).text.splitlines():
        if line.startswith("receiptd_queue_depth"):
            return int(float(line.split()[-1]))
    raise AssertionError("no such metric")


def sent(stack, server, data):
    """A connection on which a request is under way."""
    connection = socket.create_connection(("127.0.0.1", server.port), timeout=30)
    stack.enter_context(closing(connection))
    connection.sendall(data)
    return connection


def soap(message_id):
    body = envelope(message_id, username=None, pin=None)
    head = (
        b"POST /soap HTTP/1.1\r\nHost: h\r\nContent-Type: text/xml\r\nContent-Length: %d\r\n\r\n"
    )
    return head % len(body) + body


def query(reference):
    return f"GET {SEEME % reference} HTTP/1.1\r\nHost: h\r\n\r\n".encode()


def test_beyond_the_queue_posts_are_refused_and_another_endpoint_is_not(serve):
    """The writer waits for a turn, so nothing leaves the queue."""
    server = serve(CONFIG, options=("--database", f"sqlite:///{'receipts.db'}?timeout=60"))
    server.database = server.folder / "receipts.db"
    with ExitStack() as stack:
        with locked(server):
            under_way = [sent(stack, server, soap(f"S{number}")) for number in range(SHARE)]
            wait_until(lambda: waiting(server) == SHARE, "the endpoint's share is full")
            body = envelope("more", username=None, pin=None, Filler="x" * 500_000)
            for number in range(220):  # a hundred megabytes, after what one of them takes
                if number == 20:
                    before = resident(server.process.pid)
                refused = post(server.port, body)
                assert (refused.status, refused.headers["retry-after"]) == (500, "5")
                assert b"<faultcode>" in refused.body
                assert b":Server</faultcode>" in refused.body
            assert resident(server.process.pid) - before < 20 * 1024 * 1024
            assert waiting(server) == SHARE
            under_way += [sent(stack, server, query(f"Q{number}")) for number in range(SHARE)]
            wait_until(lambda: waiting(server) == 2 * SHARE, "the other one has room")
            refused = get(server.port, SEEME % "more")
            assert (refused.status, refused.headers["retry-after"]) == (503, "5")
        answers = [receive(each) for each in under_way]
    assert all(b"<Report>0</Report>" in each.body for each in answers[:SHARE])
    assert [each.status for each in answers[SHARE:]] == [200] * SHARE
    stored = [each["message_id"] for each in server.receipts()]
    assert sorted(stored) == sorted(f"{kind}{n}" for kind in "QS" for n in range(SHARE))


@pytest.mark.parametrize("own_disk", [False, True], ids=["spool beside it", "spool elsewhere"])
def test_a_full_disk_is_spooled_around_then_refused_and_mends_by_itself(
    serve, small_disk, tmp_path, own_disk
):
    disk = small_disk(4 * 1024 * 1024)
    spool = (tmp_path if own_disk else disk) / "spool"
    server = serve(
        CONFIG.replace("[store]", f'[store]\nspool = "{spool}"'),
        options=("--database", f"sqlite:///{disk / 'receipts.db'}"),
    )
    server.database = disk / "receipts.db"
    filler = disk / "filler"
    with filler.open("wb", buffering=0) as file:
        for size in (65536, 4096, 1):
            try:
                while file.write(bytes(size)):
                    pass
            except OSError:
                continue
    acknowledged, refused = [], []
    for number in range(100):
        body = envelope(f"M{number}", username=None, pin=None, Filler="x" * 40_000)
        answer = post(server.port, body)
        if b"<Report>0</Report>" in answer.body:
            acknowledged.append(f"M{number}")
        else:
            assert (answer.status, answer.headers["retry-after"]) == (500, "5")
            refused.append(f"M{number}")
    assert refused, "the spool is full too"
    assert not own_disk or len(acknowledged) > 20, "it took what it may"
    assert get(server.port, "/readyz").status == 503
    filler.unlink()
    wait_until(lambda: get(server.port, "/readyz").text == "ready\n", "it has mended by itself")
    assert b"<Report>0</Report>" in post(server.port, soap("after").split(b"\r\n\r\n")[1]).body
    assert [each["message_id"] for each in server.receipts()] == [*acknowledged, "after"]
    assert server.log.count("the spool is full") <= 2
    assert server.stop() == 0
