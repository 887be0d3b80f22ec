"""librdkafka's mock cluster, in a process of its own and over TCP: what arrives there."""

from __future__ import annotations

import json

import pytest

pytest.importorskip("confluent_kafka", reason="the extra kafka is not installed")

from confluent_kafka import Consumer, TopicPartition

from kit.api import deliver
from kit.brokers import KafkaCluster, free_port
from kit.events import MESSAGE, NOW, RECEIPT, event
from kit.server import wait_until
from kit.soap import new_id
from receiptd.forward.destinations import TAKEN, Fault


@pytest.fixture(scope="module")
def cluster():
    cluster = KafkaCluster()
    yield cluster
    cluster.close()


def records(cluster, topic):
    """All that the topic holds, a list for each partition."""
    consumer = Consumer(
        {
            "bootstrap.servers": cluster.servers,
            "group.id": "test",
            "enable.auto.commit": False,
            "enable.partition.eof": True,
        }
    )
    try:
        found = {}
        partitions = consumer.list_topics(topic, timeout=20).topics[topic].partitions
        consumer.assign([TopicPartition(topic, each, 0) for each in partitions])
        open_ones = set(partitions)
        while open_ones:
            record = consumer.poll(20)
            assert record is not None
            if record.error():
                open_ones.discard(record.partition())
            else:
                found.setdefault(record.partition(), []).append(record)
        return list(found.values())
    finally:
        consumer.close()


@pytest.fixture
def topic():
    return f"t-{new_id()}"


def ids(partitions):
    return sorted(
        dict(record.headers())["id"].decode() for records in partitions for record in records
    )


def test_a_record_says_what_it_is(cluster, topic, link):
    destination = link(cluster.url, topic=topic, headers={"tenant": "7"})
    assert destination.send(event(), attempt=3, replay=9) == [TAKEN]
    (((record,),)) = records(cluster, topic)
    assert record.key().decode() == "csoft 4a2e 3c10/ü"
    assert record.timestamp()[1] == int(NOW.timestamp() * 1000)
    assert dict(record.headers()) == {
        "tenant": b"7",
        "id": b"evt_abc_5",
        "type": b"receipt.stored",
        "content-type": b"application/json",
        "receiptd-attempt": b"3",
        "receiptd-replay": b"9",
    }
    assert json.loads(record.value()) == {
        "id": "evt_abc_5",
        "type": "receipt.stored",
        "timestamp": "2026-11-25T13:13:18.571100Z",
        "data": {"receipt": RECEIPT, "message": None},
    }


def test_all_about_one_message_is_in_one_partition_in_its_order(cluster, topic, link):
    destination = link(cluster.url, topic=topic, batch=200)
    events = []
    for number in range(200):
        name = f"m{number % 20}"
        if number % 3:
            events.append(event(number, receipt={**RECEIPT, "message_id": name}))
        else:
            about = {**MESSAGE, "message_id": name.upper()}
            events.append(event(number, receipt=None, message=about, type="message.state"))
    assert destination.send(*events) == [TAKEN] * 200
    partitions = records(cluster, topic)
    assert len(partitions) > 1
    seen = {}
    for number, partition in enumerate(partitions):
        numbers = [int(dict(each.headers())["id"][8:]) for each in partition]
        assert numbers == sorted(numbers)
        for record in partition:
            seen.setdefault(record.key(), set()).add(number)
    assert len(seen) == 20
    assert all(len(each) == 1 for each in seen.values())


def test_a_record_that_is_too_large_is_to_blame_itself(cluster, topic, link):
    destination = link(cluster.url, topic=topic, raw=True, batch=10)
    outcomes = destination.send(event(1), event(2, raw=b"x" * 11_000_000), event(3))
    assert [each.fault for each in outcomes] == [Fault.NONE, Fault.EVENT, Fault.NONE]
    assert "too large" in outcomes[1].text.lower()
    assert ids(records(cluster, topic)) == ["evt_abc_1", "evt_abc_3"]


def test_a_cluster_that_is_away_is_said_to_be(link):
    port = free_port()
    destination = link(f"kafka://127.0.0.1:{port}", timeout="2s")
    (outcome,) = destination.send(event())
    assert outcome.fault is Fault.DESTINATION
    assert "timed out" in outcome.text
    assert "refused" in outcome.text


def test_credentials_are_shown_nowhere(cluster, link):
    url = cluster.url.replace("://", "://app:hush%20hush@")
    destination = link(url, mechanism="SCRAM-SHA-256", timeout="2s")
    (outcome,) = destination.send(event())
    assert outcome.fault is Fault.DESTINATION
    for text in (outcome.text, destination.config.shown_url):
        assert "hush" not in text


def test_through_a_kill_nothing_is_missing_and_lanes_keep_their_order(cluster, topic, serve):
    server = serve(
        '[[endpoint]]\nprovider = "csoft"\npath = "/soap"\n'
        f'[[forward]]\nname = "app"\nurl = "{cluster.url}"\ntypes = ["receipt.stored"]\n'
        f'topic = "{topic}"\nbatch = 20\n'
    )
    names = [new_id() for _ in range(10)]
    for report in (1, 2, 3):
        for name in names:
            deliver(server, name, report=report)
        if report == 2:
            server.kill()
            server.start()
    wait_until(lambda: len(set(ids(records(cluster, topic)))) == 30, "all is there")
    assert server.stop() == 0
    lanes = {}
    for partition in records(cluster, topic):
        for record in partition:
            receipt = json.loads(record.value())["data"]["receipt"]
            lanes.setdefault(receipt["message_id"], []).append(int(receipt["code"]))
    assert {name: list(dict.fromkeys(codes)) for name, codes in lanes.items()} == {
        name: [1, 2, 3] for name in names
    }
