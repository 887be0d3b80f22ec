"""What the API costs is bounded: by what is asked for, and by what is stored."""

from __future__ import annotations

import json
import sys

import pytest

from kit.api import call, items
from kit.server import Server
from kit.wire import post
from receiptd.receipt import Kind, State
from receiptd.web.api.bodies import LARGEST_BODY
from receiptd.web.api.parameters import MOST_PARAMETERS, MessagesQuery, ReceiptsQuery, read_query
from receiptd.web.api.registration import read_messages
from receiptd.web.problem import Problem

RECEIPTS = "/api/v1/receipts"
MESSAGES = "/api/v1/messages"
JSON = {"Content-Type": "application/json"}
FORM = "application/x-www-form-urlencoded"

COUNT = 110
CONTROLS = "%01" * 20_000


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """A server with replies of control characters, of which JSON makes six bytes each."""
    config = '[[endpoint]]\nprovider = "cdyne"\npath = "/cdyne"\nmatch = "never"\n'
    started = Server(tmp_path_factory.mktemp("server"), config, "tcp:0:interface=127.0.0.1", [])
    for number in range(COUNT):
        body = (
            f"SMSResponse=1&MessageID=R{number}&MatchedMessageID=M&FromPhoneNumber=17573733{number:03d}"
            f"&ToPhoneNumber=1&ResponseReceiveDate=1/31/2026 6:00:00 PM&Message={CONTROLS}"
        )
        answer = post(started.port, body.encode(), "/cdyne", FORM)
        assert answer.status == 200, answer.text
    yield started
    started.kill()


def test_a_page_is_bounded_by_bytes_and_the_next_one_goes_on(server):
    seen, path, pages = [], f"{RECEIPTS}?limit=1000", 0
    while path is not None:
        reply = call(server, path)
        assert reply.status == 200
        assert len(reply.body) < LARGEST_BODY + 1000
        assert reply.json["items"], "each page carries something"
        seen += [each["id"] for each in reply.json["items"]]
        path = reply.json["next"] and reply.json["next"].partition(f":{server.port}")[2]
        pages += 1
    assert seen == list(range(COUNT, 0, -1))
    assert pages > 2


def test_the_timeline_of_a_message_is_bounded_by_bytes_and_says_so(server):
    registered = call(server, MESSAGES, "POST", {"provider": "cdyne", "message_id": "M"})
    assert registered.status == 200, registered.body
    reply = call(server, f"{MESSAGES}/cdyne/m")
    assert len(reply.body) < LARGEST_BODY + 1000
    assert reply.json["receipts_complete"] is False
    numbers = [each["id"] for each in reply.json["receipts"]]
    assert numbers == list(range(COUNT - len(numbers) + 1, COUNT + 1)), "the newest, in order"


# What cannot be read, on a real socket


@pytest.mark.parametrize(
    "body",
    [
        b"[" * 200_000,
        b'{"a":' * 100_000,
        b'[{"provider": {"a": ' + b"[" * 5000 + b"]" * 5000 + b"}}]",
        b'{"parts": ' + b"9" * 100_000 + b"}",
        b'{"parts": 1e999999}',
        b'{"parts": -1e400, "provider": "cdyne", "message_id": "A"}',
        b'{"parts": NaN}',
        b'{"parts": Infinity}',
        b'{"provider": "cdyne", "message_id": "\\ud800"}',
        b'{"provider": "cdyne", "message_id": "\\u0000"}',
        b'{"provider": "\\ud800", "message_id": "A"}',
        b'{"\\ud800": 1}',
        b'{"provider": "cdyne", "message_id": "A", "message_id": "B"}',
        b'{"provider": "cdyne", "message_id": ' + b'"' + b"A" * 900_000 + b'"}',
        b'{"provider": "' + b"c" * 900_000 + b'", "message_id": "A"}',
        b'{"provider": "cdyne", "message_id": "A", "recipient": "' + b"1 " * 400_000 + b'"}',
        b'{"message_id": []}',
        b'[[], {}, 1, null, true, "x"]',
        b"\xff\xfe{\x00}\x00",
        b"\xef\xbb\xbf{}",
        b"{" + b",".join(b'"k%d":1' % number for number in range(90_000)) + b"}",
        b"[" + b",".join([b"{}"] * 340_000) + b"]",
    ],
)
def test_a_hostile_body_is_the_clients_mistake(server, body):
    reply = call(server, MESSAGES, "POST", body, JSON)
    assert reply.status in (400, 413, 422)
    assert len(reply.body) < 65536
    assert reply.problem["detail"]
    assert "Traceback" not in server.log


