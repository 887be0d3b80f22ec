"""The published contract is valid, true to the vendor's samples, and served with our address."""

from __future__ import annotations

from datetime import UTC, datetime
from importlib.resources import files
from pathlib import Path
from random import Random

import pytest
from lxml import etree
from zeep.transports import Transport
from zeep.wsdl import Document

from receiptd.providers import Endpoint
from receiptd.providers.csoft import Csoft
from receiptd.receipt import Kind
from receiptd.simulate.envelope import envelope
from receiptd.soap import contract

HERE = Path(__file__).parent
SAMPLES = HERE.parent / "samples"
PUBLISHED = files("receiptd") / "wsdl"

SOAP = "{http://schemas.xmlsoap.org/wsdl/soap/}"
WSDL = "{http://schemas.xmlsoap.org/wsdl/}"
XSD = "{http://www.w3.org/2001/XMLSchema}"
ENVELOPE = "{http://schemas.xmlsoap.org/soap/envelope/}"

MESSAGES = "http://www.csoft.co.uk/dtd/sendsms5.xsd"
SERVICE = "http://www.csoft.co.uk/dtd/sendsms5.wsdl"


@pytest.fixture
def wsdl():
    return etree.fromstring((PUBLISHED / "sendsms5.wsdl").read_bytes())


@pytest.fixture
def schema():
    """The schema, compiled: it would not be if it were none."""
    return etree.XMLSchema(etree.fromstring((PUBLISHED / "sendsms5.xsd").read_bytes()))


def names(parent, tag):
    return [element.get("name") for element in parent.iterfind(tag)]


def qname(element, attribute):
    """A QName in an attribute's value as (namespace, local name)."""
    prefix, _, name = element.get(attribute).rpartition(":")
    return element.nsmap[prefix or None], name


# --- the WSDL


def test_the_wsdl_has_the_structure_of_wsdl_1_1(wsdl):
    grammar = etree.RelaxNG(etree.parse(HERE / "wsdl11.rng"))
    grammar.assertValid(wsdl)


def test_every_reference_in_the_wsdl_leads_somewhere(wsdl, schema):
    assert wsdl.get("targetNamespace") == SERVICE
    declared = {
        tag: {(SERVICE, name) for name in names(wsdl, WSDL + tag)}
        for tag in ("message", "portType", "binding")
    }
    for parameter in wsdl.iterfind(f"{WSDL}portType/{WSDL}operation/*[@message]"):
        assert qname(parameter, "message") in declared["message"]
    for binding in wsdl.iterfind(f"{WSDL}binding"):
        assert qname(binding, "type") in declared["portType"]
    for port in wsdl.iterfind(f"{WSDL}service/{WSDL}port"):
        assert qname(port, "binding") in declared["binding"]
    xsd = etree.fromstring((PUBLISHED / "sendsms5.xsd").read_bytes())
    elements = {(xsd.get("targetNamespace"), name) for name in names(xsd, f"{XSD}element")}
    for part in wsdl.iterfind(f"{WSDL}message/{WSDL}part"):
        assert qname(part, "element") in elements
    assert names(wsdl, f"{WSDL}portType/{WSDL}operation") == names(
        wsdl, f"{WSDL}binding/{WSDL}operation"
    )


def test_the_wsdl_bears_the_vendor_s_names(wsdl):
    assert names(wsdl, f"{WSDL}service") == ["CSoftSmsService"]
    assert names(wsdl, f"{WSDL}service/{WSDL}port") == ["CSoftSmsService"]
    assert names(wsdl, f"{WSDL}binding") == ["CSoftSmsService"]
    assert names(wsdl, f"{WSDL}portType") == ["CSoftSmsServicePortType"]
    assert names(wsdl, f"{WSDL}portType/{WSDL}operation") == [
        "SubmitDeliveryReceipt",
        "DeliverMessage",
    ]


def test_the_style_is_document_literal_wrapped(wsdl):
    (binding,) = wsdl.iterfind(f".//{SOAP}binding")
    assert dict(binding.attrib) == {
        "style": "document",
        "transport": "http://schemas.xmlsoap.org/soap/http",
    }
    for operation in wsdl.iterfind(f".//{SOAP}operation"):
        assert dict(operation.attrib) == {"soapAction": "", "style": "document"}
    bodies = list(wsdl.iterfind(f".//{SOAP}body"))
    assert [dict(body.attrib) for body in bodies] == [{"use": "literal"}] * 4
    # What makes it "wrapped": one part named so, its element named as the operation.
    parts = list(wsdl.iterfind(f"{WSDL}message/{WSDL}part"))
    assert [(part.get("name"), qname(part, "element")) for part in parts] == [
        ("parameters", (MESSAGES, "SubmitDeliveryReceipt")),
        ("parameters", (MESSAGES, "SubmitDeliveryReceiptResponse")),
        ("parameters", (MESSAGES, "DeliverMessage")),
        ("parameters", (MESSAGES, "DeliverMessageResponse")),
    ]


