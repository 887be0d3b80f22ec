"""The bodies of the API's answers: JSON, with as many items as fit."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from receiptd.store.paging import Page, Row

LARGEST_BODY = 4 * 1024 * 1024
"""Bytes of items in one answer, as they are sent: escapes of JSON make up to six bytes of one. A
thousand ordinary receipts have two million. One item may be larger, and is sent alone."""


def encoded_page(
    found: Page,
    shape: Callable[[Row], dict[str, Any]],
    link: Callable[[int], str],
    last: int | None = None,
) -> bytes:
    """A page with as many of the rows as fit, at least one of them.

    :param last: of a page whose oldest row comes first: the id up to which it goes.
    """
    items: list[bytes] = []
    size = 0
    next_id = found.next_id
    for number, row in enumerate(found.rows):
        item = _json(shape(row))
        size += len(item)
        if items and size > LARGEST_BODY:
            next_id = found.rows[number - 1]["id"]
            last = next_id if last is not None else None
            break
        items.append(item)
    following = _json(link(next_id) if next_id is not None else None)
    if last is not None:
        return b'{"items": [%b], "next": %b, "last": %d}\n' % (b", ".join(items), following, last)
    return b'{"items": [%b], "next": %b}\n' % (b", ".join(items), following)


def encoded_timeline(found: dict[str, Any]) -> bytes:
    """A message with as many of its receipts as fit, the newest of them, at least one."""
    newest_first: list[bytes] = []
    size = 0
    for receipt in reversed(found.pop("receipts")):
        item = _json(receipt)
        size += len(item)
        if newest_first and size > LARGEST_BODY:
            found["receipts_complete"] = False
            break
        newest_first.append(item)
    head = _json(found).removesuffix(b"}")
    return b'%b, "receipts": [%b]}\n' % (head, b", ".join(newest_first[::-1]))


def encoded(value: Mapping[str, Any]) -> bytes:
    """`value` as JSON, with a line feed behind it."""
    return _json(value) + b"\n"


def _json(value: object) -> bytes:
    # A half of a surrogate pair stays an escape, which JSON has for it.
    return json.dumps(value, ensure_ascii=False).encode("utf-8", "backslashreplace")
