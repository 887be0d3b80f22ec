"""What holds for every provider and every post, by hypothesis.

No post makes a provider's module raise anything but `Invalid`, and `read` gives back what
`write` was given: for samples, for receipts built here, and for whatever was read.
"""

from __future__ import annotations

from collections.abc import Collection
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from random import Random
from typing import Any
from urllib.parse import quote_plus

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from kit.exchange import FORM, Request, bound, post
from receiptd.providers import Invalid, Post, Provider, Reply
from receiptd.providers.cdyne import CODES as CDYNE_CODES
from receiptd.providers.cdyne import SENT, Cdyne
from receiptd.providers.cdyne_phone import CdynePhone
from receiptd.providers.clocks import us_text, utc, wall, zone
from receiptd.providers.csoft import CODES as CSOFT_CODES
from receiptd.providers.csoft import Csoft
from receiptd.providers.easysms import QUERY, VALUES, WORDS, EasySms
from receiptd.providers.receipt_text import parts_of
from receiptd.providers.seeme import CODES as SEEME_CODES
from receiptd.providers.seeme import SeeMe
from receiptd.providers.values import (
    code,
    decimal,
    digits,
    identifier,
    integer,
    iso_time,
    part,
    phone,
    smpp_time,
    us_time,
)
from receiptd.providers.words import SMPP_WORDS
from receiptd.receipt import (
    ACCEPTED,
    MOST_PARTS,
    Kind,
    Outcome,
    Receipt,
    State,
    Verdict,
    match_key,
    visible,
)

unhurried = settings(deadline=None)
"""A busy machine fails no test."""

TEMPLATES = [
    QUERY,
    "idenvio={message_id}&remitente=%p&tel=%P&estado=%d",
    "own={message_id}&id=%i&ref={reference}&s=%s&campaign=spring%20sale",
    "p=%p&P=%P&id=%i&d=%d&y=%y&c=%c&n=%n&x=%Z",
    "d=%d&x=%i-%P&rate=10%%",
    "x=%y|%c|%n|%s|%j/%d/%p:%P:%i",
    "tel=%P",
    "",
]

PROVIDERS: list[Provider] = [
    bound(Csoft),
    bound(Cdyne),
    bound(Cdyne, timezone="America/New_York"),
    bound(CdynePhone),
    bound(SeeMe),
    *(bound(EasySms, dlr_url=f"https://dlr.example.com/easysms?{query}") for query in TEMPLATES),
]


def _words(text: str) -> list[str]:
    return text.split()


NAMES = _words(
    "MessageIdentifier Report SendTo Timestamp1 SMSSent SMSResponse DeliveryReceipt MMSSent "
    "MessageID MatchedMessageID ReferenceID FromPhoneNumber ToPhoneNumber SentTime Message "
    "DeliveryReceiptMessage Code BackupMessageID QueueID ResponseCode StartTime EndTime Duration "
    "reference number sender code message price timestamp mccmnc split token "
    "id d status from to sent done cost part err own ref s x p P y c n idenvio tel estado"
)
VALUES_SEEN = _words(
    "1 0 6 16 000 003 999 -1 DELIVRD EXPIRED 17575449511 +36-30 5/8/2010+2:42:36+AM 1/1/0001+0:00 "
    "9/31/2010+2:42:36+PM 12/31/9999+11:59:59+PM 2013-09-01+09:12:29 2024-02-30 9999-12-31+23:59 "
    "0001-01-01+00:00 stat:DELIVRD+err:001+done+date:9912312359 done+date:0000 13.90 1e5 , 7584-1 "
    "00000000-0000-0000-0000-000000000000 {message_id} %i K%E9sz %00 %F0%9F%98%80"
)
pieces = st.one_of(
    st.sampled_from(VALUES_SEEN).map(str.encode),
    st.text(max_size=20).map(lambda text: quote_plus(text).encode()),
    st.binary(max_size=20),
)
pairs = st.tuples(
    st.one_of(st.sampled_from(NAMES).map(str.encode), pieces), st.sampled_from([b"=", b""]), pieces
).map(b"".join)
queries = st.one_of(st.lists(pairs, max_size=12).map(b"&".join), st.binary(max_size=200))
form_part = st.tuples(
    st.just(b'--b\r\nContent-Disposition: form-data; name="'),
    st.sampled_from(NAMES).map(str.encode),
    st.sampled_from([b'"\r\n\r\n', b"\n\n", b'"; filename="x"\r\n\r\n']),
    pieces,
    st.sampled_from([b"\r\n", b"", b"\r\n--b--\r\n"]),
).map(b"".join)
bodies = st.one_of(queries, st.lists(form_part, max_size=6).map(b"".join))
content_types = st.one_of(
    st.sampled_from([FORM, "", "multipart/form-data; boundary=b", "multipart/form-data"]),
    st.text(max_size=30).map(lambda text: "multipart/form-data" + text),
    st.text(max_size=30),
)