def test_the_wsdl_imports_the_schema_that_lies_beside_it(wsdl):
    (schema,) = wsdl.find(f"{WSDL}types")
    (imported,) = schema
    assert imported.tag == f"{XSD}import"
    assert dict(imported.attrib) == {"namespace": MESSAGES, "schemaLocation": "sendsms5.xsd"}


def test_a_soap_library_reads_the_files_as_they_lie_there():
    document = Document(str(PUBLISHED / "sendsms5.wsdl"), Transport())
    port = document.services["CSoftSmsService"].ports["CSoftSmsService"]
    operation = port.binding.get("SubmitDeliveryReceipt")
    assert operation.input.signature() == (
        "Username: xsd:string, PIN: xsd:string, Timestamp1: xsd:dateTime, SentTo: xsd:string, "
        "MessageIdentifier: xsd:string, Report: xsd:int"
    )
    assert operation.output.signature() == (
        "MessageIdentifier: xsd:string, Report: xsd:int, Text: xsd:string"
    )
    operation = port.binding.get("DeliverMessage")
    assert operation.input.signature() == (
        "Username: xsd:string, PIN: xsd:string, Recipient: ns0:Recipient, Message: ns0:Message, "
        "ReplyTo: xsd:string, Timestamp1: xsd:dateTime, MessageIdentifier: xsd:string"
    )
    assert operation.output.signature() == (
        "MessageIdentifier: xsd:string, Report: xsd:int, Text: xsd:string"
    )


def test_a_comment_says_what_is_inferred():
    comments = etree.fromstring((PUBLISHED / "sendsms5.wsdl").read_bytes()).xpath(
        "//comment() | /comment()"
    )
    assert any("Inferred" in comment.text for comment in comments)


# --- the schema


def test_the_request_s_type_is_anonymous_and_the_response_s_is_named():
    xsd = etree.fromstring((PUBLISHED / "sendsms5.xsd").read_bytes())
    assert xsd.get("elementFormDefault") == "unqualified"
    elements = {each.get("name"): each for each in xsd.iterfind(f"{XSD}element")}
    for operation in ("SubmitDeliveryReceipt", "DeliverMessage"):
        assert elements.pop(operation).get("type") is None
        response = f"{operation}Response"
        assert qname(elements.pop(response), "type") == (MESSAGES, response)
    assert elements == {}
    # The vendor's example says `xsi:type="ns2:Recipient"`, so these have names.
    assert names(xsd, f"{XSD}complexType") == [
        "SubmitDeliveryReceiptResponse",
        "Recipient",
        "Message",
        "DeliverMessageResponse",
    ]


def test_every_field_has_its_documented_size():
    xsd = etree.fromstring((PUBLISHED / "sendsms5.xsd").read_bytes())
    sizes = [
        (field.get("name"), field.findtext(f".//{XSD}documentation").rpartition("ize ")[2])
        for field in xsd.iterfind(f".//{XSD}sequence/{XSD}element")
        if "ize " in field.findtext(f".//{XSD}documentation")
    ]
    assert sizes == [
        ("Username", "20."),
        ("PIN", "20."),
        ("Timestamp1", "20."),
        ("SentTo", "15."),
        ("MessageIdentifier", "15."),
        ("Report", "3."),
        ("MessageIdentifier", "15."),
        ("Report", "3."),
        ("Text", "255."),
        ("Username", "20."),
        ("PIN", "20."),
        ("Report", "3."),
        ("Text", "255."),
    ]


def test_a_simulated_message_of_a_phone_is_valid(schema):
    csoft = Csoft(Endpoint("x"))
    message = csoft.sample_of(Kind.REPLY, Random(1), datetime(2026, 1, 1, tzinfo=UTC))
    (operation,) = etree.fromstring(envelope(message, "u", "p")).find(f"{ENVELOPE}Body")
    schema.assertValid(operation)


def test_the_vendor_s_unqualified_post_is_valid(schema):
    envelope = etree.parse(SAMPLES / "csoft-v5-unqualified.xml")
    (receipt,) = envelope.find(f"{ENVELOPE}Body")
    schema.assertValid(receipt)


REQUEST = {
    "Username": "ANOther.61234",
    "PIN": "BLUE.music",
    "Timestamp1": "2009-06-09T10:52:00Z",
    "SentTo": "447700912345",
    "MessageIdentifier": "4A2E3C10",
    "Report": "-4",
}
RESPONSE = {"MessageIdentifier": "4A2E3C10", "Report": "0", "Text": "Thank you"}


