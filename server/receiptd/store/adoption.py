"""What receipts make of their message's state: those that come, and those that came before it.

A receipt may come before its message is registered. The message adopts it then.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from sqlalchemy import Connection, Engine

from receiptd.message import progress
from receiptd.receipt import Kind, Outcome, State
from receiptd.store.candidates import Policy, Report, Tracked, bounded, keys_of, write_progress
from receiptd.store.events import EventWriter
from receiptd.store.lookup import MOST_KEYS, Lookup
from receiptd.store.networks import network_of
from receiptd.store.phone import e164
from receiptd.store.schema import BUCKET_BITS, iso
from receiptd.store.statistics import Statistics
from receiptd.store.statistics_keys import finished, finished_as

RECEIPT_COLUMNS = (
    "id, endpoint, provider, kind, message_key, linked_key, recipient_key, sender, state, "
    "reported_at, received_at, part, parts, price, verdict, last_try, network, code"
)
"""What `Adoption.report_of` needs of a stored receipt."""

_NO_POLICY = Policy()


class Adoption:
    """Has receipts count for their messages, in transactions of others."""

    def __init__(self, engine: Engine, policies: Mapping[str, Policy]) -> None:
        """
        :param policies: by endpoint name; an endpoint that is not among them is not matched.
        """
        self._policies = policies
        self._lookup = Lookup(engine)
        self.events = EventWriter(engine.dialect.name)
        self.statistics = Statistics(engine.dialect.name)
        self._at: object = None
        self.adopted = 0
        """Receipts that messages were found for when these were registered."""

    def add(
        self,
        connection: Connection,
        tracked: Mapping[int, Tracked],
        reports: Iterable[tuple[Report, int]],
    ) -> None:
        """Take reports into account, each with the id of the message that it is about. The
        receipts are stored by now, with that id."""
        for report, message in reports:
            if report.kind is Kind.REPLY:
                continue
            tracked[message].add(report)
            if report.last_try is not None:
                tries = connection.exec_driver_sql(
                    f"SELECT count(*) FROM receipts WHERE message_ref = {self._lookup.mark} "
                    "AND last_try IS NOT NULL",
                    (message,),
                ).scalar_one()
                if tries >= report.last_try:
                    tracked[message].add(report._replace(state=State.REJECTED))

    def save(self, connection: Connection, tracked: Iterable[Tracked]) -> list[int]:
        """Write what has changed of messages; the ids of those that have another state now."""
        rows = []
        others = []
        for each in tracked:
            if not each.changed:
                continue
            now = progress(each.progress, each.parts)
            # One that was given up stays so, until a receipt says better.
            final = now.final or each.row.gave_up_at is not None
            if (now.state.value, final) != each.standing:
                others.append(each.id)
            state_at = self._time(now.state_at)
            if final and not each.network:
                each.network = network_of(None, each.row.recipient_key)
            after = finished_as(each.row, now.state, now.state_at, each.network) if final else None
            self.statistics.message(connection, each.id, finished(each.row), after)
            rows.append(
                (
                    now.state.value,
                    final,
                    state_at,
                    now.delivered,
                    self._price(now.price),
                    each.parts,
                    write_progress(each.progress),
                    each.network,
                    each.id,
                )
            )
        if rows:
            connection.exec_driver_sql(
                "UPDATE messages SET state = {0}, final = {0}, state_at = {0}, delivered = {0}, "
                "price = {0}, parts = {0}, progress = {0}, network = {0} WHERE id = {0}".replace(
                    "{0}", self._lookup.mark
                ),
                rows,
            )
        return sorted(others)

    def _adopt(self, connection: Connection, fresh: Iterable[tuple[str, str]]) -> None:
        """Match again the receipts about identifiers of which a message is new."""
        providers: dict[str, list[str]] = {}
        for message_key, provider in fresh:
            providers.setdefault(provider, []).append(message_key)
        for provider, keys in providers.items():
            for start in range(0, len(keys), MOST_KEYS):
                self._adopt_some(connection, provider, keys[start : start + MOST_KEYS])

    def _adopt_some(self, connection: Connection, provider: str, keys: list[str]) -> None:
        found = self._unlinked(
            connection, provider, self._lookup.all_keys(connection, provider, keys)
        )
        if not found:
            return
        reports = [self.report_of(row) for row in found]
        candidates = self._lookup.candidates(connection, [keys_of(each) for each in reports])
        tracked: dict[int, Tracked] = {}
        adopted = []
        changes = []
        verdicts = []
        for row, report in zip(found, reports, strict=True):
            outcome, message = candidates.find(report)
            if message is not None:
                tracked.setdefault(message.id, Tracked(message))
                adopted.append((report, message.id))
            if row.verdict == Outcome.ACCEPTED.value:
                outcome = Outcome.ACCEPTED  # it was not checked when it came, so it stays
            reference = message.id if message is not None else None
            if reference is not None or outcome.value != row.verdict:
                changes.append((outcome.value, reference, row.id))
            verdicts.append(
                (row.id, row.received_at, report, row.code, row.verdict, outcome.value)
            )
        self.adopted += len(adopted)
        if changes:
            connection.exec_driver_sql(
                "UPDATE receipts SET verdict = {0}, message_ref = {0} WHERE id = {0}".replace(
                    "{0}", self._lookup.mark
                ),
                changes,
            )
        self.statistics.adopted(connection, verdicts)
        self.add(connection, tracked, adopted)
        others = self.save(connection, tracked.values())
        linked = sorted(number for _, reference, number in changes if reference is not None)
        self.events.adopted(connection, linked, self._at)
        self.events.states(connection, others, self._at)

    def _unlinked(self, connection: Connection, provider: str, keys: list[str]) -> list[Any]:
        """The rows of receipts that name one of these identifiers and are about no message."""
        oldest, newest = connection.exec_driver_sql(
            "SELECT (SELECT min(id) FROM receipts), (SELECT max(id) FROM receipts)"
        ).one()
        if newest is None:
            return []
        buckets = range(oldest >> BUCKET_BITS, (newest >> BUCKET_BITS) + 1)
        marks = ", ".join([self._lookup.mark] * len(keys))
        found: dict[int, Any] = {}
        for column in ("message_key", "linked_key"):
            rows = connection.exec_driver_sql(
                f"SELECT {RECEIPT_COLUMNS} FROM receipts "
                f"WHERE (id >> {BUCKET_BITS}) IN ({', '.join(map(str, buckets))}) "
                f"AND {column} IN ({marks}) AND provider = {self._lookup.mark} "
                "AND message_ref IS NULL ORDER BY id",
                (*keys, provider),
            )
            found |= {row.id: row for row in rows}
        return list(found.values())

    def report_of(self, row: Any) -> Report:
        """What matching knows of a stored receipt: a row of `RECEIPT_COLUMNS`."""
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
            bounded(row.part),
            bounded(row.parts),
            Decimal(row.price) if row.price is not None else None,
            last_try=row.last_try,
            network=row.network,
        )

    def _policy(self, endpoint: str) -> Policy:
        return self._policies.get(endpoint, _NO_POLICY)

    def _time(self, at: datetime | None) -> object:
        return iso(at) if at is not None and self._lookup.text_types else at

    def _price(self, amount: Decimal | None) -> object:
        return str(amount) if amount is not None and self._lookup.text_types else amount

    @staticmethod
    def _read_time(value: str | datetime) -> datetime:
        return datetime.fromisoformat(value) if isinstance(value, str) else value.astimezone(UTC)
