"""Which codes and networks the statistics count by themselves.

Providers choose them, so they are bounded. Of each endpoint (of messages: of each provider) an
hour counts `MOST_LABELS` of them, and further ones as `(other)`: sums stay exact. Which ones these
are never changes within an hour: what was counted by itself, or as another, always is. So what
was counted can be taken back.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection

from receiptd.store.database.engine import fetch
from receiptd.store.networks import OTHER

MOST_LABELS = 100
"""Codes, and networks, that an hour counts by themselves for an endpoint."""

_MOST_HOURS = 256
"""Hours whose codes and networks are remembered."""


class Labels:
    """Which codes and networks an hour counts by themselves."""

    def __init__(self, mark: str) -> None:
        self._mark = mark
        self._sets: dict[tuple[Any, ...], tuple[set[str], ...]] = {}
        # Of this transaction: what was read of the database, and what is new in it.
        self._read: set[tuple[Any, ...]] = set()
        self._grown: set[tuple[Any, ...]] = set()

    def begin(self) -> None:
        """Forget what an earlier transaction has added: it may have been rolled back."""
        for key in self._grown:
            self._sets.pop(key, None)
        self._grown.clear()
        self._read.clear()
        if len(self._sets) > _MOST_HOURS:
            self._sets.clear()

    def admitted(
        self, connection: Connection, table: str, hour: Any, scope: str, values: tuple[str, ...]
    ) -> tuple[str, ...]:
        """Under which labels `values` (network, code) are counted, of an endpoint or provider."""
        return self._each(connection, (table, hour, scope), values, grows=True)

    def known(
        self, connection: Connection, table: str, hour: Any, scope: str, values: tuple[str, ...]
    ) -> tuple[str, ...]:
        """Under which labels `values` were counted."""
        return self._each(connection, (table, hour, scope), values, grows=False)

    def _each(
        self, connection: Connection, key: tuple[Any, ...], values: tuple[str, ...], *, grows: bool
    ) -> tuple[str, ...]:
        labels = []
        for index, value in enumerate(values):
            if not value or value == OTHER or value in self._set(connection, key, index):
                labels.append(value)
                continue
            found = self._set(connection, key, index)
            if len(found) < MOST_LABELS and key not in self._read:
                # Another process may have added to it.
                self._load(connection, key)
                found = self._set(connection, key, index)
            if value not in found and (not grows or len(found) >= MOST_LABELS):
                value = OTHER
            elif value not in found:
                found.add(value)
                self._grown.add(key)
            labels.append(value)
        return tuple(labels)

    def _set(self, connection: Connection, key: tuple[Any, ...], index: int) -> set[str]:
        if key not in self._sets:
            self._load(connection, key)
        return self._sets[key][index]

    def _load(self, connection: Connection, key: tuple[Any, ...]) -> None:
        table, hour, scope = key
        of_receipts = table == "statistics_receipts"
        columns = "network, code" if of_receipts else "network"
        rows = fetch(
            connection,
            f"SELECT DISTINCT {columns} FROM {table} WHERE hour = {self._mark} "
            f"AND {'endpoint' if of_receipts else 'provider'} = {self._mark}",
            (hour, scope),
        )
        sets = self._sets.setdefault(key, (set(), set()))
        for row in rows:
            for labels, value in zip(sets, row, strict=False):
                if value and value != OTHER:
                    labels.add(value)
        self._read.add(key)
