"""A sender that sends into a list, on a real database and by a clock of the test's own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from sqlalchemy import Connection, Engine, select, update
from twisted.internet import reactor
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.task import Clock

from receiptd.config import Forward
from receiptd.forward.destinations import TAKEN, Destination, Fault, Outcome
from receiptd.forward.events import Delivery, Event
from receiptd.forward.metrics import ForwardMetrics
from receiptd.forward.sender import Sender
from receiptd.store import event_reader, forward_state, forward_status
from receiptd.store.event_tables import forward_destinations, forward_parked
from receiptd.store.forward_status import Status

AWAY = Outcome(Fault.DESTINATION, "the connection is refused")
REFUSED = Outcome(Fault.EVENT, "answered 422", "no such order")


class Recorder(Destination):
    """Notes what it is sent, and answers as `answer` says: an outcome for all, or one for each;
    None: never, until `release`."""

    def __init__(self) -> None:
        self.deliveries: list[Delivery] = []
        self.taken: list[Event] = []
        self.answer: Callable[[Delivery], Outcome | Sequence[Outcome] | None] = lambda _: TAKEN
        self.held: list[tuple[Deferred[Any], Delivery]] = []
        self.closed = False

    async def send(self, delivery: Delivery) -> Sequence[Outcome]:
        self.deliveries.append(delivery)
        answer = self.answer(delivery)
        if answer is None:
            waiting: Deferred[Any] = Deferred()
            self.held.append((waiting, delivery))
            answer = await waiting
        outcomes = [answer] * len(delivery.events) if isinstance(answer, Outcome) else answer
        for event, outcome in zip(delivery.events, outcomes, strict=True):
            if outcome.fault is Fault.NONE:
                self.taken.append(event)
        return outcomes

    def release(self, outcome: Outcome = TAKEN) -> None:
        """Answer what was not answered."""
        held, self.held = self.held, []
        for waiting, _ in held:
            waiting.callback(outcome)

    async def close(self) -> None:
        self.closed = True


class Direct:
    """The store, used at once and in the test's own thread."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.failing: Exception | None = None
        self.reads = 0

    def read(self, function: Callable[[Connection], Any]) -> Deferred[Any]:
        self.reads += 1
        return self._do(function)

    def write(self, function: Callable[[Connection], Any]) -> Deferred[Any]:
        return self._do(function)

    def _do(self, function: Callable[[Connection], Any]) -> Deferred[Any]:
        if self.failing is not None:
            return fail(self.failing)
        with self._engine.begin() as connection:
            return succeed(function(connection))


class Sending:
    """One sender at work."""

    def __init__(self, engine: Engine, **keys: Any) -> None:
        self.engine = engine
        self.clock = Clock()
        self.destination = Recorder()
        self.database = Direct(engine)
        self.metrics = ForwardMetrics()
        self._keys = {"name": "app", "url": "http://127.0.0.1:9/"} | keys
        self.register()
        self.begin()

    def register(self) -> None:
        """As the server does at its start."""
        with self.engine.begin() as connection:
            forward_state.register(connection, ["app"])

    def begin(self) -> None:
        """Begin, or begin anew as another process would."""
        with self.engine.connect() as connection:
            store = event_reader.log(connection).store
        self.sender = Sender(
            Forward(**self._keys),
            self.destination,
            self.database,
            self.clock,
            self.metrics,
            store=store,
            owner="test",
            clock=self.clock.seconds,
        )
        Deferred.fromCoroutine(self.sender.start())
        self.run(0.2)

    def crash(self) -> None:
        """The process is gone, and its lease has run out."""
        for call in self.clock.getDelayedCalls():
            call.cancel()
        with self.engine.begin() as connection:
            connection.execute(update(forward_destinations).values(lease_until=1.0))

    def run(self, seconds: float, step: float = 0.05) -> None:
        """Have time pass."""
        end = self.clock.seconds() + seconds
        while self.clock.seconds() < end:
            self.clock.advance(step)

    def order(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """Give an order, and have it followed."""
        with self.engine.begin() as connection:
            result = function(connection, "app", *arguments)
        self.run(5)
        return result

    @property
    def status(self) -> Status:
        """How it is."""
        with self.engine.connect() as connection:
            (found,) = forward_status.statuses(connection)
        return found

    @property
    def parked(self) -> list[Any]:
        """What is parked."""
        with self.engine.connect() as connection:
            return list(
                connection.execute(select(forward_parked).order_by(forward_parked.c.event_id))
            )

    @property
    def ids(self) -> list[int]:
        """The events that were taken, in their order."""
        return [each.id for each in self.destination.taken]

    def stop(self) -> None:
        """End it in good order."""
        done = Deferred.fromCoroutine(self.sender.stop())
        self.run(10)
        assert done.called

    def close(self) -> None:
        """Leave nothing behind."""
        for call in self.clock.getDelayedCalls():
            call.cancel()


class Link:
    """A destination that is open, in the reactor's thread."""

    def __init__(self, in_reactor: Callable[..., Any], url: str, **keys: Any) -> None:
        self._in_reactor = in_reactor
        self.config = Forward(**({"name": "app", "url": url} | keys))
        self._closed = False

        async def begin() -> Destination:
            destination = self.config.kind(self.config, reactor)
            await destination.open()
            return destination

        self.destination: Destination = in_reactor(begin)

    def send(self, *events: Event, **more: Any) -> Sequence[Outcome]:
        """Send these at once; what became of each."""
        delivery = Delivery("abc", events, batched=self.config.batch > 1, **more)
        found: Sequence[Outcome] = self._in_reactor(self.destination.send, delivery)
        assert len(found) == len(events)
        return found

    def each(self, *events: Event) -> list[Outcome]:
        """Send each of these by itself, all at the same time."""

        async def go() -> list[Outcome]:
            under_way = [
                Deferred.fromCoroutine(self.destination.send(Delivery("abc", (each,))))
                for each in events
            ]
            return [(await one)[0] for one in under_way]

        found: list[Outcome] = self._in_reactor(go)
        return found

    def close(self) -> None:
        """End it."""
        if not self._closed:
            self._closed = True
            self._in_reactor(self.destination.close)
