"""Sends one destination what it is to be told: all parts of forwarding at work together.

While it has the destination's lease, it reads events a page at a time into a window, has `Lanes`
say which may go, the `Breaker` whether any may, and the `Destination` send them. Twice a second
at most it writes to the database how far it has come (`forward_state.Progress`); what was sent
since is sent again after a crash.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from time import monotonic
from typing import Any, Protocol, TypeVar

from sqlalchemy import Connection
from sqlalchemy.exc import SQLAlchemyError
from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import Logger

from receiptd.config.forward import Forward
from receiptd.forward.breaker import Breaker
from receiptd.forward.destinations import Destination, Fault, Outcome
from receiptd.forward.events import Delivery, Event
from receiptd.forward.filters import Filter
from receiptd.forward.lanes import Item, Lanes, Window
from receiptd.forward.metrics import ForwardMetrics
from receiptd.forward.replay import Replay
from receiptd.forward.schedule import delay, is_over, jittered
from receiptd.store import event_reader, forward_state
from receiptd.store.database.engine import StoreError, cause
from receiptd.store.forward_state import Parked, Place, Progress

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

PAGE = 200
"""Events read at once."""

WINDOW = 1000
"""Events behind the position that may be in memory."""

WINDOW_BYTES = 8 * 1024 * 1024
"""Bytes of posts that these may have, where posts are sent."""

MOST_PARKED = 10_000
"""Events that may wait for their schedule, or behind one that does. With more the destination is
in trouble as a whole: nothing new is begun until some of these are dealt with."""

SOON = 1.0
"""Seconds after which an event is sent again that failed by the destination's fault."""

LONELY = 3
"""So often an event may fail by what looks like the destination's fault while the destination
takes others: then it is the event's."""

