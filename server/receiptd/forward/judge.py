"""What follows from what a destination has answered."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

from twisted.logger import Logger

from receiptd.config.forward import Forward
from receiptd.forward.breaker import Breaker
from receiptd.forward.destinations import Fault, Outcome
from receiptd.forward.lanes import LIVE, REPLAYED, Item
from receiptd.forward.metrics import ForwardMetrics
from receiptd.forward.outbox import Outbox
from receiptd.forward.schedule import is_over, jittered

SOON = 1.0
"""Seconds after which an event is sent again that failed by the destination's fault."""

LONELY = 3
"""So often an event may fail by what looks like the destination's fault while the destination
takes others: then it is the event's."""

_log = Logger(namespace="receiptd.forward")


class Judge:
    """Decides for one destination. Times are seconds of a monotonic clock."""

    def __init__(self, config: Forward, metrics: ForwardMetrics) -> None:
        self.config = config
        self.name = config.name
        self._metrics = metrics
        self.breaker = Breaker(config.concurrency)
        self.busy_until = 0.0
        """Before which nothing is sent."""
        self._taken = 0
        self._healthy = True
        """Whether nothing has failed by the destination's fault since it last took something."""

    def begin_anew(self) -> None:
        """Somebody has given an order: what was known of the destination does not count."""
        self.breaker = Breaker(self.config.concurrency)
        self.busy_until = 0.0

    def judge(
        self, outbox: Outbox, items: Sequence[Item], outcomes: Sequence[Outcome], now: float
    ) -> None:
        """Do what follows for each item."""
        faults = {each.fault for each in outcomes}
        if faults & {Fault.NONE, Fault.EVENT, Fault.TOO_LARGE, Fault.ABORT}:
            self._destination_works()
        if len(items) > 1 and len(set(outcomes)) == 1 and faults & {Fault.TOO_LARGE, Fault.EVENT}:
            for item in items:
                outbox.lanes.again(item, now)
            _halve(items)
            return
        if Fault.DESTINATION in faults:
            self._destination_failed(outbox, items, outcomes, now)
        for item, outcome in zip(items, outcomes, strict=True):
            if outcome.fault is Fault.NONE:
                self._took(outbox, item)
            elif outcome.fault in (Fault.EVENT, Fault.TOO_LARGE):
                self._refused(outbox, item, outcome, now)
            elif outcome.fault is Fault.ABORT:
                self.die(outbox, item, outcome.text, outcome.answer)
            elif outcome.fault is Fault.BUSY:
                self._wait(outbox, item, outcome, now)
            elif outcome.fault is Fault.PAUSE:
                self._paused_itself(outbox, item, outcome, now)

    def _destination_works(self) -> None:
        """It has answered as an application that works does."""
        if self.breaker.succeeded():
            _log.info("{name}: the destination takes events again", name=self.name)

    def _took(self, outbox: Outbox, item: Item) -> None:
        self._taken += 1
        self._healthy = True
        self._metrics.events[self.name, "taken"] += 1
        if item.event is not None and item.source == LIVE:
            lag = (datetime.now(UTC) - item.event.at).total_seconds()
            self._metrics.lag.observe(max(lag, 0.0), self.name)
        outbox.took(item)

    def _refused(self, outbox: Outbox, item: Item, outcome: Outcome, now: float) -> None:
        """It is the event's fault, or the application's: again on the schedule, then dead. One
        that is told again by a replay is dead at once."""
        today = datetime.now(UTC)
        item.failures += 1
        item.error, item.answer = outcome.text, outcome.answer
        item.first_failed = item.first_failed or today
        item.group = ()
        outbox.ledger.error = (outcome.text, today)
        given_up = is_over(item.first_failed, today, self.config.give_up)
        if given_up or item.source == REPLAYED:
            self.die(outbox, item, outcome.text, outcome.answer)
        else:
            self._metrics.events[self.name, "refused"] += 1
            outbox.park(item, now)

    def die(self, outbox: Outbox, item: Item, error: str, answer: str = "") -> None:
        """A person has to decide."""
        outbox.ledger.error = (error, datetime.now(UTC))
        self._metrics.events[self.name, "dead"] += 1
        _log.error(
            "{name}: event {event} is a dead letter after {attempts} attempts: {error}",
            name=self.name,
            event=item.event_id,
            attempts=item.attempts,
            error=error,
        )
        outbox.die(item, error, answer)

    def _wait(self, outbox: Outbox, item: Item, outcome: Outcome, now: float) -> None:
        """It wants to be left alone for a while."""
        self._metrics.events[self.name, "failed"] += 1
        self.busy_until = max(self.busy_until, now + (outcome.retry_after or 0.0))
        outbox.ledger.error = (outcome.text, datetime.now(UTC))
        outbox.lanes.again(item, self.busy_until)

    def _paused_itself(self, outbox: Outbox, item: Item, outcome: Outcome, now: float) -> None:
        if outbox.ledger.pause is None:
            _log.error("{name}: forwarding is paused: {text}", name=self.name, text=outcome.text)
        outbox.ledger.pause = f"the destination {outcome.text}"
        outbox.ledger.error = (outcome.text, datetime.now(UTC))
        self.busy_until = now + SOON  # until that is written
        outbox.lanes.again(item, now)

    def _destination_failed(
        self, outbox: Outbox, items: Sequence[Item], outcomes: Sequence[Outcome], now: float
    ) -> None:
        """The destination is away, or broken: nothing counts against its events, unless it takes
        others meanwhile."""
        failed = [
            (item, outcome)
            for item, outcome in zip(items, outcomes, strict=True)
            if outcome.fault is Fault.DESTINATION
        ]
        text = failed[0][1].text
        outbox.ledger.error = (text, datetime.now(UTC))
        if len(items) == 1 and items[0].failures and self._healthy:
            # It is known to break an application that takes others.
            self._refused(outbox, *failed[0], now)
            return
        self._healthy = False
        probed = self.breaker.open
        if self.breaker.failed(now):
            _log.error(
                "{name}: the destination fails: {error}. It is tried again every now and then; "
                "what waits stays",
                name=self.name,
                error=text,
            )
        when = now + jittered(SOON)
        if self.breaker.open:
            # The next probe is another event, so that one that breaks the application does not
            # keep it from being found well.
            when = self.breaker.next_probe + (SOON if probed else 0.0)
        for item, outcome in failed:
            self._metrics.events[self.name, "failed"] += 1
            if item.attempts > 1 and self._taken > item.seen:
                item.lonely += 1
            item.seen = self._taken
            if item.lonely >= LONELY and (len(items) == 1 or len(failed) < len(items)):
                item.lonely = 0
                self._refused(outbox, item, outcome, now)
                continue
            item.group = tuple(items) if len(items) > 1 and len(failed) == len(items) else ()
            outbox.lanes.again(item, when)
        if len(items) > 1 and items[0].lonely >= LONELY and items[0].group:
            _halve(items)


def _halve(items: Sequence[Item]) -> None:
    """Each half of a batch is sent by itself from now on: only one of them may be to blame."""
    middle = len(items) // 2
    for half in (items[:middle], items[middle:]):
        for item in half:
            item.group = tuple(half)
