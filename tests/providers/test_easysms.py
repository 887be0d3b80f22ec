"""EasySMS's notifications, a row each: template, request as EasySMS sends it, reply, receipt."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from time import process_time
from typing import Any
from urllib.parse import quote

import pytest
from pydantic import ValidationError

from kit.exchange import (
    Case,
    Nonsense,
    Unread,
    bound,
    get,
    read,
    sample,
)
from receiptd.providers import Invalid
from receiptd.providers.easysms import QUERY, VALUES, EasySms, template
from receiptd.receipt import Kind, State

SITE = "https://dlr.example.com/easysms"
DELIVERED: dict[str, Any] = {
    "kind": Kind.DELIVERY,
    "message_id": "7584",
    "state": State.DELIVERED,
    "code": "1",
    "description": "Delivered",
}


def of(query: str, **settings: Any) -> EasySms:
    """The module, bound to an endpoint whose dlr_url has this query."""
    provider = bound(EasySms, dlr_url=f"{SITE}?{query}", **settings)
    assert isinstance(provider, EasySms)
    return provider


# Each row: the template's query, and what is sent.
CASES: list[tuple[str, Case]] = [
    (
        QUERY,
        Case(
            "the sample, by the default template",
            sample("easysms-delivered.http"),
            DELIVERED
            | {
                "recipient": "34666555444",
                "sender": "TEST",
                "reported_at": datetime(2020, 9, 21, 12, 19, tzinfo=UTC),
                "price": Decimal("0.045"),
                "part": 1,
                "extra": {"status": "DELIVRD", "sent": "2020-09-21 14:18", "err": "0"},
            },
        ),
    ),
    (
        "idenvio={message_id}&remitente=%p&tel=%P&estado=%d",
        Case(
            "the vendor's example: our identifier, one of several recipients",
            get("idenvio=7584&remitente=TEST&tel=34666555444&estado=1"),
            DELIVERED | {"recipient": "34666555444", "sender": "TEST"},
        ),
    ),
    (
        "own={message_id}&id=%i&ref={reference}&d=%d",
        Case(
            "our identifier and theirs: it is found by either",
            get("own=7584&id=991&ref=spring&d=1"),
            DELIVERED | {"linked_id": "991", "reference": "spring"},
        ),
    ),
    (
        "own={message_id}&id=%i&d=%d",
        Case("our identifier left empty: theirs", get("own=&id=7584&d=1"), DELIVERED),
    ),
    (
        "own={message_id}&id=%i&d=%d",
        Case(
            "our identifier and theirs the same: there is no second one",
            get("own=7584&id=7584&d=1"),
            DELIVERED,
        ),
    ),
    (
        "campaign=spring%20sale&id=%i&d=%d&rate=10%%",
        Case(
            "constants are kept",
            get("campaign=spring+sale&id=7584&d=1&rate=10%25"),
            DELIVERED | {"extra": {"campaign": "spring sale", "rate": "10%"}},
        ),
    ),
    (
        "id=%i&d=%d&x=%Z&charset=%C",
        Case(
            "escapes that EasySMS does not document are kept, filled in or not",
            get("id=7584&d=1&x=what&charset=%C"),
            DELIVERED | {"extra": {"x": "what", "charset": "%C"}},
        ),
    ),
    (
        "d=%d&x=%i-%P",
        Case(
            "several escapes in one value, the identifier with the separator in it",
            get("d=1&x=75-84-34666555444"),
            DELIVERED
            | {
                "message_id": "75-84",
                "recipient": "34666555444",
                "extra": {"x": "75-84-34666555444"},
            },
        ),
    ),
    (
        "x=%y|%c|%n|%s|%j/%d/%p:%P:%i",
        Case(
            "everything in one value",
            get("x=2020-09-21+14:19|0.045|2|DELIVRD|0/1/ACME%20Spa:34666555444:7584"),
            DELIVERED
            | {
                "recipient": "34666555444",
                "sender": "ACME Spa",
                "reported_at": datetime(2020, 9, 21, 12, 19, tzinfo=UTC),
                "price": Decimal("0.045"),
                "part": 2,
                "extra": {"x": "2020-09-21 14:19|0.045|2|DELIVRD|0/1/ACME Spa:34666555444:7584"},
            },
        ),
    ),
    (
        "x=%y%%2F%c-%i&d=%d",
        Case(
            "parts of a value that stay empty",
            get("x=/-7584&d=1"),
            DELIVERED | {"extra": {"x": "/-7584"}},
        ),
    ),
    (
        "ref=camp%2Caign-%i&d=%d",
        Case(
            "an escape behind a constant, which is kept",
            get("ref=camp,aign-7584&d=1"),
            DELIVERED | {"extra": {"ref": "camp,aign-7584"}},
        ),
    ),
    (
        "p=%p&P=%P&id=%i&d=%d&D=x",
        Case(
            "names that differ in case alone",
            get("P=34666555444&p=ACME&id=7584&d=1&D=x"),
            DELIVERED | {"recipient": "34666555444", "sender": "ACME", "extra": {"D": "x"}},
        ),
    ),
    (
        "id=%i&d=%d&tel=%P&copy=%P",
        Case(
            "an escape that stands twice",
            get("id=7584&d=1&tel=34666555444&copy=34666555444"),
            DELIVERED | {"recipient": "34666555444", "extra": {"copy": "34666555444"}},
        ),
    ),
    (
        "id=%i&d=%d&token=secret",
        Case("the endpoint's token", get("id=7584&d=1&token=secret"), DELIVERED),
    ),
    (
        "tel=%P&d=%d",
        Case(
            "no identifier in the template: stored all the same",
            get("tel=34666555444&d=1"),
            {k: v for k, v in DELIVERED.items() if k != "message_id"}
            | {"recipient": "34666555444"},
        ),
    ),
    (
        "id=%i",
        Case(
            "neither %d nor %s in the template",
            get("id=7584"),
            {"kind": Kind.DELIVERY, "message_id": "7584", "state": State.UNKNOWN},
        ),
    ),
    (
        "id=%i&d=%d&err=%j",
        Case(
            "an error code that the vendor explains",
            get("id=7584&d=16&err=89"),
            DELIVERED
            | {
                "state": State.REJECTED,
                "code": "16",
                "description": "Could not be delivered to the operator: balance too low",
                "extra": {"err": "89"},
            },
        ),
    ),
    (
        "id=%i&d=%d&s=%s",
        Case(
            "no value of %d this time: %s is the code",
            get("id=7584&d=&s=EXPIRED"),
            {
                "kind": Kind.DELIVERY,
                "message_id": "7584",
                "state": State.EXPIRED,
                "code": "EXPIRED",
                "extra": {"s": "EXPIRED"},
            },
        ),
    ),
]


NONSENSE: list[tuple[str, Nonsense]] = [
    (QUERY, Nonsense("no identifier", get("d=1"), "id", "missing")),
    (QUERY, Nonsense("nothing at all", get(""), "id", "missing")),
    (QUERY, Nonsense("no status", get("id=1&d=&status="), "d", "missing")),
    (QUERY, Nonsense("a status that nobody filled in", get("id=1&d=%d"), "d", "missing")),
    ("i={message_id}&d=%d", Nonsense("no identifier of ours", get("d=1"), "i", "missing")),
    (
        "i={message_id}&d=%d",
        Nonsense("a place that nobody filled in", get("i={message_id}&d=1"), "i", "filled"),
    ),
    ("i=%i&d=%d", Nonsense("an escape that nobody filled in", get("i=%i&d=1"), "i", "filled")),
    ("i=%i&s=%s", Nonsense("no status word", get("i=1&s="), "s", "missing")),
    ("x=%i-%P&d=%d", Nonsense("a value of another form", get("x=7584&d=1"), "x", "'7584'")),
    ("x=%i-%P&d=%d", Nonsense("an empty identifier in it", get("x=-1&d=1"), "x", "missing")),
    ("x=%i-%P&d=%d", Nonsense("a value too long", get(f"x={'-' * 1001}&d=1"), "x", "1001")),
]


# %d, %s and the state that they make
BOTH = [
    ("1", "DELIVRD", "DELIVERED"),
    ("1", "UNDELIV", "DELIVERED"),
    ("1", "", "DELIVERED"),
    ("2", "", "UNDELIVERABLE"),
    ("2", "UNDELIV", "UNDELIVERABLE"),
    ("2", "DELIVRD", "UNDELIVERABLE"),
    ("2", "EXPIRED", "EXPIRED"),
    ("2", "DELETED", "DELETED"),
    ("2", "REJECTD", "REJECTED"),
    ("4", "", "ENROUTE"),
    ("4", "ACCEPTD", "ACCEPTED"),
    ("4", "REJECTD", "ENROUTE"),
    ("8", "RECEIVED", "ENROUTE"),
    ("8", "ACCEPTD", "ACCEPTED"),
    ("16", "", "REJECTED"),
    ("16", "EXPIRED", "REJECTED"),
    ("32", "DELIVRD", "DELIVERED"),
    ("-1", "", "UNKNOWN"),
]
# %s alone
WORD = [
    ("REJECTD", "REJECTED"),
    ("DELIVRD", "DELIVERED"),
    ("EXPIRED", "EXPIRED"),
    ("DELETED", "DELETED"),
    ("UNDELIV", "UNDELIVERABLE"),
    ("ACCEPTD", "ACCEPTED"),
    ("UNKNOWN", "UNKNOWN"),
    ("RECEIVED", "ENROUTE"),
    ("delivrd", "DELIVERED"),
    ("ROAMING", "UNKNOWN"),
]


@pytest.mark.parametrize(("value", "word", "state"), BOTH)
def test_the_value_decides_and_the_word_refines(value: str, word: str, state: str) -> None:
    receipt = read(of("id=%i&d=%d&s=%s"), get(f"id=7584&d={value}&s={word}"))
    known = VALUES.get(value)
    assert (receipt.state, receipt.code) == (state, value)
    assert receipt.description == (known.text if known else None)
    assert receipt.extra == {"s": word}


@pytest.mark.parametrize(("word", "state"), WORD)
def test_without_a_value_the_word_decides(word: str, state: str) -> None:
    receipt = read(of("id=%i&s=%s"), get(f"id=7584&s={word}"))
    assert (receipt.state, receipt.code, receipt.extra) == (state, word, {})


@pytest.mark.parametrize(
    ("codes", "state"),
    [
        ({"2": State.DELETED}, State.DELETED),
        ({"REJECTD": State.DELETED}, State.DELETED),
        ({"2": State.ENROUTE, "REJECTD": State.DELETED}, State.ENROUTE),
        ({"89": State.DELETED}, State.REJECTED),
    ],
)
def test_configured_codes_win_that_of_the_value_first(
    codes: dict[str, State], state: State
) -> None:
    provider = of("id=%i&d=%d&s=%s&j=%j", codes=codes)
    assert read(provider, get("id=7584&d=2&s=REJECTD&j=89")).state is state


@pytest.mark.parametrize(
    ("written", "hour", "minute"),
    [
        ("2024-06-30 14:19", 12, 19),
        ("2024-06-30 14:19:59", 12, 19),
        ("2024-12-30 14:19", 13, 19),
        ("2024-03-31 02:30", 1, 30),
        ("2024-10-27 02:30", 0, 30),
    ],
)
def test_times_are_those_of_rome_in_both_halves_of_the_year(
    written: str, hour: int, minute: int
) -> None:
    at = read(of("id=%i&d=%d&y=%y"), get(f"id=7584&d=1&y={written}")).reported_at
    assert at is not None
    assert (at.hour, at.minute, at.tzinfo) == (hour, minute, UTC)


# A template's query, and what the warnings about it name
DOUBTS = [
    (QUERY, []),
    ("id={message_id}&d=%d&to=%P", []),
    ("d=%d&to=%P", ["neither %i nor {message_id}"]),
    ("id=%i&to=%P", ["neither %d nor %s"]),
    ("id=%i&d=%d", ["no %P"]),
    ("id=%i&d=%d&to=%P&x=%Z&y=%q", ["%Z, %q"]),
    ("id=%i&d=%d&to=%P&to=%p", ["'to' more than once"]),
    ("id=%i&d=%d&to=%P&a=1&a=2", []),
    ("id=%i&x=%d%P", ["%d and %P with nothing in between"]),
    ("id=%i&d=%d&to=%P&x=caff%c3%A8", ["%c3"]),
    ("id=%i&d=%d&to=%P&x=caff%C3%A8%20%2Fx%e9&rate=5%%", []),
    ("", ["neither %i", "neither %d", "no %P"]),
]


@pytest.mark.parametrize(("query", "named"), DOUBTS)
def test_warnings_name_what_cannot_work(query: str, named: list[str]) -> None:
    warnings = of(query).warnings()
    assert len(warnings) == len(named), warnings
    for part in named:
        assert any(part in warning for warning in warnings), warnings


def test_an_escape_in_the_path_is_warned_about_and_does_not_count() -> None:
    provider = bound(EasySms, dlr_url="https://dlr.example.com/easysms/%i?d=%d&to=%P")
    first, second = provider.warnings()
    assert "%i in its path" in first
    assert "neither %i nor {message_id}" in second
    assert read(provider, get("d=1")).message_id is None


def test_an_endpoint_without_a_dlr_url_takes_the_default_template() -> None:
    assert bound(EasySms).warnings() == []
    assert read(bound(EasySms), get("id=7584&d=1")).message_id == "7584"


def test_an_unknown_key_is_a_configuration_error() -> None:
    with pytest.raises(ValidationError, match="dlr-url"):
        bound(EasySms, **{"dlr-url": SITE})


@pytest.mark.parametrize(
    ("public_url", "expected"),
    [
        ("https://dlr.example.com", f"{SITE}?{QUERY}"),
        ("https://dlr.example.com/", f"{SITE}?{QUERY}"),
        ("https://dlr.example.com/in/it", f"https://dlr.example.com/in/it?{QUERY}"),
        (f"{SITE}?token=s3cret", f"{SITE}?token=s3cret&{QUERY}"),
    ],
)
def test_the_ready_template(public_url: str, expected: str) -> None:
    assert template(public_url) == expected
    assert bound(EasySms, dlr_url=expected).warnings() == []


@pytest.mark.parametrize(
    ("query", "value"),
    [
        ("x=%i-%p-%s-%j-{reference}-%Z-%P&d=%d", "-" * 999 + "x"),
        ("x=%i%d%n%d%n%d%n!&d=%d", "1" * 999),
        ("x=%p%j%s%Z%C!%i-%P&d=%d", "!-" * 499 + "x"),
    ],
)
def test_a_hostile_value_does_not_keep_the_adapter_busy(query: str, value: str) -> None:
    provider = of(query)
    started = process_time()  # of the processor: another program's turn is not ours
    with pytest.raises(Invalid):
        read(provider, get(f"x={value}&d=1"))
    assert process_time() - started < 1


UNREAD = [
    (QUERY, Unread("a word as recipient", get("id=1&d=1&to=Anna"), "to", "Anna")),
    (QUERY, Unread("no date", get("id=1&d=1&done=2020-13-21+14:18"), "done", "2020-13-21 14:18")),
    (QUERY, Unread("no cost", get("id=1&d=1&cost=free"), "cost", "free")),
    (QUERY, Unread("no part", get("id=1&d=1&part=one"), "part", "one")),
    (QUERY, Unread("too large a part", get("id=1&d=1&part=999999999"), "part", "999999999")),
    ("i=%i&s=%s", Unread("a long status word", get(f"i=1&s={'X' * 65}"), "s", "X" * 65)),
    ("x=%P-%c&i=%i&d=%d", Unread("another form", get("x=Anna&i=1&d=1"), "x", "Anna")),
    ("A=%P&a=%p&i=%i&d=%d", Unread("exact names", get("A=Anna&a=b&i=1&d=1"), "A", "Anna")),
]


@pytest.mark.parametrize(
    ("value", "word", "state"),
    [
        ("34", "EXPIRED", "EXPIRED"),
        ("34", "", "EXPIRED"),
        ("66", "", "UNDELIVERABLE"),
        ("9", "", "DELIVERED"),
        ("12", "", "ENROUTE"),
        ("18", "", "REJECTED"),
        ("0", "DELIVRD", "DELIVERED"),
        ("0", "", "UNKNOWN"),
        ("48", "FAILED", "UNDELIVERABLE"),
    ],
)
def test_kannels_masks(value: str, word: str, state: str) -> None:
    assert read(of(QUERY), get(f"id=1&d={value}&status={word}")).state == state


def test_a_dlr_url_may_be_percent_encoded_as_a_whole() -> None:
    url = quote("https://dlr.example.com/easysms?id=%i&d=%d&to=%P", safe="")
    receipt = read(bound(EasySms, dlr_url=url), get("id=7&d=1&to=34600000000"))
    assert (receipt.message_id, receipt.state) == ("7", State.DELIVERED)


def test_ampersands_may_come_as_entities() -> None:
    receipt = read(of(QUERY), get("id=1201&amp;d=1&amp;amp;status=DELIVRD&amp;to=393401234567"))
    assert (receipt.message_id, receipt.recipient) == ("1201", "393401234567")
