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
from receiptd.receipt import MOST_PARTS, Kind, Outcome, Receipt, State, match_key, spellings
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
    backup: bool = False
    """Whether the message goes on under `linked_key`."""
    last_try: int | None = None


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


class Tracked:
    """A row of `messages` while receipts are added to it."""

    __slots__ = ("changed", "id", "parts", "progress", "recipient_key")

    def __init__(self, row: Row) -> None:
        self.id = row.id
        self.recipient_key = row.recipient_key
        self.parts = bounded(row.parts)
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


class Lookup:
    """Finds rows of `messages` by their keys, in transactions of others."""

    def __init__(self, engine: Engine) -> None:
        self.text_types = engine.dialect.name == "sqlite"
        self.mark = "?" if self.text_types else "%s"

    def candidates(
        self, connection: Connection, keys: Sequence[Sequence[Key]], *, aliases: bool = True
    ) -> Candidates:
        """What is registered under these keys or may stand for them.

        :param keys: of each receipt, in the order in which they count.
        :param aliases: whether a backup route's identifier stands for its message.
        """
        rows, spans = self._known(connection, {key for some in keys for key in some})
        unknown = [
            key
            for some in keys
            if not any(key in rows or key[:2] in spans for key in some)
            for key in some
        ]
        if not unknown:
            return Candidates(rows, spans, {})
        others = self._others(connection, {key[:2] for key in unknown}, aliases)
        further = {(*other, key[2]) for key in unknown for other in others.get(key[:2], ())}
        if further:
            more_rows, more_spans = self._known(connection, further)
            rows |= more_rows
            spans |= more_spans
        return Candidates(rows, spans, others)

    def _known(
        self, connection: Connection, keys: Collection[Key]
    ) -> tuple[dict[Key, Row], dict[Name, tuple[str, str]]]:
        """The rows of `keys`; and the spans of those without one, with the first row of each."""
        rows = self.rows(connection, keys)
        missing = {key[:2] for key in keys if key not in rows}
        spans = self._spans(connection, missing) if missing else {}
        if spans:
            rows |= self.rows(connection, {(*name, first) for name, (first, _) in spans.items()})
        return rows, spans

    def _others(
        self, connection: Connection, names: Collection[Name], aliases: bool
    ) -> dict[Name, list[Name]]:
        """Further names of each of `names`; those that have none are left out."""
        others = {name: [(key, name[1]) for key in spellings(name[0])] for name in names}
        if aliases:
            # A backup route may have a backup route.
            for _ in range(_MOST_HOPS):
                origins = self._origins(
                    connection, {each for name in others for each in (name, *others[name])}
                )
                before = sum(map(len, others.values()))
                for name, found in others.items():
                    for each in (name, *found):
                        for origin in origins.get(each, ()):
                            if origin != name and origin not in found:
                                found.append(origin)
                if before == sum(map(len, others.values())):
                    break
        return {name: found for name, found in others.items() if found}

    def _origins(self, connection: Connection, names: Collection[Name]) -> dict[Name, list[Name]]:
        """The names of the message that each of `names` is an alias of, in all spellings."""
        found: dict[Name, list[Name]] = {}
        for some, wanted in self._wanted(names):
            for alias_key, provider, message_key in fetch(
                connection,
                f"WITH wanted (a, b) AS ({wanted}) SELECT alias_key, provider, message_key "
                "FROM wanted CROSS JOIN aliases WHERE provider = b AND alias_key = a",
                some,
            ):
                keys = (message_key, *spellings(message_key))
                found[alias_key, provider] = [(key, provider) for key in keys]
        return found

    def all_keys(self, connection: Connection, provider: str, keys: Sequence[str]) -> list[str]:
        """The keys under which receipts may have come about messages of `keys`: themselves, their
        other spellings and their aliases."""
        known = dict.fromkeys(each for key in keys for each in (key, *spellings(key)))
        frontier = list(known)
        for _ in range(_MOST_HOPS):
            found: list[str] = []
            for start in range(0, len(frontier), MOST_KEYS):
                some = frontier[start : start + MOST_KEYS]
                found += connection.exec_driver_sql(
                    f"SELECT alias_key FROM aliases WHERE provider = {self.mark} "
                    f"AND message_key IN ({', '.join([self.mark] * len(some))})",
                    (provider, *some),
                ).scalars()
            spelled = (each for key in found for each in (key, *spellings(key)))
            frontier = [each for each in dict.fromkeys(spelled) if each not in known]
            if not frontier:
                break
            known |= dict.fromkeys(frontier)
        return list(known)

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

_MOST_HOPS = 4
"""So many backup routes in a row are followed."""


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
