"""What matching compares: the keys of receipts and the rows of messages, without any SQL.

`lookup` finds the rows. Two modules use both inside their transactions: `matching` for receipts
that come, `registering` for messages that an application registers.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from typing import NamedTuple

from receiptd.message import NOTHING_OF_PART, WHOLE, Part, Price, Standing
from receiptd.receipt import MOST_PARTS, Kind, Outcome, Receipt, State, match_key
from receiptd.store.networks import DERIVED, counted
from receiptd.store.phone import e164
from receiptd.store.schema import iso


class Policy(NamedTuple):
    """How an endpoint's receipts are matched."""

    match: str = "auto"
    """`always`; `never`; `auto`: once any message was registered for the provider."""
    region: str | None = None
    """By whose national forms phone numbers are read."""


class Report(NamedTuple):
    """What matching needs to know of a receipt."""

    endpoint: str
    provider: str
    kind: Kind
    message_key: str
    linked_key: str | None
    recipient_key: str | None
    sender_key: str | None
    """A reply comes from the phone that the message went to."""
    state: State
    at: datetime
    """`reported_at`, or `received_at` where none was sent."""
    part: int | None
    parts: int | None
    price: Decimal | None
    backup: bool = False
    """Whether the message goes on under `linked_key`."""
    last_try: int | None = None
    network: str | None = None


def report_of(receipt: Receipt, policies: Mapping[str, Policy], now: datetime) -> Report:
    """What matching needs to know of `receipt`, its identifiers and numbers as they compare."""
    region = policies[receipt.endpoint].region
    return Report(
        receipt.endpoint,
        receipt.provider,
        receipt.kind,
        match_key(receipt.message_id) if receipt.message_id else "",
        match_key(receipt.linked_id) if receipt.linked_id else None,
        e164(receipt.recipient, region) if receipt.recipient else None,
        e164(receipt.sender, region) if receipt.sender and receipt.kind is Kind.REPLY else None,
        receipt.state,
        receipt.reported_at or now,
        bounded(receipt.part),
        bounded(receipt.parts),
        receipt.price,
        receipt.backup,
        receipt.last_try,
        receipt.network,
    )


def bounded(number: int | None) -> int | None:
    """A part's number, or how many parts there are; None where it cannot be one. Providers bound
    what they read; a database and a spool may hold what an earlier version did not."""
    return number if number is None or 0 <= number <= MOST_PARTS else None


class Match(NamedTuple):
    """What a receipt was found to be about."""

    outcome: Outcome
    message_ref: int | None


UNCHECKED = Match(Outcome.ACCEPTED, None)

Key = tuple[str, str, str]
"""message_key, provider, recipient_key: what names a row of `messages`."""


class Row(NamedTuple):
    """What matching reads of a row of `messages`."""

    id: int
    provider: str
    message_key: str
    recipient_key: str
    sender: str | None
    reference: str | None
    parts: int | None
    progress: str | None
    state: str
    final: bool
    # times as the database has them: ISO text on SQLite
    registered_at: object
    sent_at: object
    state_at: object
    gave_up_at: object
    network: str | None


class Tracked:
    """A row of `messages` while receipts are added to it."""

    __slots__ = ("changed", "id", "network", "parts", "progress", "row", "standing")

    def __init__(self, row: Row) -> None:
        self.row = row
        self.id = row.id
        self.network = row.network
        self.parts = bounded(row.parts)
        self.progress = read_progress(row.progress)
        self.standing = row.state, bool(row.final)
        """The state that is stored, and whether it is final."""
        self.changed = False

    def add(self, report: Report) -> None:
        """Take one more receipt into account."""
        number = report.part or WHOLE
        before = self.progress.get(number, NOTHING_OF_PART)
        after = before.with_report(Standing(report.state, report.at), report.price)
        if after != before:
            self.progress[number] = after
            self.changed = True
        if report.network and (self.network or DERIVED)[0] == DERIVED:
            self.network = counted(report.network)
            self.changed = True
        if report.parts is not None and report.parts > (self.parts or 0):
            self.parts = report.parts
            self.changed = True


Name = tuple[str, str]
"""message_key, provider: what an identifier compares by, whatever its recipients."""


class Candidates(NamedTuple):
    """What is registered of the identifiers that some receipts name."""

    rows: Mapping[Key, Row]
    """Rows of `messages`."""
    spans: Mapping[Name, tuple[str, str]]
    """The first and the last recipient_key of an identifier, where it is named with a recipient
    that has no row; the first is empty where one row stands for any recipient."""
    others: Mapping[Name, Sequence[Name]]
    """Further names of an identifier that is not registered itself: other spellings, and the
    messages whose backup route uses it."""

    def find(self, report: Report) -> tuple[Outcome, Row | None]:
        """The row that `report` is about, by its own identifier, else by the linked one."""
        known = False
        for key in keys_of(report):
            row = self.rows.get(key)
            if row is not None:
                return Outcome.ACCEPTED, row
        for key in keys_of(report):
            recipient_key = key[2]
            for name in self.names(key):
                row = self.rows.get((*name, recipient_key))
                if row is not None:
                    return Outcome.ACCEPTED, row
                span = self.spans.get(name)
                if span is None:
                    continue
                known = True
                row = self.only(name, span, recipient_key)
                if row is not None:
                    return Outcome.ACCEPTED, row
                if not recipient_key:
                    return Outcome.ACCEPTED, None
        return (Outcome.WRONG_RECIPIENT if known else Outcome.UNKNOWN_MESSAGE), None

    def names(self, key: Key) -> Iterator[Name]:
        """Under which names the message of `key` may be registered."""
        name = key[:2]
        yield name
        yield from self.others.get(name, ())

    def only(self, name: Name, span: tuple[str, str], recipient_key: str) -> Row | None:
        """The row of `name` that stands for `recipient_key` without being of that very key: the
        one for any recipient; where no recipient is named, the only one; and one whose number an
        earlier version wrote in another form."""
        first, last = span
        if not first or (first == last and (not recipient_key or e164(first) == recipient_key)):
            return self.rows[(*name, first)]
        return None


def keys_of(report: Report) -> list[Key]:
    """Under which keys the message may be registered that `report` is about."""
    if report.kind is Kind.REPLY:
        linked = report.linked_key
        return [(linked, report.provider, report.sender_key or "")] if linked else []
    recipient = report.recipient_key or ""
    keys = [(report.message_key, report.provider, recipient)]
    if report.linked_key:
        keys.append((report.linked_key, report.provider, recipient))
    return keys


def read_progress(text: str | None) -> dict[int, Part]:
    if text is None:
        return {}
    parts = {}
    for number, (state, at, amount, priced_at) in json.loads(text).items():
        if bounded(int(number)) is None:
            continue
        parts[int(number)] = Part(
            Standing(State(state), datetime.fromisoformat(at)),
            Price(Decimal(amount), datetime.fromisoformat(priced_at)) if amount else None,
        )
    return parts


def write_progress(parts: Mapping[int, Part]) -> str:
    # Written out: `json.dumps` takes as long as all else that is done for a message here.
    written = []
    for number, (standing, price) in parts.items():
        assert standing is not None
        priced = f'"{price.amount}", "{iso(price.at)}"' if price is not None else "null, null"
        written.append(f'"{number}": ["{standing.state}", "{iso(standing.at)}", {priced}]')
    return f"{{{', '.join(written)}}}"
