"""Files of messages to register, as spreadsheets, databases and people write them."""

from __future__ import annotations

import io
import itertools
import json

import pytest

from receiptd.message import Message
from receiptd.registration.lines import LONGEST_LINE, NotReadable
from receiptd.registration.message_file import MOST_LINES, Entry, MessageFile
from receiptd.registration.message_values import COLUMNS

PROVIDERS = ("csoft", "cdyne", "easysms")
HEADER = "provider,message_id,recipient\n"


def read(content: str | bytes, layout="csv", **options) -> list[Entry]:
    data = content.encode() if isinstance(content, str) else content
    return list(MessageFile(io.BytesIO(data), layout, providers=PROVIDERS, **options))


def messages(content: str | bytes, layout="csv", **options) -> list[Message]:
    entries = read(content, layout, **options)
    assert not [entry for entry in entries if entry.problem]
    return [entry.message for entry in entries]


def problems(content: str | bytes, layout="csv", **options) -> list[tuple[int, str]]:
    return [
        (entry.line, entry.problem)
        for entry in read(content, layout, **options)
        if entry.message is None
    ]


WHOLE = Message("csoft", "4A2E3C10", "447700912345", "ACME", "order 9", 2)


@pytest.mark.parametrize(
    ("content", "layout"),
    [
        (
            "provider,message_id,recipient,sender,reference,parts\n"
            "csoft,4A2E3C10,447700912345,ACME,order 9,2\n",
            "csv",
        ),
        (
            "parts,reference,sender,recipient,message_id,provider\n"
            "2,order 9,ACME,447700912345,4A2E3C10,csoft",
            "csv",
        ),
        (
            '\ufeff"Provider";"Message_ID";"recipient";sender;reference;parts\r\n'
            '"csoft";"4A2E3C10";"447700912345";ACME;"order 9";2\r\n',
            "csv",
        ),
        (
            "provider\tmessage_id\trecipient\tsender\treference\tparts\n"
            "csoft\t 4A2E3C10 \t447700912345\tACME\torder 9\t2\n",
            "csv",
        ),
        (
            '{"provider": "csoft", "message_id": "4A2E3C10", "recipient": "447700912345",'
            ' "sender": "ACME", "reference": "order 9", "parts": 2}\n',
            "ndjson",
        ),
        (
            '\ufeff{"provider": "csoft", "message_id": "4A2E3C10", "recipient": 447700912345,'
            ' "sender": "ACME", "reference": "order 9", "parts": "2"}\r\n\r\n',
            "ndjson",
        ),
    ],
)
def test_the_same_message_in_all_dialects(content, layout):
    assert messages(content, layout) == [WHOLE]


@pytest.mark.parametrize(
    ("content", "layout"),
    [
        ("message_id\nA\n", "csv"),
        ("message_id,recipient,parts\nA,,\n,,\n\n", "csv"),
        ("provider,message_id\n,A\n", "csv"),
        ('{"message_id": "A", "recipient": null, "sender": ""}', "ndjson"),
    ],
)
def test_what_is_empty_is_nothing_and_the_provider_may_be_said_once(content, layout):
    assert messages(content, layout, provider="cdyne") == [Message("cdyne", "A")]


def test_a_line_may_name_another_provider_than_most():
    content = "provider,message_id\neasysms,A\n,B\n"
    found = messages(content, provider="cdyne")
    assert [each.provider for each in found] == ["easysms", "cdyne"]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ('"a, b"', "a, b"),
        ('"say ""hi"""', 'say "hi"'),
        ('5" screen', '5" screen'),
        ('"two\nlines"', "two\nlines"),
        ('"two\r\nlines, ""quoted"""', 'two\nlines, "quoted"'),
        ("Kézbesítve\u2028\x0b…", "Kézbesítve\u2028\x0b…"),
        ('"\u2028"""', '\u2028"'),
    ],
)
def test_quotes_and_what_is_within_them(field, value):
    content = f"provider,message_id,reference\ncsoft,A,{field}\ncsoft,B,plain\n"
    assert [each.reference for each in messages(content)] == [value.strip(), "plain"]


def test_an_empty_file_has_no_messages():
    assert read("") == read("", "ndjson") == read(HEADER) == []


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        (
            "csfot,A,1",
            "provider is 'csfot', for which no endpoint is configured: did you mean 'csoft'?",
        ),
        (
            "nobody,A,1",
            "provider is 'nobody', for which no endpoint is configured: expected one of csoft, "
            "cdyne, easysms",
        ),
        (",A,1", "provider is missing: it must say whose the message is"),
        ("csoft,,1", "message_id is missing: it must name the message"),
        (f"csoft,{'x' * 256},1", "message_id has 256 characters: at most 255"),
        ("csoft,A,phone", "recipient is 'phone': a phone number in digits was expected"),
        (
            "csoft,A,4.47701E+11",
            "recipient is '4.47701E+11': a phone number in digits was expected; spreadsheets "
            "write long numbers so: format the column as text",
        ),
        ("csoft,A", "has 2 fields, the header has 3"),
        ("csoft,A,1,", "has 4 fields, the header has 3"),
        ("csoft,A\0,1", "message_id contains NUL, which no database takes"),
        ("csoft,A," + "1" * LONGEST_LINE, f"is longer than {LONGEST_LINE} bytes"),
    ],
)
def test_a_bad_line_is_told_and_spoils_no_other(line, problem):
    content = f"{HEADER}csoft,before,1\n{line}\ncsoft,after,1\n"
    before, bad, after = read(content)
    assert (bad.line, bad.message, bad.problem) == (3, None, problem)
    assert (before.line, after.line) == (2, 4)
    assert (before.message.message_id, after.message.message_id) == ("before", "after")


