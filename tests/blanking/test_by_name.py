"""Secrets are blanked by their names, whatever stands there."""

from __future__ import annotations

import json

import pytest

from receiptd.blanking.by_name import blank_members


@pytest.mark.parametrize(
    "value",
    [
        "secret",
        12345,
        ["secret", "secret"],
        {"a": "secret"},
        {"a": [{"b": "]}"}, "secret"]},
        [],
        {},
        [[{'\\"': "secret"}]],
    ],
)
def test_a_member_is_blanked_whole_and_what_follows_stays(value: object) -> None:
    body = json.dumps({"pin": value, "kept": [1, {"a": 2}]}).encode()
    found = json.loads(blank_members(body, ["pin"]))
    assert found == {"pin": "***", "kept": [1, {"a": 2}]}


@pytest.mark.parametrize(
    "behind", [b'{"a": "secret', b'["secret"', b'{"a": ["secret"}, "secret"', b"[["]
)
def test_a_list_or_an_object_without_an_end_is_blanked_to_the_end(behind: bytes) -> None:
    assert blank_members(b'{"pin": ' + behind, ["pin"]) == b'{"pin": "***"'
