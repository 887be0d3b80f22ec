"""What goes over the wire, and applications that answer in every way they can."""

from __future__ import annotations

import socket
import ssl
import threading
import time
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from urllib.parse import parse_qs, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st
from standardwebhooks import Webhook as Signer
from twisted.internet import reactor
from twisted.internet.address import IPv4Address
from twisted.internet.interfaces import IHostnameResolver
from zope.interface import implementer

from kit.certificates import Authority
from kit.events import MESSAGE, NOW, RECEIPT, event
from kit.receiver import SECRET, receiver
from kit.server import wait_until
from receiptd.config import Forward
from receiptd.forward.destinations import TAKEN, Fault, kannel
from receiptd.forward.destinations.faults import Answer, judge, seconds
from receiptd.forward.destinations.webhook import Webhook
from receiptd.forward.events import Delivery


@pytest.fixture
def send(in_reactor):
    """Sends a delivery to a URL, configured as told; the first outcome."""

    def run(url, *events, store="abc", attempt=1, replay=None, **keys):
        config = Forward(name="app", url=url, **keys)

        async def go():
            destination = Webhook(config, reactor)
            await destination.open()
            delivery = Delivery(
                store, events or (event(),), attempt, replay, batched=config.batch > 1
            )
            outcomes = await destination.send(delivery)
            await destination.close()
            return outcomes

        outcomes = in_reactor(go)
        assert len(outcomes) == len(events or (1,))
        return outcomes[0]

    return run


def test_an_event_is_signed_by_every_secret(send):
    other = "whsec_" + "b" * 32
    with receiver() as app:
        assert send(app.url, secret=[other, SECRET]).fault is Fault.NONE
    (request,) = app.requests
    request.verify(SECRET)
    request.verify(other)
    assert request.id == "evt_abc_5"
    assert request.headers["content-type"] == "application/json"
    assert request.json == {
        "type": "receipt.stored",
        "timestamp": "2026-11-25T13:13:18.571100Z",
        "data": {"receipt": RECEIPT, "message": None},
    }
    assert "receiptd-attempt" not in request.headers
    assert "receiptd-replay" not in request.headers


def test_what_is_sent_again_says_so_under_the_same_id(send):
    with receiver() as app:
        send(app.url, attempt=3, replay=9, headers={"Authorization": "Bearer abc"})
    (request,) = app.requests
    assert request.id == "evt_abc_5"
    assert request.headers["receiptd-attempt"] == "3"
    assert request.headers["receiptd-replay"] == "9"
    assert request.headers["authorization"] == "Bearer abc"
    assert "webhook-signature" not in request.headers


def test_a_batch_is_a_list_with_an_id_of_its_own(send):
    with receiver() as app:
        send(app.url, event(5), event(6), batch=10, secret=SECRET)
        send(app.url, event(5), event(6), batch=10, secret=SECRET)
        send(app.url, event(5), batch=10, secret=SECRET)
    one, again, alone = app.requests
    one.verify()
    assert [each["id"] for each in one.json] == ["evt_abc_5", "evt_abc_6"]
    assert one.id == again.id != alone.id
    assert [each["id"] for each in alone.json] == ["evt_abc_5"]


def test_the_post_goes_along_where_it_is_asked_for(send):
    with receiver() as app:
        send(app.url, raw=True)
    assert app.requests[0].json["data"]["receipt"]["raw"] == "PHBvc3Q+"


def test_cloudevents(send):
    with receiver() as app:
        send(app.url, format="cloudevents")
        send(app.url, event(5), event(6), format="cloudevents", batch=2)
    one, several = app.requests
    assert one.headers["content-type"] == "application/cloudevents+json"
    found = one.json
    assert found.pop("data") == {"receipt": RECEIPT, "message": None}
    assert found == {
        "specversion": "1.0",
        "id": "evt_abc_5",
        "source": "urn:receiptd:abc",
        "type": "receipt.stored",
        "time": "2026-11-25T13:13:18.571100Z",
        "datacontenttype": "application/json",
    }
    assert several.headers["content-type"] == "application/cloudevents-batch+json"
    assert [each["id"] for each in several.json] == ["evt_abc_5", "evt_abc_6"]


def test_a_form(send):
    with receiver() as app:
        app.taken = []
        app.answer = lambda _: 404
        send(app.url, event(message=MESSAGE), format="form", secret=SECRET)
    request = app.requests[0]
    name, at = (request.headers[f"webhook-{each}"] for each in ("id", "timestamp"))
    sent_at = datetime.fromtimestamp(int(at), UTC)
    signed = Signer(SECRET).sign(name, sent_at, request.body.decode())
    assert request.headers["webhook-signature"] == signed
    fields = {name: value for name, (value,) in parse_qs(request.body.decode()).items()}
    assert fields["event"] == "evt_abc_5"
    assert fields["type"] == "receipt.stored"
    assert fields["message_id"] == "4A2E 3C10/ü"
    assert fields["message.state"] == "DELIVERED"
    assert fields["message.final"] == "true"
    assert fields["extra"] == "{}"
    assert "text" not in fields


