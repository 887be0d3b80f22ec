"""The API about destinations: the operations of `forward_routes`, but for the events."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar
from urllib.parse import urlencode

from sqlalchemy import Connection, Engine

from receiptd.config.forward import Forward
from receiptd.forward.events import encoded
from receiptd.forward.filters import Filter, check_words
from receiptd.forward.shapes import dead_json, replay_json, status_json
from receiptd.store import event_reader, forward_orders, forward_state, forward_status
from receiptd.store.database.engine import open_engine
from receiptd.store.database.errors import StoreAway, StoreError
from receiptd.store.database.write_turns import WriteTurns
from receiptd.store.forward_orders import TURN, DeadFilter, NoDestination
from receiptd.web.api.forward_routes import (
    DeadOrder,
    DeadQuery,
    ReplayOrder,
    SeekQuery,
)
from receiptd.web.api.parameters import Query
from receiptd.web.problem import PRIVATE, Problem
from receiptd.web.reader import Reader
from receiptd.web.server.request import Request

TURN_TIMEOUT = 5.0
"""Seconds that an order waits for the database's turn to write."""

T = TypeVar("T")


class ForwardApi:
    """Answers what is asked about destinations, and gives orders."""

    def __init__(self, reactor: Any, reader: Reader, database: str) -> None:
        """
        :param database: the store's URL.
        """
        self._reactor = reactor
        self._reader = reader
        self._writing = open_engine(database)
        self.destinations: dict[str, Forward] = {}
        """The configured ones, by name."""

    def renew(self, destinations: Sequence[Forward]) -> None:
        """Go by a new configuration."""
        self.destinations = {each.name: each for each in destinations}

    def stop(self) -> None:
        """End."""
        self._writing.dispose()

    # --- Destinations

    async def list_destinations(self, request: Request, _query: Query) -> None:
        """How they are."""
        configured = set(self.destinations)

        def read(engine: Engine) -> list[dict[str, Any]]:
            with engine.connect() as connection:
                found = forward_status.statuses(connection)
            return [status_json(each, configured=each.name in configured) for each in found]

        _send(request, encoded({"items": await self._reader.read(read)}))

    async def pause_destination(self, request: Request, _query: Query, name: str) -> None:
        """Send nothing more."""
        await self.order(name, lambda c: forward_orders.pause(c, name, "paused through the API"))
        _ordered(request, name, "paused")

    async def resume_destination(self, request: Request, _query: Query, name: str) -> None:
        """Go on."""
        await self.order(name, lambda c: forward_orders.resume(c, name))
        _ordered(request, name, "goes on")

    async def seek_destination(self, request: Request, query: SeekQuery, name: str) -> None:
        """Go on elsewhere."""
        position = await self.order(name, lambda c: forward_orders.seek(c, name, query.to))
        _ordered(request, name, "goes on behind another event", position=position)

    async def forget_destination(self, request: Request, _query: Query, name: str) -> None:
        """Forget it."""
        if name in self.destinations:
            raise Problem(409, f"{name!r} is configured: take its [[forward]] out first")
        await self.order(name, lambda c: forward_orders.forget(c, name))
        _ordered(request, name, "forgotten")

    async def try_destination(self, request: Request, _query: Query, name: str) -> None:
        """Send a made-up event."""
        from receiptd.forward.destinations import Fault
        from receiptd.forward.trial import trial

        config = self.destinations.get(name)
        if config is None:
            raise _unknown(name)

        def read(engine: Engine) -> str:
            with engine.connect() as connection:
                return event_reader.log(connection).store

        outcome = await trial(config, await self._reader.read(read), self._reactor)
        taken = outcome.fault is Fault.NONE
        answer = {
            "taken": taken,
            "error": None if taken else outcome.text,
            "answer": outcome.answer or None,
        }
        _send(request, encoded(answer))

    # --- Dead letters

    async def list_dead_letters(self, request: Request, query: DeadQuery, name: str) -> None:
        """What it has not taken."""
        wanted = DeadFilter((), query.since, query.error)

        def read(engine: Engine) -> list[dict[str, Any]]:
            with engine.connect() as connection:
                forward_orders.check(connection, name)
                rows = forward_orders.dead(
                    connection, name, wanted, limit=query.limit, after=(name, query.after)
                )
            return [dead_json(each) for each in rows]

        items = await self._read(name, read)
        following = None
        if len(items) == query.limit:
            path = request.path.decode("iso8859-1")
            pairs: dict[str, Any] = {"limit": query.limit, "after": items[-1]["event"]}
            if query.since is not None:
                pairs["since"] = query.since.isoformat().replace("+00:00", "Z")
            if query.error is not None:
                pairs["error"] = query.error
            following = f"{path}?{urlencode(pairs)}"
        _send(request, encoded({"items": items, "next": following}))

    async def retry_dead_letters(self, request: Request, query: DeadOrder, name: str) -> None:
        """Send them again."""
        count = await self.each_turn(name, query, forward_orders.retry)
        _ordered(request, name, "sent again", count=count)

    async def discard_dead_letters(self, request: Request, query: DeadOrder, name: str) -> None:
        """Give them up."""
        count = await self.each_turn(name, query, forward_orders.discard)
        _ordered(request, name, "discarded", count=count)

    async def each_turn(
        self, name: str, query: DeadOrder, change: Callable[[Connection, str, DeadFilter], int]
    ) -> int:
        """Change all that are meant, some at a time; how many."""
        await self._read(name, lambda engine: _check(engine, name))
        if not (query.event or query.all or query.since or query.error):
            raise Problem(400, "say which: event=..., all=true, since=... or error=...")
        wanted = DeadFilter(query.event, query.since, query.error)
        total = 0
        while True:
            count = await self.order(name, lambda c: change(c, name, wanted))
            total += count
            if count < TURN:
                return total

    # --- Replays

    async def list_replays(self, request: Request, _query: Query, name: str) -> None:
        """What it was told again."""

        def read(engine: Engine) -> list[dict[str, Any]]:
            with engine.connect() as connection:
                forward_orders.check(connection, name)
                return [replay_json(each) for each in forward_state.replays(connection, name)]

        _send(request, encoded({"items": await self._read(name, read)}))

    async def begin_replay(self, request: Request, query: ReplayOrder, name: str) -> None:
        """Tell it again."""
        try:
            wanted = check_words(
                Filter(
                    types=query.types,
                    providers=query.provider,
                    states=[str(each) for each in query.state],
                    message=query.message,
                )
            )
        except ValueError as error:
            raise Problem(422, str(error)) from None

        def begin(connection: Connection) -> int:
            start, end = forward_orders.span(connection, query.since, query.until)
            return forward_orders.begin_replay(
                connection, name, wanted.json(), start, end, query.rate
            )

        _ordered(request, name, "a replay has begun", replay=await self.order(name, begin))

    async def cancel_replay(self, request: Request, _query: Query, name: str, id: str) -> None:
        """End a replay."""
        number = int(id) if id.isascii() and id.isdigit() and len(id) < 19 else 0
        ended = await self.order(name, lambda c: forward_orders.cancel_replay(c, name, number))
        if not ended:
            raise Problem(404, f"{name!r} has no running replay {id[:30]!r}")
        _ordered(request, name, "the replay is cancelled", replay=number)

    async def order(self, name: str, work: Callable[[Connection], T]) -> T:
        """Do `work` in a transaction that writes, in a thread.

        :raises Problem: where there is no such destination, or the database is busy.
        """

        def run(_engine: Engine) -> T:
            try:
                return WriteTurns(self._writing, patience=TURN_TIMEOUT).take(work)
            except StoreAway:
                raise
            except StoreError:
                raise Problem.unavailable("the database is busy: try later") from None

        return await self._read(name, run)

    async def _read(self, name: str, function: Callable[[Engine], T]) -> T:
        try:
            return await self._reader.read(function)
        except NoDestination:
            raise _unknown(name) from None


def _check(engine: Engine, name: str) -> None:
    with engine.connect() as connection:
        forward_orders.check(connection, name)


def _unknown(name: str) -> Problem:
    return Problem(404, f"no destination is called {name[:80]!r}: see /api/v1/forward")


def _ordered(
    request: Request,
    name: str,
    text: str,
    *,
    count: int | None = None,
    position: int | None = None,
    replay: int | None = None,
) -> None:
    answer = {
        "destination": name,
        "text": text,
        "count": count,
        "position": position,
        "replay": replay,
    }
    _send(request, encoded(answer))


def _send(request: Request, body: bytes) -> None:
    request.answer(200, body, b"application/json", (PRIVATE,))
