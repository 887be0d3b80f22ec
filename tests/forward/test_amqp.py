"""A real RabbitMQ: what arrives there, and what it does to its clients."""

from __future__ import annotations

import json
import shutil
import signal
import socket
import threading
from contextlib import contextmanager

import pytest

pytest.importorskip("pika", reason="the extra amqp is not installed")

import pika

from kit.api import deliver
from kit.brokers import RABBITMQ, RabbitMq
from kit.certificates import Authority
from kit.command_line import start
from kit.events import NOW, RECEIPT, event
from kit.server import wait_until
from kit.soap import new_id
from receiptd.forward.destinations import TAKEN, Fault, Outcome

pytestmark = [
    pytest.mark.skipif(
        not RABBITMQ.exists() or shutil.which("epmd") is None,
        reason="RabbitMQ is not installed: apt-get install rabbitmq-server",
    ),
    pytest.mark.timeout(400),
]


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def rabbit(tmp_path_factory, authority):
    broker = RabbitMq(tmp_path_factory.mktemp("rabbitmq"), authority.issue("localhost", "rabbit"))
    broker.start()
    yield broker
    broker.close()


@contextmanager
def channel(rabbit, vhost="%2F"):
    connection = pika.BlockingConnection(pika.URLParameters(f"{rabbit.url}/{vhost}"))
    yield connection.channel()
    connection.close()


@pytest.fixture
def queue(rabbit):
    """A queue to which amq.topic sends all that is of the provider `csoft`: what it holds."""
    name = f"q{new_id()}"
    with channel(rabbit) as open_channel:
        open_channel.queue_declare(name, durable=True)
        open_channel.queue_bind(name, "amq.topic", "csoft.#")

    def messages():
        with channel(rabbit) as open_channel:
            found = []
            while (got := open_channel.basic_get(name, auto_ack=True))[0] is not None:
                found.append(got)
            return found

    messages.name = name
    yield messages
    with channel(rabbit) as open_channel:
        open_channel.queue_delete(name)


def ids(messages):
    return [properties.message_id for _, properties, _ in messages]


def unheard(number):
    """An event that no queue is bound for."""
    return event(number, receipt={**RECEIPT, "provider": "cdyne"})


def test_a_message_says_what_it_is_and_outlives_the_broker(rabbit, queue, link):
    (outcome,) = link(rabbit.url, headers={"tenant": "7"}).send(event(), attempt=3, replay=9)
    assert outcome == TAKEN
    ((method, properties, body),) = queue()
    assert method.exchange == "amq.topic"
    assert method.routing_key == "csoft.delivery.DELIVERED"
    assert (properties.message_id, properties.type) == ("evt_abc_5", "receipt.stored")
    assert properties.content_type == "application/json"
    assert properties.delivery_mode == 2
    assert properties.timestamp == int(NOW.timestamp())
    assert properties.headers == {"tenant": "7", "receiptd-attempt": "3", "receiptd-replay": "9"}
    assert json.loads(body) == {
        "id": "evt_abc_5",
        "type": "receipt.stored",
        "timestamp": "2026-11-25T13:13:18.571100Z",
        "data": {"receipt": RECEIPT, "message": None},
    }


def test_cloudevents_travel_as_one_message_each(rabbit, queue, link):
    link(rabbit.url, format="cloudevents", batch=5).send(event(1), event(2))
    found = queue()
    assert ids(found) == ["evt_abc_1", "evt_abc_2"]
    assert found[0][1].content_type == "application/cloudevents+json"
    assert json.loads(found[0][2])["specversion"] == "1.0"


def test_of_many_under_way_those_that_no_queue_takes_are_failures_and_no_others(
    rabbit, queue, link
):
    """The broker confirms several at once, in an order of its own, and it confirms what it has
    returned as well: none of these may pass for stored."""
    destination = link(rabbit.url, batch=300)
    for first in (1000, 2000):
        events = [
            unheard(first + number) if number % 7 in (0, 3) else event(first + number)
            for number in range(300)
        ]
        outcomes = destination.send(*events)
        heard = [each.receipt["provider"] == "csoft" and f"evt_abc_{each.id}" for each in events]
        assert [each.fault for each in outcomes] == [
            Fault.NONE if each else Fault.DESTINATION for each in heard
        ]
        assert ids(queue()) == [each for each in heard if each]
    assert outcomes[0].text == (
        "no queue takes it: in the exchange 'amq.topic' none is bound for "
        "'cdyne.delivery.DELIVERED'"
    )
    singly = destination.each(*(unheard(n) if n % 2 else event(n) for n in range(50)))
    assert [each.fault for each in singly] == [Fault.NONE, Fault.DESTINATION] * 25


