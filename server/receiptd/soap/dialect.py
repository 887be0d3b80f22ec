"""The dialect of SOAP 1.1 in which Connection Software posts receipts, as a Spyne protocol.

Spyne's own `Soap11` knows one namespace and one form of child elements; the vendor's documents
use several of both. This one takes the operation in any namespace, its children qualified or
not and in any order, ignores what it does not know, `xsi:type` included (the documents bind the
prefix to the 1999 schema namespace), and answers in the request's namespace with unqualified
children. It is also ten times as fast, since it knows the one operation's shape.

Source of the rules: SOAP 1.1 (W3C Note 8 May 2000), sections 4 and 6; the vendor's page.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from contextlib import suppress
from functools import lru_cache
from typing import Any, NamedTuple
from xml.sax.saxutils import escape, quoteattr

from lxml import etree
from spyne import Fault
from spyne.protocol.soap import Soap11

from receiptd.providers.post import BLANK, BLANK_TEXT

SOAP_ENV = "http://schemas.xmlsoap.org/soap/envelope/"
OPERATION = "SubmitDeliveryReceipt"
FIELDS = ("Username", "PIN", "Timestamp1", "SentTo", "MessageIdentifier", "Report")
"""The request's children, in the order of the schema and of the service method's parameters."""

LARGEST_PLAIN = 8192
"""Bytes; a larger body is looked at for more elements or attributes than any receipt has."""
MOST_ELEMENTS = 1000
MOST_ATTRIBUTES = 1000
MOST_NAMESPACES = 100

_ENVELOPE = f"{{{SOAP_ENV}}}Envelope"
_HEADER = f"{{{SOAP_ENV}}}Header"
_BODY = f"{{{SOAP_ENV}}}Body"
_MUST_UNDERSTAND = f"{{{SOAP_ENV}}}mustUnderstand"
_ACTOR = f"{{{SOAP_ENV}}}actor"
_NEXT = "http://schemas.xmlsoap.org/soap/actor/next"
_NIL = (
    "{http://www.w3.org/2001/XMLSchema-instance}nil",
    "{http://www.w3.org/1999/XMLSchema-instance}null",
)

_PARSER_OPTIONS: dict[str, Any] = {
    "resolve_entities": False,
    "no_network": True,
    "load_dtd": False,
    "huge_tree": False,
    "remove_comments": True,
    "remove_pis": True,
}
_PARSER = etree.XMLParser(**_PARSER_OPTIONS)
_DECLARED = re.compile(rb"""\s*<\?xml[^>]*\sencoding\s*=""")
_CHARSET = re.compile(r"""charset\s*=\s*"?([A-Za-z0-9._:-]+)""", re.IGNORECASE)

_PLAIN_PIN = re.compile(rb"(<(?:[\w.-]+:)?PIN(?:\s[^>]*)?>)[^<&]+(</(?:[\w.-]+:)?PIN\s*>)", re.I)
_LOOSE_PIN = re.compile(rb"(PIN\b[^>]*>).*?(?=</|\Z)", re.I | re.S)

_OPEN = (
    '<?xml version="1.0" encoding="UTF-8"?>\n'
    f'<SOAP-ENV:Envelope xmlns:SOAP-ENV="{SOAP_ENV}"><SOAP-ENV:Body>'
)
_CLOSE = "</SOAP-ENV:Body></SOAP-ENV:Envelope>\n"


class Call(NamedTuple):
    """What an envelope says."""

    namespace: str
    """The operation's; empty where it is in none."""
    values: Sequence[str | None]
    """The texts of `FIELDS`, None where one is absent, empty or nil."""
    extra: dict[str, object]
    """The texts of children that the schema does not know, by local name."""


NO_CALL = Call("", (), {})


