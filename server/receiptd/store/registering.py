"""Registering the messages that an application sent, and forgetting them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Connection
from twisted.logger import Logger

from receiptd.message import Message
from receiptd.receipt import State, match_key, spellings
from receiptd.store.candidates import Candidates, Key, Name, Row, Tracked
from receiptd.store.matching import Matching
from receiptd.store.phone import e164
from receiptd.store.statistics_keys import finished

_log = Logger(namespace="receiptd.store")


class Registering(Matching):
    """Matching that also registers messages, in transactions of others."""

    _asked: frozenset[str] = frozenset()
    """Providers whose region was asked for."""

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
        self._at = self._time(now)
        self.statistics.begin()
        for provider in {message.provider for message in messages}:
            added = connection.exec_driver_sql(
                "INSERT INTO matching (provider, since) VALUES ({0}, {0}) "
                "ON CONFLICT DO NOTHING".replace("{0}", self._lookup.mark),
                (provider, self._time(now)),
            ).rowcount
            if added:
                self._first.add(provider)
        keys = [message_row_key(message, regions.get(message.provider)) for message in messages]
        self._ask_region(keys, regions)
        known = self._lookup.candidates(connection, [[key] for key in keys], aliases=False)
        current: dict[int, Row] = {}  # rows that changed here
        fresh = Fresh()
        results = []
        for message, key in zip(messages, keys, strict=True):
            row = _registered(known, key, current)
            if row is not None:
                first, last = known.spans.get((row.message_key, row.provider), ("", ""))
                several = not key[2] and first != last
                changed = not several and self._update(connection, message, key, row)
                if changed:
                    renamed = (row.message_key, row.provider, row.recipient_key or key[2])
                    current[row.id] = self._lookup.rows(connection, [renamed])[renamed]
                results.append("updated" if changed else "unchanged")
            else:
                results.append(fresh.add(key, message))
        if fresh.messages:
            self._insert(connection, fresh.messages, now)
            self._adopt(connection, {key[:2] for key in fresh.messages})
        self.statistics.flush(connection)
        return results

    def _ask_region(self, keys: Sequence[Key], regions: Mapping[str, str | None]) -> None:
        """Say once for a provider that numbers are registered as they are written in some country,
        which nobody has named: no receipt will have them in that form."""
        for _, provider, recipient_key in keys:
            if (
                recipient_key[:1] == "0"
                and regions.get(provider) is None
                and provider not in self._asked
            ):
                self._asked |= {provider}
                _log.warn(
                    "{provider}: a message is registered with a national phone number (one that "
                    "begins with 0), which no receipt may match: set region in its endpoint, such "
                    'as region = "GB", or register numbers with their country code',
                    provider=provider,
                )

    def _insert(self, connection: Connection, fresh: Mapping[Key, Message], now: datetime) -> None:
        registered_at = self._time(now)
        connection.exec_driver_sql(
            "INSERT INTO messages (registered_at, provider, message_id, message_key, recipient, "
            "recipient_key, sender, reference, parts, sent_at, state, final, delivered) VALUES "
            "({0}, {0}, {0}, {0}, {0}, {0}, {0}, {0}, {0}, {0}, {0}, {0}, {0})".replace(
                "{0}", self._lookup.mark
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
                    self._time(message.sent_at),
                    State.ENROUTE.value,
                    False,
                    0,
                )
                for (message_key, _, recipient_key), message in fresh.items()
            ],
        )

    def _update(self, connection: Connection, message: Message, key: Key, row: Row) -> bool:
        """Take over what differs; whether anything did. A row for any recipient becomes that of
        the message's recipient."""
        changes = self._changes_of(message, row)
        named = bool(key[2]) and not row.recipient_key
        if named:
            changes |= {"recipient": message.recipient, "recipient_key": key[2]}
        if not changes:
            return False
        (row,) = self._lookup.rows(connection, [_key(row)]).values()  # as it is by now
        assignments = ", ".join(f"{name} = {self._lookup.mark}" for name in changes)
        connection.exec_driver_sql(
            f"UPDATE messages SET {assignments} WHERE id = {self._lookup.mark}",
            (*changes.values(), row.id),
        )
        if "sent_at" in changes:
            before, row = row, row._replace(sent_at=changes["sent_at"])
            self.statistics.message(connection, row.id, finished(before), finished(row))
        if "parts" in changes:
            tracked = Tracked(row)
            tracked.parts, tracked.changed = message.parts, True
            self.events.states(connection, self.save(connection, [tracked]), self._at)
        if named:
            self._let_go(connection, row, key[2])
        return True

    def _changes_of(self, message: Message, row: Row) -> dict[str, Any]:
        """What `message` says otherwise than its row, as the database takes it."""
        sent_at = self._time(message.sent_at)
        changes = _changes(message._replace(sent_at=None), row)
        return changes if sent_at in (None, row.sent_at) else changes | {"sent_at": sent_at}

    def _let_go(self, connection: Connection, row: Row, recipient_key: str) -> None:
        """Where a row stood for any recipient and now has one: the receipts of others are not its
        own any more, and its state is made anew of those that are."""
        mark = self._lookup.mark
        others = connection.exec_driver_sql(
            f"SELECT count(*) FROM receipts WHERE message_ref = {mark} AND kind <> 'reply' "
            f"AND recipient_key <> {mark}",
            (row.id, recipient_key),
        ).scalar_one()
        if not others:
            return
        connection.exec_driver_sql(
            f"UPDATE receipts SET message_ref = NULL WHERE message_ref = {mark}", (row.id,)
        )
        renamed = (row.message_key, row.provider, recipient_key)
        (row,) = self._lookup.rows(connection, [renamed]).values()
        self.statistics.message(connection, row.id, finished(row), None)
        connection.exec_driver_sql(
            f"UPDATE messages SET state = {mark}, final = {mark}, state_at = NULL, delivered = 0, "
            f"price = NULL, progress = NULL, gave_up_at = NULL, network = NULL WHERE id = {mark}",
            (State.ENROUTE.value, False, row.id),
        )
        self._adopt(connection, [(row.message_key, row.provider)])

    def delete(
        self,
        connection: Connection,
        provider: str,
        message_id: str,
        recipient_key: str | None = None,
    ) -> int:
        """Forget a message: every row of the identifier, whatever its recipients, or the one row
        whose recipient compares as `recipient_key`. Receipts stay as they are, verdict included,
        and are about no message any more. Statistics do not count
        it any more either.

        With a provider's last message `match = "auto"` is off for it again, also in servers
        that run: these look again whenever a receipt matches nothing.

        :returns: how many rows were deleted.
        """
        mark = self._lookup.mark
        key = match_key(message_id)
        keys = (key, *spellings(key))
        where = f"provider = {mark} AND message_key IN ({', '.join([mark] * len(keys))})"
        name = [provider, *keys]
        if recipient_key is not None:
            where += f" AND recipient_key = {mark}"
            name.append(recipient_key)
        self.statistics.begin()
        columns = ", ".join(Row._fields)
        for row in connection.exec_driver_sql(
            f"SELECT {columns} FROM messages WHERE {where} AND final", tuple(name)
        ):
            self.statistics.message(connection, row.id, finished(row), None)
        self.statistics.flush(connection)
        connection.exec_driver_sql(
            "UPDATE receipts SET message_ref = NULL WHERE message_ref IN "
            f"(SELECT id FROM messages WHERE {where})",
            tuple(name),
        )
        deleted = connection.exec_driver_sql(
            f"DELETE FROM messages WHERE {where}", tuple(name)
        ).rowcount
        if deleted:
            connection.exec_driver_sql(
                f"DELETE FROM matching WHERE provider = {mark} "
                f"AND NOT EXISTS (SELECT 1 FROM messages WHERE provider = {mark})",
                (provider, provider),
            )
            self._on.discard(provider)
        return deleted


