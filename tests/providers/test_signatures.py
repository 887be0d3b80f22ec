"""Each vendor's own examples of its signatures, and the signed samples."""

from __future__ import annotations

import re
from base64 import b64encode
from itertools import pairwise

import jwt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kit.exchange import sample
from receiptd.providers import Unverified, signatures
from receiptd.providers.signatures import form_pairs, with_and_without_port
from receiptd.providers.web_tokens import check_hash, check_period, claims

AT = 1769882707
"""When the samples were signed."""
HOST = "https://dlr.example.com"

TWILIO = "https://mycompany.com/myapp.php?foo=1&bar=2"
CALL = (
    b"CallSid=CA1234567890ABCDE&Caller=%2B14158675309&Digits=1234"
    b"&From=%2B14158675309&To=%2B18005551212"
)


@pytest.mark.parametrize(
    ("url", "form", "signature"),
    [
        (TWILIO, CALL, "RSOYDt4T1cUTdK1PDd93/VVr8B8="),
        (
            TWILIO,
            b"Sid=CA123&SidAccount=AC123&Digits=5678&Digits=1234",
            "IK+Dwps556ElfBT0I3Rgjkr1wJU=",
        ),
    ],
    ids=["a form", "a name that stands twice"],
)
def test_twilio_of_its_python_library(url, form, signature):
    assert signatures.twilio(b"12345", url, form_pairs(form)) == signature
    assert signatures.twilio(b"12346", url, form_pairs(form)) != signature


@pytest.mark.parametrize(
    ("url", "signature"),
    [
        (TWILIO.replace(".com", ".com:1234"), "RSOYDt4T1cUTdK1PDd93/VVr8B8="),
        (
            TWILIO.replace(".com", ".com:1234").replace("https", "http"),
            "Zmvh+3yNM1Phv2jhDCwEM3q5ebU=",
        ),
        (TWILIO, "kvajT1Ptam85bY51eRf/AJRuM3w="),
        (TWILIO.replace("https", "http"), "0ZXoZLH/DfblKGATFgpif+LLRf4="),
    ],
    ids=["https without its port", "http with its port", "https with 443", "http with 80"],
)
def test_twilio_signs_a_url_with_its_port_or_without(url, signature):
    candidates = with_and_without_port(url)
    made = [signatures.twilio(b"12345", each, form_pairs(CALL)) for each in candidates]
    assert signatures.matches([signature], made)


def test_twilio_covers_a_body_that_is_no_form_by_its_hash():
    body = b'{"property": "value", "boolean": true}'
    url = f"{TWILIO}&bodySHA256=0a1ff7634d9ab3b95db5c9a2dfe9416e41502b283a80c7cf19632632f96e6620"
    assert signatures.twilio(b"12345", url, ()) == "a9nBmqA0ju/hNViExpshrM61xv4="
    assert signatures.twilio_body_is_hashed(url, body)
    assert not signatures.twilio_body_is_hashed(url, body + b" ")


def test_vonage_of_its_php_library():
    pairs = [
        ("message-timestamp", "2013-11-21 15:27:30"),
        ("messageId", "020000001B0FE827"),
        ("msisdn", "14843472194"),
        ("text", "Test again"),
        ("timestamp", "1385047698"),
        ("to", "13239877404"),
        ("type", "text"),
        ("sig", "of no account"),
    ]
    made = signatures.vonage(b"my_secret_key_for_testing", reversed(pairs))
    assert made == "d2e7b1dc968737c5998ad624e02f90b7"


def test_vonage_replaces_what_separates_parameters():
    one = signatures.vonage(b"s", [("a", "1&b=2")], "sha256")
    assert one == signatures.vonage(b"s", [("a", "1_b_2")], "sha256")
    assert one != signatures.vonage(b"s", [("a", "1"), ("b", "2")], "sha256")


