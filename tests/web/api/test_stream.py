"""The event stream on a real server: nothing missing, nothing twice, whoever stores it."""

from __future__ import annotations

import socket
import threading
from contextlib import ExitStack, closing

import pytest
from sqlalchemy import delete, insert
from twisted.internet.defer import Deferred, ensureDeferred
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport

from kit.api import call, deliver, register, watch
from kit.server import DEADLINE, resident, wait_until
from kit.store import Store, receipt
from receiptd.store import event_tables
from receiptd.store.database.engine import open_engine
from receiptd.store.queries import ReceiptFilter
from receiptd.store.schema import receipts
from receiptd.web.api import stream
from receiptd.web.api.feeds import EventBatch, ReceiptFeed
from receiptd.web.api.stream import Streams
from receiptd.web.server.site import Site

STREAM = "/api/v1/receipts/stream"


def test_what_comes_from_now_on_is_streamed(pooled):
    server = pooled()
    deliver(server, "before")
    with watch(server) as events:
        first = events.block()
        assert (first.id, first.data, first.retry) == (1, None, 2000)
        deliver(server, "A1")
        event = events.event()
        assert event.id == 2
        assert event.data == call(server, "/api/v1/receipts/2").json
        deliver(server, "A2")
        assert events.event().data["message_id"] == "A2"


def test_a_stream_resumes_behind_the_last_event(pooled):
    server = pooled()
    for number in range(5):
        deliver(server, f"m{number}")
    with watch(server, last=2) as events:
        assert [events.event().id for _ in range(3)] == [3, 4, 5]
    with watch(server, "?after=0") as events:
        assert [events.event().id for _ in range(5)] == [1, 2, 3, 4, 5]
    with watch(server, "?after=0", last=4) as events:
        assert events.event().id == 5, "the header is the newer of the two"


def test_a_stream_resumes_where_nothing_had_come_yet(pooled):
    server = pooled()
    with watch(server) as events:
        position = events.block().id
    deliver(server, "meanwhile")
    with watch(server, last=position) as events:
        assert events.event().data["message_id"] == "meanwhile"


def test_a_stream_resumes_across_a_crash_without_gap_or_repeat(serve):
    server = serve()
    seen = []
    for round_number in range(3):
        with watch(server, last=seen[-1].id if seen else 0) as events:
            for number in range(20):
                deliver(server, f"r{round_number}-{number}")
            seen += [events.event() for _ in range(10)]
        server.kill()
        server.start()
    with watch(server, last=seen[-1].id) as events:
        seen += [events.event() for _ in range(60 - len(seen))]
    assert [event.id for event in seen] == list(range(1, 61))


def test_what_another_process_stores_is_streamed(pooled):
    server = pooled()
    engine = open_engine(f"sqlite:///{server.database}")
    store = Store(engine)
    try:
        with watch(server) as events:
            store.outcomes(receipt("theirs"))
            assert events.event().data["message_id"] == "theirs"
            deliver(server, "ours")
            assert events.event().data["message_id"] == "ours"
    finally:
        store.writer.stop()
        engine.dispose()


def test_everybody_sees_all_in_the_same_order_under_load(pooled):
    server = pooled()
    with ExitStack() as stack:
        streams = [stack.enter_context(watch(server)) for _ in range(3)]

        def load(worker):
            for number in range(50):
                deliver(server, f"w{worker}-{number}")

        workers = [threading.Thread(target=load, args=(worker,)) for worker in range(4)]
        for worker in workers:
            worker.start()
        seen = [[events.event().id for _ in range(200)] for events in streams]
        for worker in workers:
            worker.join()
    assert seen == [list(range(1, 201))] * 3


def test_a_stream_takes_the_filters_of_the_list(pooled):
    server = pooled(registers=True)
    register(server, {"provider": "csoft", "message_id": "A1"})
    with watch(
        server, "?verdict=unknown-message&after=0&recipient=%2B44%207700%20900001"
    ) as events:
        deliver(server, "A1", phone="447700900001")
        deliver(server, "B1", phone="447700900002")
        deliver(server, "B2", phone="447700900001")
        assert events.event().data["message_id"] == "B2"


@pytest.mark.parametrize("last", ["x", "-1", "1.5", "9" * 30, "\u00b2"])
def test_a_last_event_id_that_is_none_is_named(shared_default, last):
    reply = call(shared_default, STREAM, headers={"Last-Event-ID": last})
    assert reply.status == 400
    assert "Last-Event-ID" in reply.problem["detail"]
    assert call(shared_default, f"{STREAM}?after=x").status == 422
    assert call(shared_default, f"{STREAM}?limit=5").status == 422


