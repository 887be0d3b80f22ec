"""Events and destinations through the HTTP API."""

from __future__ import annotations

from datetime import datetime

import pytest

from kit.api import call, deliver, register
from kit.receiver import receiver
from kit.server import Server, wait_until
from kit.soap import new_id
from receiptd.web.api import forward_shapes as shapes


@pytest.fixture(scope="module")
def app():
    with receiver() as found:
        yield found


@pytest.fixture(scope="module")
def server(tmp_path_factory, app):
    """A server that forwards."""
    config = (
        '[[endpoint]]\nprovider = "csoft"\npath = "/soap"\n'
        f'[[forward]]\nname = "app"\nurl = "{app.url}"\n'
    )
    started = Server(tmp_path_factory.mktemp("server"), config, "tcp:0:interface=127.0.0.1", [])
    yield started
    started.kill()


def events(server, after, **more):
    query = "&".join(f"{name}={value}" for name, value in {"after": after, **more}.items())
    reply = call(server, f"/api/v1/events?{query}")
    assert reply.status == 200, reply.body
    return shapes.Events.model_validate(reply.json)


def test_events_are_asked_for_page_by_page(server):
    start = last(server)
    names = [new_id() for _ in range(5)]
    for name in names:
        deliver(server, name)
    first = events(server, start, limit=3)
    assert [each.data.receipt["message_id"] for each in first.items] == names[:3]
    assert [each.number for each in first.items] == [start + 1, start + 2, start + 3]
    assert first.last == start + 3
    rest = call(server, first.next).json
    assert [each["data"]["receipt"]["message_id"] for each in rest["items"]] == names[3:]
    assert rest["next"] is None
    assert rest["last"] == start + 5
    assert "raw" not in rest["items"][0]["data"]["receipt"]


def last(server):
    """The newest event's number."""
    at = 0
    while (page := events(server, at, limit=1000)).items:
        at = page.last
    return at


def test_a_message_and_its_state_are_told_as_they_were(server):
    start = last(server)
    name = new_id()
    deliver(server, name)
    register(server, {"provider": "csoft", "message_id": name})
    found = events(server, start)
    assert [each.type for each in found.items] == [
        "receipt.stored",
        "receipt.adopted",
        "message.state",
    ]
    assert found.items[0].data.message is None
    assert found.items[1].data.message["state"] == "DELIVERED"
    assert found.items[2].data.receipt is None
    assert isinstance(found.items[2].timestamp, datetime)
    only = events(server, start, types="message.state")
    assert [each.number for each in only.items] == [start + 3]
    assert only.last == start + 3


def test_what_is_no_event_type_is_said(server):
    reply = call(server, "/api/v1/events?types=receipt.store")
    assert "did you mean 'receipt.stored'?" in reply.problem["detail"]


def test_destinations_are_paused_resumed_and_tried(server, app):
    wait_until(lambda: destination(server).state == "sending", "it sends")
    reply = call(server, "/api/v1/forward/app/pause", "POST")
    assert shapes.Ordered.model_validate(reply.json).text == "paused"
    assert destination(server).state == "paused"
    wait_until(
        lambda: "app: forwarding is paused" in server.log_file.read_text(), "that is obeyed"
    )
    tried = call(server, "/api/v1/forward/app/test", "POST")
    assert shapes.Tried.model_validate(tried.json).taken
    assert any(each.json["type"] == "test" for each in app.requests)
    start, name = last(server), new_id()
    deliver(server, name)
    assert destination(server).waiting >= 1
    assert call(server, "/api/v1/forward/app/resume", "POST").status == 200
    wait_until(lambda: name in app.messages(), "it is told")
    reply = call(server, "/api/v1/forward/app/seek?to=1h", "POST")
    assert reply.json["position"] <= start
    wait_until(lambda: app.messages().count(name) == 2, "it is told again")
    replay = call(server, "/api/v1/forward/app/replays?since=1h&message=" + name, "POST").json
    wait_until(lambda: app.messages().count(name) == 3, "it is told again")
    assert app.requests[-1].headers["receiptd-replay"] == str(replay["replay"])
    (row,) = shapes.Replays.model_validate(call(server, "/api/v1/forward/app/replays").json).items
    assert row.id == replay["replay"]


def destination(server):
    reply = call(server, "/api/v1/forward")
    (found,) = shapes.ForwardDestinations.model_validate(reply.json).items
    return found


def test_dead_letters_are_listed_retried_and_discarded(server, app):
    abort = 400, {"webhook-delivery": "abort-message"}, b"never"
    app.answer = lambda _: abort
    names = [new_id() for _ in range(3)]
    for name in names:
        deliver(server, name)
    wait_until(lambda: destination(server).dead == 3, "they are dead")
    page = shapes.DeadLetters.model_validate(call(server, "/api/v1/forward/app/dead?limit=2").json)
    assert [each.answer for each in page.items] == ["never", "never"]
    following = shapes.DeadLetters.model_validate(call(server, page.next).json)
    assert len(following.items) == 1
    reply = call(server, "/api/v1/forward/app/dead/retry", "POST")
    assert "all=true" in reply.problem["detail"]
    app.answer = lambda _: 204
    number = page.items[0].event
    reply = call(server, f"/api/v1/forward/app/dead/retry?event={number}", "POST")
    assert reply.json["count"] == 1
    wait_until(lambda: names[0] in app.messages(), "it is told")
    reply = call(server, "/api/v1/forward/app/dead/discard?all=true", "POST")
    assert reply.json["count"] == 2
    assert destination(server).dead == 0


def test_orders_to_nobody_are_refused(server):
    for order in ("pause", "resume", "seek?to=latest", "forget", "dead/retry?all=true"):
        reply = call(server, f"/api/v1/forward/nobody/{order}", "POST")
        assert reply.problem["status"] == 404
        assert "nobody" in reply.problem["detail"]
    assert call(server, "/api/v1/forward/app/forget", "POST").problem["status"] == 409