def element(name, fields, namespace=None):
    parent = etree.Element(f"{{{MESSAGES}}}{name}")
    for child, text in fields.items():
        etree.SubElement(parent, etree.QName(namespace, child)).text = text
    return parent


def without(fields, *absent):
    return {name: text for name, text in fields.items() if name not in absent}


@pytest.mark.parametrize(
    ("name", "fields"),
    [
        ("SubmitDeliveryReceipt", REQUEST),
        ("SubmitDeliveryReceipt", without(REQUEST, "Username", "PIN")),
        ("SubmitDeliveryReceipt", REQUEST | {"Timestamp1": "2009-06-09T10:52:00.5+05:30"}),
        ("SubmitDeliveryReceiptResponse", RESPONSE),
        ("SubmitDeliveryReceiptResponse", RESPONSE | {"Text": ""}),
        ("SubmitDeliveryReceiptResponse", without(RESPONSE, "Text")),
    ],
)
def test_what_the_documents_allow_is_valid(schema, name, fields):
    schema.assertValid(element(name, fields))


@pytest.mark.parametrize(
    ("name", "optional"),
    [
        ("SubmitDeliveryReceipt", ["Username", "PIN"]),
        ("SubmitDeliveryReceiptResponse", ["Text"]),
    ],
)
def test_only_what_is_optional_may_be_missing_or_nil(schema, name, optional):
    fields = REQUEST if name == "SubmitDeliveryReceipt" else RESPONSE
    missing = [each for each in fields if schema.validate(element(name, without(fields, each)))]
    assert missing == optional
    nillable = []
    for each in fields:
        parent = element(name, fields | {each: None})
        parent.find(each).set("{http://www.w3.org/2001/XMLSchema-instance}nil", "true")
        if schema.validate(parent):
            nillable.append(each)
    assert nillable == optional


@pytest.mark.parametrize(
    ("name", "fields"),
    [
        pytest.param("SubmitDeliveryReceipt", REQUEST | {"Report": "none"}, id="a word as Report"),
        pytest.param("SubmitDeliveryReceipt", REQUEST | {"Timestamp1": "now"}, id="no dateTime"),
        pytest.param("SubmitDeliveryReceipt", dict(reversed(REQUEST.items())), id="another order"),
        pytest.param(
            "SubmitDeliveryReceiptResponse", dict(reversed(RESPONSE.items())), id="reply's order"
        ),
        pytest.param(
            "SubmitDeliveryReceiptResponse", RESPONSE | {"Code": "0"}, id="a field of our own"
        ),
    ],
)
def test_the_schema_forbids(schema, name, fields):
    assert not schema.validate(element(name, fields))


@pytest.mark.parametrize(
    ("name", "fields"),
    [("SubmitDeliveryReceipt", REQUEST), ("SubmitDeliveryReceiptResponse", RESPONSE)],
)
def test_children_are_unqualified(schema, name, fields):
    assert schema.validate(element(name, fields))
    assert not schema.validate(element(name, fields, namespace=MESSAGES))


# --- served


def test_the_served_wsdl_has_the_given_addresses_and_is_otherwise_the_published_one(wsdl):
    served = etree.fromstring(contract.wsdl("https://dlr.example.com/soap"))
    address, imported = served.find(f".//{SOAP}address"), served.find(f".//{XSD}import")
    assert address.get("location") == "https://dlr.example.com/soap"
    assert imported.get("schemaLocation") == "https://dlr.example.com/soap/sendsms5.xsd"
    for element in (address, imported):
        published = wsdl.find(f".//{element.tag}")
        element.attrib.update(published.attrib)
    assert etree.tostring(served.getroottree(), method="c14n") == etree.tostring(
        wsdl.getroottree(), method="c14n"
    )


def test_the_served_schema_is_the_published_one():
    published = etree.fromstring((PUBLISHED / "sendsms5.xsd").read_bytes())
    assert etree.tostring(
        etree.fromstring(contract.xsd()).getroottree(), method="c14n"
    ) == etree.tostring(published.getroottree(), method="c14n")


def test_one_address_does_not_leak_into_the_next_answer():
    contract.wsdl("https://first.example.com/soap")
    assert b"first" not in contract.wsdl("https://second.example.com/soap")


@pytest.mark.parametrize("serve", [lambda: contract.wsdl("http://localhost/soap"), contract.xsd])
def test_both_documents_declare_their_encoding(serve):
    first_line = serve().partition(b"\n")[0]
    assert first_line.replace(b"'", b'"') == b'<?xml version="1.0" encoding="UTF-8"?>'


