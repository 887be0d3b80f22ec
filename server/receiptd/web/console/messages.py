"""The pages of messages: the list, the search, one message with its timeline, registering one."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

from sqlalchemy import Connection, Engine, select

from receiptd.message import Message
from receiptd.pipeline import Busy
from receiptd.providers.post import Invalid
from receiptd.providers.values import LONGEST_IDENTIFIER, shown
from receiptd.receipt import State
from receiptd.registration.message_values import message_of
from receiptd.store.messages import MESSAGES, MessageFilter, message_json, message_with_receipts
from receiptd.web.api.parameters import MessagesQuery
from receiptd.web.console.csv_file import csv_answer
from receiptd.web.console.desk import Answer, Desk, Done, Visit
from receiptd.web.console.lists import read_list, search, wants_csv
from receiptd.web.console.timeline import Timeline, timeline
from receiptd.web.problem import Problem

COLUMNS = (
    *("provider", "message_id", "recipient", "sender", "reference", "parts", "delivered"),
    *("state", "final", "state_at", "price", "registered_at"),
)


def href(provider: str, message_id: str) -> str:
    """Where the page of a message is."""
    return f"/console/messages/{quote(provider, safe='')}/{quote(message_id, safe='')}"


async def show_list(desk: Desk, visit: Visit) -> Answer:
    """The list of messages, or what a search has found."""
    words = visit.query.one("q")
    found = await (
        search(desk, MESSAGES, MessageFilter, words)
        if words
        else read_list(desk, visit, MESSAGES, MessagesQuery)
    )
    rows = [message_json(row) for row in found.rows]
    if wants_csv(visit):
        return csv_answer("messages", COLUMNS, ([row[name] for name in COLUMNS] for row in rows))
    body = desk.views.page(
        "messages.html",
        found=found,
        rows=[{**row, "href": href(row["provider"], row["message_id"])} for row in rows],
        words=words,
        states=list(State),
        provider_names=desk.names.configured,
        **visit.values(),
    )
    return Answer(body)


async def show(desk: Desk, visit: Visit, provider: str, message_id: str) -> Answer:
    """One message: what was registered, and all that has come about it."""
    known = max(len(provider), len(message_id)) <= LONGEST_IDENTIFIER

    def read(engine: Engine) -> tuple[dict[str, Any], Timeline] | None:
        with engine.connect() as connection:
            found = message_with_receipts(connection, provider, message_id)
            if found is None:
                return None
            return found, timeline(connection, provider, message_id, found["receipts"])

    found = await desk.read(read) if known else None
    if found is None:
        raise Problem(
            404,
            f"no message {shown(message_id)} of {shown(provider)} is registered; receipts may "
            "have come for it all the same: search the receipts for its identifier",
        )
    message, story = found
    body = desk.views.page(
        "message.html",
        message=message,
        recipients=message.get("recipients", []),
        story=story,
        **visit.values(),
    )
    return Answer(body)


async def register(desk: Desk, visit: Visit) -> Done:
    """Register a message, as a form says it."""
    names = ("provider", "message_id", "recipient", "sender", "reference")
    given = {name: visit.query.one(name) for name in names}
    try:
        message: Message = message_of(given, desk.names.configured)
    except Invalid as error:
        raise Problem(422, error.text) from None
    try:
        (result,) = await desk.pipeline.register([message])
    except Busy:
        raise Problem.unavailable("too much waits to be stored: try later") from None
    path = href(message.provider, message.message_id).removeprefix("/console/")
    return Done(path, f"the message {shown(message.message_id)} is registered: {result}")


def is_registered(connection: Connection, number: int) -> tuple[str, str] | None:
    """Provider and identifier of the message with this row; None where it is gone."""
    columns = MESSAGES.table.c
    row = connection.execute(
        select(columns.provider, columns.message_id).where(columns.id == number)
    ).first()
    return (row.provider, row.message_id) if row is not None else None