def test_kannels_escapes(send):
    with receiver((202, {}, b"ACK/Jasmin\n")) as app:
        base = app.url.replace("/receipts", "/dlr%2F")
        url = f"{base}?id=%I&status=%d&to=%P&from=%p&at=%t&unix=%T&smsc=%i&err=%A&s=%s&x=100%%"
        outcome = send(url, format="url", expect_body="ACK/Jasmin")
        send(
            f"{base}?to=%P&ref=%r&%s",
            event(receipt=None, message=MESSAGE),
            format="url",
            method="POST",
        )
    assert outcome.fault is Fault.NONE
    get, post = app.requests
    assert (get.method, post.method) == ("GET", "POST")
    assert urlsplit(get.path).path == "/dlr%2F"
    fields = {name: value for name, (value,) in parse_qs(urlsplit(get.path).query).items()}
    assert fields == {
        "id": "4A2E 3C10/ü",
        "status": "1",
        "to": "+447700912345",
        "from": "Shop & Co",
        "at": "2009-06-09 10:52",
        "unix": "1244544720",
        "smsc": "soap",
        "err": "0 Delivered",
        "s": "DELIVRD",
        "x": "100%",
    }
    assert urlsplit(post.path).query == "to=447700912345&ref=order-1&DELIVRD"


def test_an_answer_that_does_not_acknowledge_is_none(send):
    with receiver((200, {}, b"<h1>database error</h1>")) as app:
        outcome = send(app.url, expect_body="ACK/Jasmin")
    assert outcome.fault is Fault.DESTINATION
    assert outcome.answer == "<h1>database error</h1>"


@given(st.text(max_size=40))
def test_no_template_makes_more_than_an_error(text):
    try:
        kannel.check(f"http://h/?{text}")
    except ValueError:
        return
    filled = kannel.fill(f"http://h/?{text}", event(), "abc")
    assert filled.startswith("http://h/?")


FAULTS = [
    (Answer(200), Fault.NONE),
    (Answer(204), Fault.NONE),
    (Answer(301), Fault.DESTINATION),
    (Answer(400), Fault.EVENT),
    (Answer(401), Fault.DESTINATION),
    (Answer(403), Fault.DESTINATION),
    (Answer(404), Fault.DESTINATION),
    (Answer(405), Fault.DESTINATION),
    (Answer(408), Fault.DESTINATION),
    (Answer(409), Fault.EVENT),
    (Answer(410), Fault.PAUSE),
    (Answer(413), Fault.TOO_LARGE),
    (Answer(415), Fault.EVENT),
    (Answer(422), Fault.EVENT),
    (Answer(425), Fault.DESTINATION),
    (Answer(429), Fault.DESTINATION),
    (Answer(429, retry_after="120"), Fault.BUSY),
    (Answer(503, retry_after="120"), Fault.BUSY),
    (Answer(500, retry_after="120"), Fault.DESTINATION),
    (Answer(503, retry_after="soon"), Fault.DESTINATION),
    (Answer(400, delivery="abort-message"), Fault.ABORT),
    (Answer(500, delivery="Abort-Message"), Fault.ABORT),
    (Answer(200, delivery="abort-message"), Fault.NONE),
    (Answer(451), Fault.EVENT),
    (Answer(599), Fault.DESTINATION),
    (Answer(600), Fault.DESTINATION),
]


@pytest.mark.parametrize(("answer", "fault"), FAULTS, ids=lambda each: str(each)[:60])
def test_whose_fault_it_is(answer, fault):
    assert judge(answer, None, NOW).fault is fault


def test_retry_after_is_obeyed_up_to_an_hour():
    assert seconds("5", NOW) == 5
    assert seconds("999999999999999999999", NOW) == 3600
    assert seconds(format_datetime(NOW + timedelta(seconds=90), usegmt=True), NOW) == (
        pytest.approx(89.5, abs=1)
    )
    assert seconds(format_datetime(NOW - timedelta(days=1), usegmt=True), NOW) == 0
    for text in (None, "", "-5", "x", "Mon, 99 Foo 2026", "٣"):
        assert seconds(text, NOW) is None


@contextmanager
def peer(behave):
    """A server that does with each connection what `behave` does."""
    listener = socket.create_server(("127.0.0.1", 0))
    listener.settimeout(0.2)
    ending = threading.Event()

    def serve():
        while not ending.is_set():
            try:
                connection, _ = listener.accept()
            except TimeoutError:
                continue
            with connection:
                connection.settimeout(10)
                try:
                    connection.recv(65536)
                    behave(connection, ending)
                except OSError:
                    pass

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{listener.getsockname()[1]}/"
    ending.set()
    thread.join(20)
    listener.close()


def hang(_connection, ending):
    ending.wait(20)


def trickle_header(connection, ending):
    while not ending.is_set():
        connection.sendall(b"H")
        time.sleep(0.05)


