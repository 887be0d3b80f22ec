"""What statistics add up to: counts, the delivery rate and the delivery times."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any

from receiptd.store.delivery_times import percentile


@dataclass(slots=True)
class Sums:
    """What was counted of one group."""

    receipts: int = 0
    delivered: int = 0
    """Receipts of kind `sent` or `delivery`: by which state they report."""
    failed: int = 0
    pending: int = 0
    mismatched: int = 0
    """Receipts that no registered message explains."""
    messages: int = 0
    """Messages that are finished."""
    messages_delivered: int = 0
    messages_given_up: int = 0
    """Finished without a final state."""
    rejected: int = 0
    times: Counter[int] = field(default_factory=Counter)
    """Of messages that were delivered; of a group by `state`, of all in it."""

    def json(self, shown: Collection[str]) -> dict[str, Any]:
        """By the keys that are used everywhere.

        :param shown: of `receipts`, `messages` and `rejected` those that the groups can be of;
            what is not counted by what was asked for is null.
        """
        of_receipts, of_messages = "receipts" in shown, "messages" in shown
        rate, of = self._rate()
        return {
            "receipts": self.receipts if of_receipts else None,
            "receipts_delivered": self.delivered if of_receipts else None,
            "receipts_failed": self.failed if of_receipts else None,
            "receipts_pending": self.pending if of_receipts else None,
            "receipts_mismatched": self.mismatched if of_receipts else None,
            "messages": self.messages if of_messages else None,
            "messages_delivered": self.messages_delivered if of_messages else None,
            "messages_given_up": self.messages_given_up if of_messages else None,
            "rejected": self.rejected if "rejected" in shown else None,
            "delivery_rate": rate,
            "delivery_rate_of": of,
            **{name: percentile(self.times, percent) for name, percent in _PERCENTILES},
        }

    def _rate(self) -> tuple[float | None, str | None]:
        """The delivery rate: of the messages that are finished, or where none was registered of
        the receipts with a final state."""
        if self.messages:
            return round(self.messages_delivered / self.messages, 6), "messages"
        final = self.delivered + self.failed
        return (round(self.delivered / final, 6), "receipts") if final else (None, None)


_PERCENTILES = (("p50_seconds", 50.0), ("p95_seconds", 95.0), ("p99_seconds", 99.0))

NUMBERS = tuple(Sums().json(()))
"""The keys of what is counted, in the order in which they are shown."""
