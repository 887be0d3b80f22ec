"""The pages of what is wrong: posts that were rejected, and receipts that match no message."""

from __future__ import annotations

from receiptd.providers.values import shown
from receiptd.receipt import Outcome
from receiptd.store.paging import one_row
from receiptd.store.queries import RECEIPTS, REJECTIONS
from receiptd.store.rows import receipt_json, rejection_json
from receiptd.store.schema import rejected_posts
from receiptd.web.api.parameters import ReceiptsQuery, RejectedQuery
from receiptd.web.console.csv_file import csv_answer
from receiptd.web.console.desk import Answer, Desk, Done, Visit
from receiptd.web.console.forms import Form
from receiptd.web.console.lists import read_list, wants_csv
from receiptd.web.console.receipts import COLUMNS as RECEIPT_COLUMNS
from receiptd.web.problem import Problem

COLUMNS = (
    *("id", "received_at", "endpoint", "provider", "reason", "field", "text", "peer"),
    "content_type",
)

REASONS = {
    "invalid": "it was read, but makes no sense",
    "unauthorized": "it did not prove who sent it",
    "unreadable": "it could not be read at all",
}
"""Why a post is kept among the rejected, in words."""

RESULTS = {
    "stored": "it is stored as a receipt",
    "partly": "a part of it is stored, the rest stays on this list",
    "ignored": "it is no receipt, and needs to be none",
    "rejected": "it is still no receipt",
    "gone": "it is not on the list any more",
}
"""What becomes of a post that is tried again, in words."""

MISMATCHES = (Outcome.UNKNOWN_MESSAGE, Outcome.WRONG_RECIPIENT)


async def show_list(desk: Desk, visit: Visit) -> Answer:
    """The posts that were rejected."""
    found = await read_list(desk, visit, REJECTIONS, RejectedQuery)
    rows = [rejection_json(row) for row in found.rows]
    if wants_csv(visit):
        return csv_answer("rejected", COLUMNS, ([row[name] for name in COLUMNS] for row in rows))
    body = desk.views.page(
        "rejected.html",
        found=found,
        rows=rows,
        reasons=REASONS,
        endpoint_names=desk.names.endpoints,
        **visit.values(),
    )
    return Answer(body)


async def show(desk: Desk, visit: Visit, id: str) -> Answer:
    """One of them, with the post as it came."""
    number = int(id) if id.isascii() and id.isdigit() and len(id) < 19 else 0
    row = await desk.read(lambda engine: one_row(engine, rejected_posts, number))
    if row is None:
        raise Problem(404, f"there is no rejected post {shown(id)}: it may be deleted by now")
    body = desk.views.page(
        "rejected_post.html", post=rejection_json(row), reasons=REASONS, **visit.values()
    )
    return Answer(body)


async def retry(desk: Desk, visit: Visit, id: str) -> Done:
    """Read a post again as the endpoint is configured now."""
    became = await desk.api.rejected.retry(id)
    words = RESULTS[became.result]
    if became.text:
        words += f": {shown(became.text)}"
    # What has become a receipt is not on the list any more.
    path = "rejected" if became.result == "stored" else f"rejected/{became.id}"
    return Done(path, f"the rejected post {became.id} was tried again: {words}")


async def delete(desk: Desk, visit: Visit, id: str) -> Done:
    """Delete a post for good."""
    number = await desk.api.rejected.delete(id)
    return Done("rejected", f"the rejected post {number} is deleted")


async def show_mismatches(desk: Desk, visit: Visit) -> Answer:
    """The receipts that no registered message explains."""
    narrowed = Form(visit.query)
    narrowed.setdefault("verdict", [each.value for each in MISMATCHES])
    found = await read_list(desk, visit._replace(query=narrowed), RECEIPTS, ReceiptsQuery)
    rows = [receipt_json(row) for row in found.rows]
    if wants_csv(visit):
        return csv_answer(
            "mismatches",
            RECEIPT_COLUMNS,
            ([row[name] for name in RECEIPT_COLUMNS] for row in rows),
        )
    body = desk.views.page(
        "mismatches.html",
        found=found,
        rows=rows,
        verdicts=MISMATCHES,
        provider_names=desk.names.configured,
        **visit.values(),
    )
    return Answer(body)