class Fresh:
    """Messages of one request that are not registered yet."""

    def __init__(self) -> None:
        self.messages: dict[Key, Message] = {}
        self._named: dict[Name, list[Key]] = {}

    def add(self, key: Key, message: Message) -> str:
        """Add `message`, or what it says more of one that was added before; says which."""
        name = (min((key[0], *spellings(key[0]))), key[1])  # the same for all spellings
        keys = self._named.setdefault(name, [])
        same = next((each for each in keys if each[2] == key[2]), None)
        if same is None and keys and not key[2]:
            same = keys[0]
        elif same is None and key[2]:
            same = next((each for each in keys if not each[2]), None)
        if same is None:
            keys.append(key)
            self.messages[key] = message
            return "registered"
        before = self.messages[same]
        changes = _changes(message, before)
        if key[2] and not same[2]:
            changes["recipient"] = message.recipient
            del self.messages[same]
            keys[keys.index(same)] = same = (same[0], same[1], key[2])
        self.messages[same] = before._replace(**changes)
        return "updated" if changes else "unchanged"


def _registered(known: Candidates, key: Key, current: Mapping[int, Row]) -> Row | None:
    """The row of `messages` that `key` is about. One without a recipient is about the message
    whatever its recipient, and the other way round: it is one message of which more is known.

    :param current: rows that changed since they were looked up, by id.
    """
    recipient_key = key[2]
    for name in known.names(key):
        row = known.rows.get((*name, recipient_key))
        span = known.spans.get(name)
        if row is None and span is not None:
            row = known.only(name, span, recipient_key)
            if row is None and not recipient_key:
                # Several recipients are registered: without one, nothing more is said of any.
                row = known.rows[(*name, span[0])]
        if row is not None:
            row = current.get(row.id, row)
            if not recipient_key or row.recipient_key in ("", recipient_key):
                return row
            if e164(row.recipient_key) == recipient_key:
                return row  # an earlier version wrote the number in another form
    return None


def _key(row: Row) -> Key:
    return row.message_key, row.provider, row.recipient_key


def message_row_key(message: Message, region: str | None) -> Key:
    """The key of the row that `message` has."""
    recipient = e164(message.recipient, region) if message.recipient else ""
    return match_key(message.message_id), message.provider, recipient


def _changes(message: Message, known: Any) -> dict[str, Any]:
    """What `message` says otherwise than is known of it (a row, or an earlier registration);
    None says nothing."""
    return {
        name: value
        for name in ("sender", "reference", "parts", "sent_at")
        if (value := getattr(message, name)) is not None and value != getattr(known, name)
    }
