"""The promise: told "received" means on disk."""

from __future__ import annotations

import threading
from contextlib import suppress

from kit.server import Server
from kit.soap import MINIMAL
from kit.wire import post


def acknowledge(server: Server, message_id: str) -> bool:
    """Post one receipt; whether it was acknowledged."""
    return b"<Report>0</Report>" in post(server.port, MINIMAL % message_id.encode()).body


def test_kill_right_after_an_answer_loses_nothing(serve):
    server = serve()
    for number in range(10):
        assert acknowledge(server, f"K{number}")
        server.kill()
        server.start()
    assert [each["message_id"] for each in server.receipts()] == [f"K{n}" for n in range(10)]


def test_kill_under_load_loses_nothing_that_was_acknowledged(serve):
    server = serve()
    acknowledged: list[str] = []

    def load(worker: int) -> None:
        # Whatever the kill does to the connection is no acknowledgement.
        with suppress(OSError, AssertionError, ValueError, IndexError):
            for number in range(100_000):
                message_id = f"L{worker}-{number}"
                if acknowledge(server, message_id):
                    acknowledged.append(message_id)
                    if len(acknowledged) == 500:
                        server.process.kill()

    workers = [threading.Thread(target=load, args=(worker,)) for worker in range(8)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
    server.process.wait(10)
    server.start()

    stored = [each["message_id"] for each in server.receipts()]
    assert len(acknowledged) >= 500
    assert set(acknowledged) <= set(stored)
    assert len(stored) == len(set(stored))