def test_the_default_exchange_is_a_queues_name(rabbit, queue, link):
    destination = link(rabbit.url, exchange="", routing_key=queue.name)
    assert destination.send(event())[0] == TAKEN
    assert ids(queue()) == ["evt_abc_5"]


def test_one_exchange_that_is_not_there_ends_nothing_else(rabbit, queue, link):
    lost = link(rabbit.url, exchange="nowhere")
    for _ in range(2):
        (outcome,) = lost.send(event())
        assert outcome.fault is Fault.DESTINATION
        assert "no exchange 'nowhere'" in outcome.text
    with channel(rabbit) as open_channel:
        open_channel.exchange_declare("nowhere", "topic", auto_delete=True)
        open_channel.queue_bind(queue.name, "nowhere", "#")
        assert lost.send(event())[0] == TAKEN
        open_channel.exchange_delete("nowhere")
    assert ids(queue()) == ["evt_abc_5"]


def test_of_what_is_too_large_each_half_is_tried(rabbit, queue, link):
    destination = link(rabbit.url, raw=True, batch=10)
    large = event(2, raw=b"x" * 200_000)
    outcomes = destination.send(event(1), large, event(3))
    assert {each.fault for each in outcomes} == {Fault.TOO_LARGE}
    assert destination.send(large)[0].fault is Fault.TOO_LARGE
    assert [each.fault for each in destination.send(event(1), event(3))] == [Fault.NONE] * 2
    assert ids(queue())[-2:] == ["evt_abc_1", "evt_abc_3"]


@pytest.mark.parametrize(
    ("at", "path", "said"),
    [
        ("guest:wrong-password@", "", "403 ACCESS_REFUSED"),
        ("nobody:wrong-password@", "", "403 ACCESS_REFUSED"),
        ("", "/missing", "vhost"),
        ("app:hush%3Ahush%40@", "/closed", "refused"),
    ],
)
def test_a_broker_that_lets_nobody_in_says_why(rabbit, link, at, path, said):
    url = f"amqp://{at}127.0.0.1:{rabbit.port}{path}"
    (outcome,) = link(url).send(event())
    assert outcome.fault is Fault.DESTINATION
    assert said in outcome.text
    for secret in ("wrong-password", "hush"):
        assert secret not in outcome.text
        assert secret not in link(url).config.shown_url


def test_a_virtual_host_and_a_password_with_signs_in_it(rabbit, link):
    url = f"amqp://app:hush%3Ahush%40@127.0.0.1:{rabbit.port}/a%2Fb"
    with channel(rabbit, "a%2Fb") as open_channel:
        open_channel.queue_declare("here", exclusive=True)
        open_channel.queue_bind("here", "amq.topic", "#")
        assert link(url).send(event())[0] == TAKEN
        assert open_channel.basic_get("here")[1].message_id == "evt_abc_5"


def test_tls_is_checked(rabbit, queue, link, authority, tmp_path):
    url = f"amqps://localhost:{rabbit.tls_port}"
    (outcome,) = link(url).send(event())
    assert outcome.fault is Fault.DESTINATION
    assert "certificate" in outcome.text
    other = Authority(tmp_path, "another authority")
    (outcome,) = link(url, ca=str(other.file)).send(event())
    assert outcome.fault is Fault.DESTINATION
    assert not queue()
    assert link(url, ca=str(authority.file)).send(event())[0] == TAKEN
    assert ids(queue()) == ["evt_abc_5"]


def test_it_connects_to_its_networks_alone(rabbit, link):
    (outcome,) = link(rabbit.url, networks=["192.0.2.0/24"]).send(event())
    assert "none of the destination's networks" in outcome.text
    assert (
        link(rabbit.url, networks=["127.0.0.0/8"], exchange="")
        .send(event())[0]
        .text.startswith("no queue takes it: in the default exchange")
    )


@contextmanager
def peer(said):
    """Somebody who says this, and then nothing."""
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
        yield f"amqp://127.0.0.1:{listener.getsockname()[1]}"
        listener.shutdown(socket.SHUT_RDWR)
        thread.join(20)
        for each in taken:
            each.close()


@pytest.mark.parametrize(
    "said",
    [
        b"",
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        b"AMQP\0\0\x08\0",
        b"\x01\0\0\xff\xff\xff\xff" + b"x" * 400_000,
        b"\x01\0\0\0\0\0\x04\0\x0a\0\x0a\xce",
    ],
)
def test_what_is_no_broker_is_left_in_time(link, said):
    with peer(said) as url:
        destination = link(url, timeout="1s")
        for _ in range(2):
            (outcome,) = destination.send(event())
            assert outcome.fault is Fault.DESTINATION
            assert outcome.text


