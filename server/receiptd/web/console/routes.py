"""Which page is at which path beneath /console, and what each form does."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from receiptd.web.console import (
    destinations,
    failures,
    messages,
    overview,
    providers,
    receipts,
    rejected,
)

PAGES: Mapping[str, Callable[..., Any]] = {
    "": overview.show,
    "messages": messages.show_list,
    "messages/{provider}/{message_id}": messages.show,
    "receipts": receipts.show_list,
    "receipts/{id}": receipts.show,
    "failures": failures.show,
    "mismatches": rejected.show_mismatches,
    "rejected": rejected.show_list,
    "rejected/{id}": rejected.show,
    "forwarding": destinations.show_list,
    "forwarding/{name}": destinations.show,
    "providers": providers.show_list,
}
"""Each is called with the desk, the visit and the path's values, and gives an `Answer`."""

ORDERS: Mapping[str, Callable[..., Any]] = {
    "messages": messages.register,
    "forwarding/{name}": destinations.order,
    "providers/{name}": providers.send_test,
    "rejected/{id}/retry": rejected.retry,
    "rejected/{id}/delete": rejected.delete,
}
"""Each is called as a page is, with the form in place of the query, and gives what was `Done`."""


_WITH_SLASHES = ("{message_id}", "{name}")
"""Values that may hold a slash, at the end of a path."""


class Route(NamedTuple):
    """What answers, and the values in the path."""

    target: Callable[..., Any]
    values: Mapping[str, str]


def find(table: Mapping[str, Callable[..., Any]], segments: Sequence[str]) -> Route | None:
    """What is at a path; None where nothing is."""
    for template, target in table.items():
        names = template.split("/")
        given = list(segments)
        if names[-1] in _WITH_SLASHES and len(given) > len(names):
            # It may hold a slash, and a proxy may have decoded that.
            given = [*given[: len(names) - 1], "/".join(given[len(names) - 1 :])]
        if len(given) != len(names):
            continue
        pairs = list(zip(names, given, strict=True))
        if all(value if name.startswith("{") else name == value for name, value in pairs):
            return Route(
                target, {name.strip("{}"): value for name, value in pairs if name.startswith("{")}
            )
    return None