def test_a_key_that_is_there_twice_is_named(server):
    body = b'[{"provider": "cdyne", "message_id": "A", "message_id": "B"}]'
    reply = call(server, MESSAGES, "POST", body, JSON)
    assert reply.status == 400
    assert "the key 'message_id' is there more than once" in reply.problem["detail"]


@pytest.mark.parametrize(
    "query",
    [
        "&".join(f"a{number}=1" for number in range(2000)),
        "&".join(["provider=cdyne"] * 1000),
        "&" * 5000,
        "since=" + "T%20" * 4000,
        "since=" + "9" * 12_000 + "w",
        "since=999999999w",
        "until=999999999W",
        "since=9999-12-31T23:59:59-23:59",
        "since=0001-01-01T00:00:00%2B23:59",
        "limit=" + "9" * 12_000,
        "limit=%D9%A1",
        "cursor=" + "z" * 12_000,
        "cursor=%00",
        "cursor=-1",
        "cursor=1&cursor=2",
        "message_id=" + "a" * 12_000,
        "message_id=%ED%A0%80",
        "recipient=" + "1-" * 6000,
        "reference=%00",
        "provider=" + "c" * 12_000,
        "provider=%00",
        "%00=1",
        "a" * 15_000 + "=1",
        "&".join(f"provider=p{number}" for number in range(90)),
        "&".join(f"endpoint=p{number}" for number in range(90)),
    ],
)
def test_a_hostile_query_is_the_clients_mistake(server, query):
    for path in (RECEIPTS, MESSAGES, "/api/v1/rejected", f"{RECEIPTS}/stream"):
        reply = call(server, f"{path}?{query}")
        assert reply.status in (400, 422), path
        assert len(reply.body) < 65536
        assert reply.problem["detail"]
    assert "Traceback" not in server.log


@pytest.mark.parametrize(
    "path",
    [
        f"{MESSAGES}/cdyne/" + "a" * 12_000,
        f"{MESSAGES}/" + "a" * 12_000 + "/A",
        f"{MESSAGES}/cdyne/%00",
        f"{MESSAGES}/%00/A",
        f"{MESSAGES}/cdyne/" + "/" * 12_000,
        f"{RECEIPTS}/" + "9" * 12_000,
        f"{RECEIPTS}/" + "%00" * 4000,
        "/api/" + "a/" * 6000,
    ],
)
def test_a_hostile_path_is_not_found(server, path):
    reply = call(server, path)
    assert reply.status == 404
    assert len(reply.body) < 65536
    assert "Traceback" not in server.log


@pytest.mark.parametrize("last", ["x", "-1", "9" * 5000, "1.0", "1e3"])
def test_a_hostile_last_event_id_is_the_clients_mistake(server, last):
    reply = call(server, f"{RECEIPTS}/stream", headers={"Last-Event-ID": last})
    assert reply.status == 400
    assert len(reply.body) < 1000


# Names


def test_an_unknown_name_is_answered_with_the_one_that_was_meant(server):
    for path in (RECEIPTS, f"{RECEIPTS}/stream", MESSAGES, "/api/v1/rejected"):
        reply = call(server, f"{path}?provider=cdyen")
        assert reply.status == 422
        assert reply.problem["errors"] == [
            {
                "parameter": "provider",
                "detail": "nothing is called 'cdyen': did you mean 'cdyne'?",
            }
        ]


