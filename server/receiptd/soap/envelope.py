"""A SOAP 1.1 envelope read: its one operation, and what that says.

Source of the rules: SOAP 1.1 (W3C Note 8 May 2000), sections 3 to 6; the vendor's page.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from lxml import etree
from spyne import Fault

from receiptd.blanking import BLANK_TEXT

SOAP_ENV = "http://schemas.xmlsoap.org/soap/envelope/"
OPERATION = "SubmitDeliveryReceipt"
FIELDS = ("Username", "PIN", "Timestamp1", "SentTo", "MessageIdentifier", "Report")
"""The request's children, in the order of the schema and of the service method's parameters."""

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


class Call(NamedTuple):
    """What an envelope says."""

    namespace: str
    """The operation's; empty where it is in none."""
    values: Sequence[str | None]
    """The texts of `FIELDS`, None where one is absent, empty or nil."""
    extra: dict[str, object]
    """The texts of children that the schema does not know, by local name."""


NO_CALL = Call("", (), {})


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
