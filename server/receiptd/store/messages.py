"""Reading the messages that applications registered: lists of them, and one with its timeline."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any, cast

from sqlalchemy import Connection, Engine, Select, literal_column, select, union

from receiptd.message import Standing, together
from receiptd.receipt import State, match_key, spellings
from receiptd.store.indexed import Search
from receiptd.store.paging import LARGEST_PAGE, PIECE, Row, Source, each, rows_of
from receiptd.store.posts import whole
from receiptd.store.queries import NOTHING, common, of_message, of_recipient, phone_keys, storable
from receiptd.store.rows import receipt_json, time
from receiptd.store.schema import messages, receipts

LONGEST_TIMELINE = 1000
"""Receipts that are shown of one message: an identifier that a test uses again and again
collects any number."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MessageFilter:
    """Which messages are wanted: those that fit every field that is set, and of a field with
    several values one. Still without a final state after four hours are those with `final=False`
    and `until` four hours ago."""

    provider: Collection[str] = ()
    state: Collection[str] = ()
    final: bool | None = None
    recipient: str | None = None
    """A phone number, compared as E.164."""
    regions: Collection[str | None] = (None,)
    """By whose national forms `recipient` is read; None: as an international number."""
    reference: str | None = None
    message_id: str | None = None
    """The provider's identifier; case does not count."""
    since: datetime | None = None
    """Registered at this time (aware) or later."""
    until: datetime | None = None
    """Registered before this time (aware)."""

    @property
    def narrow(self) -> bool:
        """Whether anything is asked for but all."""
        return self != MessageFilter(regions=self.regions)


def messages_page(
    connection: Connection,
    wanted: MessageFilter,
    *,
    limit: int,
    before_id: int | None = None,
) -> Sequence[Row]:
    """At most `limit` rows of `messages` that fit, one for each recipient, newest first.

    :param before_id: only those with a smaller id: the last of the page before.
    """
    return rows_of(connection, MESSAGES, wanted, limit, before_id)


def each_message(engine: Engine, wanted: MessageFilter, limit: int | None = None) -> Iterator[Row]:
    """All rows of `messages` that fit, or the first `limit` of them, newest first; few of them
    are in memory at once."""
    return each(engine, MESSAGES, wanted, limit)


def message_with_receipts(
    connection: Connection, provider: str, message_id: str
) -> dict[str, Any] | None:
    """A message by the keys that are used everywhere, with its receipts, oldest first; None
    where no such message is registered.

    Its receipts are those that were matched with it, and those of its identifier that were
    matched with none. Where they are many or large only the newest are there, and
    `receipts_complete` is false.
    """
    if "\0" in provider or "\0" in message_id:
        return None
    columns = messages.c
    of_identifier = (columns.message_key.in_(_keys(message_id)), columns.provider == provider)
    rows = _mappings(connection, select(messages).where(*of_identifier).order_by(columns.id))
    recipients = [message_json(row) for row in rows]
    if not recipients:
        return None
    found = union(
        select(receipts.c.id).where(
            receipts.c.message_ref.in_(select(columns.id).where(*of_identifier))
        ),
        *(
            each.where(receipts.c.provider == provider, receipts.c.message_ref.is_(None))
            for each in of_message(connection, message_id)
        ),
    )
    newest_first = (
        select(receipts.c.id)
        .where(receipts.c.id.in_(found))
        .order_by(receipts.c.id.desc())
        .limit(LONGEST_TIMELINE + 1)
    )
    numbers = list(connection.scalars(newest_first))
    shown = _timeline(connection, numbers[:LONGEST_TIMELINE])
    return {
        **summed_up(recipients),
        "receipts": shown[::-1],
        "receipts_complete": len(shown) == len(numbers),
    }


def _keys(message_id: str) -> list[str]:
    """The keys under which a message of this identifier may be registered."""
    key = match_key(message_id)
    return [key, *spellings(key)]


