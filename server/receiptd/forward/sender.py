"""Sends one destination what it is to be told: all parts of forwarding at work together.

While it has the destination's `Lease`, events are read a page at a time into an `Outbox`, which
says what may go. The `Destination` sends it, and the `Judge` decides what follows. Twice a second
at most the lease writes to the database how far it has come (`forward_state.Progress`); what was
sent since is sent again after a crash.
"""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic
from typing import Any

from sqlalchemy.exc import SQLAlchemyError
from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import Logger

from receiptd.config.forward import Forward
from receiptd.forward.destinations import Destination, Fault, Outcome
from receiptd.forward.events import Delivery
from receiptd.forward.judge import Judge
from receiptd.forward.lanes import Item
from receiptd.forward.lease import LEASE, Database, Lease
from receiptd.forward.metrics import ForwardMetrics
from receiptd.store.database.errors import StoreError, cause

RENEW = 2.0
"""Seconds after which the lease is renewed though there is nothing to write."""

TRY_AGAIN = 1.0
"""Seconds after which a lease that another one has is asked for again, and a database that did not
answer."""

FLUSH = 0.5
"""Seconds between two writes to the database."""

POLL = 0.015
"""Seconds between two looks for new events, where all that was there is sent."""

_log = Logger(namespace="receiptd.forward")