class Sendsms(Soap11):  # type: ignore[misc]
    """Connection Software's SOAP, in and out.

    Between in and out the context's `udc` carries the request (see `soap.service`), on which the
    operation's namespace is noted for the reply.
    """

    def create_in_document(self, ctx: Any, in_string_encoding: str | None = None) -> None:
        """:raises Fault: where the body is no plain XML document."""
        ctx.in_document = parse(ctx.in_string[0], in_string_encoding)

    def decompose_incoming_envelope(self, ctx: Any, message: Any = Soap11.REQUEST) -> None:
        """:raises Fault: where the document is no SOAP 1.1 envelope with the one operation."""
        ctx.in_body_doc = operation_of(ctx.in_document)
        ctx.method_request_string = OPERATION

    def generate_method_contexts(self, ctx: Any) -> tuple[Any, ...]:
        """The context itself: there is one operation and nothing is bound to it beside."""
        ctx.descriptor = self.app.operation
        return (ctx,)

    def deserialize(self, ctx: Any, message: Any) -> None:
        """The service method gets the texts: what is wrong with one is a matter of the receipt,
        answered with a report code, not of SOAP."""
        post = ctx.udc
        post.call = read_call(ctx.in_body_doc)
        post.raw = blanked(ctx.in_string[0], ctx.in_document)
        ctx.in_object = post.call.values
        # Many times as large as the receipt, which will wait for its commit.
        ctx.in_document = ctx.in_body_doc = None

    def serialize(self, ctx: Any, message: Any) -> None:
        """The response element, or the fault."""
        if ctx.out_error is not None:
            ctx.out_document = fault_text(ctx.out_error)
        else:
            ctx.out_document = response_text(ctx.udc.call.namespace, *ctx.out_object)

    def create_out_string(self, ctx: Any, out_string_encoding: str | None = None) -> None:
        """The envelope around it, in UTF-8."""
        ctx.out_string = (f"{_OPEN}{ctx.out_document}{_CLOSE}".encode(),)


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
    parser = _PARSER
    if charset and charset.lower() != "utf-8" and _says_no_encoding(body):
        try:
            parser = etree.XMLParser(encoding=charset, **_PARSER_OPTIONS)
        except LookupError:
            raise Fault("Client", f"no charset is called {charset}: send UTF-8") from None
    try:
        root = etree.fromstring(body.lstrip(b" \t\r\n"), parser)
    except etree.XMLSyntaxError as error:
        raise Fault("Client", f"the body is not well-formed XML: {_located(error)}") from None
    document = root.getroottree()
    if document.docinfo.internalDTD is not None:
        raise Fault("Client", "the body has a document type declaration, which SOAP forbids")
    if len(body) > LARGEST_PLAIN:
        _check_proportion(body, root)
    return root


def _check_proportion(body: bytes, root: Any) -> None:
    for what, number, most in (
        ("elements", root.xpath("count(//*)"), MOST_ELEMENTS),
        ("attributes", root.xpath("count(//@*)"), MOST_ATTRIBUTES),
        ("namespaces", body.count(b"xmlns"), MOST_NAMESPACES),
    ):
        if number > most:
            raise Fault("Client", f"the body has {number:.0f} {what}: {most} are the most")


