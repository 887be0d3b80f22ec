"""How each provider's posts are written, and how their answers are read: as the provider would.

A provider takes an answer for "received" or not. `simulate` looks closer: a `Report` of
Connection Software in an answer with HTTP 200 says that a post was not taken as a receipt, also
where the post was another provider's and only the URL was wrong.
"""

from __future__ import annotations

import http.client
from base64 import b64encode
from typing import Literal, NamedTuple, Protocol
from urllib.parse import parse_qs, parse_qsl, quote, unquote, urlencode, urlsplit

from receiptd import __version__
from receiptd.providers import Post, Provider
from receiptd.receipt import Receipt, match_key
from receiptd.simulate.envelope import SOAP_ENV, envelope

SOAP_TYPE = "text/xml; charset=utf-8"
FORM_TYPE = "application/x-www-form-urlencoded"

LARGEST_FORM = 16 * 1024
"""Bytes of an answer that are looked through for a report in form encoding."""


class Target(NamedTuple):
    """Where posts go."""

    secure: bool
    host: str
    port: int
    path: str
    """The path, with the query that every post has."""
    headers: dict[str, str]
    shown: str
    """The URL without its secrets."""


class Outgoing(NamedTuple):
    """One post: the receipt in it, and its bytes."""

    receipt: Receipt
    method: str
    path: str
    body: bytes
    headers: dict[str, str]


class Answer(NamedTuple):
    """What came back for a post, and what it says if that is not "received"."""

    kind: Literal["received", "refused", "failed"]
    """`refused`: understood, and not taken as a receipt. `failed`: anything else, such as a fault,
    a server that is busy, or no answer."""
    text: str = ""


def target(url: str, token: str | None = None) -> Target:
    """The target at `url`; a username and password in it are sent as HTTP Basic.

    :raises ValueError: where it is no HTTP URL.
    """
    try:
        parts = urlsplit(url)
        port, host = parts.port, (parts.hostname or "").encode("idna").decode("ascii")
    except ValueError:
        parts, port, host = None, None, ""
    if parts is None or parts.scheme not in ("http", "https") or not host:
        # The URL is not repeated, since it may hold a password, encoded badly.
        raise ValueError(
            "this is no URL such as http://127.0.0.1:8080/soap; in a username or a password @ "
            "is written %40, : is %3A and / is %2F"
        )
    headers = {"User-Agent": f"receiptd/{__version__} simulate"}
    if parts.username is not None:
        login = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        headers["Authorization"] = "Basic " + b64encode(login.encode()).decode()
    query = quote(parts.query, safe="/%:?@!$&'()*+,;=-._~")
    if token:
        query += ("&" if query else "") + urlencode({"token": token})
    path = quote(parts.path or "/", safe="/%:@!$&'()*+,;=-._~")
    secure = parts.scheme == "https"
    port = port or (443 if secure else 80)
    name = f"[{host}]" if ":" in host else host
    return Target(
        secure,
        host,
        port,
        path + ("?" + query if query else ""),
        headers,
        f"{parts.scheme}://{name}:{port}{parts.path}",
    )


class Soap:
    """Connection Software's SOAP: how a receipt is written, and how the answer is read."""

    def __init__(self, username: str | None = None, pin: str | None = None) -> None:
        self._username = username
        self._pin = pin

    def write(self, receipt: Receipt, to: Target) -> Outgoing:
        """The post of `receipt`."""
        headers = to.headers | {"Content-Type": SOAP_TYPE, "SOAPAction": '""'}
        body = envelope(receipt, self._username, self._pin)
        return Outgoing(receipt, "POST", to.path, body, headers)

    def read(self, sent: Outgoing, status: int, body: bytes) -> Answer:
        """ "Received" is a Report of 0 for the identifier that was sent."""
        try:
            kind, found = reply(body)
        except ValueError as error:
            return Answer(*_said(status, body)) if status >= 300 else Answer("failed", str(error))
        if kind == "Fault":
            code = found.get("faultcode", "").rpartition(":")[2]
            return Answer("failed", f"HTTP {status}, fault {code}: {found.get('faultstring', '')}")
        if status >= 300:
            return Answer(*_said(status, b""))
        return _report(sent, found)


class Form:
    """Connection Software's form post of the same fields."""

    def __init__(
        self, provider: Provider, username: str | None = None, pin: str | None = None
    ) -> None:
        self._provider = provider
        pairs = (("Username", username), ("PIN", pin))
        self._credentials = {name: value for name, value in pairs if value is not None}

    def write(self, receipt: Receipt, to: Target) -> Outgoing:
        """The post of `receipt`."""
        fields = dict(parse_qsl(self._provider.write(receipt).body.decode(), True))
        body = urlencode(fields | self._credentials).encode()
        return Outgoing(receipt, "POST", to.path, body, to.headers | {"Content-Type": FORM_TYPE})

    def read(self, sent: Outgoing, status: int, body: bytes) -> Answer:
        """ "Received" is a Report of 0 for the identifier that was sent."""
        if status >= 300:
            return Answer(*_said(status, body))
        fields = parse_qs(body.decode("utf-8", "replace"), keep_blank_values=True)
        return _report(sent, {name: values[0] for name, values in fields.items()})