class Sender:
    """Sends to one destination, as long as it has the lease."""

    def __init__(
        self,
        config: Forward,
        destination: Destination,
        database: Database,
        reactor: Any,
        metrics: ForwardMetrics,
        *,
        store: str,
        owner: str,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        """
        :param store: the database's name.
        :param owner: who this process is, for people.
        :param clock: seconds that go on also while the process is stopped.
        """
        self.config = config
        self.name = config.name
        self._destination = destination
        self._reactor = reactor
        self._metrics = metrics
        self._store = store
        self._clock = clock
        self._judge = Judge(config, metrics)
        self._lease = Lease(config, database, self._judge, metrics, owner=owner, clock=clock)
        self._running = False
        self._timer: Any = None
        self._working = False
        """Whether the database is at work for it."""
        self._in_flight = 0
        self._rest_until = 0.0
        self._next_start = 0.0
        self._idle: Deferred[None] | None = None

    # --- Beginning and ending

    async def start(self) -> None:
        """Begin to send, as soon as the lease is there."""
        self._metrics.expect(self.name)
        await self._destination.open()
        self._running = True
        self._schedule(0)

    async def stop(self, patience: float = 5.0) -> None:
        """Begin nothing more, wait for what is under way, write how far it has come, and leave
        the lease to others.

        :param patience: seconds to wait; what is not answered by then is sent again later.
        """
        self._running = False
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._in_flight or self._working:
            self._idle = Deferred()
            await self._idle.addTimeout(patience, self._reactor, lambda *_: None)
        if self._lease.place is not None and not self._working:
            try:
                await self._lease.release()
            except Exception as error:
                _log.warn(
                    "{name}: how far it has come could not be written, so what was sent last is "
                    "sent again: {error}",
                    name=self.name,
                    error=error,
                )
        self._lease.place = None
        self._metrics.in_flight.pop(self.name, None)
        await self._destination.close()

    def renew(self, config: Forward) -> bool:
        """Go by a new configuration from now on, if its connections may stay; whether they may."""
        fixed = {"concurrency", "per_second", "give_up", "on_dead"}
        if config.model_dump(exclude=fixed) != self.config.model_dump(exclude=fixed):
            return False
        self.config = self._judge.config = config
        self._lease.renew(config)
        self._judge.breaker.concurrency = config.concurrency
        return True

    # --- The round

    def _schedule(self, seconds: float) -> None:
        """Have the next round in so many seconds, or earlier."""
        if not self._running:
            return
        if self._timer is not None:
            if self._timer.getTime() <= self._reactor.seconds() + seconds:
                return
            self._timer.cancel()
        self._timer = self._reactor.callLater(seconds, self._round)

    def _round(self) -> None:
        """Do what is to be done now: the database's part in a thread, then the sending."""
        self._timer = None
        if self._working or not self._running:
            return
        work = self._next_work()
        if work is not None:
            self._working = True
            Deferred.fromCoroutine(work()).addErrback(self._failed).addBoth(self._worked)
        self._pump()
        if work is None:
            self._schedule(self._pause_seconds())

    def _next_work(self) -> Any:
        """What the database is needed for most; None for nothing."""
        now, lease = self._clock(), self._lease
        if now < self._rest_until:
            return None
        if lease.place is None:
            return lease.take if now >= lease.looked + TRY_AGAIN else None
        if now >= lease.renewed + RENEW or (lease.dirty and now >= lease.renewed + FLUSH):
            return lease.flush_and_follow
        if lease.ordered_anew:
            return lease.obey if not self._in_flight else None
        if lease.place.paused:
            return None
        if lease.outbox.missing:
            return lease.read_missing
        if lease.wants_more and (not lease.outbox.caught_up or now >= lease.looked + POLL):
            return lease.read
        return None

    def _pause_seconds(self) -> float:
        now, lease = self._clock(), self._lease
        if lease.place is None:
            return TRY_AGAIN
        if now < self._rest_until:
            return self._rest_until - now
        ends = [lease.renewed + RENEW]
        if lease.ordered_anew:
            return 0.01
        if lease.dirty:
            ends.append(lease.renewed + FLUSH)
        if not lease.place.paused:
            if lease.wants_more:
                ends.append(lease.looked + POLL)
            if self._judge.breaker.open:
                ends.append(self._judge.breaker.next_probe)
            elif (due := lease.outbox.lanes.next_time()) is not None:
                ends.append(due)
            ends += [each for each in (self._judge.busy_until, self._next_start) if each > now]
            ends += [each for each in lease.outbox.next_replay() if each > now]
        return max(min(ends) - now, 0.005)

    def _worked(self, _result: object) -> None:
        self._working = False
        if self._idle is not None and not self._in_flight:
            idle, self._idle = self._idle, None
            idle.callback(None)
        self._schedule(0)

    def _failed(self, failure: Any) -> None:
        """The database does not answer: go on when it does. The lease runs out meanwhile."""
        if not failure.check(SQLAlchemyError, StoreError):
            _log.failure("{name}: forwarding", name=self.name, failure=failure)
        elif not self._lease.troubled:
            self._lease.troubled = True
            _log.error(
                "{name}: forwarding waits for the database: {error}",
                name=self.name,
                error=cause(failure.value),
            )
        self._rest_until = self._clock() + TRY_AGAIN

    # --- Sending

    def _pump(self) -> None:
        """Send what may be sent now."""
        place = self._lease.place
        if place is None or place.paused or self._lease.ordered_anew or not self._running:
            return
        now = self._clock()
        if now - self._lease.renewed >= LEASE - 1.0:
            return  # the lease may have run out: somebody else may send
        while self._judge.breaker.allows(self._in_flight, now) and now >= max(
            self._next_start, self._judge.busy_until
        ):
            items = self._lease.outbox.next_items(now)
            if not items:
                return
            if self.config.per_second:
                self._next_start = max(self._next_start, now - 0.1) + 1 / self.config.per_second
            self._in_flight += 1
            self._metrics.in_flight[self.name] = self._in_flight
            Deferred.fromCoroutine(self._send(items)).addErrback(_mistake)

    async def _send(self, items: tuple[Item, ...]) -> None:
        outbox = self._lease.outbox
        for item in items:
            item.attempts += 1
        delivery = Delivery(
            self._store,
            tuple(item.event for item in items if item.event is not None),
            max(item.attempts for item in items),
            items[0].replay,
            batched=self.config.batch > 1,
        )
        begun = self._clock()
        try:
            outcomes = await self._destination.send(delivery)
        except (Exception, CancelledError) as error:
            _log.failure("{name}: sending", name=self.name)
            outcomes = [Outcome(Fault.DESTINATION, f"{type(error).__name__}")] * len(items)
        self._metrics.attempts.observe(self._clock() - begun, self.name)
        self._in_flight -= 1
        self._metrics.in_flight[self.name] = self._in_flight
        if outbox is self._lease.outbox:
            self._judge.judge(outbox, items, outcomes, self._clock())
        if self._idle is not None and not self._in_flight and not self._working:
            idle, self._idle = self._idle, None
            idle.callback(None)
        if self._running:
            self._pump()
            self._schedule(0 if self._lease.outbox.missing else self._pause_seconds())


def _mistake(failure: Any) -> None:
    _log.failure("sending", failure=failure)
