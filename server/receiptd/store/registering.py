"""Registering the messages that an application sent, and forgetting them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Connection

from receiptd.message import Message
from receiptd.receipt import State, match_key
from receiptd.store.candidates import Key, Row, Tracked
from receiptd.store.matching import Matching
from receiptd.store.phone import e164


class Registering(Matching):
    """Matching that also registers messages, in transactions of others."""

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
                "ON CONFLICT DO NOTHING".replace("{0}", self._lookup.mark),
                (provider, self._time(now)),
            ).rowcount
            if added:
                self._first.add(provider)
        keys = [message_row_key(message, regions.get(message.provider)) for message in messages]
        existing = self._lookup.rows(connection, set(keys))
        fresh: dict[Key, Message] = {}
        results = []
        for message, key in zip(messages, keys, strict=True):
            if key in existing:
                changed = self._update(connection, message, existing[key])
                if changed:
                    existing |= self._lookup.rows(connection, [key])
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
            self._adopt(connection, {(key[0], key[1]) for key in fresh})
        return results

    def _insert(self, connection: Connection, fresh: Mapping[Key, Message], now: datetime) -> None:
        registered_at = self._time(now)
        connection.exec_driver_sql(
            "INSERT INTO messages (registered_at, provider, message_id, message_key, recipient, "
            "recipient_key, sender, reference, parts, state, final, delivered) VALUES "
            "({0}, {0}, {0}, {0}, {0}, {0}, {0}, {0}, {0}, {0}, {0}, {0})".replace(
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
                    State.ENROUTE.value,
                    False,
                    0,
                )
                for (message_key, _, recipient_key), message in fresh.items()
            ],
        )

    def _update(self, connection: Connection, message: Message, row: Row) -> bool:
        """Take over what differs; whether anything did."""
        changes = _changes(message, row)
        if not changes:
            return False
        assignments = ", ".join(f"{name} = {self._lookup.mark}" for name in changes)
        connection.exec_driver_sql(
            f"UPDATE messages SET {assignments} WHERE id = {self._lookup.mark}",
            (*changes.values(), row.id),
        )
        if "parts" in changes:
            tracked = Tracked(row)
            tracked.parts, tracked.changed = message.parts, True
            self.save(connection, [tracked])
        return True

    def delete(
        self,
        connection: Connection,
        provider: str,
        message_id: str,
        recipient_key: str | None = None,
    ) -> int:
        """Forget a message: every row of the identifier, whatever its recipients, or the one row
        whose recipient compares as `recipient_key`. Receipts stay as they are, verdict included,
        and are about no message any more.

        With a provider's last message `match = "auto"` is off for it again, also in servers
        that run: these look again whenever a receipt matches nothing.

        :returns: how many rows were deleted.
        """
        mark = self._lookup.mark
        where = f"provider = {mark} AND message_key = {mark}"
        name = [provider, match_key(message_id)]
        if recipient_key is not None:
            where += f" AND recipient_key = {mark}"
            name.append(recipient_key)
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
