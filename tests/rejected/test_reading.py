"""Rejected posts read again: the same receipts come of what was kept as of what was posted."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from kit.exchange import SAMPLES, sample
from kit.soap import envelope
from receiptd import config
from receiptd.blanking.by_value import KnownSecrets
from receiptd.providers import Invalid, Post, testing
from receiptd.providers.generic import Generic
from receiptd.receipt import Receipt, Rejection
from receiptd.rejected.reading import Kept, KeptPosts
from receiptd.soap.document import parse
from receiptd.soap.pin import blanked
from receiptd.web.receiving.intake import MISTAKE, SEVERAL, pieces_of

AT = datetime(2026, 1, 31, 18, 5, 7, tzinfo=UTC)


def configured(folder: Path, text: str) -> Any:
    file = folder / "receiptd.toml"
    file.write_text(text)
    file.chmod(0o600)
    return config.load(file)


@pytest.fixture
def reads(tmp_path):
    """Reads a row under a configuration: `reads(toml, raw, **fields)`."""

    def read(toml: str, raw: bytes, secrets: tuple[str, ...] = (), **fields: Any) -> Kept:
        found = configured(tmp_path, toml)
        values = {
            "received_at": AT,
            "endpoint": found.endpoint[0].name,
            "provider": found.endpoint[0].provider,
            "reason": "unauthorized",
            "field": None,
            "text": "the PIN is wrong",
            "peer": None,
            "content_type": None,
            "raw": raw,
        }
        row = {"id": 7, **values, **fields}
        return KeptPosts(found.endpoint, None, KnownSecrets(secrets)).read(row)

    return read


def endpoint(provider: str, keys: str = "") -> str:
    return f'[[endpoint]]\nprovider = "{provider}"\npath = "/x"\n{keys}'


PROVIDERS = sorted(
    file.stem
    for file in (SAMPLES / "providers").glob("*.http")
    if not file.stem.startswith(("bird-", "clickatell-"))
)


@pytest.mark.parametrize("name", PROVIDERS)
def test_what_was_kept_of_a_post_gives_the_same_receipts(reads, tmp_path, name):
    provider_name = next(
        each for each in ("vonage-messages", "vonage", name.split("-")[0]) if name.startswith(each)
    )
    keys = ""
    if provider_name == "kannel":
        keys = (
            'dlr_url = "https://dlr.example.com/kannel?id={message_id}&d=%d&to=%p&from=%P&t=%T'
            '&smsc=%i&fid=%F&a=%A"'
        )
    text = endpoint(provider_name, keys)
    provider = configured(tmp_path, text).endpoint[0].bind(None)
    request = sample(f"providers/{name}.http")
    post = testing.post(provider, request)
    expected = [each for each in provider.read(post) if isinstance(each, Receipt)]
    kept = reads(text, post.raw, content_type=request.content_type)
    assert list(kept.receipts) == expected
    assert expected or kept.ignored


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_a_soap_post_whose_pin_was_blanked_is_read(reads, encoding):
    text = envelope("4A2E3C10", pin="tippfehler").decode()
    body = f'<?xml version="1.0" encoding="{encoding}"?>{text}'.encode(encoding)
    raw = blanked(body, parse(body, None))
    assert b"tippfehler" not in raw.replace(b"\0", b"")
    kept = reads(
        endpoint("csoft", 'username = "someone"\npin = "other"'),
        raw,
        content_type=f"text/xml; charset={encoding}",
    )
    (receipt,) = kept.receipts
    assert (receipt.message_id, receipt.code, receipt.raw) == ("4A2E3C10", "0", raw)


def test_a_soap_fault_says_why_it_is_still_none(reads):
    kept = reads(endpoint("csoft"), b"<Envelope/>", reason="unreadable", content_type="text/xml")
    assert not kept.receipts
    assert "SOAP 1.1 is expected" in kept.text


def test_a_csoft_form_is_read_without_its_credentials(reads):
    raw = b"Username=x&PIN=***&SendTo=447700912345&MessageIdentifier=F1&Report=0"
    kept = reads(endpoint("csoft", 'pin = "BLUE.music"'), raw)
    (receipt,) = kept.receipts
    assert (receipt.message_id, "PIN" in receipt.extra) == ("F1", False)


def test_a_query_is_told_from_a_body(reads):
    text = endpoint("easysms", 'dlr_url = "https://h/?id=%i&d=%d&status=%s&to=%P"\ntoken = "abcd"')
    for raw in (
        b"?token=***&id=Q1&d=1&status=DELIVRD&to=4479",
        b"?token=***&id=Q1\nd=1&status=DELIVRD&to=4479",
    ):
        (receipt,) = reads(text, raw).receipts
        assert (receipt.message_id, receipt.recipient) == ("Q1", "4479")
        assert "token" not in receipt.extra
        assert receipt.raw == raw


def test_an_endpoint_that_is_gone_is_named(reads):
    kept = reads(endpoint("csoft"), b"<a/>", endpoint="old")
    assert "no endpoint is called 'old' any more" in kept.text


@pytest.mark.parametrize(
    ("raw", "reason", "text", "read"),
    [
        (b"id=T1&d=1", "unreadable", "the head has no colon", False),
        (b"?id=T1&d=1", "unreadable", "the head has no colon", False),
        (b"id=T1&d=1", "unreadable", MISTAKE.text, True),
        (b"id=T1&d=1", "invalid", "status is missing", True),
    ],
)
def test_a_form_that_may_be_cut_off_is_not_read(reads, raw, reason, text, read):
    toml = endpoint("generic", 'fields = { message_id = "id", code = "d" }')
    kept = reads(toml, raw, reason=reason, text=text)
    assert bool(kept.receipts) is read
    if not read:
        assert "may be missing" in kept.text


def test_an_identifier_that_was_blanked_is_not_taken_for_one(reads):
    raw = envelope("***", pin="***")
    assert "only the provider" in reads(endpoint("csoft"), raw).text
    raw = envelope("4711")
    kept = reads(endpoint("csoft", 'pin = "4711-4711"'), raw, secrets=("4711-4711",))
    assert kept.receipts


def test_todays_secrets_are_blanked_in_what_is_stored(reads):
    raw = b"MessageIdentifier=S1&Report=0&note=long-secret-1"
    kept = reads(endpoint("csoft"), raw, secrets=("long-secret-1",))
    (receipt,) = kept.receipts
    assert receipt.raw == b"MessageIdentifier=S1&Report=0&note=***"
    assert receipt.extra == {"note": "***"}


def test_a_module_that_fails_says_so(reads, monkeypatch):
    monkeypatch.setattr(Generic, "read", lambda self, post: 1 / 0)
    kept = reads(endpoint("generic", 'fields = { message_id = "id" }'), b"id=1")
    assert kept.text == "the module of generic failed: ZeroDivisionError: division by zero"


BATCHES = {
    "infobip": (
        "",
        b'{"a": 1, "results": [{"messageId": "1", "status": {"id": 5}}, {"to": "44"}, '
        b'{"messageId": "3", "status": {"id": 5}}]}',
    ),
    "sinch": (
        "",
        b'{"type": "delivery_report_sms", "batch_id": "B1", "statuses": '
        b'[{"code": 0, "status": "Delivered", "recipients": ["441", [], "443"]}]}',
    ),
    "telnyx": (
        "",
        b'{"data": {"event_type": "message.finalized", "occurred_at": "2026-01-31T18:05:07Z", '
        b'"payload": {"id": "T1", "to": [{"phone_number": "+441", "status": "delivered"}], '
        b'"cc": [{"phone_number": "+442"}, {"phone_number": "+443", "status": "delivered"}]}}}',
    ),
    "generic": (
        'each = "a.list"\n[endpoint.fields]\nmessage_id = "id"\nreference = "$.batch"',
        b'{"batch": "b7", "a": {"x": 1, "list": [{"id": "1"}, {"to": "4"}, {"id": "3"}]}}',
    ),
}


@pytest.mark.parametrize("name", BATCHES)
def test_an_item_that_is_kept_alone_is_read_with_what_stands_around_it(reads, tmp_path, name):
    """What is kept of the bad item is a post of its own: mended, it gives that item's receipt,
    and no other item's."""
    keys, body = BATCHES[name]
    text = endpoint(name, keys)
    provider = configured(tmp_path, text).endpoint[0].bind(None)
    post = Post("POST", b"", body, "application/json")
    one, bad, three = provider.read(post)
    assert [type(each) for each in (one, three)] == [Receipt, Receipt]
    assert isinstance(bad, Invalid)
    assert bad.alone is not None
    again = provider.read(Post("POST", b"", bad.alone(), "application/json"))
    assert [type(each) for each in again] == [Invalid]
    # The same body with a good item in place of the bad one.
    broken, mended = {
        "infobip": (b'{"to": "44"}', b'{"messageId": "2", "status": {"id": 5}}'),
        "sinch": (b"[[]]", b'["442"]'),
        "telnyx": (b'"+442"}', b'"+442", "status": "delivered"}'),
        "generic": (b'{"to": "4"}', b'{"id": "2"}'),
    }[name]
    assert broken in bad.alone()
    kept = reads(text, bad.alone().replace(broken, mended), content_type="application/json")
    (receipt,) = kept.receipts
    assert receipt.message_id == {"sinch": "B1", "telnyx": "T1"}.get(name, "2")
    assert receipt.recipient == {"sinch": "442", "telnyx": "+442"}.get(name)
    assert receipt.reference == ("b7" if name == "generic" else None)


