"""Hostile requests of every kind, the same ones for the same seed.

Each is whole: a server that is right answers each of them at once, whatever it says. Many carry a
configured secret where none belongs, in one of many ways of writing.
"""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Callable, Iterator, Sequence
from html import escape
from random import Random
from typing import NamedTuple
from urllib.parse import quote

SOAP = "http://schemas.xmlsoap.org/soap/envelope/"
FIELDS = ("Username", "PIN", "Timestamp1", "SentTo", "MessageIdentifier", "Report")


class Hostile(NamedTuple):
    """A request, and what kind of hostility is in it."""

    kind: str
    data: bytes
    head: bool
    """Whether the answer has no body."""


WRITINGS: tuple[Callable[[str], str], ...] = (
    lambda text: text,
    lambda text: quote(text, safe=""),
    lambda text: "".join(f"%{byte:02x}" for byte in text.encode()),
    lambda text: "".join(f"&#{ord(c)};" for c in text),
    lambda text: "".join(f"&#x{ord(c):x};" for c in text),
    lambda text: "".join(f"\\u{ord(c):04x}" for c in text),
    lambda text: escape(text),
    lambda text: f"<![CDATA[{text}]]>",
    lambda text: f"{text[:2]}<!-- - -->{text[2:]}",
    lambda text: b64encode(f"dlr:{text}".encode()).decode(),
    lambda text: quote(quote(text, safe=""), safe=""),
)

NUMBERS = (
    *("0", "-1", "999999999", "-999999999999", "1e309", "NaN", "0x10", "1_000", "9" * 400),
    *("٣", "1.5", " 7 ", "+0", "", "true", "null"),
)
TIMES = (
    *("2009-06-09T10:52:00Z", "0001-01-01T00:00:00", "9999-12-31T23:59:59-14:00", "24:00:00"),
    *("2009-13-45T99:99:99Z", "2016-12-31T23:59:60Z", "1258347290", "0000-00-00 00:00:00"),
    *("5/8/2010 2:42:36 AM", "2009-06-09T10:52:00+99:99", "T" * 300, ""),
)
TEXTS = (
    *("447700912345", "+44 (0)7700 900123", "x" * 3000, "\u202e\u0000\ufeff", "é" * 100, "%"),
    *("%zz%", "'; DROP TABLE receipts; --", "{message_id}", "%i", "\ud7ff\U0010ffff", "=", "<&>"),
    *("[" * 500, "../../etc/passwd", "()" * 400, "1" * 900, " " * 500, "-" * 300),
)
CHARSETS = (
    *("utf-8", "utf-16", "utf-16le", "iso-8859-1", "windows-1252", "utf-7", "ebcdic-cp-us"),
    *("nope", "", '"', "x" * 200, "rot13", "base64", "idna", "utf-8; charset=utf-16"),
)


