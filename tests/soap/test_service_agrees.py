"""The Spyne service and the published contract say the same, so that neither can drift.

Spyne describes a service by a WSDL of its own making. It is not fit to be published (it cannot
leave soapAction empty or a type anonymous, and it puts messages into the schema's namespace), but
it tells what the service takes and gives. Whether children are qualified it does not know: that
is the wire dialect's doing, and the tests of the replies check it.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from receiptd.soap import contract
from receiptd.soap.operations import OPERATIONS
from receiptd.soap.service import ELEMENTS, application

# isort: split
import pytest
from lxml import etree
from spyne.interface.wsdl import Wsdl11  # receiptd.soap has made it importable

SOAP = "{http://schemas.xmlsoap.org/wsdl/soap/}"
WSDL = "{http://schemas.xmlsoap.org/wsdl/}"
XSD = "{http://www.w3.org/2001/XMLSchema}"
HTTP = "http://schemas.xmlsoap.org/soap/http"


class Field(NamedTuple):
    """A child element, as a schema declares it."""

    name: str
    type: etree.QName
    min_occurs: str
    max_occurs: str
    nillable: bool


class Message(NamedTuple):
    """One side of an operation."""

    part: str
    element: etree.QName
    type: etree.QName | None
    """None for an anonymous type."""
    fields: list[Field]


class Description:
    """What a WSDL and its schemas say of a service, whatever prefixes and names of messages they
    use to say it."""

    def __init__(self, wsdl: Any, schemas: list[Any]) -> None:
        self._wsdl = wsdl
        self._schemas = schemas
        self.namespace = wsdl.get("targetNamespace")
        self.services = [each.get("name") for each in wsdl.iterfind(f"{WSDL}service")]
        self.port_types = [each.get("name") for each in wsdl.iterfind(f"{WSDL}portType")]
        self.bindings = [
            (each.get("style"), each.get("transport"))
            for each in wsdl.iterfind(f"{WSDL}binding/{SOAP}binding")
        ]
        self.operations = {
            each.get("name"): (self._message(each, "input"), self._message(each, "output"))
            for each in wsdl.iterfind(f"{WSDL}portType/{WSDL}operation")
        }
        self.faults = [each.get("name") for each in wsdl.iterfind(f".//{WSDL}fault")]
        self.extensions = [
            (etree.QName(each).localname, each.get("use"))
            for each in wsdl.iterfind(f"{WSDL}binding/{WSDL}operation/*/*")
        ]

    def _message(self, operation: Any, direction: str) -> Message:
        # By local name: Spyne refers to its messages in another namespace than it puts them.
        name = operation.find(WSDL + direction).get("message").rpartition(":")[2]
        (part,) = self._wsdl.iterfind(f"{WSDL}message[@name='{name}']/{WSDL}part")
        element = _qname(part, "element")
        declaration = self._declaration("element", element)
        type_name = _qname(declaration, "type") if declaration.get("type") else None
        if type_name:
            complex_type = self._declaration("complexType", type_name)
        else:
            complex_type = declaration.find(f"{XSD}complexType")
        return Message(part.get("name"), element, type_name, _fields(complex_type))

    def type_named(self, name: str) -> list[Field]:
        """The fields of a named type."""
        return _fields(self._declaration("complexType", etree.QName(ELEMENTS, name)))

    def _declaration(self, kind: str, name: etree.QName) -> Any:
        (found,) = (
            each
            for schema in self._schemas
            if schema.get("targetNamespace") == name.namespace
            for each in schema.iterfind(f"{XSD}{kind}[@name='{name.localname}']")
        )
        return found


def _qname(element: Any, attribute: str) -> etree.QName:
    prefix, _, name = element.get(attribute).rpartition(":")
    return etree.QName(element.nsmap[prefix or None], name)


def _fields(complex_type: Any) -> list[Field]:
    (sequence,) = (
        child for child in complex_type if child.tag not in (f"{XSD}annotation", etree.Comment)
    )
    assert sequence.tag == f"{XSD}sequence"
    return [_field(each) for each in sequence]


def _field(element: Any) -> Field:
    assert element.tag == f"{XSD}element"
    return Field(
        element.get("name"),
        _qname(element, "type"),
        element.get("minOccurs", "1"),
        element.get("maxOccurs", "1"),
        element.get("nillable", "false") in ("true", "1"),
    )


@pytest.fixture(scope="module")
def published() -> Description:
    return Description(
        etree.fromstring(contract.wsdl("http://localhost/soap")),
        [etree.fromstring(contract.xsd())],
    )


@pytest.fixture(scope="module")
def service() -> Description:
    served = application()
    served.transport = HTTP
    generator = Wsdl11(served.interface)
    generator.build_interface_document("http://localhost/soap")
    wsdl = etree.fromstring(generator.get_interface_document())
    return Description(wsdl, list(wsdl.iterfind(f"{WSDL}types/{XSD}schema")))


def test_the_target_namespace_is_the_same(service, published):
    assert service.namespace == published.namespace


def test_the_service_and_port_type_have_the_same_names(service, published):
    assert service.services == published.services
    assert service.port_types == published.port_types


def test_the_operations_are_the_same(service, published):
    assert sorted(service.operations) == sorted(published.operations) == sorted(OPERATIONS)


@pytest.mark.parametrize("side", ["request", "response"])
@pytest.mark.parametrize("operation", OPERATIONS)
def test_elements_order_types_and_occurrence_are_the_same(service, published, operation, side):
    index = ("request", "response").index(side)
    ours = service.operations[operation][index]
    theirs = published.operations[operation][index]
    assert ours.element == theirs.element
    assert ours.fields == theirs.fields


@pytest.mark.parametrize("name", ["Recipient", "Message"])
def test_the_types_of_fields_that_hold_elements_are_the_same(service, published, name):
    ours, theirs = service.type_named(name), published.type_named(name)
    assert ours == theirs
    assert len(ours) > 1


@pytest.mark.parametrize("operation", OPERATIONS)
def test_the_part_of_both_messages_is_called_the_same(service, published, operation):
    parts = [message.part for message in service.operations[operation]]
    assert parts == [message.part for message in published.operations[operation]]


@pytest.mark.parametrize("operation", OPERATIONS)
def test_the_response_s_type_has_the_same_name(service, published, operation):
    _, ours = service.operations[operation]
    _, theirs = published.operations[operation]
    assert ours.type == theirs.type


@pytest.mark.parametrize("operation", OPERATIONS.values(), ids=list(OPERATIONS))
def test_the_dialect_reads_the_fields_that_are_published_in_their_order(published, operation):
    request, _ = published.operations[operation.name]
    assert tuple(each.name for each in request.fields) == operation.fields
    for field, known in operation.holders.items():
        assert {each.name for each in published.type_named(field)} >= set(known)


def test_the_style_and_the_literal_bodies_are_the_same(service, published):
    assert service.bindings == published.bindings == [("document", HTTP)]
    assert service.extensions == published.extensions == [("body", "literal")] * 4


def test_neither_declares_a_fault(service, published):
    assert service.faults == published.faults == []
