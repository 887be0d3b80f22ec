"""The values of one message, as a file or the command line gives them, made a `Message`."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping
from datetime import datetime
from typing import TypeVar

from receiptd.errors import did_you_mean
from receiptd.message import Message
from receiptd.providers.post import Invalid
from receiptd.providers.values import integer, shown
from receiptd.registration import rules

T = TypeVar("T")

COLUMNS = Message._fields
"""The columns of a CSV file and the keys of an object in NDJSON."""

# What other systems call the columns. They only serve to suggest ours.
_ALSO_CALLED = {
    "id": "message_id",
    "messageid": "message_id",
    "messageidentifier": "message_id",
    "msisdn": "recipient",
    "phone": "recipient",
    "number": "recipient",
    "to": "recipient",
    "destination": "recipient",
    "from": "sender",
    "source": "sender",
    "originator": "sender",
    "ref": "reference",
    "segments": "parts",
    "sent": "sent_at",
    "time": "sent_at",
    "timestamp": "sent_at",
}


def column_hint(name: str) -> str:
    """What an unknown column or key was probably meant to be."""
    plain = "".join(filter(str.isalnum, name.lower()))
    meant = _ALSO_CALLED.get(plain)
    return f"did you mean {meant!r}?" if meant else did_you_mean(name, COLUMNS)


def message_of(
    values: Mapping[str, object], providers: Collection[str], provider: str | None = None
) -> Message:
    """The message that `values` describe, by the names in `COLUMNS`. An empty text and None
    count as missing.

    :param providers: the names of the configured providers.
    :param provider: the message's provider if `values` do not name one.
    :raises Invalid: if a value is missing, unknown or makes no sense; the text says which.
    """
    for name in values:
        if name not in COLUMNS:
            raise Invalid(name, f"unknown key {shown(name)}: {column_hint(name)}")
    texts = {name: _text(name, value) for name, value in values.items()}
    of = texts.get("provider") or provider
    if of is None:
        raise Invalid("provider", "provider is missing: it must say whose the message is")
    _by_rule("provider", of, lambda value: rules.provider(value, providers))
    message_id = _by_rule("message_id", texts.get("message_id"), rules.identifier)
    if message_id is None:
        raise Invalid("message_id", "message_id is missing: it must name the message")
    recipient = texts.get("recipient")
    try:
        _by_rule("recipient", recipient, rules.phone)
    except Invalid as error:
        if "e+" in (recipient or "").lower():
            hint = "; spreadsheets write long numbers so: format the column as text"
            raise Invalid(error.field, error.text + hint) from None
        raise
    return Message(
        of,
        message_id,
        recipient,
        _by_rule("sender", texts.get("sender"), rules.text),
        _by_rule("reference", texts.get("reference"), rules.text),
        _by_rule("parts", integer("parts", texts.get("parts")), rules.parts),
        _sent_at(texts.get("sent_at")),
    )


def _sent_at(value: str | None) -> datetime | None:
    """:raises Invalid: if it is no time."""
    try:
        return None if value is None else rules.sent_at(value)
    except ValueError as error:
        raise Invalid("sent_at", f"sent_at {error}") from None


def _by_rule(name: str, value: T | None, rule: Callable[[T], T]) -> T | None:
    """What `rule` makes of `value`; None stays None.

    :raises Invalid: naming the value, if it breaks the rule.
    """
    try:
        return None if value is None else rule(value)
    except ValueError as error:
        raise Invalid(name, f"{name} {error}") from None


def _text(name: str, value: object) -> str | None:
    """`value` without surrounding space; None for none."""
    if value is None:
        return None
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    if not isinstance(value, str):
        raise Invalid(name, f"{name} is {shown(json.dumps(value))}: a text was expected")
    return value.strip() or None
