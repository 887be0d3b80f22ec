"""Which receipt is about which registered message, and what that makes of the message's state.

Runs inside the transaction that stores the receipts or registers the messages: both find each
other whichever comes first.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from itertools import chain
from typing import Any, NamedTuple

from sqlalchemy import Connection, Engine

from receiptd.message import (
    NOTHING_OF_PART,
    WHOLE,
    Message,
    Part,
    Price,
    Standing,
    progress,
)
from receiptd.receipt import Kind, Outcome, Receipt, State, Verdict, match_key
from receiptd.store.database.engine import fetch
from receiptd.store.events import EventWriter
from receiptd.store.phone import e164
from receiptd.store.schema import BUCKET_BITS, iso


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
    state: str
    final: bool


class Tracked:
    """A row of `messages` while receipts are added to it."""

    __slots__ = ("changed", "id", "parts", "progress", "recipient_key", "standing")

    def __init__(self, row: Row) -> None:
        self.id = row.id
        self.recipient_key = row.recipient_key
        self.parts = row.parts
        self.progress = _read_progress(row.progress)
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
        for key in _keys(report):
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


class Matching:
    """Matches receipts with messages, in transactions of others."""

    def __init__(self, engine: Engine, policies: Mapping[str, Policy]) -> None:
        """
        :param policies: by endpoint name; an endpoint that is not among them is not matched.
        """
        self._policies = policies
        self._text_types = engine.dialect.name == "sqlite"
        self._mark = "?" if self._text_types else "%s"
        self._on: set[str] = set()
        # Providers whose first message was registered in the latest transaction.
        self._first: set[str] = set()
        self.events = EventWriter(engine.dialect.name)
        self.adopted = 0
        """Receipts that messages were found for when these were registered."""

    def begin(self) -> None:
        """That a transaction begins. What the one before has turned on is looked up again: it may
        have been undone."""
        self._on -= self._first
        self._first.clear()

    # --- Receipts that come

    def match(
        self, connection: Connection, reports: Sequence[Report]
    ) -> tuple[list[Match], dict[int, Tracked]]:
        """What each report is about, and the messages found, to `Tracked.add` to and `save`."""
        on = self._matched_providers(connection, reports)
        if not on:
            return [UNCHECKED] * len(reports), {}
        candidates = self._candidates(
            connection, [key for each in reports if each.provider in on for key in _keys(each)]
        )
        tracked: dict[int, Tracked] = {}
        matches = []
        for report in reports:
            if report.provider not in on:
                matches.append(UNCHECKED)
                continue
            outcome, row = candidates.find(report)
            if outcome is not Outcome.ACCEPTED and not self._checks(report):
                outcome = Outcome.ACCEPTED
            if row is not None and row.id not in tracked:
                tracked[row.id] = Tracked(row)
            matches.append(Match(outcome, row.id if row is not None else None))
        return matches, tracked

    def save(self, connection: Connection, tracked: Iterable[Tracked]) -> list[int]:
        """Write what has changed of messages; the ids of those that have another state now."""
        rows = []
        others = []
        for each in tracked:
            if not each.changed:
                continue
            now = progress(each.progress, each.parts)
            if (now.state.value, now.final) != each.standing:
                others.append(each.id)
            rows.append(
                (
                    now.state.value,
                    now.final,
                    self._time(now.state_at),
                    now.delivered,
                    self._price(now.price),
                    each.parts,
                    _write_progress(each.progress),
                    each.id,
                )
            )
        if rows:
            connection.exec_driver_sql(
                "UPDATE messages SET state = {0}, final = {0}, state_at = {0}, delivered = {0}, "
                "price = {0}, parts = {0}, progress = {0} WHERE id = {0}".replace(
                    "{0}", self._mark
                ),
                rows,
            )
        return sorted(others)

    def _matched_providers(self, connection: Connection, reports: Sequence[Report]) -> set[str]:
        """Those of the reports' providers for which a message was ever registered, and those
        whose endpoints are always matched."""
        asked = {each.provider for each in reports}
        if not asked <= self._on:
            found = connection.exec_driver_sql("SELECT provider FROM matching").scalars()
            self._on.update(found)
        always = {
            each.provider for each in reports if self._policy(each.endpoint).match == "always"
        }
        return (asked & self._on) | always

    def _checks(self, report: Report) -> bool:
        """Whether a mismatch of this receipt is one, or just not checked."""
        match = self._policy(report.endpoint).match
        return report.kind in (Kind.SENT, Kind.DELIVERY) and (
            match == "always" or (match == "auto" and report.provider in self._on)
        )

    def _policy(self, endpoint: str) -> Policy:
        return self._policies.get(endpoint, _NO_POLICY)

    def _candidates(self, connection: Connection, keys: Sequence[Key]) -> Candidates:
        """What is registered under these keys or may stand for them."""
        rows = self._rows(connection, set(keys))
        missing = {key for key in keys if key not in rows}
        spans = self._spans(connection, {key[:2] for key in missing}) if missing else {}
        further = {
            (*name, first)
            for name, (first, last) in spans.items()
            if not first or (first == last and (*name, "") in missing)
        }
        if further:
            rows |= self._rows(connection, further)
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

    def _rows(self, connection: Connection, keys: Collection[Key]) -> dict[Key, Row]:
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
            some, remaining = remaining[:_MOST_KEYS], remaining[_MOST_KEYS:]
            marks = ", ".join([f"({', '.join([self._mark] * len(some[0]))})"] * len(some))
            yield tuple(chain.from_iterable(some)), f"VALUES {marks}"

    # --- Messages that are registered

    def register(
        self,
        connection: Connection,
        messages: Sequence[Message],
        now: datetime,
        regions: Mapping[str, str | None],
    ) -> list[str]:
        """Register `messages` and adopt the receipts that came before them.

        :param regions: by whose national forms a provider's recipients are read.
        :returns: for each, `registered`, `updated` (details differ from what was registered) or
            `unchanged`.
        """
        for provider in {message.provider for message in messages}:
            added = connection.exec_driver_sql(
                "INSERT INTO matching (provider, since) VALUES ({0}, {0}) "
                "ON CONFLICT DO NOTHING".replace("{0}", self._mark),
                (provider, self._time(now)),
            ).rowcount
            if added:
                self._first.add(provider)
        keys = [message_row_key(message, regions.get(message.provider)) for message in messages]
        existing = self._rows(connection, set(keys))
        fresh: dict[Key, Message] = {}
        results = []
        for message, key in zip(messages, keys, strict=True):
            if key in existing:
                changed = self._update(connection, message, existing[key], now)
                if changed:
                    existing |= self._rows(connection, [key])
                results.append("updated" if changed else "unchanged")
            elif key in fresh:
                changes = _changes(message, fresh[key])
                fresh[key] = fresh[key]._replace(**changes)
                results.append("updated" if changes else "unchanged")
            else:
                fresh[key] = message
                results.append("registered")
        if fresh:
            self._insert(connection, fresh, now)
            self._adopt(connection, {(key[0], key[1]) for key in fresh}, now)
        return results

    def _insert(self, connection: Connection, fresh: Mapping[Key, Message], now: datetime) -> None:
        registered_at = self._time(now)
        connection.exec_driver_sql(
            "INSERT INTO messages (registered_at, provider, message_id, message_key, recipient, "
            "recipient_key, sender, reference, parts, state, final, delivered) VALUES "
            "({0}, {0}, {0}, {0}, {0}, {0}, {0}, {0}, {0}, {0}, {0}, {0})".replace(
                "{0}", self._mark
            ),
            [
                (
                    registered_at,
                    message.provider,
                    message.message_id,
                    message_key,
                    message.recipient,
                    recipient_key,
                    message.sender,
                    message.reference,
                    message.parts,
                    State.ENROUTE.value,
                    False,
                    0,
                )
                for (message_key, _, recipient_key), message in fresh.items()
            ],
        )

    def _update(self, connection: Connection, message: Message, row: Row, now: datetime) -> bool:
        """Take over what differs; whether anything did."""
        changes = _changes(message, row)
        if not changes:
            return False
        assignments = ", ".join(f"{name} = {self._mark}" for name in changes)
        connection.exec_driver_sql(
            f"UPDATE messages SET {assignments} WHERE id = {self._mark}",
            (*changes.values(), row.id),
        )
        if "parts" in changes:
            tracked = Tracked(row)
            tracked.parts, tracked.changed = message.parts, True
            self.events.states(connection, self.save(connection, [tracked]), self._time(now))
        return True

    def _adopt(
        self, connection: Connection, fresh: Iterable[tuple[str, str]], now: datetime
    ) -> None:
        """Match again the receipts about identifiers of which a message is new."""
        providers: dict[str, list[str]] = {}
        for message_key, provider in fresh:
            providers.setdefault(provider, []).append(message_key)
        for provider, keys in providers.items():
            for start in range(0, len(keys), _MOST_KEYS):
                self._adopt_some(connection, provider, keys[start : start + _MOST_KEYS], now)

    def _adopt_some(
        self, connection: Connection, provider: str, keys: list[str], now: datetime
    ) -> None:
        found = self._unlinked(connection, provider, keys)
        if not found:
            return
        reports = [self._report(row) for row in found]
        candidates = self._candidates(connection, [key for each in reports for key in _keys(each)])
        tracked: dict[int, Tracked] = {}
        changes = []
        for row, report in zip(found, reports, strict=True):
            outcome, message = candidates.find(report)
            if message is not None:
                entry = tracked.setdefault(message.id, Tracked(message))
                if report.kind in (Kind.SENT, Kind.DELIVERY):
                    entry.add(report)
            if row.verdict == Outcome.ACCEPTED.value:
                outcome = Outcome.ACCEPTED  # it was not checked when it came, so it stays
            reference = message.id if message is not None else None
            if reference is not None or outcome.value != row.verdict:
                changes.append((outcome.value, reference, row.id))
        adopted = sorted(number for _, reference, number in changes if reference is not None)
        self.adopted += len(adopted)
        if changes:
            connection.exec_driver_sql(
                "UPDATE receipts SET verdict = {0}, message_ref = {0} WHERE id = {0}".replace(
                    "{0}", self._mark
                ),
                changes,
            )
        others = self.save(connection, tracked.values())
        self.events.adopted(connection, adopted, self._time(now))
        self.events.states(connection, others, self._time(now))

    def _unlinked(self, connection: Connection, provider: str, keys: list[str]) -> list[Any]:
        """The rows of receipts that name one of these identifiers and are about no message."""
        oldest, newest = connection.exec_driver_sql(
            "SELECT (SELECT min(id) FROM receipts), (SELECT max(id) FROM receipts)"
        ).one()
        if newest is None:
            return []
        buckets = range(oldest >> BUCKET_BITS, (newest >> BUCKET_BITS) + 1)
        marks = ", ".join([self._mark] * len(keys))
        found: dict[int, Any] = {}
        for column in ("message_key", "linked_key"):
            rows = connection.exec_driver_sql(
                f"SELECT {_RECEIPT_COLUMNS} FROM receipts "
                f"WHERE (id >> {BUCKET_BITS}) IN ({', '.join(map(str, buckets))}) "
                f"AND {column} IN ({marks}) AND provider = {self._mark} "
                f"AND message_ref IS NULL AND kind <> 'call' ORDER BY id",
                (*keys, provider),
            )
            found |= {row.id: row for row in rows}
        return list(found.values())

    def _report(self, row: Any) -> Report:
        kind = Kind(row.kind)
        sender_key = None
        if kind is Kind.REPLY and row.sender:
            sender_key = e164(row.sender, self._policy(row.endpoint).region)
        return Report(
            row.endpoint,
            row.provider,
            kind,
            row.message_key,
            row.linked_key,
            row.recipient_key,
            sender_key,
            State(row.state),
            self._read_time(row.reported_at or row.received_at),
            row.part,
            row.parts,
            Decimal(row.price) if row.price is not None else None,
        )

    def _time(self, at: datetime | None) -> object:
        return iso(at) if at is not None and self._text_types else at

    def _price(self, amount: Decimal | None) -> object:
        return str(amount) if amount is not None and self._text_types else amount

    @staticmethod
    def _read_time(value: str | datetime) -> datetime:
        return datetime.fromisoformat(value) if isinstance(value, str) else value.astimezone(UTC)


_NO_POLICY = Policy()
_MOST_KEYS = 500
"""Identifiers asked for in one statement."""

_RECEIPT_COLUMNS = (
    "id, endpoint, provider, kind, message_key, linked_key, recipient_key, sender, state, "
    "reported_at, received_at, part, parts, price, verdict"
)


def message_row_key(message: Message, region: str | None) -> Key:
    """The key of the row that `message` has."""
    recipient = e164(message.recipient, region) if message.recipient else ""
    return match_key(message.message_id), message.provider, recipient


def _changes(message: Message, known: Any) -> dict[str, Any]:
    """What `message` says otherwise than is known of it (a row, or an earlier registration);
    None says nothing."""
    return {
        name: value
        for name in ("sender", "reference", "parts")
        if (value := getattr(message, name)) is not None and value != getattr(known, name)
    }


def mismatch_text(outcome: Outcome, message_id: str | None, recipient: str | None) -> str:
    """What a provider reads about a receipt that no registered message explains."""
    if outcome is Outcome.UNKNOWN_MESSAGE:
        return f"Unknown MessageIdentifier {message_id}: no such message is registered as sent"
    return f"Wrong recipient {recipient}: the message {message_id} was not sent to it"


def verdict_of(outcome: Outcome, message_id: str | None, recipient: str | None) -> Verdict:
    """The verdict for a receipt that is new."""
    if outcome is Outcome.ACCEPTED:
        return Verdict(Outcome.ACCEPTED)
    return Verdict(outcome, mismatch_text(outcome, message_id, recipient), outcome)


def _keys(report: Report) -> list[Key]:
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


def _read_progress(text: str | None) -> dict[int, Part]:
    if text is None:
        return {}
    parts = {}
    for number, (state, at, amount, priced_at) in json.loads(text).items():
        parts[int(number)] = Part(
            Standing(State(state), datetime.fromisoformat(at)),
            Price(Decimal(amount), datetime.fromisoformat(priced_at)) if amount else None,
        )
    return parts


def _write_progress(parts: Mapping[int, Part]) -> str:
    # Written out: `json.dumps` takes as long as all else that is done for a message here.
    written = []
    for number, (standing, price) in parts.items():
        assert standing is not None
        priced = f'"{price.amount}", "{iso(price.at)}"' if price is not None else "null, null"
        written.append(f'"{number}": ["{standing.state}", "{iso(standing.at)}", {priced}]')
    return f"{{{', '.join(written)}}}"
