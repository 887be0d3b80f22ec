"""Posts what a provider would post, to see that a server takes it, and how fast.

A few threads with a connection each, kept alive, send receipts that the provider's own module
makes up (`Provider.sample`) in the form that it reads (`Provider.write`). Nothing is sent to
anywhere but the given URL: redirections are an answer like any other.
"""

from __future__ import annotations

import http.client
import socket
import ssl
import time
from array import array
from base64 import b64encode
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from random import Random
from threading import Event, Lock, Thread
from typing import NamedTuple
from urllib.parse import parse_qs, parse_qsl, quote, unquote, urlencode, urlsplit
from xml.sax.saxutils import escape

from receiptd import __version__
from receiptd.providers import Provider
from receiptd.providers.csoft import timestamp
from receiptd.receipt import Receipt, match_key

SOAP_TYPE = "text/xml; charset=utf-8"
FORM_TYPE = "application/x-www-form-urlencoded"

FIRST = datetime(2026, 1, 1, tzinfo=UTC)
"""When the first receipt of a seeded run was reported: the same seed makes the same receipts."""

_SOAP_ENV = "http://schemas.xmlsoap.org/soap/envelope/"
_SENDSMS5 = "http://www.csoft.co.uk/dtd/sendsms5.xsd"

_STALE = (
    http.client.RemoteDisconnected,
    ConnectionResetError,
    BrokenPipeError,
    ConnectionAbortedError,
)
"""How a kept connection shows, at its next use, that the server closed it meanwhile."""


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
    """What came back for a post: whether that means "received", and what it says if not."""

    received: bool
    text: str = ""


class Failure(NamedTuple):
    """A post that was not answered "received"."""

    message_id: str | None
    recipient: str | None
    text: str


@dataclass(slots=True)
class Outcome:
    """What became of a run."""

    sent: int = 0
    received: int = 0
    seconds: float = 0.0
    latencies: array[float] = field(default_factory=lambda: array("d"))
    """Seconds from the first byte sent to the last one read, of each post that was answered."""
    failures: list[Failure] = field(default_factory=list)
    stopped: str | None = None
    """Why the run ended early."""


class CannotConnect(Exception):
    """No connection to the target; the text says why and what to do."""


def target(url: str, token: str | None = None) -> Target:
    """The target at `url`; a username and password in it are sent as HTTP Basic.

    :raises ValueError: where it is no HTTP URL.
    """
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError(f"{url!r} is no URL such as http://127.0.0.1:8080/soap")
    parts.hostname.encode("idna")
    headers = {"User-Agent": f"receiptd/{__version__} simulate"}
    if parts.username is not None:
        login = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        headers["Authorization"] = "Basic " + b64encode(login.encode()).decode()
    query = quote(parts.query, safe="/%:?@!$&'()*+,;=-._~")
    if token:
        query += ("&" if query else "") + urlencode({"token": token})
    path = quote(parts.path or "/", safe="/%:@!$&'()*+,;=-._~")
    secure = parts.scheme == "https"
    port = parts.port or (443 if secure else 80)
    name = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    return Target(
        secure,
        parts.hostname,
        port,
        path + ("?" + query if query else ""),
        headers,
        f"{parts.scheme}://{name}:{port}{parts.path}",
    )


def envelope(receipt: Receipt, username: str | None = None, pin: str | None = None) -> bytes:
    """`receipt` as Connection Software posts it: SOAP 1.1, version 5, children unqualified."""
    fields = (
        ("Username", username),
        ("PIN", pin),
        ("Timestamp1", timestamp(receipt.reported_at)),
        ("SentTo", receipt.recipient or ""),
        ("MessageIdentifier", receipt.message_id or ""),
        ("Report", receipt.code or ""),
    )
    children = "".join(
        f"<{name}>{escape(value)}</{name}>" for name, value in fields if value is not None
    )
    return (
        '<?xml version="1.0" encoding="UTF-8"?>\n'
        f'<SOAP-ENV:Envelope xmlns:SOAP-ENV="{_SOAP_ENV}" xmlns:ns2="{_SENDSMS5}"><SOAP-ENV:Body>'
        f"<ns2:SubmitDeliveryReceipt>{children}</ns2:SubmitDeliveryReceipt>"
        "</SOAP-ENV:Body></SOAP-ENV:Envelope>\n"
    ).encode()


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
            return Answer(False, _said(status, body) if status >= 300 else str(error))
        if kind == "Fault":
            code = found.get("faultcode", "").rpartition(":")[2]
            return Answer(False, f"HTTP {status}, fault {code}: {found.get('faultstring', '')}")
        if status >= 300:
            return Answer(False, _said(status, b""))
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
            return Answer(False, _said(status, body))
        fields = parse_qs(body.decode("utf-8", "replace"), keep_blank_values=True)
        return _report(sent, {name: values[0] for name, values in fields.items()})


