"""From a provider's post to the application: a real server, a real receiver."""

from __future__ import annotations

from kit.api import deliver
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