def test_head_tells_the_type_and_ends(shared_default):
    reply = call(shared_default, STREAM, "HEAD")
    assert (reply.status, reply.body) == (200, b"")
    assert reply.headers["content-type"] == "text/event-stream; charset=utf-8"


def test_an_old_client_is_sent_no_chunks(pooled):
    server = pooled()
    with closing(socket.create_connection(("127.0.0.1", server.port), DEADLINE)) as connection:
        connection.sendall(f"GET {STREAM} HTTP/1.0\r\n{server.bearer[0]}\r\n\r\n".encode())
        came = b""
        while not came.endswith(b"id: 0\n\n"):
            more = connection.recv(4096)
            assert more, came
            came += more
        head, _, body = came.partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.0 200 OK\r\n")
        assert b"chunked" not in head
        assert body == b"retry: 2000\nid: 0\n\n"


def test_a_client_that_closes_its_side_has_left(pooled):
    server = pooled()
    with closing(socket.create_connection(("127.0.0.1", server.port), DEADLINE)) as connection:
        head = f"GET {STREAM} HTTP/1.1\r\nHost: localhost\r\n{server.bearer[0]}\r\n\r\n"
        connection.sendall(head.encode())
        answer = b""
        while b"retry:" not in answer:
            answer += (received := connection.recv(4096))
            assert received, answer
        assert answer.startswith(b"HTTP/1.1 200 "), "it is the stream that is left"
        connection.shutdown(socket.SHUT_WR)
        while connection.recv(4096):
            pass


def test_streams_end_as_http_ends_when_the_server_stops(serve):
    server = serve()
    with watch(server) as events, watch(server, "?after=0") as others:
        deliver(server, "A1")
        assert events.event().id == others.event().id == 1
        assert server.stop() == 0
        # http.client raises IncompleteRead where the last chunk is missing.
        assert list(events.rest()) == list(others.rest()) == []


def test_there_are_so_many_streams_and_a_client_that_goes_makes_room(serve):
    server = serve()
    with ExitStack() as stack:
        for _ in range(stream.MOST_STREAMS):
            stack.enter_context(watch(server))
        reply = call(server, STREAM)
        assert reply.status == 503
        assert reply.headers["retry-after"] == "30"
        assert "64 streams are open" in reply.problem["detail"]
        assert call(server, "/api/v1/receipts").status == 200, "other requests have their own room"

    def room():
        return call(server, STREAM, "HEAD").status == 200 and opens()

    def opens():
        try:
            with watch(server):
                return True
        except AssertionError:
            return False

    wait_until(room, "there is room again")


def test_a_slow_reader_costs_no_memory_and_misses_nothing(serve):
    server = serve()
    engine = open_engine(f"sqlite:///{server.database}")
    deliver(server, "first")
    with engine.begin() as connection:
        row = dict(connection.execute(receipts.select()).mappings().one())
        del row["id"]
        rows = [
            row | {"message_key": f"m{number}", "raw": b"%d" % number + b"x" * 30_000}
            for number in range(3000)
        ]
        connection.execute(insert(receipts), rows)
    engine.dispose()
    with watch(server, "?after=1", buffer=4096) as events:
        events.event()
        before = resident(server.process.pid)
        deliver(server, "meanwhile")
        # Were there no backpressure, 90 MB would be on their way by now.
        assert resident(server.process.pid) - before < 30e6
        ids = [events.event().id for _ in range(3000)]
        assert ids == list(range(3, 3003))
        assert resident(server.process.pid) - before < 30e6


# Events


ALL = "?types=receipt.stored&types=receipt.adopted&types=message.state"


def test_events_are_streamed_where_their_types_are_asked_for(pooled):
    server = pooled()
    with watch(server, ALL) as events, watch(server, "?types=message.state") as states:
        begin = events.block().id
        assert states.block().id == begin
        deliver(server, "A1", report=0)
        register(server, {"provider": "csoft", "message_id": "A1"})
        deliver(server, "A2")
        came = []
        while len(came) < 4:
            came.append(events.event())
        assert [each.event for each in came] == [
            *("receipt.stored", "receipt.adopted", "message.state", "receipt.stored")
        ]
        assert states.event() == came[2]
    assert [each.id - begin for each in came] == [1, 2, 3, 4]
    listed = call(server, f"/api/v1/events?after={begin}").json["items"]
    assert [each.data for each in came] == listed


def test_a_stream_of_events_resumes_and_takes_filters(pooled):
    server = pooled()
    with watch(server, ALL) as events:
        begin = events.block().id
    for number in range(3):
        deliver(server, f"m{number}")
        deliver(server, f"n{number}", report=1)
    with watch(server, f"{ALL}&after={begin}", last=begin + 4) as events:
        assert [events.event().id - begin for _ in range(2)] == [5, 6]
    with watch(server, f"{ALL}&after={begin}&message_id=M2") as events:
        assert events.event().id == begin + 5
    with watch(
        server, f"{ALL}&after={begin}&state=DELIVERED&provider=csoft&kind=delivery"
    ) as events:
        found = events.event()
        assert found.data["data"]["receipt"]["state"] == "DELIVERED"