class Query:
    """Any other provider: its own post, and 2xx for an answer."""

    def __init__(self, provider: Provider) -> None:
        self._provider = provider

    def write(self, receipt: Receipt, to: Target) -> Outgoing:
        """The post of `receipt`."""
        post = self._provider.write(receipt)
        query = post.query.decode("ascii")
        path = to.path + (("&" if "?" in to.path else "?") + query if query else "")
        headers = to.headers
        if post.content_type:
            headers = headers | {"Content-Type": post.content_type}
        return Outgoing(receipt, post.method, path, post.body, headers)

    def read(self, sent: Outgoing, status: int, body: bytes) -> Answer:
        """ "Received" is any 2xx."""
        return Answer(True) if 200 <= status < 300 else Answer(False, _said(status, body))


Dialect = Soap | Form | Query


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
    content = root.find(f"{{{_SOAP_ENV}}}Body")
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
        return Answer(False, f"{said}: {text}" if text else said)
    identifier = found.get("MessageIdentifier", "")
    if match_key(identifier) != match_key(sent.receipt.message_id or ""):
        return Answer(False, f"Report 0, but for the identifier {identifier!r}")
    return Answer(True)


def _said(status: int, body: bytes) -> str:
    phrase = http.client.responses.get(status, "")
    line = body[:300].decode("utf-8", "replace").strip().partition("\n")[0].strip()
    if line.startswith("<"):
        line = ""
    return f"HTTP {status} {phrase}".strip() + (f": {line}" if line else "")


def samples(provider: Provider, count: int, seed: int | None) -> Iterator[Receipt]:
    """`count` receipts: others in each run, or with a `seed` the same, times included."""
    random = Random(seed)  # noqa: S311 - made up, not secret
    for number in range(count):
        at = datetime.now(UTC) if seed is None else FIRST + timedelta(seconds=number)
        yield provider.sample(random, at)