def _says_no_encoding(body: bytes) -> bool:
    marked = body.startswith((b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff", b"<\0", b"\0<"))
    return not marked and not _DECLARED.match(body)


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
                f"the envelope's namespace is {name.namespace}: SOAP 1.1 is expected, {SOAP_ENV}",
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
    operations = len(body)
    if operations == 0:
        raise Fault("Client", f"the Body is empty: {OPERATION} is expected in it")
    if operations > 1:
        raise Fault(
            "Client",
            f"the Body has {operations} elements: send one {OPERATION} in a request, "
            "none of these was stored",
        )
    element = body[0]
    if element.tag.rpartition("}")[2] != OPERATION:
        raise Fault("Client", f"no operation is called {_name(element)}: {OPERATION} is expected")
    return element


def _check_header(header: Any) -> None:
    for entry in header:
        if entry.get(_MUST_UNDERSTAND) in ("1", "true") and entry.get(_ACTOR, _NEXT) == _NEXT:
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
            if len(child):
                raise Fault("Client", f"{name} holds elements: a text is expected")
            text = child.text
            if (
                text is not None
                and child.keys()
                and any(child.get(nil) in ("1", "true") for nil in _NIL)
            ):
                text = None
            found[name] = (text.strip() or None) if text else None
        else:
            text = _open_text(child).strip()
            extra[name] = [*known, text] if (known := _several(extra.get(name))) else text
    return Call(namespace, [found.get(field) for field in FIELDS], extra)


_FIELD_SET = frozenset(FIELDS)


def _several(known: object) -> list[object]:
    if known is None:
        return []
    return known if isinstance(known, list) else [known]


def blanked(body: bytes, root: Any = None) -> bytes:
    """`body` with the text of each PIN blanked, else byte for byte as it came.

    :param root: its document element; None where it could not be parsed, and then whatever
        looks like a PIN is blanked. A parsed body whose PIN is written in an unusual way (a CDATA
        section, character references, an attribute, UTF-16) is written anew, in UTF-8.
    """
    start = body.find(b"<PIN>") + 5
    if start > 4 and body.upper().count(b"PIN") == 2:
        end = body.find(b"</PIN>", start)
        text = body[start:end]
        if end > start and b"<" not in text and b"&" not in text:
            return body[:start] + BLANK + body[end:]
    if root is None:
        if b"\0" in body:
            body = body.replace(b"\0", b"")
        return _LOOSE_PIN.sub(rb"\1***", body)
    text = _PLAIN_PIN.sub(rb"\1***\2", body)
    with suppress(Fault):
        if not _pins(parse(text)):
            return text
    for element, attribute in _pins(root):
        if attribute is not None:
            element.set(attribute, BLANK_TEXT)
        else:
            tail = element.tail
            element.clear()
            element.text, element.tail = BLANK_TEXT, tail
    return bytes(etree.tostring(root, encoding="utf-8"))


def _is_pin(name: str) -> bool:
    """Whether an element or attribute of this name holds a PIN, whoever may read it as one."""
    return name.rpartition("}")[2].casefold() == "pin"


def _pins(root: Any) -> list[tuple[Any, str | None]]:
    """The elements that hold a PIN, and the attributes, each with its element."""
    found: list[tuple[Any, str | None]] = []
    for element in root.iter(etree.Element):
        if _is_pin(element.tag) and (len(element) or (element.text or BLANK_TEXT) != BLANK_TEXT):
            found.append((element, None))
        found += [
            (element, name)
            for name, value in element.attrib.items()
            if _is_pin(name) and value != BLANK_TEXT
        ]
    return found


def _open_text(element: Any) -> str:
    """The text in an element, PINs blanked."""
    if _is_pin(element.tag):
        return BLANK_TEXT
    inside = [f"{_open_text(child)}{child.tail or ''}" for child in element]
    return (element.text or "") + "".join(inside)


def response_text(namespace: str, message_id: str, report: int, text: str) -> str:
    """The response element, in the request's namespace, its children unqualified."""
    children = (
        f"<MessageIdentifier>{escape(message_id)}</MessageIdentifier><Report>{report}</Report>"
    )
    if text:
        children += f"<Text>{escape(text)}</Text>"
    opening, closing = _response_tags(namespace)
    return f"{opening}{children}{closing}"


@lru_cache(64)
def _response_tags(namespace: str) -> tuple[str, str]:
    if not namespace:
        return f"<{OPERATION}Response>", f"</{OPERATION}Response>"
    return (
        f"<ns1:{OPERATION}Response xmlns:ns1={quoteattr(namespace)}>",
        f"</ns1:{OPERATION}Response>",
    )


def fault_text(fault: Any) -> str:
    """The fault element (SOAP 1.1, section 4.4)."""
    return (
        f"<SOAP-ENV:Fault><faultcode>SOAP-ENV:{escape(fault.faultcode)}</faultcode>"
        f"<faultstring>{escape(fault.faultstring)}</faultstring></SOAP-ENV:Fault>"
    )
