"""SOAP as toolkits write it, and the WSDL as they ask for it."""

from __future__ import annotations

import pytest
from lxml import etree

from kit.server import CSOFT, SAMPLES, Server
from kit.soap import ENVELOPE, envelope, fault_of, new_id, operation, response_of, stored
from kit.wire import get, post, send
from receiptd.soap import contract

SOAP_ADDRESS = ".//{http://schemas.xmlsoap.org/wsdl/soap/}address"
XSD = "http://www.w3.org/2001/XMLSchema"
TOKEN = "t0ken in the URL"


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    config = CSOFT + f'\n[[endpoint]]\nprovider = "csoft"\npath = "/closed"\ntoken = "{TOKEN}"\n'
    server = Server(tmp_path_factory.mktemp("server"), config, "tcp:0:interface=127.0.0.1", [])
    yield server
    server.kill()


# --- The contract


@pytest.mark.parametrize(
    "query",
    ["wsdl", "WSDL", "Wsdl", "wsdl=", "wsdl=1", "WSDL=sendsms5.wsdl", "a=b&wsdl", "wsdl&a"],
)
def test_the_wsdl_is_given_however_it_is_asked_for(server, query):
    answer = get(server.port, f"/soap?{query}")
    assert answer.status == 200
    root = etree.fromstring(answer.body)
    assert root.find(SOAP_ADDRESS).get("location") == f"{server.url}/soap"
    location = root.find(f".//{{{XSD}}}import").get("schemaLocation")
    assert get(server.port, location.removeprefix(server.url)).body == contract.xsd()


@pytest.mark.parametrize("query", ["xsd", "xsd=1", "XSD=sendsms5.xsd", "xsd=xsd0"])
def test_the_schema_is_given_however_it_is_asked_for(server, query):
    assert get(server.port, f"/soap?{query}").body == contract.xsd()


@pytest.mark.parametrize("query", ["singleWsdl", "singlewsdl", "singleWsdl="])
def test_a_single_wsdl_has_the_schema_in_it(server, query):
    root = etree.fromstring(get(server.port, f"/soap?{query}").body)
    assert root.find(f".//{{{XSD}}}import") is None
    (schema,) = root.iter(f"{{{XSD}}}schema")
    assert schema.get("targetNamespace") == "http://www.csoft.co.uk/dtd/sendsms5.xsd"
    assert root.find(SOAP_ADDRESS).get("location") == f"{server.url}/soap"


@pytest.mark.parametrize(
    ("asked", "address"),
    [
        ("/closed?wsdl", "/closed"),
        ("/closed/t0ken%20in%20the%20URL?wsdl", "/closed/t0ken%20in%20the%20URL"),
        ("/closed?wsdl&token=t0ken+in+the+URL", "/closed?token=t0ken%20in%20the%20URL"),
        (
            "/closed?token=t0ken%20in%20the%20URL&singleWsdl",
            "/closed?token=t0ken%20in%20the%20URL",
        ),
        ("/closed?wsdl&token=wrong", "/closed"),
        ("/closed/sendsms5.wsdl", "/closed"),
        ("/closed/t0ken%20in%20the%20URL/sendsms5.wsdl", "/closed/t0ken%20in%20the%20URL"),
        ("//closed//t0ken%20in%20the%20URL/sendsms5.wsdl/", "/closed/t0ken%20in%20the%20URL"),
    ],
)
def test_the_address_bears_the_token_that_it_was_asked_with(server, asked, address):
    answer = get(server.port, asked)
    assert answer.status == 200
    location = etree.fromstring(answer.body).find(SOAP_ADDRESS).get("location")
    assert location == server.url + address
    if "t0ken" in address:
        path = location.removeprefix(server.url)
        response = post(server.port, envelope(new_id()), path)
        assert response_of(response)[1]["Report"] == "0"


def test_the_schema_is_also_behind_the_token(server):
    path = "/closed/t0ken%20in%20the%20URL/sendsms5.xsd"
    assert get(server.port, path).body == contract.xsd()


@pytest.mark.parametrize(
    "path",
    [
        "/closed/wrong?wsdl",
        "/soap/anything?wsdl",
        "/closed/wrong/x",
        "/closed/wrong/sendsms5.wsdl",
        "/soap/anything/sendsms5.wsdl",
        "/closed/t0ken%20in%20the%20URL/x",
        "/closed/t0ken%20in%20the%20URL/x?wsdl",
        "/closed/t0ken%20in%20the%20URL/x/sendsms5.wsdl",
        "/closed/sendsms5.wsdl/sendsms5.wsdl",
    ],
)
def test_nothing_else_is_beneath_the_path(server, path):
    assert get(server.port, path).status == 404


