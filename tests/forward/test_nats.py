"""A real NATS server with JetStream: what arrives there, and what it does to its clients."""

from __future__ import annotations

import asyncio
import json
import signal
import socket
import threading
from contextlib import suppress

import pytest

pytest.importorskip("nats", reason="the extra nats is not installed")

import nats
from nats.js.errors import NotFoundError

from kit.api import deliver
from kit.brokers import NATS, NatsServer, free_port
from kit.certificates import Authority
from kit.events import RECEIPT, event
from kit.server import wait_until
from kit.soap import new_id
from receiptd.forward.destinations import TAKEN, Fault

pytestmark = pytest.mark.skipif(
    NATS is None, reason="NATS is not installed: apt-get install nats-server"
)


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    server = NatsServer(tmp_path_factory.mktemp("nats"), "max_payload: 65536")
    server.start()
    yield server
    server.stop()


def with_jetstream(server, work, **options):
    """What `work` gives, which is called with JetStream."""

    async def go():
        client = await nats.connect(server.url, **options)
        try:
            return await work(client.jetstream())
        finally:
            await client.close()

    return asyncio.run(go())


@pytest.fixture
def stream(server):
    """A stream that takes all that is of the provider `csoft`: what it holds."""
    name = f"s{new_id()}"
    with_jetstream(
        server,
        lambda js: js.add_stream(
            name=name, subjects=["receipts.csoft.>"], max_msg_size=20_000, duplicate_window=60
        ),
    )

    async def read(js):
        found = []
        with suppress(NotFoundError):
            while True:
                found.append(await js.get_msg(name, len(found) + 1))
        return found

    def messages():
        return with_jetstream(server, read)

    yield messages
    with_jetstream(server, lambda js: js.delete_stream(name))


def ids(messages):
    return [each.headers["Nats-Msg-Id"] for each in messages]


def test_a_message_says_what_it_is(server, stream, link):
    (outcome,) = link(server.url, headers={"tenant": "7"}).send(event(), attempt=3, replay=9)
    assert outcome == TAKEN
    (message,) = stream()
    assert message.subject == "receipts.csoft.delivery.DELIVERED"
    assert message.headers == {
        "Nats-Msg-Id": "evt_abc_5",
        "Content-Type": "application/json",
        "type": "receipt.stored",
        "tenant": "7",
        "receiptd-attempt": "3",
        "receiptd-replay": "9",
    }
    assert json.loads(message.data) == {
        "id": "evt_abc_5",
        "type": "receipt.stored",
        "timestamp": "2026-11-25T13:13:18.571100Z",
        "data": {"receipt": RECEIPT, "message": None},
    }


def test_repetitions_are_dropped_by_the_stream(server, stream, link):
    destination = link(server.url, batch=100)
    events = [event(number) for number in range(100)]
    assert destination.send(*events) == destination.send(*events) == [TAKEN] * 100
    destination.close()
    assert link(server.url).send(event(7)) == [TAKEN]
    assert sorted(ids(stream())) == sorted(f"evt_abc_{number}" for number in range(100))


def test_what_no_stream_takes_is_a_failure_and_nothing_else_is(server, stream, link):
    destination = link(server.url, batch=10)
    unheard = event(2, receipt={**RECEIPT, "provider": "cdyne"})
    outcomes = destination.send(event(1), unheard, event(3))
    assert [each.fault for each in outcomes] == [Fault.NONE, Fault.DESTINATION, Fault.NONE]
    assert outcomes[1].text == (
        "no stream takes it: none listens to the subject 'receipts.cdyne.delivery.DELIVERED'"
    )
    assert ids(stream()) == ["evt_abc_1", "evt_abc_3"]


def test_a_message_that_is_too_large_is_to_blame_itself(server, stream, link):
    destination = link(server.url, raw=True, batch=10)
    outcomes = destination.send(
        event(1), event(2, raw=b"x" * 100_000), event(3, raw=b"x" * 30_000), event(4)
    )
    assert [each.fault for each in outcomes] == [
        *(Fault.NONE, Fault.EVENT, Fault.EVENT, Fault.NONE)
    ]
    assert "more than the server takes" in outcomes[1].text
    assert "exceeds maximum" in outcomes[2].text
    assert ids(stream()) == ["evt_abc_1", "evt_abc_4"]


LOCKED = """
authorization {{ users: [ {{ user: "app", password: "hush:hush@" }} ] }}
tls {{ cert_file: "{}", key_file: "{}" }}
"""


