"""Finds the rows of messages that receipts may be about: the look-ups of matching, in SQL."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from itertools import chain

from sqlalchemy import Connection, Engine

from receiptd.receipt import spellings
from receiptd.store.candidates import Candidates, Key, Name, Row
from receiptd.store.database.engine import fetch

MOST_KEYS = 500
"""Identifiers asked for in one statement."""

_MOST_HOPS = 4
"""So many backup routes in a row are followed."""


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