@pytest.mark.parametrize("behind", ["/sendsms5.wsdl", "/x"])
def test_nothing_is_posted_behind_the_token(server, behind):
    path = f"/closed/t0ken%20in%20the%20URL{behind}"
    assert post(server.port, envelope(new_id()), path).status == 404


def test_a_wsdl_is_made_once_for_each_address_and_few_are_remembered():
    first = contract.wsdl("http://a.example.com/soap")
    assert contract.wsdl("http://a.example.com/soap") is first
    for number in range(1000):
        contract.wsdl(f"http://{number}.example.com/soap")
    assert contract.wsdl.cache_info().currsize <= 64


def test_the_messages_are_called_like_the_operation_and_with_response(server):
    root = etree.fromstring(get(server.port, "/soap?wsdl").body)
    names = [each.get("name") for each in root if etree.QName(each).localname == "message"]
    assert names == [
        "SubmitDeliveryReceipt",
        "SubmitDeliveryReceiptResponse",
        "DeliverMessage",
        "DeliverMessageResponse",
    ]


# --- References, as Axis 1 writes them


def _axis(message_id: str, pin: str = "BLUE.music") -> bytes:
    fields = operation(message_id, PIN=None).replace(
        "</n:", '<PIN href="#id0"/><Report href="#id1"/></n:', 1
    )
    fields = fields.replace("<Report>0</Report>", "").replace("<PIN>BLUE.music</PIN>", "")
    body = (
        f'{fields}<multiRef id="id1" href="#id2"/>'
        f'<multiRef id="id0" xmlns:c="http://schemas.xmlsoap.org/soap/encoding/" c:root="0">{pin}'
        '</multiRef><multiRef id="id2">-4</multiRef>'
    )
    return (ENVELOPE % body).encode()


def test_a_field_may_refer_to_its_value(server):
    message_id = new_id()
    body = _axis(message_id)
    assert response_of(post(server.port, body))[1]["Report"] == "0"
    receipt = stored(server, message_id)
    assert receipt["code"] == "-4"
    assert "BLUE" not in receipt["raw"]


def test_a_wrong_pin_that_is_referred_to_is_blanked_as_well(server):
    message_id = new_id()
    assert response_of(post(server.port, _axis(message_id, "GREEN.noise")))[1]["Report"] == "2"
    assert "GREEN" not in str(server.rejected()[-1])


@pytest.mark.parametrize(
    "refs",
    [
        "<multiRef id='a' href='#b'/><multiRef id='b' href='#a'/>",
        "<multiRef id='a' href='#a'/>",
        "<multiRef id='b'>0</multiRef>",
        "<multiRef id='a'><x>0</x></multiRef>",
    ],
    ids=["a circle", "itself", "nothing", "elements"],
)
def test_a_reference_that_leads_nowhere_is_a_fault(server, refs):
    body = envelope(new_id()).replace(b"<Report>0</Report>", b"<Report href='#a'/>")
    body = body.replace(b"</e:Body>", refs.encode() + b"</e:Body>")
    code, text = fault_of(post(server.port, body))
    assert code == "Client"
    assert "Report" in text


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("<Report>0</Report>", "<Report>0</Report><Report>1</Report>"),
        ("<Report>0</Report>", "<Report><a>0</a></Report>"),
    ],
)
def test_a_field_twice_or_with_elements_is_a_fault_and_no_traceback(server, old, new):
    body = envelope(new_id()).replace(old.encode(), new.encode())
    assert fault_of(post(server.port, body))[0] == "Client"
    assert "Traceback" not in server.log


# --- Attachments


def _related(message_id: str, *, start: str = "", first: str = "") -> tuple[bytes, str]:
    body = (
        f"--b1\r\n{first}"
        'Content-Type: application/xop+xml; charset=UTF-8; type="text/xml"\r\n'
        "Content-Transfer-Encoding: binary\r\nContent-ID: <root@example.com>\r\n\r\n"
    ).encode()
    body += envelope(message_id)
    body += b"\r\n--b1\r\nContent-ID: <other@x>\r\n\r\n\x00\xff<PIN>\r\n--b1--\r\n"
    return body, f'multipart/related; type="application/xop+xml"; boundary="b1"{start}'


@pytest.mark.parametrize("start", ["", '; start="<root@example.com>"', '; start="<nope>"'])
def test_the_root_part_of_a_multipart_body_is_read(server, start):
    message_id = new_id()
    body, content_type = _related(message_id, start=start)
    answer = post(server.port, body, content_type=content_type)
    assert response_of(answer)[1] == {"MessageIdentifier": message_id, "Report": "0"}
    raw = stored(server, message_id)["raw"]
    assert "BLUE" not in raw
    assert "other@x" in raw


