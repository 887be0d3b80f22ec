"""A SOAP 1.1 envelope read: the XML, its one operation, and what that says.

Source of the rules: SOAP 1.1 (W3C Note 8 May 2000), sections 3 to 6; the vendor's page.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, NamedTuple

from lxml import etree
from spyne import Fault

from receiptd.blanking import BLANK_TEXT

SOAP_ENV = "http://schemas.xmlsoap.org/soap/envelope/"
OPERATION = "SubmitDeliveryReceipt"
FIELDS = ("Username", "PIN", "Timestamp1", "SentTo", "MessageIdentifier", "Report")
"""The request's children, in the order of the schema and of the service method's parameters."""

LARGEST_PLAIN = 8192
"""Bytes; a larger body is looked at for more elements or attributes than any receipt has."""
MOST_ELEMENTS = 1000
MOST_ATTRIBUTES = 1000
MOST_NAMESPACES = 100
MOST_HOPS = 8
"""References that are followed from a field to its value."""

_ENVELOPE = f"{{{SOAP_ENV}}}Envelope"
_HEADER = f"{{{SOAP_ENV}}}Header"
_BODY = f"{{{SOAP_ENV}}}Body"
_MUST_UNDERSTAND = f"{{{SOAP_ENV}}}mustUnderstand"
_ACTOR = f"{{{SOAP_ENV}}}actor"
_NEXT = "http://schemas.xmlsoap.org/soap/actor/next"
_ROOT = "{http://schemas.xmlsoap.org/soap/encoding/}root"
_NIL = (
    "{http://www.w3.org/2001/XMLSchema-instance}nil",
    "{http://www.w3.org/1999/XMLSchema-instance}null",
)
_TRUE = ("1", "true")

_PARSER_OPTIONS: dict[str, Any] = {
    "resolve_entities": False,
    "no_network": True,
    "load_dtd": False,
    "huge_tree": False,
    "remove_comments": True,
    "remove_pis": True,
}
_PARSER = etree.XMLParser(**_PARSER_OPTIONS)
_CHARSET = re.compile(r"""charset\s*=\s*["']?([A-Za-z0-9._:-]{1,40})""", re.IGNORECASE)
_DECLARATION = 200
"""Bytes that an XML declaration may take."""
_CHARSETS = frozenset(
    {"utf-8", "ascii", "utf-16", "utf-16-le", "utf-16-be"}
    | {f"iso8859-{number}" for number in range(1, 17)}
    | {f"cp{number}" for number in range(1250, 1259)}
)
"""Charsets, as Python calls them, in which bodies are taken. In others, such as UTF-7, a secret
could be kept in a way of writing that nobody looks for."""


class Call(NamedTuple):
    """What an envelope says."""

    namespace: str
    """The operation's; empty where it is in none."""
    values: Sequence[str | None]
    """The texts of `FIELDS`, None where one is absent, empty or nil."""
    extra: dict[str, object]
    """The texts of children that the schema does not know, by local name."""


NO_CALL = Call("", (), {})


@lru_cache(64)
def charset_of(content_type: str) -> str | None:
    """The charset parameter of a Content-Type."""
    found = _CHARSET.search(content_type)
    return found.group(1) if found else None


def parse(body: bytes, charset: str | None = None) -> Any:
    """The document element of `body`.

    What the document says of its encoding, by mark or declaration, counts; `charset`, the
    Content-Type's, where it says nothing.

    :raises Fault: `Client`, where the body is not well-formed, has a document type declaration
        (SOAP 1.1, section 3, forbids it), or is out of all proportion.
    """
    encoding = _encoding(body, charset)
    try:
        if encoding is None:
            root = etree.fromstring(body.lstrip(b" \t\r\n"), _PARSER)
        else:
            root = etree.fromstring(_trimmed(body, encoding), _parser(encoding))
    except etree.XMLSyntaxError as error:
        raise Fault("Client", f"the body is not well-formed XML: {_located(error)}") from None
    except ValueError:
        raise Fault("Client", "the body is not well-formed XML") from None
    docinfo = root.getroottree().docinfo
    if docinfo.internalDTD is not None:
        raise Fault("Client", "the body has a document type declaration, which SOAP forbids")
    if encoding is None and (declared := docinfo.encoding) and declared not in ("UTF-8", "utf-8"):
        _known_charset(declared)
    if len(body) > LARGEST_PLAIN:
        _check_proportion(body, root)
    return root


