"""The table kit that providers are tested with, and where the samples are."""

from __future__ import annotations

from pathlib import Path

from receiptd.providers import testing
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
    "sample",
    "told",
    "unverified",
]

SAMPLES = Path(__file__).parents[1] / "samples"


def sample(name: str) -> Request:
    """The request in `tests/samples/NAME`, byte for byte."""
    return testing.sample(SAMPLES / name)
