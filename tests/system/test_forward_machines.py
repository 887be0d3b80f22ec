"""Two servers on one database, as two machines have it, of which one stands still for a while."""

from __future__ import annotations

import json
import os
import signal
import threading
from pathlib import Path

from kit.api import deliver
from kit.command_line import run
from kit.receiver import receiver
from kit.server import wait_until
from kit.soap import new_id

CONFIG = """
[[endpoint]]
provider = "csoft"
path = "/soap"

[[forward]]
name = "app"
url = "{}"
types = ["receipt.stored"]
timeout = "60s"
"""


def processes(server):
    """The server's own and the one that forwards, which has the number last."""
    own = server.process.pid
    children = Path(f"/proc/{own}/task/{own}/children").read_text().split()
    return [
        own,
        *(
            int(each)
            for each in children
            if b"forwarder" in Path(f"/proc/{each}/cmdline").read_bytes()
        ),
    ]


def test_a_machine_that_stands_still_beyond_its_lease_loses_nothing_and_overwrites_nothing(
    serve, new_postgresql_database
):
    url = new_postgresql_database()
    held, go_on = new_id(), threading.Event()

    def answer(request):
        (event,) = request.events
        receipt = event["data"]["receipt"]
        if receipt["message_id"] == held and receipt["code"] == "1":
            go_on.wait(100)
        return 204

    def status():
        done = run("forward", "status", "--json", "--database", url)
        return json.loads(done.output)[0]

    with receiver(answer) as app:
        one = serve(CONFIG.format(app.url), options=("--database", url))
        names = [*(new_id() for _ in range(4)), held]
        for name in names:
            deliver(one, name, report=1)
        wait_until(lambda: len(app.taken) == 4 and len(app.requests) == 5, "all but one are taken")
        wait_until(lambda: status()["sent"] == 4, "that is written")
        other = serve(CONFIG.format(app.url), options=("--database", url))
        stopped = processes(one)
        assert len(stopped) == 2
        for process in stopped:
            os.kill(process, signal.SIGSTOP)
        try:
            go_on.set()  # the answer comes to a process that stands still
            for name in names:
                deliver(other, name, report=2)
            wait_until(lambda: len(set(app.ids())) == 10, "the other one sends")
            wait_until(lambda: status()["sent"] == 10, "and writes that")
        finally:
            for process in stopped:
                os.kill(process, signal.SIGCONT)
        wait_until(
            lambda: any(
                text in one.log_file.read_text()
                for text in ("another process forwards to it now", "no sign of life")
            ),
            "the one that stood still sees it",
        )
        for name in names:
            deliver(one, name, report=3)
        wait_until(lambda: len(set(app.ids())) == 15, "all has come")
        wait_until(lambda: status()["waiting"] == 0, "all is written")
        assert status()["sent"] == 15
        assert one.stop() == other.stop() == 0
    lanes = {}
    for event in app.taken:
        receipt = event["data"]["receipt"]
        lanes.setdefault(receipt["message_id"], []).append(int(receipt["code"]))
    assert {name: list(dict.fromkeys(codes)) for name, codes in lanes.items()} == {
        name: [1, 2, 3] for name in names
    }
    # What was under way as it stopped was sent twice, and nothing else was.
    assert sorted(app.ids()) == sorted(
        [
            *set(app.ids()),
            next(
                each["id"] for each in app.taken if each["data"]["receipt"]["message_id"] == held
            ),
        ]
    )