def test_what_a_stream_of_events_cannot_do_is_said(pooled):
    server = pooled()
    answer = call(server, f"{STREAM}?types=receipt.stored&recipient=447700912345")
    assert answer.status == 422
    assert "recipient: is for receipts alone" in str(answer.json)
    assert call(server, f"{STREAM}?types=receipt.lost").status == 422
    with watch(server, ALL) as events:
        begin = events.block().id
    deliver(server, "A")
    engine = open_engine(f"sqlite:///{server.database}")
    with engine.begin() as connection:
        connection.execute(delete(event_tables.events))
    engine.dispose()
    answer = call(server, f"{STREAM}?types=receipt.stored&after=0")
    assert answer.status == 410
    assert f"begin with after={begin + 1}" in answer.json["detail"]


# In virtual time


class FakeReader:
    """A reader whose answers a test gives."""

    def __init__(self):
        self.asked: list[Deferred] = []

    def read(self, function):
        self.asked.append(Deferred())
        return self.asked[-1]

    def answer(self, value):
        self.asked.pop(0).callback(value)


@pytest.fixture
def virtual():
    """An open stream at id 7 that has caught up: its clock, reader, transport and hub."""
    clock, reader, transport = Clock(), FakeReader(), StringTransport()
    streams = Streams(clock, reader)

    class Open:
        def handle(self, request, rest):
            ensureDeferred(streams.open(request, ReceiptFeed(ReceiptFilter()), None))

    channel = Site({b"/stream": Open()}, max_body=1000, reactor=clock).buildProtocol(None)
    transport.abortConnection = transport.loseConnection
    channel.makeConnection(transport)
    channel.dataReceived(b"GET /stream HTTP/1.1\r\nHost: h\r\n\r\n")
    reader.answer(7)
    assert b"retry: 2000\nid: 7\n\n" in transport.value()
    reader.answer(EventBatch(b"", 7, False))
    transport.clear()
    return clock, reader, transport, streams


def pass_time(clock, reader, seconds, newest=7):
    """Let time pass; the database says that `newest` is the newest id."""
    for _ in range(int(seconds / stream.POLL)):
        clock.advance(stream.POLL)
        while reader.asked:
            reader.answer(newest)


def test_a_silent_stream_is_kept_alive(virtual):
    clock, reader, transport, _ = virtual
    pass_time(clock, reader, 14.5)
    assert transport.value() == b""
    pass_time(clock, reader, 2)
    assert b": still there\n\n" in transport.value()
    transport.clear()
    pass_time(clock, reader, 14)
    assert transport.value() == b""


def test_a_stream_of_which_nothing_fits_says_where_it_is(virtual):
    """So that a client that resumes need not search through all that again."""
    clock, reader, transport, streams = virtual
    streams.wake()
    clock.advance(stream.REST)
    reader.answer(EventBatch(b"", 900, False))
    pass_time(clock, reader, 16, newest=900)
    assert b": still there\nid: 900\n\n" in transport.value()


def test_a_stream_that_is_full_reads_no_further_until_it_is_taken(virtual):
    clock, reader, transport, streams = virtual
    clock.advance(stream.REST)
    streams.wake()
    reader.answer(EventBatch(b"id: 8\n\n", 8, True))
    assert len(reader.asked) == 1, "there was more, so it reads on"
    transport.producer.pauseProducing()
    reader.answer(EventBatch(b"id: 9\n\n", 9, True))
    assert reader.asked == []
    streams.wake()
    assert reader.asked == []
    transport.producer.resumeProducing()
    assert len(reader.asked) == 1


def test_a_client_that_takes_nothing_is_cut_off(virtual):
    clock, reader, transport, _ = virtual
    transport.producer.pauseProducing()
    pass_time(clock, reader, stream.STALLED - 1)
    assert not transport.disconnecting
    pass_time(clock, reader, 2)
    assert transport.disconnecting


def test_a_database_that_does_not_answer_ends_no_stream(virtual):
    clock, reader, transport, streams = virtual
    clock.advance(stream.REST)
    streams.wake()
    from receiptd.web.problem import Problem

    reader.asked.pop().errback(Problem.unavailable("away"))
    assert not transport.disconnecting
    clock.advance(stream.POLL)
    while len(reader.asked) > 1:
        reader.asked.pop(0).errback(Problem.unavailable("away"))
    reader.answer(EventBatch(b"id: 8\n\n", 8, False))
    assert b"id: 8\n\n" in transport.value()