def _encoding(body: bytes, charset: str | None) -> str | None:
    """What `body` is in where the parser is to be told; None where it finds that out alone."""
    start = body[:2]
    if b"\0" in body[:8]:
        # UTF-16 without a mark, which RFC 7303 wants read by the Content-Type: it shows itself.
        if start in (b"\xff\xfe", b"\xfe\xff"):
            return None
        return "utf-16-be" if start[:1] == b"\0" else "utf-16-le"
    declared = _declared(body)
    if declared:
        # .NET writes `encoding="utf-16"` over what it then sends in UTF-8.
        return "utf-8" if declared.lower().startswith(b"utf-16") else None
    if charset is None or charset.lower() == "utf-8" or start == b"\xef\xbb":
        return None
    known = _known_charset(charset)
    return None if known.startswith("utf-16") else known


def _declared(body: bytes) -> bytes:
    """The encoding that the XML declaration names; empty where there is none."""
    head = body[:_DECLARATION].lstrip(b" \t\r\n\xef\xbb\xbf")
    if not head.startswith(b"<?xml"):
        return b""
    value = head.partition(b"?>")[0].partition(b"encoding")[2].lstrip(b" \t\r\n=")
    return value[1:].partition(value[:1])[0] if value[:1] in (b'"', b"'") else b""


def _trimmed(body: bytes, encoding: str) -> bytes:
    """`body` without the space in front of it."""
    if not encoding.startswith("utf-16"):
        return body.lstrip(b" \t\r\n")
    index = 0 if encoding == "utf-16-le" else 1
    start = 0
    while body[start + index : start + index + 1] in (b" ", b"\t", b"\r", b"\n"):
        start += 2
    return body[start:]


@lru_cache(64)
def _known_charset(charset: str) -> str:
    """`charset` as Python calls it.

    :raises Fault: where it is not one in which bodies are taken.
    """
    try:
        name = codecs.lookup(charset).name
    except (LookupError, ValueError):
        raise Fault("Client", f"no charset is called {charset[:40]}: send UTF-8") from None
    if name not in _CHARSETS:
        raise Fault("Client", f"bodies are not taken in the charset {charset[:40]}: send UTF-8")
    return name


_LIBXML_NAMES = {"ascii": "us-ascii"}


@lru_cache(64)
def _parser(encoding: str) -> Any:
    name = encoding.replace("iso8859", "iso-8859").replace("cp125", "windows-125")
    name = name.replace("utf-16-", "utf-16")
    try:
        return etree.XMLParser(encoding=_LIBXML_NAMES.get(name, name), **_PARSER_OPTIONS)
    except LookupError:
        raise Fault("Client", f"bodies are not taken in {encoding}: send UTF-8") from None


def _check_proportion(body: bytes, root: Any) -> None:
    for what, number, most in (
        ("elements", root.xpath("count(//*)"), MOST_ELEMENTS),
        ("attributes", root.xpath("count(//@*)"), MOST_ATTRIBUTES),
        ("namespaces", body.replace(b"\0", b"").count(b"xmlns"), MOST_NAMESPACES),
    ):
        if number > most:
            raise Fault("Client", f"the body has {number:.0f} {what}: {most} are the most")


def _located(error: Any) -> str:
    """The parser's message without what it quotes of the body: that could be a piece of a PIN."""
    line, column = error.position
    last = error.error_log.last_error
    what = str(last.type_name).removeprefix("ERR_").replace("_", " ").lower() if last else "no XML"
    return f"{what} in line {line}, column {column}"


def operation_of(envelope: Any) -> Any:
    """The one operation's element.

    :raises Fault: `VersionMismatch`, `MustUnderstand` or `Client`.
    """
    if envelope.tag != _ENVELOPE:
        name = etree.QName(envelope)
        if name.localname == "Envelope":
            raise Fault(
                "VersionMismatch",
                f"the envelope's namespace is {(name.namespace or 'none')[:200]}: "
                f"SOAP 1.1 is expected, {SOAP_ENV}",
            )
        raise Fault("Client", f"the document is no SOAP envelope but {_name(envelope)}")
    body = None
    for child in envelope:
        if child.tag == _HEADER:
            _check_header(child)
        elif child.tag == _BODY and body is None:
            body = child
    if body is None:
        raise Fault("Client", "the envelope has no Body")
    operations = body if len(body) == 1 else [each for each in body if not _referred_to(each)]
    if len(operations) == 0:
        raise Fault("Client", f"the Body is empty: {OPERATION} is expected in it")
    if len(operations) > 1:
        raise Fault(
            "Client",
            f"the Body has {len(operations)} elements: send one {OPERATION} in a request, "
            "none of these was stored",
        )
    element = operations[0]
    if element.tag.rpartition("}")[2] != OPERATION:
        raise Fault("Client", f"no operation is called {_name(element)}: {OPERATION} is expected")
    return element


