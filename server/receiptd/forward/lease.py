"""The lease of a destination: the place that forwarding to it has come to, and what is read there.

Only the process that has the lease reads the destination's events and writes how far it has come.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol, TypeVar

from sqlalchemy import Connection
from twisted.internet.defer import Deferred
from twisted.logger import Logger

from receiptd.config.forward import Forward
from receiptd.forward.events import Event
from receiptd.forward.judge import Judge
from receiptd.forward.metrics import ForwardMetrics
from receiptd.forward.outbox import MOST_PARKED, PAGE, Outbox
from receiptd.store import event_reader, forward_state
from receiptd.store.forward_state import Parked, Place

LEASE = 15.0
"""Seconds that a lease holds unless it is renewed."""

_log = Logger(namespace="receiptd.forward")

T = TypeVar("T")


class Database(Protocol):
    """The store, as a sender uses it: in threads."""

    def read(self, function: Callable[[Connection], T], /) -> Deferred[T]:
        """What `function` returns, in a transaction that only reads."""

    def write(self, function: Callable[[Connection], T], /) -> Deferred[T]:
        """What `function` returns, in a transaction that may write; after its commit."""


class Lease:
    """One destination's lease, as this process has it or asks for it.

    The coroutines run one at a time.
    """

    def __init__(
        self,
        config: Forward,
        database: Database,
        judge: Judge,
        metrics: ForwardMetrics,
        *,
        owner: str,
        clock: Callable[[], float],
    ) -> None:
        """
        :param owner: who this process is, for people.
        :param clock: seconds that go on also while the process is stopped.
        """
        self.config = config
        self.name = config.name
        self._database = database
        self._judge = judge
        self._metrics = metrics
        self._owner = owner
        self._clock = clock
        self.outbox = Outbox(config)
        """Made anew whenever its state is read: answers to what another one sent do not count."""
        self.place: Place | None = None
        """None while another process has the lease."""
        self.renewed = 0.0
        """When the lease was renewed last."""
        self.looked = float("-inf")
        """When the lease was asked for, or events were looked for, last."""
        self.troubled = False
        """Whether the database has failed since it last took what was written."""
        self.ordered_anew = False
        """Whether somebody has given an order that is to be followed."""

    def renew(self, config: Forward) -> None:
        """Go by a new configuration from now on."""
        self.config = self.outbox.config = config

    async def take(self) -> None:
        """Try to get the lease."""
        self.looked = self._clock()
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
        self.troubled = False
        self.renewed = begun
        self.place = place
        await self._load()
        _log.info(
            "{name}: forwarding goes on behind event {position}{paused}",
            name=self.name,
            position=place.position,
            paused=", paused" if place.paused else "",
        )

    async def _load(self) -> None:
        """Read what is parked and which replays run, and begin at the position."""
        self.outbox = Outbox(self.config)

        def read(connection: Connection) -> tuple[list[Parked], list[Any]]:
            return (
                forward_state.parked(connection, self.name, 2 * MOST_PARKED),
                forward_state.replays(connection, self.name, running=True),
            )

        parked, replays = await self._database.read(read)
        place = self.place
        assert place is not None
        self.ordered_anew = False
        self.outbox = Outbox(self.config, place.position, parked, replays, self._clock())

    @property
    def dirty(self) -> bool:
        """Whether there is anything to write."""
        return self.place is not None and self.outbox.is_dirty(self.place.position)

    async def flush_and_follow(self) -> None:
        """Write how far it has come. Where the place is another one by now, go on from there."""
        if await self.flush():
            return
        if self.place is None:
            _log.warn("{name}: another process forwards to it now", name=self.name)
            self._give_up()
        else:
            _log.info(
                "{name}: forwarding goes on behind event {position}",
                name=self.name,
                position=self.place.position,
            )
            await self._load()

    async def flush(self) -> bool:
        """Write how far it has come; False where nothing was written, since the place is another
        one by now."""
        place = self.place
        assert place is not None
        begun = self._clock()
        outbox = self.outbox
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
        self.troubled = False
        self.place = written.place
        if written.place is None or not written.done:
            return False
        self.renewed = begun
        outbox.written()
        if written.place.orders != place.orders + (progress.pause is not None):
            self.ordered_anew = True
        return True

    async def release(self) -> None:
        """Write how far it has come, and leave the lease to others."""
        place = self.place
        assert place is not None
        await self.flush()
        await self._database.write(
            lambda connection: forward_state.release(connection, self.name, place.lease)
        )

    async def obey(self) -> None:
        """Somebody has given an order: begin anew with what the tables say, now that nothing is
        under way."""
        if not await self.flush() and self.place is None:
            self._give_up()
            return
        assert self.place is not None
        _log.info(
            "{name}: forwarding {goes}",
            name=self.name,
            goes="is paused" if self.place.paused else "goes on as it was told",
        )
        self._judge.begin_anew()
        await self._load()

    def _give_up(self) -> None:
        """Another process has it, or it was forgotten."""
        self.outbox = Outbox(self.config)
        self.looked = float("-inf")

    @property
    def wants_more(self) -> bool:
        """Whether events are to be read."""
        outbox = self.outbox
        if self._judge.breaker.open and outbox.holds_any:
            return False
        return outbox.has_room or outbox.due_replay(self._clock()) is not None

    async def read(self) -> None:
        """Read the next events, and what is to be told again."""
        outbox = self.outbox
        self.looked = self._clock()
        position, live = outbox.read_to, outbox.has_room
        again = outbox.wants_again
        replay = outbox.due_replay(self.looked)
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
        if outbox is not self.outbox:
            return
        self._metrics.events[self.name, "filtered"] += outbox.add(page)
        if again:
            outbox.add_again(more)
        if replay is not None:
            outbox.add_replayed(replay, told)
        outbox.caught_up = not more and not told and len(page) < PAGE

    async def read_missing(self) -> None:
        """Read again what is due and was put out of memory."""
        outbox = self.outbox
        some, outbox.missing = outbox.missing[:PAGE], outbox.missing[PAGE:]
        raw = self.config.raw
        found = await self._database.read(
            lambda connection: event_reader.by_number(
                connection, [each.event_id for each in some], raw=raw
            )
        )
        if outbox is not self.outbox:
            return
        for item in some:
            event = found.get(item.event_id)
            if event is not None and event.receipt is None and event.message is None:
                outbox.drop(item)  # what it was about is forgotten: there is nothing to tell
            elif event is not None:
                outbox.found(item, event, self._clock())
            else:  # somebody has deleted it from the database by hand
                self._judge.die(outbox, item, "the event is not in the database any more")