class Query:
    """Any other provider: its own post, and 2xx for an answer."""

    def __init__(self, provider: Provider) -> None:
        self._provider = provider

    def write(self, receipt: Receipt, to: Target) -> Outgoing:
        """The post of `receipt`."""
        written = self._provider.write(receipt)
        path, _, query = to.path.partition("?")
        base = to.shown.removesuffix(path)
        post = self._provider.sign(
            Post(
                written.method,
                "&".join(filter(None, (query, written.query.decode("ascii")))).encode(),
                written.body,
                written.content_type,
                headers=written.headers,
                path=path.encode(),
                public_urls=self._provider.endpoint.public_urls or (base,),
            )
        )
        headers = to.headers | dict(post.headers)
        if post.content_type:
            headers = headers | {"Content-Type": post.content_type}
        return Outgoing(receipt, post.method, post.target, post.body, headers)

    def read(self, sent: Outgoing, status: int, body: bytes) -> Answer:
        """ "Received" is any 2xx, unless it carries a report of Connection Software's that says
        otherwise."""
        if not 200 <= status < 300:
            return Answer(*_said(status, body))
        report, text = _foreign_report(body)
        if report in (None, "0"):
            return Answer("received")
        return Answer(
            "refused",
            f"HTTP {status}, but Report {report}: {text} (a csoft endpoint answers so: does --url "
            f"name the endpoint of {self._provider.name}?)",
        )


class Dialect(Protocol):
    """How a provider's posts are written, and their answers read."""

    def write(self, receipt: Receipt, to: Target) -> Outgoing:
        """The post of `receipt`."""

    def read(self, sent: Outgoing, status: int, body: bytes) -> Answer:
        """What an answer means."""


def csoft(provider: Provider, username: str | None, pin: str | None, *, form: bool) -> Dialect:
    """Connection Software's: SOAP, or on demand a form."""
    return Form(provider, username, pin) if form else Soap(username, pin)


def reply(body: bytes) -> tuple[str, dict[str, str]]:
    """A SOAP reply's element, `Fault` or the response, and the texts of its children.

    :raises ValueError: where it is no SOAP envelope.
    """
    from lxml import etree

    parser = etree.XMLParser(resolve_entities=False, no_network=True, remove_comments=True)
    try:
        root = etree.fromstring(body, parser)
    except (etree.XMLSyntaxError, ValueError) as error:
        raise ValueError(f"the answer is no XML: {error}") from None
    content = root.find(f"{{{SOAP_ENV}}}Body")
    if content is None or not len(content):
        raise ValueError(f"the answer is no SOAP reply but {etree.QName(root).localname}")
    children = {
        etree.QName(child).localname: "".join(child.itertext()).strip() for child in content[0]
    }
    return etree.QName(content[0]).localname, children


def _report(sent: Outgoing, found: dict[str, str]) -> Answer:
    report = found.get("Report", "").strip()
    text = found.get("Text", "").strip()
    if report != "0":
        said = f"Report {report}" if report else "an answer without Report"
        return Answer("refused" if report else "failed", f"{said}: {text}" if text else said)
    identifier = found.get("MessageIdentifier", "")
    if match_key(identifier) != match_key(sent.receipt.message_id or ""):
        return Answer("failed", f"Report 0, but for the identifier {identifier!r}")
    return Answer("received")


def _foreign_report(body: bytes) -> tuple[str | None, str]:
    """The report and the text that Connection Software's answer holds; None where `body` is none
    of its answers."""
    if body.lstrip().startswith(b"<"):
        try:
            _, found = reply(body)
        except ValueError:
            return None, ""
    else:
        pairs = parse_qsl(body[:LARGEST_FORM].decode("utf-8", "replace"), keep_blank_values=True)
        found = dict(pairs)
    report = found.get("Report")
    return (report.strip() if report is not None else None), found.get("Text", "").strip()


def _said(status: int, body: bytes) -> tuple[Literal["refused", "failed"], str]:
    phrase = http.client.responses.get(status, "")
    line = body[:300].decode("utf-8", "replace").strip().partition("\n")[0].strip()
    if line.startswith("<"):
        line = ""
    # RFC 9110, section 15.5: the post is at fault. A 408 or a 429 says that it came too slowly or
    # too often, not that it is no receipt.
    refused = 400 <= status < 500 and status not in (408, 429)
    text = f"HTTP {status} {phrase}".strip() + (f": {line}" if line else "")
    return ("refused" if refused else "failed"), text
