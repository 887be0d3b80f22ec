"""What the API offers: every operation, once, for the handler and for the OpenAPI document."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple
from urllib.parse import unquote_to_bytes

from receiptd.web.api import shapes
from receiptd.web.api.forward_routes import FORWARD_OPERATIONS
from receiptd.web.api.operation import Operation
from receiptd.web.api.parameters import (
    MessageQuery,
    MessagesQuery,
    ReceiptQuery,
    ReceiptsQuery,
    RejectedPostQuery,
    RejectedQuery,
    StreamQuery,
)
from receiptd.web.api.statistics import Statistics, StatisticsQuery

ROOT = "/api/"

OPERATIONS = (
    Operation(
        "register_messages",
        "POST",
        "/api/v1/messages",
        "Register messages as sent: one object, or a list. What is answered is on disk; the "
        "same again changes nothing. Of a request in which anything is wrong, nothing is "
        "registered.",
        shapes.Registered,
        scope="write",
        statuses=(413, 415, 422),
    ),
    Operation(
        "list_messages",
        "GET",
        "/api/v1/messages",
        "List registered messages, newest first. Those still without a final state after four "
        "hours: final=false&until=4h",
        shapes.Messages,
        MessagesQuery,
    ),
    Operation(
        "show_message",
        "GET",
        "/api/v1/messages/{provider}/{message_id}",
        "Show a registered message with its timeline of receipts.",
        shapes.MessageWithReceipts,
        MessageQuery,
        statuses=(404,),
    ),
    Operation(
        "list_receipts",
        "GET",
        "/api/v1/receipts",
        "List receipts, newest first; with `after`, oldest first, so that an application that "
        "asks again and again gets each once.",
        shapes.Receipts,
        ReceiptsQuery,
    ),
    Operation(
        "stream_receipts",
        "GET",
        "/api/v1/receipts/stream",
        "Watch receipts come: server-sent events, each with the receipt's id, the event type "
        "`receipt`, and the receipt as JSON on one line. A receipt that is matched later does "
        "not come again. With `types`, events of these types: each with its number, its type as "
        "event type, and itself as JSON; a receipt that is matched later is then a "
        "`receipt.adopted`, a message whose state changes a `message.state`.",
        query=StreamQuery,
        statuses=(410,),
    ),
    Operation(
        "show_receipt",
        "GET",
        "/api/v1/receipts/{id}",
        "Show a receipt.",
        shapes.Receipt,
        ReceiptQuery,
        statuses=(404,),
    ),
    Operation(
        "list_rejected",
        "GET",
        "/api/v1/rejected",
        "List posts that were not taken as receipts, newest first.",
        shapes.RejectedPosts,
        RejectedQuery,
    ),
    Operation(
        "show_rejected",
        "GET",
        "/api/v1/rejected/{id}",
        "Show a post that was not taken as a receipt.",
        shapes.RejectedPost,
        RejectedPostQuery,
        statuses=(404,),
    ),
    Operation(
        "retry_rejected",
        "POST",
        "/api/v1/rejected/{id}/retry",
        "Read a rejected post again, under today's configuration. Its PIN, token or signature is "
        "not asked for again: whoever asks for this lets it in. What becomes a receipt keeps its "
        "time of receiving and leaves the list, in one transaction.",
        shapes.Retried,
        scope="write",
        statuses=(404,),
    ),
    Operation(
        "delete_rejected",
        "DELETE",
        "/api/v1/rejected/{id}",
        "Delete a rejected post for good.",
        shapes.Deleted,
        scope="write",
        statuses=(404,),
    ),
    Operation(
        "statistics",
        "GET",
        "/api/v1/statistics",
        "Add up what was counted by the hour: receipts, finished messages and rejected posts, "
        "with the delivery rate and the delivery time.",
        Statistics,
        StatisticsQuery,
    ),
    *FORWARD_OPERATIONS,
    Operation(
        "openapi",
        "GET",
        "/api/v1/openapi.json",
        "This document.",
    ),
)
"""A path without parameters stands before one with, since the first that fits counts."""


class Route(NamedTuple):
    """A path, what can be done there, and the values of its parameters."""

    path: str
    """With the parameters' names."""
    operations: Mapping[str, Operation]
    values: Mapping[str, str]

    @property
    def methods(self) -> list[str]:
        """What the header Allow says."""
        return sorted({*self.operations, *({"HEAD"} if "GET" in self.operations else ())})


def find(path: bytes) -> Route | None:
    """What is at `path`, which stands behind `ROOT`, percent-encoded; None where nothing is."""
    try:
        given = [unquote_to_bytes(each).decode() for each in path.split(b"/")]
    except UnicodeDecodeError:
        return None
    for template, operations in _PATHS.items():
        names = template.removeprefix(ROOT).split("/")
        segments = given
        if names[-1] == "{message_id}" and len(given) > len(names):
            # An identifier may hold a slash, and a proxy may have decoded it.
            segments = [*given[: len(names) - 1], "/".join(given[len(names) - 1 :])]
        if len(names) != len(segments):
            continue
        pairs = list(zip(names, segments, strict=True))
        if all(segment if name.startswith("{") else name == segment for name, segment in pairs):
            values = {name.strip("{}"): each for name, each in pairs if name.startswith("{")}
            return Route(template, operations, values)
    return None


_PATHS = {
    operation.path: {each.method: each for each in OPERATIONS if each.path == operation.path}
    for operation in OPERATIONS
}
