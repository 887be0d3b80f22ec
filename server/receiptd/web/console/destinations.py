"""The pages of forwarding: how each destination is, what it has not taken, and orders for it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any
from urllib.parse import quote

from sqlalchemy import Connection, Engine

from receiptd.forward.filters import Filter
from receiptd.forward.shapes import dead_json, replay_json, status_json
from receiptd.providers.values import shown
from receiptd.store import event_reader, forward_orders, forward_state, forward_status
from receiptd.store.forward_orders import DeadFilter, NoDestination
from receiptd.web.api.forward_routes import DeadOrder
from receiptd.web.api.values import moment
from receiptd.web.console.csv_file import csv_answer
from receiptd.web.console.desk import Answer, Desk, Done, Visit
from receiptd.web.console.lists import ROWS, wants_csv
from receiptd.web.problem import Problem

STATES = {
    "sending": "sends what comes",
    "paused": "is paused: what comes waits",
    "failing": "fails again and again, so it is tried now and then only",
    "stopped": "nobody sends to it now",
}
"""What a destination's state means."""

MOST_REPLAYS = 20
"""Replays that are shown, the newest first."""

COLUMNS = (
    *("name", "state", "reason", "configured", "waiting", "oldest_at", "lag_seconds", "sent"),
    *("dead", "last_sent_at", "last_error", "last_error_at"),
)

DEAD_COLUMNS = (
    *("destination", "event", "receipt", "died_at", "first_failed_at", "attempts", "holds"),
    *("error", "answer"),
)


_TONES = {"sending": "good", "paused": "wait", "failing": "bad", "stopped": "bad"}


def remedy(status: Mapping[str, Any]) -> str:
    """What to do about a destination; empty where it needs nothing."""
    if status["state"] == "stopped":
        return "see the log for why nobody sends" if status["configured"] else ""
    if status["state"] == "paused":
        return f"resume it ({status['reason']})" if status["reason"] else "resume it"
    if status["state"] == "failing":
        return f"see to the application: {status['last_error']}"
    if status["dead"]:
        return "see what it refuses; then send that again, or discard it"
    return ""


def statuses(connection: Connection, desk: Desk) -> list[dict[str, Any]]:
    """How all destinations are. In a thread."""
    configured = {each.name for each in desk.config.forward}
    found = []
    for each in forward_status.statuses(connection):
        status = status_json(each, configured=each.name in configured)
        found.append(
            {
                **status,
                "state_tone": _TONES[each.state],
                "tone": "bad" if each.dead else _TONES[each.state],
                "remedy": remedy(status),
                "words": STATES[each.state],
                "href": f"/console/forwarding/{quote(each.name, safe='')}",
            }
        )
    return found


async def show_list(desk: Desk, visit: Visit) -> Answer:
    """All destinations."""

    def read(engine: Engine) -> list[dict[str, Any]]:
        with engine.connect() as connection:
            return statuses(connection, desk)

    rows = await desk.read(read)
    if wants_csv(visit):
        return csv_answer("forwarding", COLUMNS, ([row[name] for name in COLUMNS] for row in rows))
    body = desk.views.page("forwarding.html", rows=rows, **visit.values())
    return Answer(body)


async def show(desk: Desk, visit: Visit, name: str) -> Answer:
    """One destination, with its dead letters and its replays."""
    after = visit.query.one("after")
    begin = int(after) if after.isascii() and after.isdigit() and len(after) < 19 else 0

    def read(engine: Engine) -> tuple[Any, ...] | None:
        with engine.connect() as connection:
            status = [each for each in statuses(connection, desk) if each["name"] == name]
            if not status:
                return None
            dead = forward_orders.dead(
                connection, name, DeadFilter(), limit=ROWS + 1, after=(name, begin)
            )
            replays = forward_state.replays(connection, name)[: -MOST_REPLAYS - 1 : -1]
            return status[0], list(map(dead_json, dead)), list(map(replay_json, replays))

    found = await desk.read(read)
    if found is None:
        raise _unknown(name)
    status, dead, replays = found
    if wants_csv(visit):
        return csv_answer(
            "dead-letters", DEAD_COLUMNS, ([row[key] for key in DEAD_COLUMNS] for row in dead)
        )
    config = desk.api.forward.destinations.get(name)
    body = desk.views.page(
        "destination.html",
        status=status,
        dead=dead[:ROWS],
        following=f"after={dead[ROWS - 1]['event']}" if len(dead) > ROWS else "",
        replays=replays,
        target=config.shown_url if config is not None else None,
        types=config.types if config is not None else (),
        **visit.values(),
    )
    return Answer(body)


