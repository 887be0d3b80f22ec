"""Sends one destination what it is to be told: all parts of forwarding at work together.

While it has the destination's lease, it reads events a page at a time into an `Outbox`, which says
what may go, has the `Destination` send it, and the `Judge` decide what follows. Twice a second at
most it writes to the database how far it has come (`forward_state.Progress`); what was sent since
is sent again after a crash.

Longer than 300 lines because the lease, the rounds and what follows from an answer take turns
on one state.
"""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic
from typing import Any, Protocol, TypeVar

from sqlalchemy import Connection
from sqlalchemy.exc import SQLAlchemyError
from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import Logger

from receiptd.config.forward import Forward
from receiptd.forward.destinations import Destination, Fault, Outcome
from receiptd.forward.events import Delivery, Event
from receiptd.forward.judge import Judge
from receiptd.forward.lanes import Item
from receiptd.forward.metrics import ForwardMetrics
from receiptd.forward.outbox import MOST_PARKED, PAGE, Outbox
from receiptd.store import event_reader, forward_state
from receiptd.store.database.errors import StoreError, cause
from receiptd.store.forward_state import Parked, Place

LEASE = 15.0
"""Seconds that a lease holds unless it is renewed."""

RENEW = 2.0
"""Seconds after which it is renewed though there is nothing to write."""

TRY_AGAIN = 1.0
"""Seconds after which a lease that another one has is asked for again, and a database that did not
answer."""

FLUSH = 0.5
"""Seconds between two writes to the database."""

POLL = 0.015
"""Seconds between two looks for new events, where all that was there is sent."""

_log = Logger(namespace="receiptd.forward")

T = TypeVar("T")