def trickle_body(connection, ending):
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n")
    while not ending.is_set():
        connection.sendall(b".")
        time.sleep(0.05)


def reset(connection, _ending):
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")


def nonsense(connection, _ending):
    connection.sendall(b"\x16\x03\x01 I am no web server\r\n\r\n")


def endless_headers(connection, ending):
    connection.sendall(b"HTTP/1.1 200 OK\r\n")
    while not ending.is_set():
        connection.sendall(b"X-Header: nonsense\r\n" * 1000)


@pytest.mark.parametrize(
    "behave", [hang, trickle_header, trickle_body, reset, nonsense, endless_headers]
)
def test_an_application_that_misbehaves_is_left_in_time(send, behave):
    with peer(behave) as url:
        outcome = send(url, timeout="1s")
    assert outcome.fault is Fault.DESTINATION
    assert outcome.text


def test_no_more_of_an_answer_is_read_than_is_needed(send):
    sent = 0

    def flood(connection, ending):
        nonlocal sent
        connection.sendall(b"HTTP/1.1 422 No\r\nContent-Length: 200000000\r\n\r\n")
        for _ in range(2000):
            if ending.is_set():
                return
            connection.sendall(b"x" * 100_000)
            sent += 100_000

    with peer(flood) as url:
        outcome = send(url)
    assert outcome.fault is Fault.EVENT
    assert outcome.answer == "x" * 2048
    assert sent < 50_000_000


def test_a_redirect_is_not_followed(send):
    with receiver() as secret:
        with receiver((302, {"Location": secret.url}, b"")) as app:
            outcome = send(app.url)
        assert outcome.fault is Fault.DESTINATION
        assert "redirects are not followed" in outcome.text
    assert not secret.requests


def test_it_connects_to_its_networks_alone(send):
    with receiver() as app:
        url = app.url.replace("127.0.0.1", "localhost")
        outcome = send(url, networks=["192.0.2.0/24", "2001:db8::/32"])
        assert outcome.fault is Fault.DESTINATION
        assert "none of the destination's networks" in outcome.text
        assert not app.requests
        assert send(url, networks=["127.0.0.0/8", "::1/128"]).fault is Fault.NONE


def test_nobody_there(send):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    assert send(f"http://127.0.0.1:{port}/").text == "the connection is refused"
    outcome = send("http://nobody.invalid/", timeout="5s")
    assert outcome.fault is Fault.DESTINATION


def test_a_certificate_that_nobody_vouches_for_is_a_failure(send, tmp_path):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*Authority(tmp_path).issue("localhost", "app"))
    taken = []

    def serve(listener):
        with (
            suppress(OSError),
            listener.accept()[0] as connection,
            context.wrap_socket(connection, server_side=True) as secured,
        ):
            taken.append(secured.recv(65536))

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve, args=(listener,), daemon=True)
        thread.start()
        outcome = send(f"https://localhost:{listener.getsockname()[1]}/")
        thread.join(20)
    assert outcome.fault is Fault.DESTINATION
    assert "certificate" in outcome.text
    assert not taken


def test_connections_are_used_again(in_reactor):
    with receiver() as app:
        config = Forward(name="app", url=app.url)

        async def several():
            destination = Webhook(config, reactor)
            for number in range(5):
                await destination.send(Delivery("abc", (event(number),)))
            await destination.close()

        in_reactor(several)
        assert len(app.requests) == 5
        assert app.connections == 1


@implementer(IHostnameResolver)
class Names:
    """Says of every name that it has this address."""

    def __init__(self, address):
        self.address = address

    def resolveHostName(self, receiver, _name, portNumber=0, *_more):  # noqa: N802, N803
        receiver.resolutionBegan(self)
        receiver.addressResolved(IPv4Address("TCP", self.address, portNumber))
        receiver.resolutionComplete()


def test_a_destination_that_changes_its_address_is_found_at_the_new_one(link):
    names = Names("127.0.0.1")
    before = reactor.installNameResolver(names)
    try:
        with receiver() as old:
            port = int(old.url.split(":")[2].split("/")[0])
            url = f"http://app.example.com:{port}/"
            destination = link(url)
            held = link(url, networks=["127.0.0.1/32"])
            for each in (destination, held):
                assert each.send(event(1)) == [TAKEN]
        with receiver(port=port, host="127.0.0.2") as new:
            assert destination.send(event(2))[0].fault is Fault.DESTINATION  # nobody is there
            names.address = "127.0.0.2"
            wait_until(lambda: destination.send(event(2)) == [TAKEN], "it is found")
            assert new.ids()[0] == "evt_abc_2"
            # Whoever can change a name cannot lead it elsewhere than where it may connect to.
            asked = len(new.requests)
            wait_until(
                lambda: "none of the destination's networks" in held.send(event(3))[0].text,
                "it is held to its networks",
            )
            assert len(new.requests) == asked
    finally:
        reactor.installNameResolver(before)