async def order(desk: Desk, visit: Visit, name: str) -> Done:
    """Do what a form says with a destination."""
    path = f"forwarding/{quote(name, safe='')}"
    wanted = visit.query.one("do")
    act = _ORDERS.get(wanted)
    if act is None:
        raise Problem(422, f"{shown(wanted)} cannot be done with a destination")
    try:
        return Done(path, await act(desk, visit, name))
    except NoDestination:
        raise _unknown(name) from None


async def _pause(desk: Desk, visit: Visit, name: str) -> str:
    reason = f"paused in the console, by the token {visit.session.token.name}"
    await desk.api.forward.order(name, lambda c: forward_orders.pause(c, name, reason))
    return f"{name} is paused: what comes waits"


async def _resume(desk: Desk, _visit: Visit, name: str) -> str:
    await desk.api.forward.order(name, lambda c: forward_orders.resume(c, name))
    return f"{name} goes on, beginning with what has waited"


async def _test(desk: Desk, _visit: Visit, name: str) -> str:
    from receiptd.forward.destinations import Fault
    from receiptd.forward.trial import trial

    config = desk.api.forward.destinations.get(name)
    if config is None:
        raise NoDestination(name)

    def read(engine: Engine) -> str:
        with engine.connect() as connection:
            return event_reader.log(connection).store

    outcome = await trial(config, await desk.read(read), desk.reactor)
    if outcome.fault is Fault.NONE:
        return f"{name} has taken the test event"
    return f"{name} has not taken the test event: {outcome.text[:300]}"


async def _retry(desk: Desk, visit: Visit, name: str) -> str:
    count = await desk.api.forward.each_turn(name, _letters(visit), forward_orders.retry)
    return f"{count} dead letters of {name} are sent again"


async def _discard(desk: Desk, visit: Visit, name: str) -> str:
    count = await desk.api.forward.each_turn(name, _letters(visit), forward_orders.discard)
    return f"{count} dead letters of {name} are discarded; their receipts stay stored"


def _letters(visit: Visit) -> DeadOrder:
    number = visit.query.one("event")
    if number.isascii() and number.isdigit() and len(number) < 19:
        return DeadOrder(event=[int(number)])
    return DeadOrder.model_validate({"all": "true"})


async def _replay(desk: Desk, visit: Visit, name: str) -> str:
    try:
        since = moment(visit.query.one("since"))
    except ValueError as error:
        raise Problem(422, f"since: {error}") from None

    def begin(connection: Connection) -> int:
        start, end = forward_orders.span(connection, since, None)
        return forward_orders.begin_replay(connection, name, Filter().json(), start, end, 0.0)

    number = await desk.api.forward.order(name, begin)
    return f"{name} is told again what has happened since then: replay {number}"


async def _cancel(desk: Desk, visit: Visit, name: str) -> str:
    text = visit.query.one("replay")
    number = int(text) if text.isascii() and text.isdigit() and len(text) < 19 else 0
    ended = await desk.api.forward.order(
        name, lambda c: forward_orders.cancel_replay(c, name, number)
    )
    if not ended:
        raise Problem(404, f"{name!r} has no running replay {shown(text)}")
    return f"the replay {number} is cancelled"


_ORDERS: Mapping[str, Callable[[Desk, Visit, str], Awaitable[str]]] = {
    "pause": _pause,
    "resume": _resume,
    "test": _test,
    "retry": _retry,
    "discard": _discard,
    "replay": _replay,
    "cancel": _cancel,
}


def _unknown(name: str) -> Problem:
    return Problem(404, f"no destination is called {shown(name)}: the page Forwarding has them")
