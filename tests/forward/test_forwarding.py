"""From a provider's post to the application: a real server, a real receiver."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

from kit.api import deliver
from kit.command_line import run
from kit.receiver import SECRET, receiver
from kit.server import wait_until
from kit.soap import new_id


def forward(url: str, **more: object) -> str:
    lines = [f'name = "app"\nurl = "{url}"\nsecret = "{SECRET}"']
    lines += [f"{key} = {value}" for key, value in more.items()]
    return "\n[[forward]]\n" + "\n".join(lines) + "\n"


OPEN = '[[endpoint]]\nprovider = "csoft"\npath = "/soap"\n'


def test_a_receipt_arrives_signed(serve):
    with receiver() as app:
        server = serve(OPEN + forward(app.url))
        name = new_id()
        deliver(server, name)
        request = wait_until(lambda: app.requests, "the receipt arrives")[0]
        request.verify()
        assert request.headers["content-type"] == "application/json"
        (event,) = request.events
        assert event["type"] == "receipt.stored"
        stored = server.receipts()[0]
        del stored["raw"]
        assert event["data"] == {"receipt": stored, "message": None}
        assert event["timestamp"] == stored["received_at"]
        assert server.stop() == 0
    assert len(app.requests) == 1


def test_what_came_while_the_application_was_away_arrives_when_it_is_back(serve):
    with receiver() as app:
        port = int(app.url.split(":")[2].split("/")[0])
    server = serve(OPEN + forward(app.url))
    names = [new_id() for _ in range(20)]
    for name in names:
        deliver(server, name)
    server.kill()
    server.start()
    with receiver(port=port) as app:
        deliver(server, names[0], report=1)
        wait_until(lambda: len(app.taken) == 21, "all arrive")
        assert sorted(app.messages()) == sorted([*names, names[0]])
        assert server.stop() == 0


def test_the_process_that_forwards_is_started_again_and_workers_need_not_know(serve):
    with receiver() as app:
        server = serve(OPEN + forward(app.url), options=("--workers", "2"))
        first = new_id()
        deliver(server, first)
        wait_until(lambda: app.taken, "the first arrives")
        sender = forwarder_of(server)
        os.kill(sender, signal.SIGKILL)
        second = new_id()
        deliver(server, second)
        wait_until(lambda: second in app.messages(), "the second arrives")
        assert forwarder_of(server) != sender
        text = server.log_file.read_text()
        assert "the process that forwards has ended" in text
        assert server.stop() == 0
        assert app.messages().count(second) == 1


def forwarder_of(server):
    """The process that forwards."""
    own = server.process.pid
    children = Path(f"/proc/{own}/task/{own}/children").read_text().split()
    (found,) = (
        int(each)
        for each in children
        if b"forwarder" in Path(f"/proc/{each}/cmdline").read_bytes()
    )
    return found


def test_a_reload_begins_and_ends_destinations(serve):
    with receiver() as one, receiver() as other:
        server = serve(OPEN)
        deliver(server, new_id())
        for text, app in ((forward(one.url), one), (forward(other.url), other)):
            server.config.write_text(OPEN + text)
            server.process.send_signal(signal.SIGHUP)
            wait_until(
                lambda: not status(server) or status(server)[0]["state"] == "sending", "it sends"
            )
            wait_until(lambda app=app: told(server, app), "it is told")
        server.config.write_text(OPEN)
        server.process.send_signal(signal.SIGHUP)
        wait_until(lambda: status(server)[0]["state"] == "stopped", "it has ended")
        assert server.stop() == 0


def told(server, app):
    """Whether `app` is told what comes now."""
    deliver(server, new_id())
    return app.taken


def status(server):
    """What the command says."""
    return json.loads(
        run(
            *("forward", "status", "--json"),
            *("--config", str(server.config), "--database", f"sqlite:///{server.database}"),
        ).output
    )
