"""JSON bodies: what is read, and what is the sender's nonsense."""

from __future__ import annotations

import json
from contextlib import suppress
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from receiptd.providers import Invalid, Post
from receiptd.providers.json_body import as_text, flattened, read_json, written


def test_numbers_keep_their_digits_and_null_is_absent():
    assert read_json('{"to": 41793026834, "price": 0.0330, "x": null, "l": [1, null]}') == {
        "to": Decimal("41793026834"),
        "price": Decimal("0.0330"),
        "l": [Decimal(1)],
    }
    assert as_text(read_json('{"p": 0.0330}')["p"]) == "0.0330"


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ("", "not JSON"),
        ("{", "not JSON"),
        ('{"a": NaN}', "NaN"),
        ("[Infinity]", "Infinity"),
        ('{"a": 1, "a": 2}', "'a' twice"),
        ("[" * 33 + "]" * 33, "32 levels"),
        ("[" * 200_000, "levels"),
        ('{"a":' * 100_000, "levels"),
        ("[1" + "0" * 5000 + "]", "5001 characters"),
        ("[1e999999999]", "exponent"),
        ('{"a": 1} x', "not JSON"),
        ('{"a": "\n"}', "not JSON"),
    ],
)
def test_nonsense_is_the_sender_s(body, says):
    with pytest.raises(Invalid, match=says):
        read_json(body)


def test_what_no_database_keeps_becomes_a_replacement_character():
    assert read_json(r'{"\u0000a": "\ud800 \u0000"}') == {"\ufffda": "\ufffd \ufffd"}
    assert read_json(r'{"a": "\ud83d\ude00"}') == {"a": "\U0001f600"}


_ANY = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**12), 10**12) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=20,
)


@given(_ANY)
def test_what_is_read_can_be_written_and_read_again(value):
    read = read_json(json.dumps(value))
    assert read_json(written(read)) == read
    assert all(isinstance(text, str) and text for text in flattened({"": read}).values())


@given(st.text(max_size=300) | st.binary(max_size=300).map(lambda raw: raw.decode("latin-1")))
def test_any_body_is_json_or_invalid(text):
    post = Post("POST", b"", text.encode("utf-8", "replace"), "application/json")
    with suppress(Invalid):
        post.json()


def test_a_json_body_is_no_form_whatever_its_type():
    for kind in ("application/json", "application/x-www-form-urlencoded", "", "text/plain"):
        post = Post(
            "POST", b"a=1", b' {"a": "b&c=d", "pin": "1234"}', kind, secrets=frozenset({"pin"})
        )
        assert post.is_json
        assert post.fields.get("a") == "1"
        assert post.fields.get("c") is None
        assert b"1234" not in post.raw