def test_sinch_of_its_page():
    body = (
        b'{"app_id":"","accepted_time":"2021-10-18T17:49:13.813615Z","project_id":'
        b'"e2df3a34-a71b-4448-9db5-a8d2baad28e4","contact_create_notification":'
        b'{"contact":{"id":"01FJA8B466Y0R2GNXD78MD9SM1","channel_identities":'
        b'[{"channel":"SMS","identity":"48123456789","app_id":""}],"display_name":'
        b'"New Test Contact","email":"new.contact@email.com","external_id":"",'
        b'"metadata":"","language":"EN_US"}},"message_metadata":""}'
    )
    made = signatures.sinch(b"foo_secret1234", body, "01FJA8B4A7BM43YGWSG9GBV067", "1634579353")
    assert made == "6bpJoRmFoXVjfJIVglMoJzYXxnoxRujzR4k2GOXewOE="


def test_plivo_of_its_go_library():
    url, nonce, token = "https://answer.url", "12345", b"my_auth_token"
    made = signatures.plivo_v2(token, url, nonce)
    assert made == "ehV3IKhLysWBxC1sy8INm0qGoQYdYsHwuoKjsX7FsXc="


def test_plivo_samples_bear_the_signatures_of_both_accounts():
    for name in ("plivo-delivered.http", "plivo-undelivered.http"):
        request = sample(f"providers/{name}")
        url = f"{HOST}{request.path.decode()}"
        if request.query:
            url += f"?{request.query.decode()}"
        nonce = request.headers["x-plivo-signature-v3-nonce"]
        for header, token in (
            ("x-plivo-signature-ma-v3", b"plivo-auth-token-0001"),
            ("x-plivo-signature-v3", b"plivo-subaccount-token-01"),
        ):
            given = request.headers.get(header)
            assert given, header
            made = signatures.plivo_v3(token, request.method, url, form_pairs(request.body), nonce)
            assert made in given.split(","), (name, header)


SECRET = b"36efdd1aace2e26cd490f0d951138253bef2f7c6d34d18981da781555cc4cebb"
_HEAD = "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9."
PLAIN = _HEAD + (
    "eyJpc3MiOiJNZXNzYWdlQmlyZCIsIm5iZiI6MTYyNTQ3OTIwMCwiZXhwIjoxNjI1NDc5MjYwLCJqdGkiOiI1OWEyNDRk"
    "Yy1lOWFkLTRlMjMtOTc3OC0zNzFmYWEyMzhmNzIiLCJ1cmxfaGFzaCI6IjBmMTE1ZGIwNjJiN2MwZGQwMzBiMTY4Nzhj"
    "OTlkZWE1YzM1NGI0OWRjMzdiMzhlYjg4NDYxNzljNzc4M2U5ZDcifQ."
    "6Fp0rVOsRr1fj9S2GidXAfkmPVofKr8_RTffC6G6r2E"
)
WITH_BODY = _HEAD + (
    "eyJpc3MiOiJNZXNzYWdlQmlyZCIsIm5iZiI6MTYyNTQ3OTIwMCwiZXhwIjoxNjI1NDc5MjYwLCJqdGkiOiI5M2U1NTAw"
    "Ni1hMGU4LTQ1MjYtYTE5MC1mYTVmZjAwZWExMTYiLCJ1cmxfaGFzaCI6IjQxZjA1ZjBkZGQwYTIyYWIyMDlhYzQ2ZjQ3"
    "YzQ1NzJkOWNlZmEyNTdlZDc0YjI0MDA0YmFlNzUzZWNlNmMyNjAiLCJwYXlsb2FkX2hhc2giOiJkZmZkNjAyMWJiMmJk"
    "NWIwYWY2NzYyOTA4MDllYzNhNTMxOTFkZDgxYzdmNzBhNGIyODY4OGEzNjIxODI5ODZmIn0."
    "_H--TOuYFLpeEH39-rg5E3IHVkjHozBcaKVWPRC5m9I"
)


