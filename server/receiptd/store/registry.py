"""Registering messages from outside a server, while servers run on the same database.

What a server's writer does in its transactions is done here in transactions of the same kind:
with the database's write turn, and by the same `Registering`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime

from sqlalchemy import Connection, Engine

from receiptd.message import Message
from receiptd.store.database.write_turns import WriteTurns
from receiptd.store.matching import Policy
from receiptd.store.phone import e164
from receiptd.store.registering import Registering


class Registry:
    """Registers messages; what is returned is on disk."""

    def __init__(
        self,
        engine: Engine,
        policies: Mapping[str, Policy],
        regions: Mapping[str, str | None],
        *,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        """
        :param engine: opened for writing.
        :param policies: by endpoint name, as the server's.
        :param regions: by provider, as the server's.
        """
        self._turns = WriteTurns(engine)
        self._matching = Registering(engine, policies)
        self._regions = regions
        self._now = now

    @property
    def batch(self) -> int:
        """How many messages are best registered at once."""
        return self._turns.batch

    @property
    def adopted(self) -> int:
        """How many receipts, come earlier, were found to be about what was registered here."""
        return self._matching.adopted

    def register(self, messages: Sequence[Message]) -> list[str]:
        """Register `messages`; returns for each what `Registering.register` says of it.

        Each transaction takes `batch` of them: where one fails, those before it stay
        registered, and registering all of them again does no harm.

        :raises StoreTaken: where the database stays locked.
        """
        results: list[str] = []
        while len(results) < len(messages):
            some = messages[len(results) : len(results) + self._turns.batch]

            def register(connection: Connection, some: Sequence[Message] = some) -> list[str]:
                return self._matching.register(connection, some, self._now(), self._regions)

            results += self._turns.take(register)
        return results

    def delete(self, provider: str, message_id: str, recipient: str | None = None) -> int:
        """Delete the message of this identifier, or its row for one recipient; returns how many
        rows that were, one for each recipient. `Registering.delete` says what becomes of its
        receipts and of `auto`.

        :raises StoreError: where the database stays locked.
        """
        key = None if recipient is None else e164(recipient, self._regions.get(provider))
        return self._turns.take(
            lambda connection: self._matching.delete(connection, provider, message_id, key)
        )