class Run:
    """One run of `simulate`. `start` it, then `wait`; `outcome` grows meanwhile."""

    def __init__(
        self,
        to: Target,
        dialect: Dialect,
        receipts: Iterator[Receipt],
        *,
        rate: float | None = None,
        connections: int = 8,
        timeout: float = 30.0,
    ) -> None:
        """
        :param rate: posts per second; None: as fast as the connections allow.
        :param timeout: seconds to wait for the server at each step.
        """
        self.outcome = Outcome()
        self._target = to
        self._dialect = dialect
        self._receipts = receipts
        self._interval = 1 / rate if rate else 0.0
        self._timeout = timeout
        self._lock = Lock()
        self._stop = Event()
        self._taken = 0
        self._started = time.perf_counter()
        self._threads = [
            Thread(target=self._work, name=f"simulate-{number}", daemon=True)
            for number in range(connections)
        ]

    def start(self) -> None:
        """Begin to send.

        :raises CannotConnect: where nothing answers at the target; nothing was sent then.
        """
        self._connect().close()
        self._started = time.perf_counter()
        for thread in self._threads:
            thread.start()

    def wait(self, seconds: float | None = None) -> bool:
        """Wait for the end, or for so many seconds; whether it is the end."""
        deadline = None if seconds is None else time.monotonic() + seconds
        for thread in self._threads:
            if thread.ident is not None:  # an interrupted start leaves some that never began
                thread.join(None if deadline is None else max(0.0, deadline - time.monotonic()))
        ended = not any(thread.is_alive() for thread in self._threads)
        self.outcome.seconds = time.perf_counter() - self._started
        return ended

    def stop(self) -> None:
        """Send no more; what is under way is still awaited."""
        self._stop.set()

    def _connect(self) -> http.client.HTTPConnection:
        to = self._target
        connection: http.client.HTTPConnection
        if to.secure:
            connection = http.client.HTTPSConnection(to.host, to.port, timeout=self._timeout)
        else:
            connection = http.client.HTTPConnection(to.host, to.port, timeout=self._timeout)
        try:
            connection.connect()
        except ssl.SSLCertVerificationError as error:
            raise CannotConnect(
                f"{to.shown}: the certificate is not trusted: {error.verify_message}. "
                "SSL_CERT_FILE can name a file with the authority's"
            ) from None
        except (TimeoutError, socket.gaierror, OSError) as error:
            why = getattr(error, "strerror", None) or str(error) or type(error).__name__
            hint = ". Is a server running there? Start one with: receiptd serve"
            if not isinstance(error, ConnectionRefusedError):
                hint = ""
            raise CannotConnect(f"{to.shown}: cannot connect: {why.lower()}{hint}") from None
        return connection

    def _take(self) -> tuple[Outgoing, float] | None:
        """The next post, and when it is due (by `perf_counter`)."""
        with self._lock:
            if self._stop.is_set():
                return None
            receipt = next(self._receipts, None)
            if receipt is None:
                return None
            due = self._started + self._taken * self._interval
            self._taken += 1
        return self._dialect.write(receipt, self._target), due

    def _work(self) -> None:
        connection: http.client.HTTPConnection | None = None
        while (taken := self._take()) is not None:
            post, due = taken
            if self._interval and self._stop.wait(due - time.perf_counter()):
                break
            try:
                connection = self._exchange(connection, post)
            except CannotConnect as error:
                # The server went in mid-run; every further post would meet the same.
                self._end(post, None, Answer(False, str(error)))
                self.outcome.stopped = str(error)
                self._stop.set()
        if connection is not None:
            connection.close()

    def _exchange(
        self, kept: http.client.HTTPConnection | None, post: Outgoing
    ) -> http.client.HTTPConnection | None:
        """Send `post` and read the answer; gives the connection where it can be kept.

        A kept connection may turn out to be closed by the server meanwhile; then the post goes
        over a new one. If the first was taken after all, the second is a duplicate, which a
        server has to bear anyway.
        """
        connection = kept or self._connect()
        started = time.perf_counter()
        try:
            connection.request(post.method, post.path, post.body or None, post.headers)
            response = connection.getresponse()
            body = response.read()
        except (OSError, http.client.HTTPException) as error:
            connection.close()
            if kept is not None and isinstance(error, _STALE):
                return self._exchange(None, post)
            self._end(post, None, Answer(False, _lost(error)))
            return None
        latency = time.perf_counter() - started
        self._end(post, latency, self._dialect.read(post, response.status, body))
        if response.will_close:
            connection.close()
            return None
        return connection

    def _end(self, post: Outgoing, latency: float | None, answer: Answer) -> None:
        outcome = self.outcome
        with self._lock:
            outcome.sent += 1
            if latency is not None:
                outcome.latencies.append(latency)
            if answer.received:
                outcome.received += 1
            else:
                receipt = post.receipt
                outcome.failures.append(
                    Failure(receipt.message_id, receipt.recipient, answer.text)
                )


def _lost(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return "no answer in time"
    return f"the connection broke before the answer: {str(error) or type(error).__name__}"


def percentile(latencies: array[float], share: float) -> float:
    """The latency that `share` (0 to 1) of all do not exceed."""
    ordered = sorted(latencies)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else 0.0


def groups(failures: list[Failure]) -> list[tuple[str, list[Failure]]]:
    """Failures by what was said, the most frequent first; the receipts' own identifiers and
    phones, which an answer may name, do not tell groups apart."""
    found: dict[str, list[Failure]] = {}
    for failure in failures:
        text = failure.text
        for own, stands in ((failure.message_id, "<identifier>"), (failure.recipient, "<phone>")):
            if own and len(own) > 3:
                text = text.replace(own, stands)
        found.setdefault(text, []).append(failure)
    return sorted(found.items(), key=lambda group: -len(group[1]))
