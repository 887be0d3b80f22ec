"""Tests a provider's module with a table of exchanges: a request as the vendor sends it, the
receipts that it holds, and the reply.

The built-in providers are tested with it, and so can be those of any other package:

    @pytest.mark.parametrize("case", CASES, ids=label)
    def test_an_exchange(case):
        assert exchanged(bound(Acme), case.request) == (case.receipt, case.reply)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from receiptd.providers import Endpoint, Invalid, Item, Post, Provider, Reply, Unverified
from receiptd.providers.clocks import zone
from receiptd.receipt import ACCEPTED, Outcome, Receipt, State, Verdict

FORM = "application/x-www-form-urlencoded"
JSON = "application/json"
PUBLIC_URL = "https://dlr.example.com"
"""What stands before the path in the URL that a provider is told, unless a test says."""


class Request(NamedTuple):
    """What of an HTTP request reaches a provider's module."""

    method: str
    query: bytes = b""
    body: bytes = b""
    content_type: str = ""
    headers: Mapping[str, str] = {}
    """By name in lower case."""
    path: bytes = b"/"


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


def label(row: Any) -> Any:
    """How pytest calls a row."""
    return row.label if isinstance(row, (Case, Nonsense, Unread)) else None


def request_of(raw: bytes) -> Request:
    """A whole HTTP request as it is on the wire.

    :raises ValueError: where it is none.
    """
    head, _, body = raw.partition(b"\r\n\r\n")
    if not body and b"\n\n" in raw and b"\r\n" not in head:
        head, _, body = raw.partition(b"\n\n")
    first, *lines = head.replace(b"\r\n", b"\n").split(b"\n")
    try:
        method, target, version = first.decode("latin-1").split(" ")
    except ValueError:
        version = ""
    if not version.startswith("HTTP/"):
        raise ValueError("expected a request line such as: POST /path HTTP/1.1")
    headers: dict[str, str] = {}
    for line in lines:
        key, _, value = line.decode("latin-1").partition(":")
        headers.setdefault(key.strip().lower(), value.strip())
    path, _, query = target.encode("latin-1").partition(b"?")
    return Request(method, query, body, headers.get("content-type", ""), headers, path)


def sample(file: str | Path) -> Request:
    """The request in a file, byte for byte."""
    request = request_of(Path(file).read_bytes())
    length = int(request.headers.get("content-length", "0"))
    assert length == len(request.body), f"the body has {len(request.body)} bytes, not {length}"
    return request


def _bytes(value: str | bytes) -> bytes:
    return value.encode() if isinstance(value, str) else value


def form(body: str | bytes, query: str | bytes = b"") -> Request:
    """A form post."""
    return Request("POST", _bytes(query), _bytes(body), FORM)


def json_body(body: str | bytes, **headers: str) -> Request:
    """A JSON post."""
    named = {name.lower().replace("_", "-"): value for name, value in headers.items()}
    return Request("POST", b"", _bytes(body), JSON, named)


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
    public_urls: Sequence[str] = (PUBLIC_URL,),
    **options: Any,
) -> Provider:
    """The provider's module, bound to an endpoint that is configured so."""
    return kind(
        Endpoint(
            "here",
            zone(timezone or kind.timezone),
            codes or {},
            kind.Options.model_validate(options),
            public_urls,
        )
    )


def post(provider: Provider, request: Request, at: float | None = None) -> Post:
    """`request` as the web layer hands it to `provider`.

    :param at: when it came, in seconds since 1970; now where left out.
    """
    method, query, body, content_type, headers, path = request
    return Post(
        method,
        query,
        body,
        content_type,
        charset=provider.charset,
        secrets=provider.secrets,
        token="token",  # noqa: S106 - the field's name
        headers=headers,
        path=path,
        public_urls=provider.endpoint.public_urls,
        received_at=at,
    )


def items(provider: Provider, request: Request) -> Sequence[Item]:
    """What is in `request`."""
    return provider.read(post(provider, request))


def read(provider: Provider, request: Request) -> Receipt:
    """The one receipt in `request`."""
    (receipt,) = items(provider, request)
    assert isinstance(receipt, Receipt), receipt
    return receipt


def kept(provider: Provider, row: Unread) -> Receipt:
    """The receipt of a post of which one value cannot be read."""
    receipt = read(provider, row.request)
    assert receipt.unread == (row.field,), receipt.unread
    assert receipt.extra[row.field] == row.value
    assert provider.answer([receipt], [ACCEPTED]).status == 200
    return receipt


def unverified(provider: Provider, request: Request, at: float | None = None) -> str | None:
    """Why the signature of `request` is not right; None where it is."""
    try:
        provider.verify(post(provider, request, at))
    except Unverified as error:
        return error.text
    return None


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
    receipt = read(provider, request)
    assert (receipt.endpoint, receipt.provider) == ("here", provider.name)
    return told(receipt), provider.answer([receipt], [ACCEPTED])


def refused(provider: Provider, request: Request) -> tuple[str, str, Reply]:
    """The field that `request` is refused for, the sentence, and the reply."""
    received = post(provider, request)
    try:
        found = provider.read(received)
    except Invalid as error:
        reply = provider.refuse(received, Verdict(Outcome.INVALID, error.text))
        return error.field, error.text, reply
    raise AssertionError(f"{found!r} was read, and should have been refused")