def test_a_line_in_another_encoding_is_told():
    content = HEADER.encode() + b"csoft,A,1\ncsoft,K\xe9z,1\ncsoft,B,1\n"
    assert problems(content) == [(3, "is not UTF-8 at its byte 8: save it as UTF-8")]


@pytest.mark.parametrize("rest", [1, MOST_LINES + 5])
@pytest.mark.parametrize("bad", ['csoft,"A,1', 'csoft,"A"B,1'])
def test_a_quote_that_is_not_closed_costs_its_line_alone(bad, rest):
    good = "".join(f"csoft,M{number},1\n" for number in range(rest))
    entries = read(f"{HEADER}{bad}\n{good}")
    assert [entry.line for entry in entries] == list(range(2, rest + 3))
    assert "within quotes twice" in entries[0].problem
    assert all(entry.message for entry in entries[1:])


def test_many_quotes_that_are_not_closed_take_no_long_time():
    entries = read(HEADER + 'csoft,"A,1\n' * 20_000)
    assert len(entries) == 20_000
    assert all(entry.problem for entry in entries)


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("{", "is no JSON object in one line"),
        ("[" * 100_000, "is longer than 65536 bytes"),
        ("[" * 60_000, "is no JSON object in one line"),
        ('"text"', "is no JSON object in one line"),
        ("[{}]", "is an array: expected an object in each line, which jq -c '.[]' makes of it"),
        ('{"message_id": "A", "parts": true}', "parts is 'true': a text was expected"),
        ('{"message_id": ["A"]}', "message_id is '[\"A\"]': a text was expected"),
        ('{"message_id": "A", "parts": 0}', "parts is 0: expected 1 to 255"),
        ('{"message_id": "A", "parts": 256}', "parts is 256: expected 1 to 255"),
        (
            '{"message_id": "A", "parts": "two"}',
            "parts is 'two': a whole number was expected",
        ),
        (
            '{"message_id": "\\ud800"}',
            "message_id contains half of a surrogate pair, which no database takes",
        ),
        ('{"message_id": "A", "ref": "x"}', "unknown key 'ref': did you mean 'reference'?"),
        (
            '{"message_id": "A", "colour": "x"}',
            "unknown key 'colour': expected one of " + ", ".join(COLUMNS),
        ),
    ],
)
def test_a_bad_object_is_told_and_spoils_no_other(line, problem):
    content = f'{{"message_id": "B"}}\n{line}\n{{"message_id": "C"}}\n'
    assert problems(content, "ndjson", provider="csoft") == [(2, problem)]


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("provider,message_id,msisdn\n", "line 1: unknown column 'msisdn': did you mean 'recip"),
        ("provider,messageid\n", "line 1: unknown column 'messageid': did you mean 'message_id'?"),
        ("provider,recipient\n", "line 1 names no column message_id"),
        ("message_id,recipient\n", "line 1 names no column provider: say with --provider"),
        ("provider,message_id,provider\n", "line 1 names the column provider twice"),
        ("csoft,4A2E3C10,447700912345\n", "line 1 must name the columns: provider,message_id,"),
        (b"\xff\xfep\0r\0", "is UTF-16: save it as UTF-8"),
        (b"\xe9\n", "line 1 is not UTF-8"),
        ('"provider,message_id\n', "line 1, which must name the columns, is no CSV"),
    ],
)
def test_a_header_that_is_wrong_is_told_before_anything_is_read(content, problem):
    with pytest.raises(NotReadable) as caught:
        read(content)
    assert str(caught.value).startswith(problem)


@pytest.mark.parametrize("layout", ["csv", "ndjson"])
@pytest.mark.parametrize("from_line", [1, 2, 5, 11, 12, 99])
def test_reading_can_begin_at_any_line(layout, from_line):
    first = 2 if layout == "csv" else 1
    numbers = range(first, 12)
    lines = [
        f"csoft,M{number}" if layout == "csv" else json.dumps({"message_id": f"M{number}"})
        for number in numbers
    ]
    header = ["provider,message_id"] if layout == "csv" else []
    found = read("\n".join(header + lines), layout, provider="csoft", from_line=from_line)
    assert [entry.line for entry in found] == [n for n in numbers if n >= from_line]
    assert all(entry.message.message_id == f"M{entry.line}" for entry in found)


def test_a_file_of_any_length_is_read_as_it_is_asked_for():
    class Endless(io.RawIOBase):
        """A file of messages without end."""

        lines = itertools.chain([HEADER], (f"csoft,M{number},1\n" for number in itertools.count()))

        def readable(self):
            return True

        def readinto(self, buffer):
            data = next(self.lines).encode()
            buffer[: len(data)] = data
            return len(data)

    source = MessageFile(io.BufferedReader(Endless()), "csv", providers=PROVIDERS)
    some = list(itertools.islice(source, 1000))
    assert some[-1].message.message_id == "M999"
    assert source.position < 30_000