@pytest.mark.parametrize("provider", PROVIDERS, ids=lambda p: p.name)
@unhurried
@given(query=queries, body=bodies, content_type=content_types)
def test_nothing_makes_a_provider_raise_anything_but_invalid(
    provider: Provider, query: bytes, body: bytes, content_type: str
) -> None:
    received = post(provider, Request("POST", query, body, content_type))
    try:
        receipts = provider.read(received)
    except Invalid as error:
        reply = provider.refuse(received, Verdict(Outcome.INVALID, error.text))
    else:
        reply = provider.answer(receipts, [ACCEPTED] * len(receipts))
        assert [receipt.raw for receipt in receipts] == [received.raw]
        for receipt in receipts:
            assert receipt.reported_at is None or receipt.reported_at.tzinfo is UTC
            assert receipt.message_id is None or receipt.message_id.strip()
            assert "\0" not in repr(receipt._replace(raw=b""))
    assert isinstance(reply, Reply)
    provider.credentials(received)


ROME = zone("Europe/Rome")
TIMED = [
    lambda field, text: iso_time(field, text, ROME),
    lambda field, text: us_time(field, text, UTC),
    lambda field, text: smpp_time(field, text, UTC, datetime(2024, 1, 31, tzinfo=UTC)),
]
values_sent = st.one_of(
    st.text(),
    st.from_regex(r"[0-9]{8,17}[-+ RZ]?", fullmatch=True),
    st.from_regex(r"[0-9]{1,4}[-/][0-9]{1,2}[-/][0-9]{1,4}[ T][0-9:.,]{4,12} ?[-+APMZ0-9:]{0,6}"),
    st.from_regex(r"[-+0-9.,eE% ]{1,80}", fullmatch=True),
)


@pytest.mark.parametrize("read", [identifier, phone, integer, digits, part, code, decimal, *TIMED])
@unhurried
@given(text=values_sent)
def test_a_value_is_read_or_invalid_and_what_is_read_is_bounded(read: Any, text: str) -> None:
    try:
        found = read("field", text)
    except Invalid as error:
        found, told = None, error.text
    else:
        told = ""
    assert len(told) < 300
    assert found is None or len(str(found)) <= 255
    if isinstance(found, Decimal):
        assert -20 <= found.as_tuple().exponent <= 0
    if isinstance(found, datetime):
        assert found.tzinfo is UTC
        assert found.year > 1


@unhurried
@given(identifier=st.text())
def test_an_identifiers_key_is_its_own_key(identifier: str) -> None:
    key = match_key(identifier)
    assert match_key(f"\ufeff {key}\u200b\x07 ") == key


def read_back(provider: Provider, receipt: Receipt) -> Receipt:
    """What `read` makes of what `write` makes of `receipt`, as the web layer has it."""
    written = provider.write(receipt)
    received = Post(
        written.method,
        written.query,
        written.body,
        written.content_type,
        charset=provider.charset,
        secrets=provider.secrets,
        token="token",
    )
    (found,) = provider.read(received)
    assert str(found.price) == str(receipt.price)
    return found._replace(raw=receipt.raw)


samplers = [provider for provider in PROVIDERS if provider is not PROVIDERS[-1]]


@pytest.mark.parametrize("provider", samplers, ids=lambda p: p.name)
@unhurried
@given(
    seed=st.integers(0, 2**32),
    at=st.datetimes(datetime(2000, 1, 2), datetime(2099, 1, 1), timezones=st.just(UTC)),
)
def test_a_sample_is_read_back_as_it_was_written(
    provider: Provider, seed: int, at: datetime
) -> None:
    sample = provider.sample(Random(seed), at)
    assert sample.raw == b""
    assert read_back(provider, sample) == sample


@pytest.mark.parametrize("provider", samplers, ids=lambda p: p.name)
def test_samples_are_many(provider: Provider) -> None:
    random = Random(7)
    at = datetime(2024, 5, 1, 12, 0, 30, 500, tzinfo=UTC)
    samples = [provider.sample(random, at) for _ in range(200)]
    assert len({(sample.message_id, sample.recipient) for sample in samples}) > 190
    late = [sample.reported_at for sample in samples if sample.reported_at]
    assert all(timedelta(0) <= at - time < timedelta(minutes=1) for time in late)