def _referred_to(element: Any) -> bool:
    """Whether an element of the Body is but the value that others refer to (SOAP 1.1, section
    5.4.1 and, of the attribute `root`, 5.6), as Axis 1 writes values."""
    if element.get("id") is None or element.tag.rpartition("}")[2] == OPERATION:
        return False
    name: str = element.tag.rpartition("}")[2]
    return name == "multiRef" or bool(element.get(_ROOT) == "0")


def _check_header(header: Any) -> None:
    for entry in header:
        needed = entry.get(_MUST_UNDERSTAND)
        if needed is None or needed.strip() not in _TRUE:
            continue
        if (entry.get(_ACTOR) or "").strip() in ("", _NEXT):
            raise Fault(
                "MustUnderstand", f"the header entry {_name(entry)} must be understood, and is not"
            )


def _name(element: Any) -> str:
    name = etree.QName(element)
    namespace = f" of namespace {name.namespace[:200]}" if name.namespace else ""
    return f"{name.localname[:80]}{namespace}"


def read_call(operation: Any) -> Call:
    """What the operation's element says.

    :raises Fault: `Client`, where one of its fields came twice or holds elements.
    """
    found: dict[str, str | None] = {}
    extra: dict[str, object] = {}
    namespace = operation.tag.rpartition("}")[0][1:]
    for child in operation:
        name = child.tag.rpartition("}")[2]
        if name in _FIELD_SET:
            if name in found:
                raise Fault("Client", f"{name} came twice")
            text = child.text
            if text is None and child.get("href") is not None:
                child = _meant(child, name)
                text = child.text
            if len(child):
                raise Fault("Client", f"{name} holds elements: a text is expected")
            if (
                text is not None
                and child.keys()
                and any((child.get(nil) or "").strip() in _TRUE for nil in _NIL)
            ):
                text = None
            found[name] = (text.strip() or None) if text else None
        else:
            _add(extra, name, _open_text(child).strip())
    return Call(namespace, [found.get(field) for field in FIELDS], extra)


_FIELD_SET = frozenset(FIELDS)


def _meant(element: Any, field: str) -> Any:
    """The element that `element` refers to, of those in the Body.

    :raises Fault: where the reference leads nowhere, or in a circle.
    """
    body = element.getparent().getparent()
    for _ in range(MOST_HOPS):
        reference = element.get("href")
        if reference is None or element.text is not None:
            return element
        identifier = reference.strip().removeprefix("#")
        element = next((each for each in body if each.get("id") == identifier), None)
        if element is None or identifier == reference.strip():
            raise Fault("Client", f"{field} refers to something that is not in the Body")
    raise Fault("Client", f"{field} refers to its value by more than {MOST_HOPS} steps")


def _add(extra: dict[str, object], name: str, text: str) -> None:
    known = extra.get(name)
    if known is None:
        extra[name] = text
    elif isinstance(known, list):
        known.append(text)
    else:
        extra[name] = [known, text]


def _open_text(element: Any) -> str:
    """The text in an element, PINs blanked."""
    if not len(element):
        return BLANK_TEXT if is_pin(element.tag) else element.text or ""
    pieces: list[str] = []
    hidden = 0
    for event, each in etree.iterwalk(element, events=("start", "end")):
        if event == "start":
            if not hidden:
                pieces.append(BLANK_TEXT if is_pin(each.tag) else each.text or "")
            hidden += is_pin(each.tag)
        else:
            hidden -= is_pin(each.tag)
            if not hidden and each is not element:
                pieces.append(each.tail or "")
    return "".join(pieces)


def is_pin(name: str) -> bool:
    """Whether an element or attribute of this name holds a PIN, whoever may read it as one."""
    return name.rpartition("}")[2].casefold() == "pin"
