"""A provider's post and its fields: bytes to names and values, and nothing else.

Every provider but the SOAP one sends a query string, a form, or both; this module reads
them in the one documented way:

- Pairs are separated by `&` (never by `;`), a name ends at its first `=`, `+` is a space,
  percent escapes are decoded, a bad escape stays as it is.
- Bytes are UTF-8 and, where they are not, in the provider's older charset. NUL, which no
  database keeps as text, becomes U+FFFD.
- Names compare without case. A field's value is its first one that is not empty, the body's
  before the query's. An empty value is no value. Further, different values are kept aside.
- A multipart form's plain fields count as form fields; its files do not.
- Whatever the Content-Type says: fields that stand in a line each are read as well, and so is
  `&amp;` for `&`, and a `?` in the query that the provider puts before its own parameters.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

from receiptd.blanking import BLANK
from receiptd.blanking.by_name import blank_elements, blank_members
from receiptd.providers.fields import Fields, Invalid, Pair, is_secret
from receiptd.providers.forms import decode, looks_like_form, take_apart
from receiptd.providers.json_body import read_json
from receiptd.providers.multipart import form_parts

__all__ = ["Fields", "Invalid", "Post", "looks_like_form"]


class Post:
    """One HTTP request of a provider, as far as its module needs it."""

    def __init__(
        self,
        method: str,
        query: bytes = b"",
        body: bytes = b"",
        content_type: str = "",
        *,
        charset: str = "iso8859-1",
        secrets: frozenset[str] = frozenset(),
        token: str | None = None,
        headers: Mapping[str, str] | None = None,
        path: bytes = b"/",
        public_urls: Sequence[str] = (),
        received_at: float | None = None,
    ) -> None:
        """
        :param query: the request target behind its first `?`.
        :param charset: what the bytes are in where they are not UTF-8.
        :param secrets: names (in lower case) of the fields to blank in `raw`.
        :param token: name (in lower case) of the field that carries the endpoint's token: no
            provider sees it, and it is blanked in `raw`.
        :param headers: by name in lower case.
        :param path: the request target before its first `?`, as it came.
        :param public_urls: what stands before the target in the URL that the provider asked
            for, as the configuration says; never what the request says.
        :param received_at: seconds since 1970; the present where left out.
        """
        self.headers: Mapping[str, str] = {} if headers is None else headers
        self.path = path
        self._public_urls = public_urls
        self._received_at = received_at
        self._charset = charset
        self.method = method
        self.query = query
        self.body = body
        self.content_type = content_type
        if token is not None:
            secrets |= {token}
        self._token = token
        self._secrets = secrets
        self._pairs: list[Pair] = []
        self._fields: Fields | None = None
        if body:
            if content_type[:19].lower() == "multipart/form-data":
                self._pairs = _multipart(content_type, body, charset)
                if secrets:
                    body = _blank_multipart(content_type, body, secrets, charset)
            else:
                if not self.is_json:
                    body = take_apart(body, charset, secrets, self._pairs)
                if secrets:
                    body = _blank_others(body, secrets)
        if query:
            query = b"?" + take_apart(query, charset, secrets, self._pairs, query=True)
        self.raw = query + b"\n" + body if query and body else query or body
        """The post as it came, secrets blanked: the body, preceded, where there is a query,
        by `?`, the query and (where there is a body too) a line feed."""

    def changed(
        self,
        *,
        query: bytes | None = None,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Post:
        """The same post with another query or body, or with further headers: to sign one."""
        return Post(
            self.method,
            self.query if query is None else query,
            self.body if body is None else body,
            self.content_type,
            charset=self._charset,
            headers={**self.headers, **(headers or {})},
            path=self.path,
            public_urls=self._public_urls,
            received_at=self._received_at,
        )

    @property
    def is_json(self) -> bool:
        """Whether the body is JSON: it begins as such, whatever the Content-Type says."""
        return self.body[:64].removeprefix(b"\xef\xbb\xbf").lstrip()[:1] in (b"{", b"[")

    def json(self) -> Any:
        """The body as `json_body.read_json` has it.

        :raises Invalid: where it is none.
        """
        return read_json(decode(self.body, self._charset))

    @property
    def target(self) -> str:
        """The request target: path and query exactly as they came, a token in them included."""
        return (self.path + (b"?" + self.query if self.query else b"")).decode("latin-1")

    @property
    def urls(self) -> list[str]:
        """Each URL that the provider may have asked for: the configured ones, with the target."""
        return [base.rstrip("/") + self.target for base in self._public_urls]

    @property
    def received_at(self) -> float:
        """When the post came, in seconds since 1970."""
        return time.time() if self._received_at is None else self._received_at

    @property
    def fields(self) -> Fields:
        """Body and query merged, the endpoint's token left out."""
        if self._fields is None:
            self._fields = self.named(exact=False)
        return self._fields

    def named(self, *, exact: bool) -> Fields:
        """As `fields`; with `exact`, for a provider whose field names differ in case alone."""
        pairs = self._pairs
        if self._token is not None:
            pairs = [pair for pair in pairs if pair[0] != self._token]
        return Fields(pairs, exact=exact, secrets=self._secrets)

    @property
    def tokens(self) -> list[str]:
        """What was sent as the endpoint's token, exactly."""
        return [value for key, _, value in self._pairs if key == self._token]


def _blank_others(body: bytes, secrets: frozenset[str]) -> bytes:
    """A body that is no form, with what looks like a secret's member or element blanked."""
    start = body[:64].lstrip()[:1]
    if start in (b"{", b"["):
        return blank_members(body, secrets)
    if start == b"<":
        for name in secrets:
            body = blank_elements(body, name.encode())
    return body


def _multipart(content_type: str, body: bytes, charset: str) -> list[Pair]:
    pairs: list[Pair] = []
    for part in form_parts(content_type, body):
        if not part.file:
            name = decode(part.name, charset).strip()
            value = decode(body[part.start : part.end], charset)
            pairs.append((name.casefold(), name, value))
    return pairs


def _blank_multipart(
    content_type: str, body: bytes, secrets: frozenset[str], charset: str
) -> bytes:
    """`body` with the parts named in `secrets` blanked; where it cannot be taken apart and yet
    names a secret, all of it."""
    parts = list(form_parts(content_type, body))
    if not parts and any(secret.encode() in body.lower() for secret in secrets):
        return BLANK
    pieces, position = [], 0
    for part in parts:
        name = decode(part.name, charset).strip().casefold()
        if is_secret(name, secrets) and part.end > part.start:
            pieces += [body[position : part.start], BLANK]
            position = part.end
    return b"".join([*pieces, body[position:]])
