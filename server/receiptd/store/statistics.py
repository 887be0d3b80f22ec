"""The hourly statistics: counted in the transactions that store, so that they agree exactly.

What a transaction changes is added up in memory and written at its end, a few rows whatever the
load. All transactions that write take turns (see `database.engine`), so a row is read and
written here without being anybody else's meanwhile.

Codes and networks are bounded: see `statistics_labels`.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from itertools import chain
from typing import Any

from sqlalchemy import Connection

from receiptd.receipt import Kind, Outcome, Receipt, Rejection, Verdict
from receiptd.store.candidates import Match, Report
from receiptd.store.database.engine import fetch
from receiptd.store.delivery_times import read_times, write_times
from receiptd.store.networks import counted, derived, network_of
from receiptd.store.schema import iso
from receiptd.store.statistics_keys import Finished, finished, hour_of, phone_of
from receiptd.store.statistics_labels import Labels
from receiptd.store.statistics_taking_back import ReceiptKey, take_back
from receiptd.store.statistics_upsert import MOST_ROWS, add, upsert

_MOST_PLAIN = 1000
"""Codes that are remembered."""

_RECEIPTS = ("hour", "endpoint", "provider", "kind", "network", "state", "code", "verdict")
_MESSAGES = ("hour", "provider", "network", "state")
_REJECTED = ("hour", "endpoint", "reason")


class Statistics:
    """Counts, in transactions of others: `begin` at the start of each, `flush` before its end."""

    def __init__(self, dialect: str) -> None:
        """
        :param dialect: `sqlite` or `postgresql`.
        """
        self._text_types = dialect == "sqlite"
        self._mark = "?" if self._text_types else "%s"
        self._receipts: defaultdict[ReceiptKey, int] = defaultdict(int)
        self._rejected: Counter[tuple[Any, str, str]] = Counter()
        self._messages: defaultdict[tuple[Any, ...], Counter[int]] = defaultdict(Counter)
        self._labels = Labels(self._mark)
        self._plain: set[str] = set()
        self._boundaries: dict[str, int] = {}
        self._positions: dict[str, int] = {}

    def begin(self) -> None:
        """Forget what an earlier transaction has left: it was rolled back."""
        self._receipts.clear()
        self._rejected.clear()
        self._messages.clear()
        self._positions.clear()
        self._labels.begin()

    # --- Receipts and rejected posts

    def receipts(
        self,
        batch: Sequence[Receipt],
        reports: Sequence[Report],
        matches: Sequence[Match],
        verdicts: Sequence[Verdict],
        times: Sequence[object],
    ) -> None:
        """Count the receipts of a batch, those that are new.

        :param times: when each was received, as the database has it.
        """
        counts = self._receipts
        hours = {at: hour_of(at) for at in set(times)}
        for receipt, report, match, verdict, at in zip(
            batch, reports, matches, verdicts, times, strict=True
        ):
            if verdict.outcome is Outcome.DUPLICATE:
                continue
            kind, network, code = report.kind, receipt.network, receipt.code
            if network:
                network = counted(network)
            elif number := report.sender_key if kind is Kind.REPLY else report.recipient_key:
                network = derived(number)
            key = (
                hours[at],
                receipt.endpoint,
                receipt.provider,
                kind,
                network or "",
                receipt.state,
                code if code and code in self._plain else self._as_counted(code),
                match.outcome,
            )
            counts[key] += 1

    def _as_counted(self, code: str | None) -> str:
        """`counted`; remembers the codes that are counted as they are."""
        label = counted(code)
        if label == code and len(self._plain) < _MOST_PLAIN:
            self._plain.add(label)
        return label

    def receipt(
        self, hour: Any, report: Report, network: str | None, code: str | None, verdict: str
    ) -> None:
        """Count a receipt that is new.

        :param hour: in which it was received, as the database has it.
        """
        number = report.recipient_key if report.kind is not Kind.REPLY else report.sender_key
        self._receipts[
            hour,
            report.endpoint,
            report.provider,
            report.kind,
            network_of(network, number),
            report.state,
            counted(code),
            verdict,
        ] += 1

    def adopted(
        self,
        connection: Connection,
        moves: Iterable[tuple[int, Any, Report, str | None, str, str]],
    ) -> None:
        """That stored receipts have another verdict.

        :param moves: of each the id, the time of receiving as the database has it, the `Report`,
            the code, and the verdict until now and from now on.
        """
        wanted: Counter[tuple[ReceiptKey, str]] = Counter()
        for number, at, report, code, before, after in moves:
            if before == after or not self.is_counted(connection, "receipts", number):
                continue
            phone = phone_of(report.kind, report.recipient_key, report.sender_key)
            key: ReceiptKey = (
                hour_of(at),
                report.endpoint,
                report.provider,
                report.kind,
                network_of(report.network, phone),
                report.state,
                counted(code),
                before,
            )
            wanted[key, after] += 1
        for (key, after), count in wanted.items():
            for network, code, some in take_back(connection, self._labels, key, count):
                hour, endpoint, provider, kind, _, state, _, _ = key
                self._receipts[hour, endpoint, provider, kind, network, state, code, after] += some

    def rejection(self, rejection: Rejection) -> None:
        """Count a rejected post."""
        hour = hour_of(self._time(rejection.received_at))
        self._rejected[hour, rejection.endpoint, rejection.reason] += 1

    # --- Messages

    def message(
        self, connection: Connection, number: int, before: Finished | None, after: Finished | None
    ) -> None:
        """That the message of this id was counted as `before` and is to be as `after`."""
        if before == after or not self.is_counted(connection, "messages", number):
            return
        if before is None and after is not None:  # nearly all
            times = self._messages[after[:4]]
            times[after.bucket] = times.get(after.bucket, 0) + 1
            return
        for each, delta in ((before, -1), (after, 1)):
            if each is not None:
                self._messages[each[:4]][each.bucket] += delta

    def finished_before(self, row: Any) -> None:
        """Count a row of `messages` that was finished before there were statistics."""
        each = finished(row)
        if each is not None:
            self._messages[each[:4]][each.bucket] += 1

    def is_counted(self, connection: Connection, name: str, number: int) -> bool:
        """Whether the row of this id is counted: all are but those that an older version stored
        and `statistics_fill` has not reached yet; it counts them as they are then."""
        boundary = self._boundaries.get(name)
        if boundary is None:
            boundary = self._boundaries[name] = self._fill(connection, name)[1]
        if number > boundary:
            return True
        position = self._positions.get(name)
        if position is None:
            position, _ = self._fill(connection, name)
            self._positions[name] = position
        return number <= position

    def _fill(self, connection: Connection, name: str) -> tuple[int, int]:
        found = fetch(
            connection,
            f"SELECT position, boundary FROM statistics_fill WHERE name = {self._mark}",
            (name,),
        )
        return (found[0][0], found[0][1]) if found else (0, 0)

    # --- Writing

    def flush(self, connection: Connection) -> None:
        """Write what was counted."""
        if self._receipts:
            self._write_receipts(connection)
        if self._messages:
            self._write_messages(connection)
        if self._rejected:
            rows = [(*key, count) for key, count in self._rejected.items()]
            add(connection, "statistics_rejected", _REJECTED, rows)
            self._rejected.clear()

    def _write_receipts(self, connection: Connection) -> None:
        counts: Counter[ReceiptKey] = Counter()
        for key, count in self._receipts.items():
            hour, endpoint, provider, kind, network, state, code, verdict = key
            network, code = self._labels.admitted(
                connection, "statistics_receipts", hour, endpoint, (network, code)
            )
            # As texts: psycopg writes the name of an enumeration's member, not its value.
            counts[
                hour, endpoint, provider, str(kind), network, str(state), code, str(verdict)
            ] += count
        rows = [(*key, count) for key, count in counts.items()]
        add(connection, "statistics_receipts", _RECEIPTS, rows)
        self._receipts.clear()

    def _write_messages(self, connection: Connection) -> None:
        changes: defaultdict[tuple[Any, ...], Counter[int]] = defaultdict(Counter)
        for (hour, provider, network, state), times in self._messages.items():
            (network,) = self._labels.admitted(
                connection, "statistics_messages", hour, provider, (network,)
            )
            counter = changes[hour, provider, network, state]
            for number, count in times.items():
                counter[number] += count
        keys = [key for key, times in changes.items() if any(times.values())]
        for start in range(0, len(keys), MOST_ROWS):
            self._change(connection, {key: changes[key] for key in keys[start:][:MOST_ROWS]})
        self._messages.clear()

    def _change(
        self, connection: Connection, changes: Mapping[tuple[Any, ...], Counter[int]]
    ) -> None:
        """Add to rows of `statistics_messages`."""
        marks = ", ".join([f"({', '.join([self._mark] * len(_MESSAGES))})"] * len(changes))
        found = fetch(
            connection,
            f"WITH wanted (a, b, c, d) AS (VALUES {marks}) SELECT a, b, c, d, times "
            "FROM wanted CROSS JOIN statistics_messages "
            "WHERE hour = a AND provider = b AND network = c AND state = d",
            tuple(chain.from_iterable(changes)),
        )
        for *key, times in found:
            counter = changes[tuple(key)]
            for number, count in read_times(times).items():
                counter[number] += count
        upsert(
            connection,
            "statistics_messages",
            (*_MESSAGES, "count", "times"),
            [(*key, times.total(), write_times(times)) for key, times in changes.items()],
            f"({', '.join(_MESSAGES)}) DO UPDATE "
            "SET count = excluded.count, times = excluded.times",
        )

    def _time(self, at: datetime) -> object:
        return iso(at) if self._text_types else at