def test_a_batch_that_is_good_in_part_gives_the_rest_back(reads):
    keys, body = BATCHES["generic"]
    kept = reads(endpoint("generic", keys), body, content_type="application/json")
    assert [each.message_id for each in kept.receipts] == ["1", "3"]
    (rest,) = kept.rest
    assert isinstance(rest, Rejection)
    assert (rest.reason, rest.field, rest.received_at) == ("invalid", "message_id", AT)
    assert rest.raw == b'{"batch": "b7", "a": {"x": 1, "list": [{"to": "4"}]}}'


def test_what_may_be_stored_already_and_has_no_identity_is_left(reads):
    keys = '[endpoint.fields]\ncode = "d"\nreference = "r"'
    row = {"content_type": "application/json", "field": SEVERAL}
    kept = reads(endpoint("generic", keys), b'{"r": "1", "d": "2"}', **row)
    assert not kept.receipts
    assert "may be stored already" in kept.text or "message_id" in kept.text


def test_a_post_of_much_nonsense_is_kept_once(tmp_path):
    """By the number of its items, and where each would be kept with a lot around it."""
    keys, _ = BATCHES["generic"]
    provider = configured(tmp_path, endpoint("generic", keys)).endpoint[0].bind(None)
    for count, around, pieces in ((20, 1, 20), (101, 1, None), (20, 100_000, None), (5, 10**5, 5)):
        items = ",".join(['{"to": "4"}'] * count)
        body = f'{{"x": "{"y" * around}", "a": {{"list": [{items}]}}}}'.encode()
        invalid = provider.read(Post("POST", b"", body, "application/json"))
        found = pieces_of(body, invalid, several=True)
        assert (None if found is None else len(found)) == pieces, (count, around)