# Text as fields hold it: no NUL, no surrogates, no space around it.
letters = st.characters(exclude_categories=["Cs"], exclude_characters="\0")
anything = st.text(letters, max_size=20)
texts = anything.filter(lambda text: text and text == text.strip())
ids = st.text(letters, max_size=255).map(visible).filter(bool)
phones = st.from_regex(r"\+?[0-9][0-9 ()-]{0,20}[0-9]", fullmatch=True)
prices = st.decimals(0, 10**6, places=3, allow_nan=False)
whole = st.integers(-999_999_999, 999_999_999)
part_numbers = st.integers(0, MOST_PARTS)


def maybe(strategy: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """What a provider may leave out."""
    return st.none() | strategy


def times(provider: Provider, every: timedelta) -> st.SearchStrategy[datetime]:
    """Times that `provider` can write: to the second or minute, and of an hour that occurs
    twice the first."""
    zone = provider.endpoint.timezone

    def written(at: datetime) -> datetime:
        local = wall(at, zone)
        rest = timedelta(seconds=local.second % every.seconds, microseconds=local.microsecond)
        return utc(local - rest, zone)

    moments = st.datetimes(datetime(2000, 1, 2), datetime(2099, 1, 1), timezones=st.just(UTC))
    return moments.map(written)


@st.composite
def extras(draw: st.DrawFn, known: Collection[str] = ()) -> dict[str, object]:
    """What a provider may send beside the fields that are `known`."""
    several = st.lists(anything.filter(bool), min_size=2, max_size=3, unique=True)
    found = draw(st.dictionaries(texts, anything | several, max_size=3))
    keys = [name.casefold() for name in found]
    assume(len(set(keys)) == len(keys))
    assume(not {*keys} & {"token", *(name.casefold() for name in known)})
    return found


def receipt(provider: Provider, **fields: Any) -> Receipt:
    """A receipt of `provider`, fields that are not named unset."""
    unset: dict[str, Any] = dict.fromkeys(("message_id", "code", "recipient", "reported_at"), None)
    return Receipt(**unset | {"endpoint": "here", "provider": provider.name, "raw": b""} | fields)


@unhurried
@given(data=st.data())
def test_a_csoft_receipt_is_read_back(data: st.DataObject) -> None:
    provider = bound(Csoft)
    code = data.draw(st.sampled_from(sorted(CSOFT_CODES)) | whole.map(str))
    extra = data.draw(extras(known=[*NAMES, "Username", "PIN", "SentTo"]))
    built = receipt(
        provider,
        kind=Kind.DELIVERY,
        message_id=data.draw(ids),
        state=CSOFT_CODES[code].state if code in CSOFT_CODES else State.UNKNOWN,
        code=code,
        recipient=data.draw(maybe(phones)),
        reported_at=data.draw(maybe(times(provider, timedelta(seconds=1)))),
        description=CSOFT_CODES[code].text if code in CSOFT_CODES else None,
        extra={name: value for name, value in extra.items() if isinstance(value, str)},
    )
    assert read_back(provider, built) == built


@unhurried
@given(data=st.data())
def test_a_seeme_receipt_is_read_back(data: st.DataObject) -> None:
    provider = bound(SeeMe)
    code = data.draw(st.sampled_from(sorted(SEEME_CODES)) | whole.map(str))
    reference = data.draw(ids)
    described = texts if code in SEEME_CODES else maybe(texts)
    built = receipt(
        provider,
        kind=Kind.DELIVERY,
        message_id=reference,
        reference=reference,
        state=SEEME_CODES[code].state if code in SEEME_CODES else State.UNKNOWN,
        code=code,
        recipient=data.draw(maybe(phones)),
        reported_at=data.draw(maybe(times(provider, timedelta(seconds=1)))),
        description=data.draw(described),
        sender=data.draw(maybe(texts)),
        parts=data.draw(maybe(part_numbers)),
        price=data.draw(maybe(prices)),
        network=data.draw(maybe(st.from_regex("[0-9]{5,6}", fullmatch=True))),
        extra=data.draw(extras(known=NAMES)),
    )
    assert read_back(provider, built) == built


@unhurried
@given(data=st.data(), zone=st.sampled_from(["UTC", "America/New_York"]))
def test_a_cdyne_receipt_is_read_back(data: st.DataObject, zone: str) -> None:
    provider = bound(Cdyne, timezone=zone)
    kind = data.draw(st.sampled_from([Kind.SENT, Kind.REPLY, Kind.DELIVERY]))
    extra = data.draw(extras(known=[*NAMES, "MMSResponse", "ResponseReceiveDate"]))
    fields: dict[str, Any] = {"state": State.UNKNOWN}
    if kind is Kind.SENT:
        fields["code"] = data.draw(st.sampled_from(sorted(SENT)))
        fields |= SENT[fields["code"]]._asdict()
        fields["description"] = fields.pop("text")
        fields["last_try"] = 3 if fields["code"] == "0" else None
        if data.draw(st.booleans()):
            extra["MMSSent"] = fields["code"]
    elif kind is Kind.REPLY:
        fields["text"] = data.draw(maybe(anything.filter(bool)))
        if data.draw(st.booleans()):
            extra["MatchedMessageID"] = fields["linked_id"] = data.draw(st.uuids().map(str))
    else:
        code = data.draw(st.sampled_from(sorted(CDYNE_CODES)))
        fields |= {"code": code, "state": CDYNE_CODES[code].state}
        fields["description"] = CDYNE_CODES[code].text
        if data.draw(st.booleans()):
            at = data.draw(times(provider, timedelta(minutes=1)))
            stat = data.draw(st.sampled_from([str(CDYNE_CODES[code].state), "x"]))
            done = wall(at, provider.endpoint.timezone).strftime("%y%m%d%H%M")
            text = f"sm: id:1 done date:{done} stat:{stat} err:{code} text:"
            extra["DeliveryReceiptMessage"] = text
            extra |= {f"DeliveryReceiptMessage.{k}": v for k, v in parts_of(text).items()}
            assert len(parts_of(text)) == 4
            fields["reported_at"] = at
    if kind is not Kind.DELIVERY:
        fields["reported_at"] = data.draw(maybe(times(provider, timedelta(seconds=1))))
    built = receipt(
        provider,
        kind=kind,
        message_id=data.draw(ids),
        recipient=data.draw(maybe(phones)),
        sender=data.draw(maybe(texts)),
        reference=data.draw(maybe(texts)),
        extra=extra,
        **fields,
    )
    assert read_back(provider, built) == built


@unhurried
@given(data=st.data())
def test_a_call_is_read_back(data: st.DataObject) -> None:
    provider = bound(CdynePhone)
    start, end = data.draw(st.tuples(*[maybe(times(provider, timedelta(seconds=1)))] * 2))
    known = {"StartTime": us_text(start, UTC), "EndTime": us_text(end, UTC)}
    extra = data.draw(extras(known=[*NAMES, "phonenumber", "callerid"]))
    built = receipt(
        provider,
        kind=Kind.CALL,
        message_id=data.draw(ids),
        code="1",
        state=State.DELIVERED,
        description="Answered",
        reported_at=end or start,
        extra=extra | {name: value for name, value in known.items() if value},
    )
    assert read_back(provider, built) == built


@unhurried
@given(data=st.data())
def test_an_easysms_receipt_is_read_back(data: st.DataObject) -> None:
    provider = bound(EasySms)
    value = data.draw(st.sampled_from(sorted(VALUES)))
    # Words that refine no value, so that the state is that of the value.
    word = data.draw(maybe(st.sampled_from(["DELIVRD", "DELIVERED", "x"])))
    extra = data.draw(extras(known=NAMES))
    if word:
        extra["status"] = word
    built = receipt(
        provider,
        kind=Kind.DELIVERY,
        message_id=data.draw(ids.filter(lambda text: text != "%i")),
        state=VALUES[value].state,
        code=value,
        description=VALUES[value].text,
        recipient=data.draw(maybe(phones)),
        sender=data.draw(maybe(texts)),
        reported_at=data.draw(maybe(times(provider, timedelta(minutes=1)))),
        part=data.draw(maybe(part_numbers)),
        price=data.draw(maybe(prices)),
        extra=extra,
    )
    assert read_back(provider, built) == built


@unhurried
@given(data=st.data())
def test_an_easysms_receipt_with_both_identifiers_and_a_word_alone_is_read_back(
    data: st.DataObject,
) -> None:
    query = "own={message_id}&id=%i&ref={reference}&s=%s&campaign=spring"
    provider = bound(EasySms, dlr_url=f"https://dlr.example.com/easysms?{query}")
    words = SMPP_WORDS | WORDS
    word = data.draw(st.sampled_from(sorted(words)))
    ours, theirs = data.draw(
        st.lists(ids.filter(lambda t: t not in ("%i", "{message_id}")), min_size=2, max_size=2)
    )
    built = receipt(
        provider,
        kind=Kind.DELIVERY,
        message_id=ours,
        linked_id=data.draw(st.sampled_from([None, theirs])) if ours != theirs else None,
        reference=data.draw(maybe(texts)),
        state=words[word],
        code=word,
        extra=data.draw(extras(known=NAMES)),
    )
    assert read_back(provider, built) == built
