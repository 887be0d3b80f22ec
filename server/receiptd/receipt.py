"""The words everyone here uses: Receipt, Kind, State, Verdict, Rejection.

Imports nothing of ours.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from hashlib import sha256
from secrets import token_hex
from typing import NamedTuple

MOST_PARTS = 255
"""A concatenated message has no more parts: its header counts them in one byte (3GPP TS 23.040,
section 9.2.3.24.1)."""


class Word(StrEnum):
    """A text of a fixed set."""

    # Enum's own hash calls Python for each look-up in a dictionary; the text's is as good.
    __hash__ = str.__hash__


class Kind(Word):
    """What a receipt reports: a message handed on, its delivery, an answer to it, or a call."""

    SENT = "sent"
    DELIVERY = "delivery"
    REPLY = "reply"
    CALL = "call"


class State(Word):
    """A message's state, by the names of SMPP v3.4's `message_state` (section 5.2.28).

    ACCEPTED is not final here: SMPP means "read by customer service on behalf of the
    subscriber", these aggregators mean "taken by the carrier".
    """

    ENROUTE = "ENROUTE"
    DELIVERED = "DELIVERED"
    EXPIRED = "EXPIRED"
    DELETED = "DELETED"
    UNDELIVERABLE = "UNDELIVERABLE"
    ACCEPTED = "ACCEPTED"
    UNKNOWN = "UNKNOWN"
    REJECTED = "REJECTED"

    @property
    def final(self) -> bool:
        """Whether no later state is expected."""
        return self not in _INTERMEDIATE


_INTERMEDIATE = frozenset({State.ENROUTE, State.ACCEPTED, State.UNKNOWN})


class Receipt(NamedTuple):
    """One report about one message, as a provider's post said it.

    A NamedTuple and not a dataclass: several thousand are made each second, and making one
    costs an eighth.
    """

    endpoint: str
    """Name of the configured endpoint that took the post."""
    provider: str
    kind: Kind
    message_id: str | None
    """The provider's identifier of the message; None where its posts cannot carry one."""
    state: State
    code: str | None
    """The provider's own code, as text, as it was sent."""
    recipient: str | None
    """The phone, as it was sent."""
    reported_at: datetime | None
    """When the provider says it happened: aware, UTC; None when not sent."""
    raw: bytes
    """The post as it came, credentials and tokens blanked."""
    description: str | None = None
    sender: str | None = None
    reference: str | None = None
    """The application's own reference, given at sending."""
    part: int | None = None
    """Which part of a concatenated message, from 1."""
    parts: int | None = None
    price: Decimal | None = None
    network: str | None = None
    """Mobile country code and network code (MCC+MNC), digits."""
    text: str | None = None
    """What a subscriber wrote (kind `reply`)."""
    extra: Mapping[str, object] = {}
    """What else was sent: name to text, or to a list of texts where a name came repeatedly."""
    linked_id: str | None = None
    """A second identifier the receipt is found by: the message that a reply answers, or the
    identifier under which a backup route sends it."""
    unread: tuple[str, ...] = ()
    """The fields whose values could not be read, by their names in `extra`, which has the values
    as they came."""
    backup: bool = False
    """Whether the message goes on under `linked_id`: from here on that names the same message."""
    last_try: int | None = None
    """Set for an attempt to send that failed: with so many of them the provider gives the message
    up, and it is REJECTED."""
    nonce: str = ""
    """Tells this receipt from others where nothing in the post does: see `distinct`."""


RECEIPT_KEYS = (
    "id",
    "received_at",
    "endpoint",
    "provider",
    "kind",
    "message_id",
    "state",
    "code",
    "description",
    "recipient",
    "sender",
    "reference",
    "reported_at",
    "part",
    "parts",
    "price",
    "network",
    "text",
    "extra",
    "unread",
    "raw",
    "verdict",
    "repeats",
)
"""The keys of a stored receipt wherever people and programs read one: JSON, CSV, the API."""


def distinct(receipt: Receipt) -> Receipt:
    """`receipt`, with a nonce where it has neither an identifier nor a time: two such posts may
    say the same of two messages, so none of them is taken for a repetition.

    What a phone wrote without an identifier is told from others by who wrote it and by its text:
    two phones may write in the same second.
    """
    if receipt.message_id is not None or receipt.nonce or receipt.kind is Kind.CALL:
        return receipt
    if receipt.reported_at is None and receipt.linked_id is None:
        return receipt._replace(nonce=token_hex(8))
    if receipt.kind is Kind.REPLY:
        told = repr((receipt.sender, receipt.linked_id, receipt.text)).encode(errors="replace")
        return receipt._replace(nonce=sha256(told).hexdigest()[:32])
    return receipt


class Rejection(NamedTuple):
    """A post that was not taken as a receipt, kept so that an integration can be debugged."""

    received_at: datetime
    endpoint: str
    provider: str
    reason: str
    """`invalid`, `unauthorized` or `unreadable`."""
    field: str | None
    text: str
    peer: str | None
    content_type: str | None
    raw: bytes
    """The post as it came, credentials and tokens blanked."""


class Outcome(Word):
    """What became of a post."""

    ACCEPTED = "accepted"
    DUPLICATE = "duplicate"
    UNKNOWN_MESSAGE = "unknown-message"
    WRONG_RECIPIENT = "wrong-recipient"
    INVALID = "invalid"
    UNAUTHORIZED = "unauthorized"
    BUSY = "busy"


class Verdict(NamedTuple):
    """An outcome with a sentence for people."""

    outcome: Outcome
    text: str = ""
    standing: Outcome = Outcome.ACCEPTED
    """The outcome under which the receipt is stored: of a duplicate, the first one's."""

    @property
    def mismatch(self) -> bool:
        """Whether the receipt is stored as one that no registered message explains."""
        return self.standing in (Outcome.UNKNOWN_MESSAGE, Outcome.WRONG_RECIPIENT)


ACCEPTED = Verdict(Outcome.ACCEPTED)


def visible(identifier: str) -> str:
    """`identifier` without surrounding space and without characters that nobody sees (byte order
    marks, zero-width and control characters), which come from copying and from files."""
    if not identifier.isprintable():
        identifier = "".join(
            each for each in identifier if unicodedata.category(each) not in UNSEEN
        )
    return identifier.strip()


UNSEEN = ("Cc", "Cf")
"""Unicode's categories of characters that nobody sees."""


def match_key(identifier: str) -> str:
    """The form in which message identifiers compare: without case, surrounding space and
    characters that nobody sees. `spellings` gives the further forms of a GUID.

    Providers give an identifier back in another case than they gave it out.
    """
    return visible(identifier).casefold()


_GUID = re.compile(
    r"[{(]?([0-9a-f]{8})-?([0-9a-f]{4})-?([0-9a-f]{4})-?([0-9a-f]{4})-?([0-9a-f]{12})[)}]?"
)
_GUID_LENGTHS = frozenset({32, 34, 36, 38})


def spellings(key: str) -> tuple[str, ...]:
    """Other forms of the identifier whose `match_key` is `key`: a GUID is written with hyphens,
    without them, or in braces (.NET's formats D, N and B).

    They are looked up where `key` itself is not known, and not made one in `match_key`: what is
    stored keeps the key that it was stored with.
    """
    if len(key) not in _GUID_LENGTHS:
        return ()
    found = _GUID.fullmatch(key)
    if found is None:
        return ()
    hyphens = "-".join(found.groups())
    return tuple(
        each for each in (hyphens, hyphens.replace("-", ""), f"{{{hyphens}}}") if each != key
    )