def test_while_the_broker_is_out_of_memory_nothing_is_taken_and_nothing_waits(rabbit, queue, link):
    destination = link(rabbit.url, timeout="1s")
    wait_until(lambda: destination.send(event(1)) == [TAKEN], "it is connected")
    rabbit.control("set_vm_memory_high_watermark", "0")
    try:
        # The first that it is sent it may still take.
        outcomes = [destination.send(event(2))[0] for _ in range(3)]
        assert outcomes[-1].fault is Fault.DESTINATION
        assert outcomes[-1].text == "the broker takes nothing now: low on memory"
    finally:
        rabbit.control("set_vm_memory_high_watermark", "0.9")
    wait_until(lambda: destination.send(event(3))[0] == TAKEN, "it goes on")
    found = list(dict.fromkeys(ids(queue())))
    assert found == ["evt_abc_1", "evt_abc_2", "evt_abc_3"]


def forward(rabbit):
    return (
        '[[endpoint]]\nprovider = "csoft"\npath = "/soap"\n'
        f'[[forward]]\nname = "app"\nurl = "{rabbit.url}"\ntypes = ["receipt.stored"]\n'
        'timeout = "2s"\nbatch = 20\n'
    )


def test_a_broker_that_hangs_is_left_in_time_and_found_again(rabbit, queue, link):
    destination = link(rabbit.url, timeout="1s", batch=3)
    wait_until(lambda: destination.send(event(1)) == [TAKEN], "it is connected")
    rabbit.tell(signal.SIGSTOP)
    try:
        outcomes = destination.send(event(2), event(3))
        assert {each.fault for each in outcomes} == {Fault.DESTINATION}
        assert destination.send(event(2))[0].fault is Fault.DESTINATION
    finally:
        rabbit.tell(signal.SIGCONT)
    wait_until(lambda: destination.send(event(2), event(3)) == [TAKEN] * 2, "it goes on")
    found = list(dict.fromkeys(ids(queue())))
    assert found == ["evt_abc_1", "evt_abc_2", "evt_abc_3"]


def test_through_restarts_of_both_sides_nothing_is_missing_and_lanes_keep_their_order(
    rabbit, queue, serve, link
):
    destination = link(rabbit.url, timeout="2s")
    server = serve(forward(rabbit))
    names = [new_id() for _ in range(10)]
    for report in (1, 2):
        for name in names:
            deliver(server, name, report=report)
    server.kill()
    server.start()
    wait_until(lambda: waiting(rabbit, queue.name) >= 20, "the first half is there")
    rabbit.stop()
    refused = [Outcome(Fault.DESTINATION, "the connection is refused")]
    wait_until(lambda: destination.send(event()) == refused, "it is away")
    for name in names:
        deliver(server, name, report=3)
    server.kill()
    rabbit.start()
    server.start()
    wait_until(lambda: waiting(rabbit, queue.name) >= 30, "all is there")
    assert destination.send(unheard(1))[0].text.startswith("no queue takes it")
    assert server.stop() == 0
    lanes = {}
    for _, _, body in queue():
        receipt = json.loads(body)["data"]["receipt"]
        lanes.setdefault(receipt["message_id"], []).append(int(receipt["code"]))
    assert {name: list(dict.fromkeys(codes)) for name, codes in lanes.items()} == {
        name: [1, 2, 3] for name in names
    }


def waiting(rabbit, name):
    with channel(rabbit) as open_channel:
        return open_channel.queue_declare(name, passive=True).method.message_count


def test_forward_test_says_what_comes_of_it(rabbit, tmp_path, queue):
    config = tmp_path / "receiptd.toml"
    config.write_text(forward(rabbit))
    database = f"sqlite:///{tmp_path / 'receipts.db'}"
    start("db", "upgrade", "--database", database).communicate(timeout=60)

    def tried():
        files = ("--config", str(config), "--database", database)
        process = start("forward", "test", "app", *files)
        said, wrong = process.communicate(timeout=60)
        return process.returncode, (said + wrong).decode()

    code, text = tried()
    assert (code, "no queue takes it" in text) == (1, True), text
    with channel(rabbit) as open_channel:
        open_channel.queue_bind(queue.name, "amq.topic", "test.#")
    code, text = tried()
    assert (code, "took it" in text) == (0, True), text
    assert len(queue()) == 1
