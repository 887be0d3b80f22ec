"""The pages of receipts: the live list, and one receipt with the post that it came in."""

from __future__ import annotations

from sqlalchemy import Engine

from receiptd.providers.values import shown
from receiptd.receipt import RECEIPT_KEYS, Kind, Outcome, State
from receiptd.store.paging import one_row
from receiptd.store.queries import RECEIPTS, ReceiptFilter
from receiptd.store.rows import receipt_json
from receiptd.store.schema import receipts
from receiptd.web.api.parameters import ReceiptsQuery
from receiptd.web.console.csv_file import csv_answer
from receiptd.web.console.desk import Answer, Desk, Visit
from receiptd.web.console.lists import read_list, search, wants_csv
from receiptd.web.console.messages import href, is_registered
from receiptd.web.problem import Problem

COLUMNS = tuple(key for key in RECEIPT_KEYS if key not in ("raw", "extra", "unread"))

VERDICTS = (Outcome.ACCEPTED, Outcome.UNKNOWN_MESSAGE, Outcome.WRONG_RECIPIENT)


async def show_list(desk: Desk, visit: Visit) -> Answer:
    """The list of receipts, newest first."""
    words = visit.query.one("q")
    found = await (
        search(desk, RECEIPTS, ReceiptFilter, words)
        if words
        else read_list(desk, visit, RECEIPTS, ReceiptsQuery)
    )
    rows = [receipt_json(row) for row in found.rows]
    if wants_csv(visit):
        return csv_answer("receipts", COLUMNS, ([row[name] for name in COLUMNS] for row in rows))
    body = desk.views.page(
        "receipts.html",
        found=found,
        rows=rows,
        words=words,
        states=list(State),
        kinds=list(Kind),
        verdicts=VERDICTS,
        provider_names=desk.names.configured,
        endpoint_names=desk.names.endpoints,
        **visit.values(),
    )
    return Answer(body)


async def show(desk: Desk, visit: Visit, id: str) -> Answer:
    """One receipt: all that it says, the post as it came, and its message."""
    if not (id.isascii() and id.isdigit() and len(id) < 20):
        raise Problem(404, f"there is no receipt {shown(id)}")

    def read(engine: Engine) -> tuple[dict[str, object], tuple[str, str] | None] | None:
        row = one_row(engine, receipts, int(id))
        if row is None:
            return None
        with engine.connect() as connection:
            reference = row["message_ref"]
            return receipt_json(row), (
                is_registered(connection, reference) if reference is not None else None
            )

    found = await desk.read(read)
    if found is None:
        raise Problem(404, f"there is no receipt {shown(id)}")
    receipt, message = found
    body = desk.views.page(
        "receipt.html",
        receipt=receipt,
        keys=[key for key in RECEIPT_KEYS if key not in ("raw", "extra")],
        message=message,
        message_href=href(*message) if message else "",
        can_register=message is None and bool(receipt["message_id"]),
        **visit.values(),
    )
    return Answer(body)