def _timeline(connection: Connection, numbers: Sequence[int]) -> list[dict[str, Any]]:
    """The receipts of these ids, newest first, as long as they are not too large together."""
    shown: list[dict[str, Any]] = []
    size = 0
    for start in range(0, len(numbers), PIECE):
        if size > LARGEST_PAGE:
            break
        some = numbers[start : start + PIECE]
        statement = whole(receipts).where(receipts.c.id.in_(some))
        rows = _mappings(connection, statement.order_by(receipts.c.id.desc()))
        shown += map(receipt_json, rows)
        size += sum(len(row["raw"]) for row in rows)
    return shown


def message_json(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row of `messages` by the keys that are used everywhere."""
    return {
        "provider": row["provider"],
        "message_id": row["message_id"],
        "recipient": row["recipient"],
        "sender": row["sender"],
        "reference": row["reference"],
        "parts": row["parts"],
        "delivered": row["delivered"],
        "state": row["state"],
        "final": bool(row["final"]),
        "state_at": time(row["state_at"]),
        "price": str(row["price"]) if row["price"] is not None else None,
        "sent_at": time(row["sent_at"]),
        "gave_up_at": time(row["gave_up_at"]),
        "registered_at": time(row["registered_at"]),
    }


def summed_up(recipients: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """One message of what `message_json` made of the rows of its recipients.

    The state is to several recipients as it is to several parts; parts, those delivered and
    the prices add up; a text that is not the same for all is None.
    """
    if len(recipients) == 1:
        return recipients[0]
    state, _, at = together([_standing(each) for each in recipients])
    final = all(each["final"] for each in recipients)  # also where one was given up
    prices = [Decimal(each["price"]) for each in recipients if each["price"] is not None]
    return {
        "provider": recipients[0]["provider"],
        "message_id": recipients[0]["message_id"],
        "recipient": None,
        "sender": _same(recipients, "sender"),
        "reference": _same(recipients, "reference"),
        "parts": sum(each["parts"] or 1 for each in recipients),
        "delivered": sum(each["delivered"] for each in recipients),
        "state": state.value,
        "final": final,
        "state_at": time(at),
        "price": str(sum(prices[1:], prices[0])) if prices else None,
        "sent_at": recipients[0]["sent_at"],
        "gave_up_at": max(each["gave_up_at"] or "" for each in recipients) or None,
        "registered_at": recipients[0]["registered_at"],
        "recipients": [
            {name: value for name, value in each.items() if name not in _OF_IDENTIFIER}
            for each in recipients
        ],
    }


_OF_IDENTIFIER = ("provider", "message_id")


def _mappings(connection: Connection, statement: Select[Any]) -> Sequence[Row]:
    return cast(Sequence[Row], connection.execute(statement).mappings().all())


def _standing(message: Mapping[str, Any]) -> Standing | None:
    at = message["state_at"]
    return Standing(State(message["state"]), datetime.fromisoformat(at)) if at else None


def _same(recipients: Sequence[Mapping[str, Any]], name: str) -> Any:
    values = {each[name] for each in recipients}
    return values.pop() if len(values) == 1 else None


def _search(_connection: Connection, wanted: MessageFilter) -> Search:
    if not storable(wanted):
        return NOTHING
    columns = messages.c
    ids = None
    conditions = common(messages, wanted, ("provider", "state"), "registered_at")
    if wanted.reference is not None:
        conditions.append(columns.reference == wanted.reference)
    if wanted.message_id is not None:
        of_identifier = columns.message_key.in_(_keys(wanted.message_id))
        conditions.append(of_identifier)
        ids = select(columns.id).where(of_identifier)
    if wanted.final is not None:
        # Said as the index of pending messages says it, so that it is used.
        conditions.append(literal_column("final" if wanted.final else "NOT final"))
    if wanted.recipient is not None:
        if ids is None:
            return Search(conditions, in_buckets=of_recipient(messages, wanted))
        conditions.append(columns.recipient_key.in_(phone_keys(wanted)))
    return Search(conditions, indexed=wanted.final is False, ids=ids)


MESSAGES = Source(messages, _search)