LIVE, AGAIN, REPLAYED = 0, 1, 2
"""Where an item is from; the smaller goes first."""

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
        self._breaker = Breaker(config.concurrency)
        self._wanted = Filter.of(config)
        self._ordered = config.order == "message"
        self._place: Place | None = None
        self._generation = 0
        """Counts how often the state was read: answers to what was sent before do not count."""
        self._running = False
        self._timer: Any = None
        self._working = False
        """Whether the database is at work for it."""
        self._in_flight = 0
        self._renewed = 0.0
        self._rest_until = 0.0
        self._looked = float("-inf")
        self._next_start = 0.0
        self._busy_until = 0.0
        self._taken = 0
        self._healthy = True
        """Whether nothing has failed by the destination's fault since it last took something."""
        self._idle: Deferred[None] | None = None
        self._lease_trouble = False
        self._empty()

    def _empty(self) -> None:
        self._generation += 1
        self._lanes = Lanes()
        self._window = Window(self._place.position if self._place else 0)
        self._behind = 0
        """How many parked events are in memory."""
        self._changed: dict[int, Item] = {}
        """Parked events that the database has to be told of."""
        self._done: set[int] = set()
        """Parked events that are dealt with, of which the database has to be told."""
        self._dead: list[Parked] = []
        self._settled: list[Item] = []
        self._sent = 0
        self._error: tuple[str, datetime] | None = None
        self._pause: str | None = None
        self._last_sent: datetime | None = None
        self._bytes = 0
        self._missing: list[Item] = []
        self._again_read_to = -1
        self._again_more = True
        self._again_open = 0
        self._replays: list[Replay] = []
        self._caught_up = False
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
        self.config = config
        self._breaker.concurrency = config.concurrency
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
        if self._missing:
            return self._read_missing
        if self._wants_more and (not self._caught_up or now >= self._looked + POLL):
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
            if self._breaker.open:
                ends.append(self._breaker.next_probe)
            elif (due := self._lanes.next_time()) is not None:
                ends.append(due)
            ends += [each for each in (self._busy_until, self._next_start) if each > now]
            ends += [each.next_time for each in self._replays if each.next_time > now]
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
        self._empty()

        def read(connection: Connection) -> tuple[list[Parked], list[Any]]:
            return (
                forward_state.parked(connection, self.name, 2 * MOST_PARKED),
                forward_state.replays(connection, self.name, running=True),
            )

        parked, replays = await self._database.read(read)
        now, today = self._clock(), datetime.now(UTC)
        for row in parked:
            item = Item(row.event_id, row.lanes if self._ordered else (), source=LIVE)
            item.failures, item.attempts = row.failures, row.attempts
            item.first_failed, item.next_at = row.first_failed_at, row.next_at
            item.error, item.answer = row.error or "", row.answer or ""
            item.receipt_id, item.message_ref = row.receipt_id, row.message_ref
            item.stored = True
            self._behind += 1
            if row.status == "dead":
                item.holds = item.parked = True
            elif row.status == "retry":
                item.parked = True
            self._lanes.add(item)
        # Each that waits for its time is taken out of what is ready until then.
        first = []
        while (taken := self._lanes.take(now)) is not None:
            first.append(taken)
        for item in first:
            if item.holds:
                continue
            wait = (item.next_at - today).total_seconds() if item.next_at else 0.0
            self._lanes.again(item, now + max(wait, 0.0))
        self._replays = [Replay(row, now) for row in replays]

    @property
    def _dirty(self) -> bool:
        place = self._place
        return place is not None and bool(
            self._done
            or self._changed
            or self._dead
            or self._sent
            or self._pause
            or self._error
            or self._window.position != place.position
            or any(each.dirty for each in self._replays)
        )

    async def _flush_and_follow(self) -> None:
        if await self._flush():
            return
        if self._place is None:
            _log.warn("{name}: another process forwards to it now", name=self.name)
            self._empty()
            self._looked = float("-inf")
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
        for item in self._window:
            if self._lanes_stuck(item):
                self._changed[item.event_id] = item
                self._settled.append(item)
        changed, self._changed = self._changed, {}
        done, self._done = self._done, set()
        dead, self._dead = self._dead, []
        sent, self._sent = self._sent, 0
        error, self._error = self._error, None
        pause, self._pause = self._pause, None
        for item in self._settled:
            self._window.settle(item)
            self._forget_payload(item)
            if not item.stored:
                item.stored = True
                if not item.parked:
                    self._behind += 1
        self._settled = []
        progress = Progress(
            position=self._window.position,
            parked=[*(self._row(each) for each in changed.values()), *dead],
            done=list(done),
            sent=sent,
            error=error,
            breaker_open=self._breaker.open,
            pause=pause,
            last_sent=self._last_sent,
            replays=[each.progress() for each in self._replays],
        )
        generation = self._generation
        try:
            written = await self._database.write(
                lambda connection: forward_state.write(
                    connection, self.name, place, progress, LEASE
                )
            )
        except Exception:
            if generation == self._generation:
                # Whether it was written nobody knows. If it was, the position says so next time.
                self._changed = changed | self._changed
                self._done |= done
                self._dead = dead + self._dead
                self._sent += sent
                self._error = self._error or error
                self._pause = self._pause or pause
                for each in self._replays:
                    each.not_written()
            raise
        self._lease_trouble = False
        self._place = written.place
        if written.place is None or not written.done:
            return False
        self._renewed = begun
        self._replays = [each for each in self._replays if not each.over]
        if written.place.orders != place.orders + (pause is not None):
            self._ordered_anew = True
        return True

    async def _obey(self) -> None:
        """Somebody has given an order: begin anew with what the tables say, now that nothing is
        under way."""
        if not await self._flush() and self._place is None:
            self._empty()
            self._looked = float("-inf")
            return
        assert self._place is not None
        _log.info(
            "{name}: forwarding {goes}",
            name=self.name,
            goes="is paused" if self._place.paused else "goes on as it was told",
        )
        self._breaker = Breaker(self.config.concurrency)
        self._busy_until = 0.0
        await self._load()

    def _lanes_stuck(self, item: Item) -> bool:
        return item.parked or bool(item.blocked and self._lanes.stuck(item))

    def _row(self, item: Item) -> Parked:
        return Parked(
            item.event_id,
            "retry" if item.parked else "behind",
            False,
            item.lanes if item.source == LIVE else (),
            item.receipt_id,
            item.message_ref,
            item.failures,
            item.attempts,
            item.first_failed,
            item.next_at,
            None,
            item.error or None,
            item.answer or None,
        )

    @property
    def _wants_more(self) -> bool:
        if self._breaker.open and (len(self._window) or self._lanes.items):
            return False
        return (
            len(self._window) < WINDOW
            and self._behind < MOST_PARKED
            and self._bytes < WINDOW_BYTES
        ) or self._wants_replay

    @property
    def _wants_replay(self) -> bool:
        return any(each.wants(self._clock()) for each in self._replays)

    async def _read(self) -> None:
        """Read the next events, and what is to be told again."""
        generation = self._generation
        self._looked = self._clock()
        position = self._window.read_to
        live = len(self._window) < WINDOW and self._behind < MOST_PARKED
        live = live and self._bytes < WINDOW_BYTES
        again = self._again_more and self._again_open == 0
        replay = next((each for each in self._replays if each.wants(self._looked)), None)
        raw = self.config.raw

        def read(connection: Connection) -> tuple[list[Event], list[Parked], list[Event]]:
            page: list[Event] = []
            if live and event_reader.newest(connection) > position:
                page = event_reader.page(connection, position, PAGE, raw=raw)
            more = (
                forward_state.again(connection, self.name, self._again_read_to, PAGE)
                if again
                else []
            )
            told = (
                event_reader.page(connection, replay.read_to, replay.room, raw=raw)
                if replay is not None
                else []
            )
            return page, more, told

        page, more, told = await self._database.read(read)
        if generation != self._generation:
            return
        items = []
        for event in page:
            if self._wanted.fits(event):
                items.append(self._item(event, LIVE))
            else:
                self._metrics.events[self.name, "filtered"] += 1
        if page:
            self._window.add(items, page[-1].id)
        for item in items:
            self._lanes.add(item)
        if again:
            self._again_more = len(more) == PAGE
            for row in more:
                item = Item(row.event_id, (), source=AGAIN)
                item.receipt_id, item.message_ref = row.receipt_id, row.message_ref
                item.attempts = row.attempts
                item.stored = True
                self._again_read_to = row.event_id
                self._again_open += 1
                self._lanes.add(item)
        if replay is not None:
            for event in replay.take(told):
                if self._wanted.fits(event):
                    item = self._item(event, REPLAYED, replay)
                    replay.opened(item)
                    self._lanes.add(item)
        self._caught_up = not more and not told and len(page) < PAGE

    def _item(self, event: Event, source: int, replay: Replay | None = None) -> Item:
        lanes = event.lanes if self._ordered else ()
        if replay is not None:
            lanes = tuple(f"{replay.number} {lane}" for lane in lanes)
        number = replay.number if replay is not None else None
        item = Item(event.id, lanes, event, source=source, replay=number)
        item.receipt_id = event.receipt_id
        item.message_ref = event.message_ref
        self._bytes += len(event.raw or b"")
        return item

    def _forget_payload(self, item: Item) -> None:
        if item.event is not None:
            self._bytes -= len(item.event.raw or b"")
            item.event = None

    async def _read_missing(self) -> None:
        """Read again what is due and was put out of memory."""
        generation = self._generation
        some, self._missing = self._missing[:PAGE], self._missing[PAGE:]
        raw = self.config.raw
        found = await self._database.read(
            lambda connection: event_reader.by_number(
                connection, [each.event_id for each in some], raw=raw
            )
        )
        if generation != self._generation:
            return
        now = self._clock()
        for item in some:
            event = found.get(item.event_id)
            if event is None:  # somebody has deleted it from the database by hand
                self._die(item, "the event is not in the database any more")
                continue
            item.event = event
            self._bytes += len(event.raw or b"")
            self._lanes.again(item, now)

    # --- Sending

    def _pump(self) -> None:
        """Send what may be sent now."""
        place = self._place
        if place is None or place.paused or self._ordered_anew or not self._running:
            return
        now = self._clock()
        if now - self._renewed >= LEASE - 1.0:
            return  # the lease may have run out: somebody else may send
        while self._breaker.allows(self._in_flight, now) and now >= max(
            self._next_start, self._busy_until
        ):
            items = self._next_items(now)
            if not items:
                return
            if self.config.per_second:
                self._next_start = max(self._next_start, now - 0.1) + 1 / self.config.per_second
            self._in_flight += 1
            self._metrics.in_flight[self.name] = self._in_flight
            Deferred.fromCoroutine(self._send(items)).addErrback(_mistake)

    def _next_items(self, now: float) -> tuple[Item, ...]:
        """What the next request tells; nothing where nothing may be told now."""
        found: list[Item] = []
        most = self.config.batch
        while len(found) < most:
            item = self._lanes.take(now)
            if item is None:
                break
            if item.event is None:
                self._missing.append(item)
                continue
            if found and (item.replay != found[0].replay or item.group):
                self._lanes.again(item, now)
                break
            if item.group:
                return self._regroup(item, now)
            found.append(item)
        return tuple(found)

    def _regroup(self, item: Item, now: float) -> tuple[Item, ...]:
        """The items that `item` was sent with before: that very batch is sent again. They come
        back at the same time, so they are taken together."""
        group = item.group
        members = {id(each) for each in group}
        found = {id(item)}
        others = []
        while len(found) < len(group):
            other = self._lanes.take(now)
            if other is None:
                break
            if id(other) in members:
                found.add(id(other))
            else:
                others.append(other)
        for other in others:
            self._lanes.again(other, now)
        return tuple(each for each in group if id(each) in found)

    async def _send(self, items: tuple[Item, ...]) -> None:
        generation = self._generation
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
        if generation == self._generation:
            self._judge(items, outcomes)
        if self._idle is not None and not self._in_flight and not self._working:
            idle, self._idle = self._idle, None
            idle.callback(None)
        if self._running:
            self._pump()
            self._schedule(0 if self._missing else self._pause_seconds())

    def _judge(self, items: Sequence[Item], outcomes: Sequence[Outcome]) -> None:
        """Do what follows from the outcomes."""
        now = self._clock()
        whole = outcomes[0]
        if any(
            each.fault in (Fault.NONE, Fault.EVENT, Fault.TOO_LARGE, Fault.ABORT)
            for each in outcomes
        ):
            self._destination_works()
        if (
            len(items) > 1
            and whole.fault in (Fault.TOO_LARGE, Fault.EVENT)
            and len(set(outcomes)) == 1
        ):
            self._halve(items, now)
            return
        if any(each.fault is Fault.DESTINATION for each in outcomes):
            self._destination_failed(items, outcomes, now)
        taken = 0
        for item, outcome in zip(items, outcomes, strict=True):
            if outcome.fault is Fault.NONE:
                taken += 1
                self._took(item)
            elif outcome.fault in (Fault.EVENT, Fault.TOO_LARGE):
                self._refused(item, outcome)
            elif outcome.fault is Fault.ABORT:
                self._die(item, outcome.text, outcome.answer)
            elif outcome.fault is Fault.BUSY:
                self._wait(item, outcome, now)
            elif outcome.fault is Fault.PAUSE:
                self._paused_itself(item, outcome, now)
        self._taken += taken
        if taken:
            self._healthy = True

    def _destination_works(self) -> None:
        """It has answered as an application that works does."""
        if self._breaker.succeeded():
            _log.info("{name}: the destination takes events again", name=self.name)

    def _halve(self, items: Sequence[Item], now: float) -> None:
        """Each half of a batch is sent by itself: only one of them may be to blame."""
        middle = len(items) // 2
        for half in (items[:middle], items[middle:]):
            for item in half:
                item.group = tuple(half)
                self._lanes.again(item, now)

    def _took(self, item: Item) -> None:
        self._sent += 1
        self._last_sent = datetime.now(UTC)
        self._metrics.events[self.name, "taken"] += 1
        if item.event is not None and item.source == LIVE:
            lag = (self._last_sent - item.event.at).total_seconds()
            self._metrics.lag.observe(max(lag, 0.0), self.name)
        self._finish(item, failed=False)

    def _finish(self, item: Item, *, failed: bool) -> None:
        """`item` is dealt with."""
        self._forget_payload(item)
        item.group = ()
        if item.source == REPLAYED:
            for each in self._replays:
                if each.number == item.replay:
                    each.finished(item, failed=failed)
        else:
            self._changed.pop(item.event_id, None)
            if item.stored:
                self._done.add(item.event_id)
                if item.source == AGAIN:
                    self._again_open -= 1
                else:
                    self._behind -= 1
            self._window.settle(item)
        self._lanes.finish(item)

    def _refused(self, item: Item, outcome: Outcome) -> None:
        """It is the event's fault, or the application's: again on the schedule, then dead."""
        today = datetime.now(UTC)
        item.failures += 1
        item.error, item.answer = outcome.text, outcome.answer
        item.first_failed = item.first_failed or today
        item.group = ()
        self._error = (outcome.text, today)
        if is_over(item.first_failed, today, self.config.give_up):
            self._die(item, outcome.text, outcome.answer)
            return
        self._metrics.events[self.name, "refused"] += 1
        if item.source == REPLAYED:
            self._die(item, outcome.text, outcome.answer)
            return
        seconds = delay(item.failures)
        item.next_at = today + timedelta(seconds=seconds)
        item.parked = True
        if not item.stored and item.source == LIVE:
            self._behind += 1
        self._changed[item.event_id] = item
        self._settled.append(item)
        self._forget_payload(item)
        self._lanes.again(item, self._clock() + seconds)

    def _die(self, item: Item, error: str, answer: str = "") -> None:
        """A person has to decide."""
        today = datetime.now(UTC)
        self._error = (error, today)
        self._metrics.events[self.name, "dead"] += 1
        holds = self.config.on_dead == "hold" and item.source == LIVE and self._ordered
        _log.error(
            "{name}: event {event} is a dead letter after {attempts} attempts: {error}",
            name=self.name,
            event=item.event_id,
            attempts=item.attempts,
            error=error,
        )
        row = self._row(item)._replace(
            status="dead", holds=holds, died_at=today, next_at=None, error=error, answer=answer
        )
        self._dead.append(row)
        if holds:
            item.holds = item.parked = True
            self._forget_payload(item)
            self._window.settle(item)
            self._changed.pop(item.event_id, None)
            if not item.stored:
                item.stored = True
                self._behind += 1
            return
        if item.source == REPLAYED:
            self._finish(item, failed=True)
            return
        # Its row stays, so it is not among those that are done.
        self._finish(item, failed=True)
        self._done.discard(item.event_id)

    def _wait(self, item: Item, outcome: Outcome, now: float) -> None:
        """It wants to be left alone for a while."""
        self._metrics.events[self.name, "failed"] += 1
        wait = outcome.retry_after or 0.0
        self._busy_until = max(self._busy_until, now + wait)
        self._error = (outcome.text, datetime.now(UTC))
        self._lanes.again(item, self._busy_until)

    def _paused_itself(self, item: Item, outcome: Outcome, now: float) -> None:
        if self._pause is None:
            _log.error("{name}: forwarding is paused: {text}", name=self.name, text=outcome.text)
        self._pause = f"the destination {outcome.text}"
        self._busy_until = now + 2 * FLUSH
        self._error = (outcome.text, datetime.now(UTC))
        self._lanes.again(item, now)

    def _destination_failed(
        self, items: Sequence[Item], outcomes: Sequence[Outcome], now: float
    ) -> None:
        """The destination is away, or broken: nothing counts against its events, unless it takes
        others meanwhile."""
        failed = [
            (item, outcome)
            for item, outcome in zip(items, outcomes, strict=True)
            if outcome.fault is Fault.DESTINATION
        ]
        text = failed[0][1].text
        self._error = (text, datetime.now(UTC))
        if len(items) == 1 and items[0].failures and self._healthy:
            # It is known to break an application that takes others.
            self._refused(*failed[0])
            return
        self._healthy = False
        probed = self._breaker.open
        if self._breaker.failed(now):
            _log.error(
                "{name}: the destination fails: {error}. It is tried again every now and then; "
                "what waits stays",
                name=self.name,
                error=text,
            )
        when = now + jittered(SOON)
        if self._breaker.open:
            # The next probe is another event, so that one that breaks the application does not
            # keep it from being found well.
            when = self._breaker.next_probe + (SOON if probed else 0.0)
        for item, outcome in failed:
            self._metrics.events[self.name, "failed"] += 1
            if item.attempts > 1 and self._taken > item.seen:
                item.lonely += 1
            item.seen = self._taken
            if item.lonely >= LONELY and len(items) == 1:
                item.lonely = 0
                self._refused(item, outcome)
                continue
            item.group = tuple(items) if len(items) > 1 and len(failed) == len(items) else ()
            self._lanes.again(item, when)
        if len(items) > 1 and items[0].lonely >= LONELY and items[0].group:
            middle = len(items) // 2
            for item in items:  # one of them is to blame: it is looked for
                half = items[:middle] if item in items[:middle] else items[middle:]
                item.group = tuple(half)


def _mistake(failure: Any) -> None:
    _log.failure("sending", failure=failure)
