"""The table kit that providers are tested with, and where the samples are."""

from __future__ import annotations

from pathlib import Path

from receiptd.providers import Provider, Reply, testing
from receiptd.providers.testing import (
    FORM,
    JSON,
    Case,
    Nonsense,
    Request,
    Unread,
    bound,
    exchanged,
    form,
    get,
    items,
    json_body,
    kept,
    label,
    multipart,
    post,
    read,
    refused,
    told,
    unverified,
)

__all__ = [
    "FORM",
    "JSON",
    "SAMPLES",
    "Case",
    "Nonsense",
    "Request",
    "Unread",
    "bound",
    "exchanged",
    "form",
    "get",
    "items",
    "json_body",
    "kept",
    "label",
    "multipart",
    "post",
    "read",
    "refused",
    "refuses",
    "sample",
    "told",
    "unverified",
]

SAMPLES = Path(__file__).parents[1] / "samples"


def sample(name: str) -> Request:
    """The request in `tests/samples/NAME`, byte for byte."""
    return testing.sample(SAMPLES / name)


def refuses(provider: Provider, row: Nonsense) -> None:
    """Assert that a post with nonsense gets a 400 whose one line names the field."""
    field, text, reply = refused(provider, row.request)
    assert field == row.field
    assert field in text
    assert row.says in text
    assert reply == Reply(400, f"{text}\n".encode())
    assert "\n" not in text