@pytest.mark.parametrize(
    ("location", "schema_location"),
    [
        ("https://h/soap", "https://h/soap/sendsms5.xsd"),
        ("https://h/soap/", "https://h/soap/sendsms5.xsd"),
        ("https://h/", "https://h/sendsms5.xsd"),
        ("https://h/gate/soap", "https://h/gate/soap/sendsms5.xsd"),
    ],
)
def test_the_schema_lies_beneath_the_endpoint(location, schema_location):
    served = etree.fromstring(contract.wsdl(location))
    assert served.find(f".//{SOAP}address").get("location") == location
    assert served.find(f".//{XSD}import").get("schemaLocation") == schema_location


def test_an_address_cannot_become_markup(wsdl):
    hostile = """http://h/"/><soap:address location='x'/><!-- &lt; &e; ]]>"""
    served = etree.fromstring(contract.wsdl(hostile))
    assert [each.tag for each in served.iter()] == [each.tag for each in wsdl.iter()]
    assert served.find(f".//{SOAP}address").get("location") == hostile


# --- the location


def test_the_location_is_the_scheme_and_host_asked_for():
    assert contract.location(None, "https", "dlr.example.com", "10.0.0.1:8080", "/soap") == (
        "https://dlr.example.com/soap"
    )


@pytest.mark.parametrize(
    "host",
    [
        "localhost",
        "dlr.example.com:8443",
        "dlr.example.com.",
        "DLR.Example.COM",
        "my_container:8080",
        "xn--bcher-kva.example",
        "3com.example",
        "192.0.2.7",
        "192.0.2.7:8080",
        "[2001:db8::1]",
        "[2001:db8::1]:65535",
        "[::ffff:192.0.2.7]:80",
        "a" * 63 + ".example",
    ],
)
def test_the_host_may_be(host):
    location = contract.location(None, "http", host, "10.0.0.1:8080", "/soap")
    assert location == f"http://{host}/soap"


@pytest.mark.parametrize(
    "host",
    [
        None,
        "",
        " ",
        '"/><evil/>',
        "'onload=x",
        "<h>",
        "a&b",
        "h\n",
        "h\r\nSet-Cookie: x",
        "h\0",
        "two words",
        "user@h",
        "h/path",
        "h?query",
        "h#fragment",
        "http://h",
        "h:",
        "h:0",
        "h:65536",
        "h:999999",
        "h:http",
        "h:80:80",
        "h:٨٠",
        "bücher.example",
        "h%41",
        "a,b",
        "a..b",
        ".h",
        "-h",
        "h-",
        "h..",
        "300.0.0.1",
        "192.0.2",
        "0177.0.0.1",
        "::1",
        "[::1",
        "[]",
        "[::g]",
        "[1.2.3.4]",
        "[fe80::1%25eth0]",
        "[::1]x",
        "a" * 64,
        "a." * 127 + "a",
    ],
)
def test_what_is_no_host_gives_way_to_the_local_address(host):
    assert contract.location(None, "http", host, "10.0.0.1:8080", "/soap") == (
        "http://10.0.0.1:8080/soap"
    )


@pytest.mark.parametrize(
    ("public_url", "path", "location"),
    [
        ("https://dlr.example.com", "/soap", "https://dlr.example.com/soap"),
        ("https://dlr.example.com/", "/soap", "https://dlr.example.com/soap"),
        ("https://example.com/gate", "/soap", "https://example.com/gate/soap"),
        ("https://example.com/gate/", "/soap", "https://example.com/gate/soap"),
        ("https://dlr.example.com:8443", "/soap/", "https://dlr.example.com:8443/soap/"),
        ("https://dlr.example.com", "/", "https://dlr.example.com/"),
        ("https://dlr.example.com", "/soap/a b", "https://dlr.example.com/soap/a%20b"),
        ("https://dlr.example.com", "/soap/é?#", "https://dlr.example.com/soap/%C3%A9%3F%23"),
        ("https://dlr.example.com", "/soap/%C3%A9", "https://dlr.example.com/soap/%C3%A9"),
    ],
)
def test_a_configured_public_url_goes_before_what_the_request_says(public_url, path, location):
    assert contract.location(public_url, "http", "evil.example", "10.0.0.1", path) == location


def test_the_served_documents_parse_as_one_contract(monkeypatch):
    """A client that follows the schema's location arrives at the schema."""
    base = contract.location(None, "http", "dlr.example.com", "10.0.0.1:8080", "/soap/")
    served = {f"{base}?wsdl": contract.wsdl(base), f"{base}sendsms5.xsd": contract.xsd()}
    transport = Transport()
    monkeypatch.setattr(transport, "load", served.__getitem__)
    document = Document(f"{base}?wsdl", transport)
    port = document.services["CSoftSmsService"].ports["CSoftSmsService"]
    assert port.binding_options == {"address": "http://dlr.example.com/soap/"}
    assert document.types.get_element(f"{{{MESSAGES}}}SubmitDeliveryReceipt") is not None