@pytest.mark.parametrize(
    ("token", "url", "body"),
    [
        (PLAIN, b"https://example.com/", b""),
        (WITH_BODY, b"https://example.com/path?bar=1&foo=2", b"Hello, World!"),
    ],
    ids=["a GET", "a POST with a query"],
)
def test_messagebird_of_its_python_library(token, url, body):
    claimed = claims(token, [b"another", SECRET], required=("iss", "nbf", "exp"))
    check_hash(claimed["url_hash"], [b"?", url], "URL")
    check_period(claimed, 1625479200, 1)
    if body:
        check_hash(claimed["payload_hash"], [body], "body")
    with pytest.raises(Unverified, match="another URL"):
        check_hash(claimed["url_hash"], [url + b"?"], "URL")
    with pytest.raises(Unverified, match="not valid at this time"):
        check_period(claimed, 1625479262, 1)
    with pytest.raises(Unverified, match="not valid at this time"):
        check_period(claimed, 1625479198, 1)


def test_a_token_without_a_signature_or_by_another_algorithm_is_none():
    unsigned = jwt.encode({"iss": "MessageBird"}, None, algorithm="none")
    longer = jwt.encode({"iss": "MessageBird"}, SECRET, algorithm="HS512")
    for token in (unsigned, longer, PLAIN[:-4] + "AAAA", "", "a.b.c", "." * 5000):
        with pytest.raises(Unverified):
            claims(token, [SECRET])
    with pytest.raises(Unverified, match="payload_hash"):
        claims(PLAIN, [SECRET], required=("payload_hash",))


@pytest.mark.parametrize("name", ["telnyx-sent.http", "telnyx-delivered.http"])
def test_telnyx_samples_are_signed_with_its_key(name):
    request = sample(f"providers/{name}")
    key = signatures.ed25519_key("446QWV3W8ke1uBZz4kEXdIWV+u998pqgRC9NqILvnA0=")
    other = signatures.ed25519_key("11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=")
    signed = request.headers["telnyx-timestamp"].encode() + b"|" + request.body
    given = request.headers["telnyx-signature-ed25519"]
    signatures.check_ed25519([other, key], given, signed)
    for wrong in (given[:-4] + "AAA=", "", "?", b64encode(b"short").decode()):
        with pytest.raises(Unverified):
            signatures.check_ed25519([key], wrong, signed)
    with pytest.raises(Unverified):
        signatures.check_ed25519([other], given, signed)


def test_standard_webhooks_sample():
    request = sample("providers/bird-standard-webhooks.http")
    key = signatures.standard_webhooks_key("whsec_c3RhbmRhcmQtd2ViaG9va3Mtc2VjcmV0LWJ5dGVzMDA=")
    made = signatures.standard_webhooks(
        key, request.headers["webhook-id"], request.headers["webhook-timestamp"], request.body
    )
    assert made in request.headers["webhook-signature"].split(" ")


def test_bird_sample():
    request = sample("providers/bird-sms-outbound.http")
    stamp = request.headers["messagebird-request-timestamp"]
    url = HOST + request.path.decode()
    made = signatures.bird(b"bird-signing-key", url, stamp, request.body)
    assert made == request.headers["messagebird-signature"]


def test_a_time_is_near_enough_or_not():
    signatures.check_time(str(AT), AT + 300, 300)
    signatures.check_time("nonsense", AT, None)
    for stamp in (str(AT - 1), str(AT + 601), "", "x", "-1", "1e9", "9" * 13, "\u0661"):
        with pytest.raises(Unverified):
            signatures.check_time(stamp, AT + 300, 300)


@given(st.text(max_size=200), st.text(max_size=200))
def test_no_text_is_taken_for_a_signature(given_, url):
    made = [signatures.twilio(b"s", each, ()) for each in _urls(url)]
    assert signatures.matches([given_], made) == (given_ in made)
    with pytest.raises(Unverified):
        claims(given_, [b"secret"])
    with pytest.raises(Unverified):
        signatures.check_ed25519([], given_, b"")


def _urls(text: str) -> list[str]:
    return with_and_without_port("https://example.com/" + re.sub(r"[^\x21-\x7e]", "", text))


def test_the_order_of_fields_is_of_no_account():
    forms = [b"a=1&b=2&a=0", b"b=2&a=0&a=1", b"a=1&a=0&b=2"]
    made = [signatures.twilio(b"s", "https://x/", form_pairs(form)) for form in forms]
    assert all(one == other for one, other in pairwise(made))