class Database(Protocol):
    """The store, as a sender uses it: in threads."""

    def read(self, function: Callable[[Connection], T], /) -> Deferred[T]:
        """What `function` returns, in a transaction that only reads."""

    def write(self, function: Callable[[Connection], T], /) -> Deferred[T]:
        """What `function` returns, in a transaction that may write; after its commit."""


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
        self._database = database
        self._reactor = reactor
        self._metrics = metrics
        self._store = store
        self._owner = owner
        self._clock = clock
        self._judge = Judge(config, metrics)
        self._outbox = Outbox(config)
        """Made anew whenever its state is read: answers to what another one sent do not count."""
        self._place: Place | None = None
        self._running = False
        self._timer: Any = None
        self._working = False
        """Whether the database is at work for it."""
        self._in_flight = 0
        self._renewed = 0.0
        self._rest_until = 0.0
        self._looked = float("-inf")
        self._next_start = 0.0
        self._idle: Deferred[None] | None = None
        self._lease_trouble = False
        self._ordered_anew = False
        """Whether somebody has given an order that is to be followed."""

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
        if self._place is not None and not self._working:
            place = self._place
            try:
                await self._flush()
                await self._database.write(
                    lambda connection: forward_state.release(connection, self.name, place.lease)
                )
            except Exception as error:
                _log.warn(
                    "{name}: how far it has come could not be written, so what was sent last is "
                    "sent again: {error}",
                    name=self.name,
                    error=error,
                )
        self._place = None
        self._metrics.in_flight.pop(self.name, None)
        await self._destination.close()

    def renew(self, config: Forward) -> bool:
        """Go by a new configuration from now on, if its connections may stay; whether they may."""
        fixed = {"concurrency", "per_second", "give_up", "on_dead"}
        if config.model_dump(exclude=fixed) != self.config.model_dump(exclude=fixed):
            return False
        self.config = self._judge.config = self._outbox.config = config
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
        now = self._clock()
        if now < self._rest_until:
            return None
        if self._place is None:
            return self._take if now >= self._looked + TRY_AGAIN else None
        if now >= self._renewed + RENEW or (self._dirty and now >= self._renewed + FLUSH):
            return self._flush_and_follow
        if self._ordered_anew:
            return self._obey if not self._in_flight else None
        if self._place.paused:
            return None
        if self._outbox.missing:
            return self._read_missing
        if self._wants_more and (not self._outbox.caught_up or now >= self._looked + POLL):
            return self._read
        return None

    def _pause_seconds(self) -> float:
        now = self._clock()
        if self._place is None:
            return TRY_AGAIN
        if now < self._rest_until:
            return self._rest_until - now
        ends = [self._renewed + RENEW]
        if self._ordered_anew:
            return 0.01
        if self._dirty:
            ends.append(self._renewed + FLUSH)
        if not self._place.paused:
            if self._wants_more:
                ends.append(self._looked + POLL)
            if self._judge.breaker.open:
                ends.append(self._judge.breaker.next_probe)
            elif (due := self._outbox.lanes.next_time()) is not None:
                ends.append(due)
            ends += [each for each in (self._judge.busy_until, self._next_start) if each > now]
            ends += [each for each in self._outbox.next_replay() if each > now]
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
        elif not self._lease_trouble:
            self._lease_trouble = True
            _log.error(
                "{name}: forwarding waits for the database: {error}",
                name=self.name,
                error=cause(failure.value),
            )
        self._rest_until = self._clock() + TRY_AGAIN

    # --- What the database does

    async def _take(self) -> None:
        """Try to get the lease."""
        self._looked = self._clock()
        if not await self._database.read(
            lambda connection: forward_state.lease_is_free(connection, self.name)
        ):
            return
        begun = self._clock()

        def take(connection: Connection) -> Place | None:
            forward_state.register(connection, [self.name])
            return forward_state.take_lease(connection, self.name, self._owner, LEASE)

        place = await self._database.write(take)
        if place is None:
            return
        self._lease_trouble = False
        self._renewed = begun
        self._place = place
        await self._load()
        _log.info(
            "{name}: forwarding goes on behind event {position}{paused}",
            name=self.name,
            position=place.position,
            paused=", paused" if place.paused else "",
        )

    async def _load(self) -> None:
        """Read what is parked and which replays run, and begin at the position."""
        self._outbox = Outbox(self.config)

        def read(connection: Connection) -> tuple[list[Parked], list[Any]]:
            return (
                forward_state.parked(connection, self.name, 2 * MOST_PARKED),
                forward_state.replays(connection, self.name, running=True),
            )

        parked, replays = await self._database.read(read)
        place = self._place
        assert place is not None
        self._ordered_anew = False
        self._outbox = Outbox(self.config, place.position, parked, replays, self._clock())

    @property
    def _dirty(self) -> bool:
        return self._place is not None and self._outbox.is_dirty(self._place.position)

    async def _flush_and_follow(self) -> None:
        if await self._flush():
            return
        if self._place is None:
            _log.warn("{name}: another process forwards to it now", name=self.name)
            self._give_up_place()
        else:
            _log.info(
                "{name}: forwarding goes on behind event {position}",
                name=self.name,
                position=self._place.position,
            )
            await self._load()

    async def _flush(self) -> bool:
        """Write how far it has come; False where nothing was written, since the place is another
        one by now."""
        place = self._place
        assert place is not None
        begun = self._clock()
        outbox = self._outbox
        progress, changes = outbox.collect(breaker_open=self._judge.breaker.open)
        try:
            written = await self._database.write(
                lambda connection: forward_state.write(
                    connection, self.name, place, progress, LEASE
                )
            )
        except Exception:
            # Whether it was written nobody knows. Written again it says the same.
            outbox.put_back(changes)
            raise
        self._lease_trouble = False
        self._place = written.place
        if written.place is None or not written.done:
            return False
        self._renewed = begun
        outbox.written()
        if written.place.orders != place.orders + (progress.pause is not None):
            self._ordered_anew = True
        return True

    async def _obey(self) -> None:
        """Somebody has given an order: begin anew with what the tables say, now that nothing is
        under way."""
        if not await self._flush() and self._place is None:
            self._give_up_place()
            return
        assert self._place is not None
        _log.info(
            "{name}: forwarding {goes}",
            name=self.name,
            goes="is paused" if self._place.paused else "goes on as it was told",
        )
        self._judge.begin_anew()
        await self._load()

    def _give_up_place(self) -> None:
        """Another process has it, or it was forgotten."""
        self._outbox = Outbox(self.config)
        self._looked = float("-inf")

    @property
    def _wants_more(self) -> bool:
        outbox = self._outbox
        if self._judge.breaker.open and outbox.holds_any:
            return False
        return outbox.has_room or outbox.due_replay(self._clock()) is not None

    async def _read(self) -> None:
        """Read the next events, and what is to be told again."""
        outbox = self._outbox
        self._looked = self._clock()
        position, live = outbox.read_to, outbox.has_room
        again = outbox.wants_again
        replay = outbox.due_replay(self._looked)
        raw = self.config.raw

        def read(connection: Connection) -> tuple[list[Event], list[Parked], list[Event]]:
            page: list[Event] = []
            more: list[Parked] = []
            told: list[Event] = []
            if live and event_reader.newest(connection) > position:
                page = event_reader.page(connection, position, PAGE, raw=raw)
            if again:
                more = forward_state.again(connection, self.name, outbox.again_read_to, PAGE)
            if replay is not None:
                told = event_reader.page(connection, replay.read_to, replay.room, raw=raw)
            return page, more, told

        page, more, told = await self._database.read(read)
        if outbox is not self._outbox:
            return
        self._metrics.events[self.name, "filtered"] += outbox.add(page)
        if again:
            outbox.add_again(more)
        if replay is not None:
            outbox.add_replayed(replay, told)
        outbox.caught_up = not more and not told and len(page) < PAGE

    async def _read_missing(self) -> None:
        """Read again what is due and was put out of memory."""
        outbox = self._outbox
        some, outbox.missing = outbox.missing[:PAGE], outbox.missing[PAGE:]
        raw = self.config.raw
        found = await self._database.read(
            lambda connection: event_reader.by_number(
                connection, [each.event_id for each in some], raw=raw
            )
        )
        if outbox is not self._outbox:
            return
        for item in some:
            event = found.get(item.event_id)
            if event is not None and event.receipt is None and event.message is None:
                outbox.drop(item)  # what it was about is forgotten: there is nothing to tell
            elif event is not None:
                outbox.found(item, event, self._clock())
            else:  # somebody has deleted it from the database by hand
                self._judge.die(outbox, item, "the event is not in the database any more")

    # --- Sending

    def _pump(self) -> None:
        """Send what may be sent now."""
        place = self._place
        if place is None or place.paused or self._ordered_anew or not self._running:
            return
        now = self._clock()
        if now - self._renewed >= LEASE - 1.0:
            return  # the lease may have run out: somebody else may send
        while self._judge.breaker.allows(self._in_flight, now) and now >= max(
            self._next_start, self._judge.busy_until
        ):
            items = self._outbox.next_items(now)
            if not items:
                return
            if self.config.per_second:
                self._next_start = max(self._next_start, now - 0.1) + 1 / self.config.per_second
            self._in_flight += 1
            self._metrics.in_flight[self.name] = self._in_flight
            Deferred.fromCoroutine(self._send(items)).addErrback(_mistake)

    async def _send(self, items: tuple[Item, ...]) -> None:
        outbox = self._outbox
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
        if outbox is self._outbox:
            self._judge.judge(outbox, items, outcomes, self._clock())
        if self._idle is not None and not self._in_flight and not self._working:
            idle, self._idle = self._idle, None
            idle.callback(None)
        if self._running:
            self._pump()
            self._schedule(0 if self._outbox.missing else self._pause_seconds())


def _mistake(failure: Any) -> None:
    _log.failure("sending", failure=failure)
