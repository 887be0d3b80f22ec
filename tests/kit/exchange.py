"""An exchange with a provider's module: a request as the vendor sends it, reply and receipt."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import pytest

from receiptd.providers import Endpoint, Invalid, Post, Provider, Reply
from receiptd.providers.values import zone
from receiptd.receipt import ACCEPTED, Outcome, Receipt, State, Verdict

SAMPLES = Path(__file__).parents[1] / "samples"
FORM = "application/x-www-form-urlencoded"


class Request(NamedTuple):
    """What of an HTTP request reaches a provider's module."""

    method: str
    query: bytes = b""
    body: bytes = b""
    content_type: str = ""


class Case(NamedTuple):
    """A row of a provider's table. Of the receipt, fields that are not named must be unset."""

    label: str
    request: Request
    receipt: dict[str, Any]
    reply: Reply = Reply(200, b"")


class Nonsense(NamedTuple):
    """A row of a provider's table of posts that are answered with an error."""

    label: str
    request: Request
    field: str
    says: str


class Unread(NamedTuple):
    """A row of a provider's table of values that cannot be read, and are kept as they came."""

    label: str
    request: Request
    field: str
    """Its name in `extra` and in `unread`."""
    value: str


def kept(provider: Provider, row: Unread) -> Receipt:
    """The receipt of a post of which one value cannot be read."""
    (receipt,) = receipts = provider.read(post(provider, row.request))
    assert receipt.unread == (row.field,)
    assert receipt.extra[row.field] == row.value
    assert provider.answer(receipts, [ACCEPTED]).status == 200
    return receipt


def refuses(provider: Provider, row: Nonsense) -> None:
    """Assert that a post with nonsense gets a 400 whose one line names the field."""
    field, text, reply = refused(provider, row.request)
    assert field == row.field
    assert field in text
    assert row.says in text
    assert reply == Reply(400, f"{text}\n".encode())
    assert "\n" not in text


def label(row: Any) -> Any:
    """How pytest calls a row."""
    return row.label if isinstance(row, (Case, Nonsense, Unread)) else None


def sample(name: str) -> Request:
    """The request in `tests/samples/NAME`, byte for byte."""
    head, _, body = (SAMPLES / name).read_bytes().partition(b"\r\n\r\n")
    first, *lines = head.split(b"\r\n")
    method, target, _ = first.decode().split(" ")
    headers = {}
    for line in lines:
        key, _, value = line.decode().partition(":")
        headers[key.strip().lower()] = value.strip()
    assert int(headers.get("content-length", "0")) == len(body)
    return Request(
        method, target.partition("?")[2].encode(), body, headers.get("content-type", "")
    )


def _bytes(value: str | bytes) -> bytes:
    return value.encode() if isinstance(value, str) else value


def form(body: str | bytes, query: str | bytes = b"") -> Request:
    """A form post."""
    return Request("POST", _bytes(query), _bytes(body), FORM)


def get(query: str | bytes) -> Request:
    """A GET with a query string."""
    return Request("GET", _bytes(query))


def multipart(**fields: str) -> Request:
    """A multipart form post."""
    parts = "".join(
        f'--XyZ\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'
        for name, value in fields.items()
    )
    body = f"{parts}--XyZ--\r\n".encode()
    return Request("POST", b"", body, "multipart/form-data; boundary=XyZ")


def bound(
    kind: type[Provider],
    *,
    timezone: str | None = None,
    codes: dict[str, State] | None = None,
    **options: Any,
) -> Provider:
    """The provider's module, bound to an endpoint that is configured so."""
    return kind(
        Endpoint(
            "here",
            zone(timezone or kind.timezone),
            codes or {},
            kind.Options.model_validate(options),
        )
    )


def post(provider: Provider, request: Request) -> Post:
    """`request` as the web layer hands it to `provider`."""
    return Post(*request, charset=provider.charset, secrets=provider.secrets, token="token")


def read(provider: Provider, request: Request) -> Receipt:
    """The one receipt in `request`."""
    (receipt,) = provider.read(post(provider, request))
    return receipt


def told(receipt: Receipt) -> dict[str, Any]:
    """The fields of `receipt` that are set, without those that any receipt has."""
    common = ("endpoint", "provider", "raw")
    fields = {k: v for k, v in receipt._asdict().items() if k not in common}
    defaults = Receipt._field_defaults
    return {
        name: value
        for name, value in fields.items()
        if value is not None and value != defaults.get(name)
    }


def exchanged(provider: Provider, request: Request) -> tuple[dict[str, Any], Reply]:
    """What is told of the one receipt in `request`, and the reply once it is stored."""
    receipts = provider.read(post(provider, request))
    (receipt,) = receipts
    assert (receipt.endpoint, receipt.provider) == ("here", provider.name)
    return told(receipt), provider.answer(receipts, [ACCEPTED])


def refused(provider: Provider, request: Request) -> tuple[str, str, Reply]:
    """The field that `request` is refused for, the sentence, and the reply."""
    received = post(provider, request)
    with pytest.raises(Invalid) as caught:
        provider.read(received)
    error = caught.value
    reply = provider.refuse(received, Verdict(Outcome.INVALID, error.text))
    return error.field, error.text, reply
