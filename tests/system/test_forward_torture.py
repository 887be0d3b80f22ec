"""Receiver and receiptd killed at random under load: then every stored receipt has reached the
receiver, each message's events in order."""

from __future__ import annotations

import os
import random
import signal
import threading
import time
from contextlib import ExitStack
from pathlib import Path

from kit.api import deliver
from kit.receiver import receiver
from kit.server import Server, wait_until

EACH = 10
"""Receipts about each message."""
OPEN = '[[endpoint]]\nprovider = "csoft"\npath = "/soap"\n'


def test_nothing_is_missing_and_each_message_is_told_in_order(tmp_path, long):
    rounds = 100 if long else 5
    chance = random.Random(os.environ.get("SEED", "7"))
    told: list[dict] = []
    with ExitStack() as stack:
        app = stack.enter_context(receiver())
        port = int(app.url.split(":")[2].split("/")[0])
        config = (
            f'{OPEN}[[forward]]\nname = "app"\nurl = "{app.url}"\ntypes = ["receipt.stored"]\n'
        )
        server = Server(tmp_path, config, "tcp:0:interface=127.0.0.1", [])
        stack.callback(lambda: server.kill())
        ending = threading.Event()
        posting = threading.Thread(target=post, args=(lambda: server, ending))
        posting.start()
        stack.callback(posting.join)
        stack.callback(ending.set)
        for _ in range(rounds):
            time.sleep(chance.random())
            what = chance.choice(["server", "sender", "receiver"])
            if what == "server":
                server.kill()
                server.start()
            elif what == "sender":
                kill_sender(server)
            else:
                told += app.taken
                app = restart(stack, app, port)
        ending.set()
        posting.join()
        stored = [each["id"] for each in server.receipts()]
        assert len(stored) > rounds

        def all_told():
            found = {each["data"]["receipt"]["id"] for each in [*told, *app.taken]}
            return found >= set(stored)

        wait_until(all_told, "every receipt is told", 90)
        told += app.taken
        assert server.stop() == 0
    first: dict[str, dict] = {}
    for each in told:
        first.setdefault(each["id"], each)
    assert len(first) == len(stored)
    of_message: dict[str, list[int]] = {}
    for each in first.values():
        receipt = each["data"]["receipt"]
        of_message.setdefault(receipt["message_id"], []).append(receipt["id"])
    for ids in of_message.values():
        assert ids == sorted(ids)
    print(f"{len(stored)} receipts, {len(told) - len(first)} repetitions")


def post(server, ending):
    """Post receipts, each message's one after the other, until told to end."""
    number = 0
    while not ending.is_set():
        number += 1
        try:
            deliver(server(), f"M{number // EACH}", report=number % EACH)
        except (OSError, AssertionError, ValueError):
            time.sleep(0.02)


def kill_sender(server):
    own = server.process.pid
    for child in Path(f"/proc/{own}/task/{own}/children").read_text().split():
        os.kill(int(child), signal.SIGKILL)


def restart(stack, app, port):
    """Another receiver in place of one that is gone."""
    app.close()
    return stack.enter_context(receiver(port=port))