def test_the_root_part_need_not_be_the_first(server):
    message_id = new_id()
    body, content_type = _related(message_id, start="; start=root@example.com")
    attachment = b"--b1\r\nContent-ID: <a@b>\r\n\r\nattachment\r\n"
    answer = post(server.port, attachment + body, content_type=content_type)
    assert response_of(answer)[1]["MessageIdentifier"] == message_id


@pytest.mark.parametrize(
    ("content_type", "old", "new", "says"),
    [
        ("multipart/related", b"", b"", "boundary"),
        ("multipart/related; boundary=other", b"", b"", "no part"),
        ("multipart/related; boundary=b1", b": binary", b": base64", "encoded for the transfer"),
    ],
)
def test_a_multipart_body_without_an_envelope_is_a_fault(server, content_type, old, new, says):
    body = _related(new_id())[0].replace(old, new)
    code, text = fault_of(post(server.port, body, content_type=content_type))
    assert code == "Client"
    assert says in text
    assert "BLUE" not in str(server.rejected()[-1])


# --- Charsets


@pytest.mark.parametrize(
    ("encoding", "declared", "content_type"),
    [
        ("utf-16", "", "text/xml; charset=utf-16"),
        ("utf-16-le", "", "text/xml; charset=utf-16"),
        ("utf-16-be", "", 'text/xml; charset="UTF-16"'),
        ("utf-16-le", "", "text/xml"),
        ("utf-16-le", "\r\n ", "text/xml; charset=utf-16le"),
        ("utf-16", "<?xml version='1.0' encoding='utf-8'?>", "text/xml; charset=utf-16"),
        ("utf-8", "<?xml version='1.0' encoding='utf-16'?>", "text/xml; charset=utf-8"),
        ("utf-8", "", "text/xml; charset=utf-16"),
        ("iso-8859-15", "", "text/xml; charset=ISO-8859-15"),
    ],
)
def test_a_charset_is_read_where_it_stands_or_shows(server, encoding, declared, content_type):
    message_id = new_id()
    text = declared + envelope(message_id, Extra="é").decode()
    answer = post(server.port, text.encode(encoding), content_type=content_type)
    assert response_of(answer)[1]["Report"] == "0"
    receipt = stored(server, message_id)
    assert receipt["extra"] == {"Extra": "é"}
    assert "BLUE" not in receipt["raw"].replace("\0", "")


@pytest.mark.parametrize("charset", ["utf-7", "cp037", "rot13", "base64"])
def test_a_charset_in_which_a_pin_could_hide_is_a_fault(server, charset):
    body = f"<?xml version='1.0' encoding='{charset}'?>".encode() + envelope(new_id())
    assert fault_of(post(server.port, body))[0] == "Client"
    answer = post(server.port, envelope(new_id()), content_type=f"text/xml; charset={charset}")
    assert "charset" in fault_of(answer)[1]


# --- Headers


@pytest.mark.parametrize(
    "attributes", ['e:mustUnderstand=" 1 "', 'e:mustUnderstand="1" e:actor=""']
)
def test_a_header_must_be_understood_also_with_space_or_an_empty_actor(server, attributes):
    header = f"<e:Header><x {attributes}/></e:Header><e:Body>".encode()
    body = envelope(new_id()).replace(b"<e:Body>", header)
    assert fault_of(post(server.port, body))[0] == "MustUnderstand"


# --- Forms that do not say so


@pytest.mark.parametrize("content_type", [None, "text/plain", "application/json", "text/xml"])
@pytest.mark.parametrize("separator", ["&", "\r\n", "\n", "&\r\n"])
def test_what_looks_like_a_form_is_read_as_one(server, content_type, separator):
    message_id = new_id()
    fields = ("Username=ANOther.61234", "PIN=BLUE.music", "SendTo=447700912345")
    body = separator.join((*fields, f"MessageIdentifier={message_id}", "Report=0")) + separator
    answer = post(server.port, body.encode(), content_type=content_type)
    assert (answer.status, answer.text.partition("&Text")[0]) == (
        200,
        f"MessageIdentifier={message_id}&Report=0",
    )
    raw = stored(server, message_id)["raw"]
    assert "BLUE" not in raw
    assert "PIN=***" in raw


@pytest.mark.parametrize("case", ["09a-csoft-form-no-content-type", "09c-csoft-json"])
def test_no_pin_stays_of_a_post_as_people_report_it(server, case):
    request = (SAMPLES / "cases" / f"{case}.http").read_bytes()
    answer = send(server.port, request)
    assert answer.status in (200, 500)
    assert "demo-pin" not in str(server.rejected()[-1])
    assert "demo-pin" not in server.log