class _Maker:
    def __init__(self, seed: int, paths: Sequence[str], secrets: Sequence[str]) -> None:
        self.random = Random(seed)
        self.paths = paths
        self.secrets = secrets

    def pick(self, choices: Sequence[str]) -> str:
        """One of `choices`."""
        return self.random.choice(choices)

    def value(self) -> str:
        """A value for any field, a secret in it now and then."""
        kind = self.random.randrange(5)
        if kind == 0:
            return self.random.choice(WRITINGS)(self.pick(self.secrets))
        return self.pick((NUMBERS, TIMES, TEXTS, FIELDS)[kind - 1])

    def request(
        self,
        kind: str,
        body: bytes = b"",
        content_type: str = "text/xml",
        *,
        method: str = "POST",
        path: str | None = None,
        headers: Sequence[str] = (),
    ) -> Hostile:
        """A whole request."""
        target = self.pick(self.paths) if path is None else path
        lines = [f"{method} {target} HTTP/1.1", "Host: x", f"Content-Type: {content_type}"]
        lines += [f"Content-Length: {len(body)}", *headers]
        head = "\r\n".join(lines).encode("utf-8", "replace")
        return Hostile(kind, head + b"\r\n\r\n" + body, method == "HEAD")

    def spoilt(self, body: bytes) -> bytes:
        """`body` with bytes of it changed, cut, doubled or put elsewhere."""
        random = self.random
        data = bytearray(body)
        for _ in range(random.randrange(1, 5)):
            if not data:
                break
            start = random.randrange(len(data))
            end = min(len(data), start + random.randrange(1, 30))
            match random.randrange(4):
                case 0:
                    data[start] = random.randrange(256)
                case 1:
                    del data[start:end]
                case 2:
                    data[start:start] = data[start:end] * random.randrange(1, 4)
                case 3:
                    data[start:start] = random.choice((b"<", b">", b"&", b"\0", b"\xff", b"]]>"))
        return bytes(data)

    # --- Kinds

    def envelope(self, inner: str | None = None) -> str:
        """A SOAP envelope with fields of any values."""
        if inner is None:
            names = [*FIELDS, self.pick(FIELDS)] if self.random.random() < 0.3 else list(FIELDS)
            self.random.shuffle(names)
            inner = "".join(self.element(name) for name in names)
            operation = self.pick(("SubmitDeliveryReceipt", "DeliverMessage"))
            if operation == "DeliverMessage":
                inner += f"<Recipient>{self.element('SendTo')}</Recipient>"
                inner += f"<Message>{self.element('TextMessage')}</Message>"
            inner = f"<n:{operation} xmlns:n='urn:n'>{inner}</n:{operation}>"
        return f"<e:Envelope xmlns:e='{SOAP}'><e:Body>{inner}</e:Body></e:Envelope>"

    def element(self, name: str) -> str:
        """A field's element, written in any way."""
        value = self.value().replace("\0", "")
        if "<" in value and "CDATA" not in value and "<!--" not in value:
            value = escape(value)
        return self.pick(
            (
                f"<{name}>{value}</{name}>",
                f"<{name}><b>{value}</b></{name}>",
                f"<{name} href='#i{self.random.randrange(3)}'/>",
                f"<{name} PIN='{escape(value, {chr(39): ''})}'/>",
                f"<x:{name} xmlns:x='urn:x'>{value}</x:{name}>",
                f"<{name}/>",
            )
        )

    def soap(self) -> Hostile:
        """An envelope with nonsense in its fields."""
        encoding = self.pick(("utf-8", "utf-16", "utf-16-le", "utf-16-be", "utf-8", "utf-8"))
        body = self.envelope().encode(encoding, "replace")
        return self.request("soap", body, f"text/xml; charset={self.pick(CHARSETS)}")

    def spoilt_soap(self) -> Hostile:
        """An envelope whose bytes are damaged."""
        return self.request("spoilt soap", self.spoilt(self.envelope().encode("utf-8", "replace")))

    def xml(self) -> Hostile:
        """XML that is no call, or out of all proportion."""
        secret = self.pick(self.secrets)
        shapes = (
            f"<!DOCTYPE a [<!ENTITY p '{secret}'>]>{self.envelope('<a>&p;</a>')}",
            "<!DOCTYPE a [<!ENTITY a 'aaaa'><!ENTITY b '&a;&a;&a;'>]><a>&b;</a>",
            "<!DOCTYPE a SYSTEM 'file:///etc/passwd'><a/>",
            "<a>" * self.random.randrange(1, 400),
            "<PIN " * self.random.randrange(1, 400),
            f"<a {' '.join(f'a{n}=1' for n in range(50))}/>",
            "<a " + " ".join(f"xmlns:n{n}='u{n}'" for n in range(200)) + "/>",
            self.envelope("<a/><b/>"),
            self.envelope(""),
            self.envelope(f"<{'x' * 300}/>"),
            self.envelope(
                "<SubmitDeliveryReceipt><PIN href='#a'/><Report href='#a'/>"
                "</SubmitDeliveryReceipt>"
                f"<multiRef id='a' href='#b'/><multiRef id='b' href='#a'>{secret}</multiRef>"
            ),
            self.envelope("<SubmitDeliveryReceipt>" + "<x><PIN>" * 90),
            f"<e:Envelope xmlns:e='{self.pick((SOAP, 'urn:x', ''))}'><e:Header>"
            f"<h e:mustUnderstand='{self.pick((' 1 ', '1', 'true', 'x'))}' "
            f"e:actor='{secret}'>{secret}</h></e:Header><e:Body/></e:Envelope>",
            f"<?xml version='1.0' encoding='{self.pick(CHARSETS)}'?>{self.envelope()}",
            f"<!-- {secret} " + "<PIN " * 50,
            f"<a><![CDATA[{secret}{'<PIN ' * 50}]]>",
            f"<{secret.replace(' ', '').replace('.', '')}>{secret}",
        )
        return self.request("xml", self.pick(shapes).encode("utf-8", "replace"))

    def form(self) -> Hostile:
        """A form, under any Content-Type, with any separator."""
        names = (
            *FIELDS,
            *("PIN[]", "pin[0]", "login[pin]", "token", "reference", "code", "number", "price"),
            *("timestamp", "split", "mccmnc", "DeliveryReceipt", "DeliveryReceiptMessage", "Code"),
            *("MessageID", "SMSSent", "SMSResponse", "QueueID", "Duration", "id", "d", "status"),
        )
        pairs = [
            f"{self.pick(names)}={quote(self.value(), safe='%&;<>!/')}"
            for _ in range(self.random.randrange(1, 12))
        ]
        body = self.pick(("&", "&", "&", ";", "\r\n", "&amp;", "&&", "?")).join(pairs).encode()
        kind = "application/x-www-form-urlencoded"
        return self.request(
            "form",
            self.spoilt(body) if self.random.random() < 0.3 else body,
            self.pick((kind, kind, "", "text/plain", "application/json", f"{kind}; charset=x")),
        )

    def query(self) -> Hostile:
        """A query of any kind, by any method."""
        names = (*FIELDS, "token", "reference", "code", "wsdl", "xsd", "d", "id", "SMSSent")
        pairs = [
            f"{self.pick(names)}=" + quote(self.value()[:500], safe="%;!/?:")
            for _ in range(self.random.randrange(8))
        ]
        path = self.pick(self.paths) + self.pick(("", "?", "?wsdl&", "?singleWsdl", "?", "?"))
        path += self.pick(("&", "&amp;", "?")).join(pairs)
        method = self.pick(("GET", "GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH"))
        return self.request("query", method=method, path=path.replace(" ", "+"))

    def multipart(self) -> Hostile:
        """A multipart form, or multipart/related, of damaged parts."""
        kind = self.pick(("multipart/form-data", "multipart/related", "multipart/mixed"))
        pieces = []
        for _ in range(self.random.randrange(1, 6)):
            disposition = self.pick(
                (
                    f'form-data; name="{self.pick(FIELDS)}"',
                    f"form-data; name*=utf-8''{self.pick(FIELDS)}",
                    f'form-data; name="{self.value()[:100]}"; filename="x"',
                    "form-data",
                    "; " * 100,
                )
            )
            coding = self.pick(("8bit", "base64", "quoted-printable", "x"))
            content = self.pick((self.value(), self.envelope()))
            pieces.append(
                f"--b\r\nContent-Disposition: {disposition}\r\n"
                f"Content-ID: <{self.value()[:30]}>\r\n"
                f"Content-Transfer-Encoding: {coding}\r\n\r\n{content}\r\n"
            )
        body = ("".join(pieces) + self.pick(("--b--", "", "--b"))).encode("utf-8", "replace")
        boundary = self.pick(("b", '"b"', "", "x" * 71, "c"))
        start = self.pick(("", '; start="<a>"', "; start=", f'; start="{"<" * 100}"'))
        return self.request("multipart", body, f"{kind}; boundary={boundary}{start}")

    def json(self) -> Hostile:
        """JSON, deep, wide or broken."""
        value: object = {name: self.value() for name in self.random.sample(FIELDS, 4)}
        for _ in range(self.random.randrange(4)):
            value = {"PIN": value, "a": [self.value()]}
        text = self.pick(
            (
                json.dumps(value),
                json.dumps(value, ensure_ascii=False),
                "[" * 2000,
                '{"a":' * 2000,
                '{"PIN" ' * 200,
                f'{{"pin": "{self.pick(self.secrets)}',
                json.dumps(value)[:-3],
                "9" * 5000,
            )
        )
        return self.request("json", text.encode("utf-8", "replace"), "application/json")

    def header(self) -> Hostile:
        """A genuine post under odd headers."""
        secret = self.pick(self.secrets)
        odd = (
            f"X-Request-Id: {secret.replace(' ', '')}",
            f"Authorization: Basic {b64encode(f'dlr:{secret}'.encode()).decode()}",
            "Authorization: Basic ====",
            "Authorization: Basic /w==",
            f"Authorization: Bearer {secret}",
            f"X-Forwarded-For: {'1.2.3.4, ' * 50}",
            'Forwarded: for="[::1]:x";for=_a;proto=\x7f',
            f"Cookie: {secret}={secret}",
            f"SOAPAction: {secret}",
            f"User-Agent: {'x' * 2000}",
            "Content-Encoding: gzip",
            "Expect: 200-ok",
            "Accept: \x80\x81",
        )
        content_type = self.pick(
            (f"text/xml; charset={secret}", f"text/{secret}", "text/soap", "é")
        )
        chosen = self.random.sample(odd, 3)
        return self.request("header", self.envelope().encode(), content_type, headers=chosen)

    def noise(self) -> Hostile:
        """Bytes of no kind at all."""
        size = self.random.randrange(400)
        body = self.random.randbytes(size) + self.pick(self.secrets).encode()
        return self.request("noise", body, self.pick(("", "text/xml", "application/octet-stream")))

    def path(self) -> Hostile:
        """A path beneath an endpoint, or beside all of them."""
        secret = quote(self.pick(self.secrets), safe="")
        base = self.pick(self.paths)
        path = self.pick(
            (
                f"{base}/{secret}",
                f"{base}/{secret}?wsdl",
                f"{base}/sendsms5.wsdl",
                f"/{base}",
                f"{base}/",
                f"{base}/%ff%00/{secret}",
                f"/{secret}",
                f"{base}/../{secret}",
            )
        )
        return self.request("path", method=self.pick(("GET", "POST", "HEAD")), path=path)


KINDS = (
    *("soap", "spoilt_soap", "xml", "form", "query", "multipart", "json", "header", "noise"),
    "path",
)


def inputs(
    seed: int, number: int, paths: Sequence[str], secrets: Sequence[str]
) -> Iterator[Hostile]:
    """`number` hostile requests, of each kind in turn.

    :param paths: of endpoints.
    :param secrets: that the server is configured with.
    """
    maker = _Maker(seed, paths, secrets)
    for index in range(number):
        yield getattr(maker, KINDS[index % len(KINDS)])()
