"""The words everyone here uses: Receipt, Kind, State, Verdict. Imports nothing of ours."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from typing import NamedTuple


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
    identifier under which a backup route sent it."""


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


def match_key(identifier: str) -> str:
    """The form in which message identifiers compare: without case and surrounding space.

    Providers give an identifier back in another case than they gave it out.
    """
    return identifier.strip().casefold()