def test_what_was_stored_under_an_earlier_configuration_is_still_found(serve):
    started = serve('[[endpoint]]\nprovider = "csoft"\npath = "/soap"\nname = "earlier"\n')
    form = b"MessageIdentifier=A1&Report=0&SendTo=447700912345"
    assert post(started.port, form, content_type=FORM).status == 200
    started.stop()
    started.config.write_text('[[endpoint]]\nprovider = "cdyne"\npath = "/cdyne"\n')
    started.start()
    assert len(items(started, f"{RECEIPTS}?endpoint=earlier")) == 1
    assert len(items(started, f"{RECEIPTS}?provider=csoft")) == 1
    assert call(started, f"{RECEIPTS}?endpoint=earlyer").status == 422
    # No receipt of it could come any more, nor is it said how its phones are to be read.
    reply = call(started, MESSAGES, "POST", {"provider": "csoft", "message_id": "A2"})
    assert reply.status == 422
    assert "is 'csoft', for which no endpoint is configured" in reply.problem["detail"]


# The steps that reading takes grow with what is read, and not faster


def steps(function, *arguments):
    """Lines of Python and calls of C that `function` takes; a Problem is as good as a result."""
    count = 0

    def tick(_frame, _event, _argument):
        nonlocal count
        count += 1
        return tick

    def profile(_frame, event, _argument):
        nonlocal count
        count += event == "c_call"

    sys.setprofile(profile)
    sys.settrace(tick)
    try:
        function(*arguments)
    except Problem:
        pass
    finally:
        sys.settrace(None)
        sys.setprofile(None)
    return count


QUERIES = {
    "one time": lambda size: b"since=" + b"T%20" * size,
    "one number": lambda size: b"limit=" + b"9" * size,
    "unknown parameters": lambda size: b"&".join(b"k%d=1" % each for each in range(size)),
    "one parameter": lambda size: b"&".join([b"state=x"] * size),
    "a long name": lambda size: b"a" * size + b"=1",
    "a phone": lambda size: b"recipient=" + b"1-" * size,
}
BODIES = {
    "unknown keys": lambda size: json.dumps({f"k{each}": 1 for each in range(size)}),
    "wrong messages": lambda size: json.dumps([{"parts": "x"}] * size),
    "objects": lambda size: json.dumps([{"a": 1, "b": 2}] * size),
    "keys twice": lambda size: "{" + ",".join(['"a":1'] * size) + "}",
    "nested": lambda size: "[" * size,
    "a long text": lambda size: json.dumps({"provider": "csfot" * size}),
    "a long number": lambda size: '{"parts": ' + "9" * size + "}",
}


@pytest.mark.parametrize("name", QUERIES)
@pytest.mark.parametrize("model", [ReceiptsQuery, MessagesQuery])
def test_reading_a_query_takes_steps_in_proportion(name, model):
    made = QUERIES[name]
    steps(read_query, model, made(10))  # what is made once
    small, large = (steps(read_query, model, made(size)) for size in (400, 4000))
    assert large <= 12 * small


@pytest.mark.parametrize("name", BODIES)
def test_reading_a_body_takes_steps_in_proportion(name):
    made = BODIES[name]
    steps(read_messages, made(10).encode(), ["csoft"])
    small, large = (steps(read_messages, made(size).encode(), ["csoft"]) for size in (500, 5000))
    assert large <= 12 * small


def test_a_query_has_a_bounded_number_of_parameters():
    read_query(ReceiptsQuery, b"&".join([b"provider=csoft"] * MOST_PARAMETERS))
    with pytest.raises(Problem, match="more than 100 parameters"):
        read_query(ReceiptsQuery, b"&".join([b"provider=csoft"] * (MOST_PARAMETERS + 1)))


def test_each_choice_is_named_where_none_is_near():
    for parameter, known in (("state", State), ("kind", Kind)):
        with pytest.raises(Problem) as problem:
            read_query(ReceiptsQuery, f"{parameter}=zzz".encode())
        assert ", ".join(map(str, known)) in problem.value.detail