def test_a_server_with_tls_and_passwords(tmp_path, link):
    authority = Authority(tmp_path)
    files = authority.issue("localhost", "nats")
    server = NatsServer(tmp_path / "nats", LOCKED.format(*files))
    server.start()
    try:
        ca = {"ca": str(authority.file)}
        url = f"tls://app:hush%3Ahush%40@localhost:{server.port}"
        (unheard,) = link(url, **ca).send(event())
        assert unheard.text.startswith("no stream takes it")
        for wrong in (url.replace("app:", "app:x"), url.replace("app:hush%3Ahush%40", "token")):
            (outcome,) = link(wrong, **ca).send(event())
            assert outcome.fault is Fault.DESTINATION
            assert "authorization violation" in outcome.text.lower()
            for secret in ("hush", "token"):
                assert secret not in outcome.text
                assert secret not in link(wrong, **ca).config.shown_url
        (outcome,) = link(url).send(event())
        assert "certificate" in outcome.text.lower()
        assert "hush" not in outcome.text
    finally:
        server.stop()


def test_a_password_is_told_to_no_server_without_tls(link):
    """nats-py itself would go on in the clear."""
    heard = bytearray()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]

        def serve():
            connection, _ = listener.accept()
            with connection:
                connection.settimeout(5)
                info = {"server_id": "x", "version": "2.9.10", "max_payload": 1_000_000}
                connection.sendall(b"INFO " + json.dumps(info).encode() + b"\r\n")
                with suppress(OSError):
                    while data := connection.recv(4096):
                        heard.extend(data)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        (outcome,) = link(f"tls://app:hush@127.0.0.1:{port}", timeout="2s").send(event())
        thread.join(20)
    assert outcome.fault is Fault.DESTINATION
    assert "speaks no TLS" in outcome.text
    assert b"hush" not in heard


@pytest.mark.parametrize("said", [b"", b"HTTP/1.1 400 Bad Request\r\n\r\n", b"x" * 1_000_000])
def test_what_is_no_server_is_left_in_time(link, said):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        taken = []

        def serve():
            while True:
                try:
                    connection, _ = listener.accept()
                    taken.append(connection)
                    connection.sendall(said)
                except OSError:
                    return

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        destination = link(f"nats://127.0.0.1:{listener.getsockname()[1]}", timeout="1s")
        for _ in range(2):
            (outcome,) = destination.send(event())
            assert outcome.fault is Fault.DESTINATION
            assert outcome.text
        listener.shutdown(socket.SHUT_RDWR)
        thread.join(20)
        for each in taken:
            each.close()


def test_of_several_servers_one_that_answers_is_enough(server, stream, link):
    ports = [free_port(), server.port, free_port()]
    hosts = ",".join(f"127.0.0.1:{port}" for port in ports)
    for number in range(3):
        assert link(f"nats://{hosts}").send(event(number)) == [TAKEN]


def test_a_broker_that_hangs_is_left_in_time_and_found_again(server, stream, link):
    destination = link(server.url, timeout="1s", batch=3)
    wait_until(lambda: destination.send(event(1)) == [TAKEN], "it is connected")
    server.tell(signal.SIGSTOP)
    try:
        outcomes = destination.send(event(2), event(3))
        assert {each.fault for each in outcomes} == {Fault.DESTINATION}
        assert destination.send(event(2))[0].fault is Fault.DESTINATION
    finally:
        server.tell(signal.SIGCONT)
    wait_until(lambda: destination.send(event(2), event(3)) == [TAKEN] * 2, "it goes on")
    found = list(dict.fromkeys(ids(stream())))
    assert found == ["evt_abc_1", "evt_abc_2", "evt_abc_3"]


def test_through_restarts_of_both_sides_nothing_is_missing_and_lanes_keep_their_order(
    server, stream, serve, link
):
    destination = link(server.url, timeout="2s")
    receiving = serve(
        '[[endpoint]]\nprovider = "csoft"\npath = "/soap"\n'
        f'[[forward]]\nname = "app"\nurl = "{server.url}"\ntypes = ["receipt.stored"]\n'
        'timeout = "2s"\nbatch = 20\n'
    )
    names = [new_id() for _ in range(10)]
    for report in (1, 2):
        for name in names:
            deliver(receiving, name, report=report)
    receiving.kill()
    receiving.start()
    wait_until(lambda: len(stream()) >= 20, "the first half is there")
    assert destination.send(event()) == [TAKEN]
    server.stop()
    (outcome,) = destination.send(event(6))
    assert (outcome.fault, outcome.text) == (Fault.DESTINATION, "the connection is refused")
    for name in names:
        deliver(receiving, name, report=3)
    receiving.kill()
    server.start()
    receiving.start()
    wait_until(lambda: len(stream()) >= 31, "all is there")
    assert destination.send(event(6)) == [TAKEN]
    assert receiving.stop() == 0
    lanes = {}
    for message in stream():
        receipt = json.loads(message.data)["data"]["receipt"]
        if receipt["message_id"] in names:
            lanes.setdefault(receipt["message_id"], []).append(int(receipt["code"]))
    # The stream drops what is repeated, so each is there once.
    assert lanes == {name: [1, 2, 3] for name in names}
