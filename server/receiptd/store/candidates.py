"""What matching compares: the keys of a receipt, the rows of messages, and their look-up.

Two modules use this inside their transactions: `matching` for receipts that come, `registering`
for messages that an application registers.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from itertools import chain
from typing import NamedTuple

from sqlalchemy import Connection, Engine

from receiptd.message import NOTHING_OF_PART, WHOLE, Part, Price, Standing
from receiptd.receipt import Kind, Outcome, Receipt, State, match_key
from receiptd.store.database.engine import fetch
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
        receipt.part,
        receipt.parts,
        receipt.price,
    )


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


class Tracked:
    """A row of `messages` while receipts are added to it."""

    __slots__ = ("changed", "id", "parts", "progress", "recipient_key")

    def __init__(self, row: Row) -> None:
        self.id = row.id
        self.recipient_key = row.recipient_key
        self.parts = row.parts
        self.progress = read_progress(row.progress)
        self.changed = False

    def add(self, report: Report) -> None:
        """Take one more receipt into account."""
        number = report.part or WHOLE
        before = self.progress.get(number, NOTHING_OF_PART)
        after = before.with_report(Standing(report.state, report.at), report.price)
        if after != before:
            self.progress[number] = after
            self.changed = True
        if report.parts is not None and report.parts > (self.parts or 0):
            self.parts = report.parts
            self.changed = True


class Candidates(NamedTuple):
    """What is registered of the identifiers that some receipts name."""

    rows: Mapping[Key, Row]
    """Rows of `messages`."""
    spans: Mapping[tuple[str, str], tuple[str, str]]
    """The first and the last recipient_key of an identifier (message_key, provider), where a
    receipt names it with a recipient that has no row; the first is empty where one row stands
    for any recipient."""

    def find(self, report: Report) -> tuple[Outcome, Row | None]:
        """The row that `report` is about, by its own identifier, else by the linked one."""
        known = False
        for key in keys_of(report):
            row = self.rows.get(key)
            if row is not None:
                return Outcome.ACCEPTED, row
            message_key, provider, recipient_key = key
            span = self.spans.get((message_key, provider))
            if span is None:
                continue
            known = True
            first, last = span
            if not first or (first == last and not recipient_key):
                return Outcome.ACCEPTED, self.rows[message_key, provider, first]
            if not recipient_key:
                return Outcome.ACCEPTED, None
        return (Outcome.WRONG_RECIPIENT if known else Outcome.UNKNOWN_MESSAGE), None


class Lookup:
    """Finds rows of `messages` by their keys, in transactions of others."""

    def __init__(self, engine: Engine) -> None:
        self.text_types = engine.dialect.name == "sqlite"
        self.mark = "?" if self.text_types else "%s"

    def candidates(self, connection: Connection, keys: Sequence[Key]) -> Candidates:
        """What is registered under these keys or may stand for them."""
        rows = self.rows(connection, set(keys))
        missing = {key for key in keys if key not in rows}
        spans = self._spans(connection, {key[:2] for key in missing}) if missing else {}
        further = {
            (*name, first)
            for name, (first, last) in spans.items()
            if not first or (first == last and (*name, "") in missing)
        }
        if further:
            rows |= self.rows(connection, further)
        return Candidates(rows, spans)

    def _spans(
        self, connection: Connection, names: Collection[tuple[str, str]]
    ) -> dict[tuple[str, str], tuple[str, str]]:
        """The first and the last recipient_key that each identifier (message_key, provider) is
        registered with; none for one that is not registered."""
        found = {}
        registered = "FROM messages WHERE message_key = a AND provider = b"
        for some, wanted in self._wanted(names):
            rows = fetch(
                connection,
                f"WITH wanted (a, b) AS ({wanted}) SELECT a, b,"
                f" (SELECT min(recipient_key) {registered}),"
                f" (SELECT max(recipient_key) {registered}) FROM wanted",
                some,
            )
            found.update({(a, b): (first, last) for a, b, first, last in rows if last is not None})
        return found

    def rows(self, connection: Connection, keys: Collection[Key]) -> dict[Key, Row]:
        """The rows of `messages` that have these keys."""
        rows: dict[Key, Row] = {}
        for some, wanted in self._wanted(keys):
            # CROSS JOIN: SQLite looks each key up, where for IN it would rather visit every row.
            found = fetch(
                connection,
                f"WITH wanted (a, b, c) AS ({wanted}) "
                f"SELECT {', '.join(Row._fields)} FROM wanted CROSS JOIN messages "
                "WHERE message_key = a AND provider = b AND recipient_key = c",
                some,
            )
            for each in found:
                row = Row._make(each)
                rows[row.message_key, row.provider, row.recipient_key] = row
        return rows

    def _wanted(self, keys: Collection[tuple[str, ...]]) -> Iterator[tuple[tuple[str, ...], str]]:
        """The parameters and the text of a VALUES list of `keys`, some of them at a time."""
        remaining = list(keys)
        while remaining:
            some, remaining = remaining[:MOST_KEYS], remaining[MOST_KEYS:]
            marks = ", ".join([f"({', '.join([self.mark] * len(some[0]))})"] * len(some))
            yield tuple(chain.from_iterable(some)), f"VALUES {marks}"


MOST_KEYS = 500
"""Identifiers asked for in one statement."""


def keys_of(report: Report) -> list[Key]:
    """Under which keys the message may be registered that `report` is about."""
    if report.kind is Kind.CALL:
        return []
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
