"""A body read as XML: its charset, its bounds, and errors that quote nothing of it.

Source of the rules: SOAP 1.1 (W3C Note 8 May 2000), section 3; RFC 7303 on charsets of XML.
"""

from __future__ import annotations

import codecs
import re
from functools import lru_cache
from typing import Any

from lxml import etree
from spyne import Fault

LARGEST_PLAIN = 8192
"""Bytes; a larger body is looked at for more elements or attributes than any receipt has."""
MOST_ELEMENTS = 1000
MOST_ATTRIBUTES = 1000
MOST_NAMESPACES = 100

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
