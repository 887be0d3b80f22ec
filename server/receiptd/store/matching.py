"""Which receipt is about which registered message.

Runs inside the transaction that stores the receipts. `registering` does the same for messages:
both find each other whichever comes first. `adoption` says what a receipt makes of its message.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime

from sqlalchemy import Connection, Engine

from receiptd.receipt import Kind, Outcome
from receiptd.store.adoption import Adoption
from receiptd.store.candidates import UNCHECKED, Match, Policy, Report, Tracked, keys_of

__all__ = ["Match", "Matching", "Policy", "Report"]


class Matching(Adoption):
    """Matches receipts with messages, in transactions of others."""

    def __init__(self, engine: Engine, policies: Mapping[str, Policy]) -> None:
        """
        :param policies: by endpoint name; an endpoint that is not among them is not matched.
        """
        super().__init__(engine, policies)
        self._on: set[str] = set()
        # Providers whose first message was registered in the latest transaction.
        self._first: set[str] = set()

    def begin(self, now: datetime) -> None:
        """Call at the start of a transaction. Forgets the providers that the previous one switched
        on: it may have been rolled back.

        :param now: when what the transaction does has happened, for its events.
        """
        self._at = self._time(now)
        self.statistics.begin()
        self._on -= self._first
        self._first.clear()

    def match(
        self, connection: Connection, reports: Sequence[Report]
    ) -> tuple[list[Match], dict[int, Tracked]]:
        """What each report is about, and the messages found, to `Tracked.add` to and `save`."""
        on = self._matched_providers(connection, reports)
        backups = [each for each in reports if each.backup]
        if backups:
            self._name_backups(connection, backups)
        if not on:
            return [UNCHECKED] * len(reports), {}
        candidates = self._lookup.candidates(
            connection, [keys_of(each) for each in reports if each.provider in on]
        )
        tracked: dict[int, Tracked] = {}
        matches = []
        looked = False
        for report in reports:
            if report.provider not in on:
                matches.append(UNCHECKED)
                continue
            outcome, row = candidates.find(report)
            if outcome is not Outcome.ACCEPTED:
                if not looked and report.provider in self._on:
                    # The last message of a provider may have been deleted by another process.
                    self._on = self._ever_registered(connection)
                    looked = True
                if not self._checks(report):
                    outcome = Outcome.ACCEPTED
            if row is not None and row.id not in tracked:
                tracked[row.id] = Tracked(row)
            matches.append(Match(outcome, row.id if row is not None else None))
        return matches, tracked

    def _name_backups(self, connection: Connection, reports: Iterable[Report]) -> None:
        """Note under which further identifiers messages go on, and adopt the receipts that came
        before under these."""
        fresh = []
        for report in reports:
            if report.linked_key is None or report.linked_key == report.message_key:
                continue
            added = connection.exec_driver_sql(
                "INSERT INTO aliases (provider, alias_key, message_key, since) "
                "VALUES ({0}, {0}, {0}, {0}) ON CONFLICT DO NOTHING".replace(
                    "{0}", self._lookup.mark
                ),
                (report.provider, report.linked_key, report.message_key, self._time(report.at)),
            ).rowcount
            if added:
                fresh.append((report.linked_key, report.provider))
        self._adopt(connection, fresh)

    def _matched_providers(self, connection: Connection, reports: Sequence[Report]) -> set[str]:
        """Those of the reports' providers for which a message was ever registered, and those
        whose endpoints are always matched."""
        asked = {each.provider for each in reports}
        if not asked <= self._on:
            self._on |= self._ever_registered(connection)
        always = {
            each.provider for each in reports if self._policy(each.endpoint).match == "always"
        }
        return (asked & self._on) | always

    @staticmethod
    def _ever_registered(connection: Connection) -> set[str]:
        """The providers that `matching` names."""
        return set(connection.exec_driver_sql("SELECT provider FROM matching").scalars())

    def _checks(self, report: Report) -> bool:
        """Whether a mismatch of this receipt is one, or just not checked."""
        match = self._policy(report.endpoint).match
        return report.kind in (Kind.SENT, Kind.DELIVERY) and (
            match == "always" or (match == "auto" and report.provider in self._on)
        )
