"""A SOAP 1.1 envelope read: its one operation, and what that says.

Source of the rules: SOAP 1.1 (W3C Note 8 May 2000), sections 3 to 6; the vendor's page.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

from lxml import etree
from spyne import Fault

from receiptd.blanking import BLANK_TEXT
from receiptd.soap.operations import EXPECTED, OPERATIONS, RECEIPT, Operation

SOAP_ENV = "http://schemas.xmlsoap.org/soap/envelope/"
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


Held: TypeAlias = Mapping[str, str]
"""The texts in a field that holds elements, by local name, exactly as they came."""


class Call(NamedTuple):
    """What an envelope says."""

    operation: Operation
    namespace: str
    """The operation's; empty where it is in none."""
    values: Sequence[str | Held | None]
    """What its fields hold, None where one is absent, empty or nil."""
    extra: dict[str, object]
    """The texts of children that the schema does not know, by local name; of those in a field
    that holds elements as `Recipient.SendCc`."""


NO_CALL = Call(RECEIPT, "", (), {})


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
        raise Fault("Client", f"the Body is empty: {EXPECTED} is expected in it")
    if len(operations) > 1:
        raise Fault(
            "Client",
            f"the Body has {len(operations)} elements: send one {EXPECTED} in a request, "
            "none of these was stored",
        )
    element = operations[0]
    if element.tag.rpartition("}")[2] not in OPERATIONS:
        raise Fault("Client", f"no operation is called {_name(element)}: {EXPECTED} is expected")
    return element


def _referred_to(element: Any) -> bool:
    """Whether an element of the Body is but the value that others refer to (SOAP 1.1, section
    5.4.1 and, of the attribute `root`, 5.6), as Axis 1 writes values."""
    if element.get("id") is None or element.tag.rpartition("}")[2] in OPERATIONS:
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


def read_call(element: Any) -> Call:
    """What the operation's element says.

    :raises Fault: `Client`, where one of its fields came twice, or holds elements that should hold
        a text.
    """
    found: dict[str, str | Held | None] = {}
    extra: dict[str, object] = {}
    namespace, _, name = element.tag.rpartition("}")
    operation = OPERATIONS[name]
    fields, holders = operation.fields, operation.holders
    for child in element:
        name = child.tag.rpartition("}")[2]
        if name not in fields:
            _add(extra, name, _open_text(child).strip())
            continue
        if name in found:
            raise Fault("Client", f"{name} came twice")
        if name in holders:
            found[name] = _held(child, name, holders[name], extra)
        else:
            text = _text(child, name)
            found[name] = (text.strip() or None) if text else None
    return Call(operation, namespace[1:], [found.get(field) for field in fields], extra)


def _text(element: Any, name: str) -> str | None:
    """The text of a field, None where it is nil.

    :raises Fault: where it holds elements.
    """
    text: str | None = element.text
    if text is None and element.get("href") is not None:
        element = _meant(element, name)
        text = element.text
    if len(element):
        raise Fault("Client", f"{name} holds elements: a text is expected")
    if text is not None and element.keys() and _is_nil(element):
        return None
    return text


def _is_nil(element: Any) -> bool:
    return any((element.get(nil) or "").strip() in _TRUE for nil in _NIL)


def _held(
    element: Any, field: str, known: tuple[str, ...], extra: dict[str, object]
) -> Held | None:
    """What a field that holds elements says: the texts of those `known`; the others go into
    `extra`. A text in the place of elements is taken for the first of them.

    :raises Fault: where a known one came twice or holds elements itself.
    """
    element = _meant(element, field)
    if _is_nil(element):
        return None
    if not len(element):
        return {known[0]: element.text} if (element.text or "").strip() else None
    found: dict[str, str] = {}
    for child in element:
        name = child.tag.rpartition("}")[2]
        if name not in known:
            _add(extra, f"{field}.{name}", _open_text(child).strip())
            continue
        if name in found:
            raise Fault("Client", f"{field}.{name} came twice")
        found[name] = _text(child, f"{field}.{name}") or ""
    return found


def _meant(element: Any, field: str) -> Any:
    """The element that `element` refers to, of those in the Body; itself where it refers to none.

    :raises Fault: where the reference leads nowhere, or in a circle.
    """
    body = next(element.iterancestors(_BODY))
    for _ in range(MOST_HOPS):
        reference = element.get("href")
        if reference is None or len(element) or (element.text or "").strip():
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
