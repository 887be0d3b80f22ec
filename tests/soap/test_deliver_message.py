"""Messages that phones send, by SOAP (`DeliverMessage`) and as a form: stored as kind `reply`."""

from __future__ import annotations

import itertools
from urllib.parse import parse_qs, urlencode

import pytest

from kit.server import Server
from kit.soap import ENVELOPE, SOAP, V5, fault_of, new_id, operation, response_of, stored
from kit.wire import post, send

ENDPOINTS = """
[[endpoint]]
provider = "csoft"
path = "/soap"
username = "ANOther.61234"
pin = "BLUE.music"

[[endpoint]]
provider = "csoft"
name = "open"
path = "/open"

[[endpoint]]
provider = "csoft"
name = "token"
path = "/token"
token = "let-me-in-please"
"""
# The beginning is the vendor's example: the 1999 schema namespaces, a default namespace, types.
EXAMPLE = (
    f'<SOAP-ENV:Envelope xmlns:SOAP-ENV="{SOAP}" '
    'xmlns:SOAP-ENC="http://schemas.xmlsoap.org/soap/encoding/" '
    'xmlns:xsi="http://www.w3.org/1999/XMLSchema-instance" '
    'xmlns:xsd="http://www.w3.org/1999/XMLSchema" '
    'xmlns:ns2="http://www.csoft.co.uk/dtd/sendsms5.xsd">'
    '<SOAP-ENV:Body><DeliverMessage xmlns="http://www.csoft.co.uk/dtd/sendsms5.xsd">'
    "<Username>ANOther.61234</Username><PIN>BLUE.music</PIN>"
    '<Recipient xsi:type="ns2:Recipient"><SendTo>447786201000</SendTo></Recipient>'
    '<Message xsi:type="ns2:Message"><TextMessage>See you at 5 &amp; bring Zoë</TextMessage>'
    "</Message><ReplyTo>447700912345</ReplyTo><Timestamp1>2009-06-09T10:52:00Z</Timestamp1>"
    "<MessageIdentifier>%s</MessageIdentifier><Reserved/></DeliverMessage></SOAP-ENV:Body>"
    "</SOAP-ENV:Envelope>"
)
_seconds = itertools.count()


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    folder = tmp_path_factory.mktemp("server")
    server = Server(folder, ENDPOINTS, "tcp:0:interface=127.0.0.1", [])
    yield server
    server.kill()


def message(
    message_id: str | None,
    inner: str = "<Recipient><SendTo>447786201000</SendTo></Recipient>"
    "<Message><TextMessage>Yes</TextMessage></Message>",
    **fields: str | None,
) -> bytes:
    """An envelope; a field given as None is left out."""
    values: dict[str, str | None] = {
        "ReplyTo": "447700912345",
        "Timestamp1": "2009-06-09T10:52:00Z",
        "MessageIdentifier": message_id,
    } | fields
    rest = "".join(f"<{name}>{text}</{name}>" for name, text in values.items() if text is not None)
    element = f'<n:DeliverMessage xmlns:n="{V5}">{inner}{rest}</n:DeliverMessage>'
    return (ENVELOPE % element).encode()


def taken(server, message_id: str, inner: str, **fields: str | None):
    """What is stored of that message, which must be answered "received"."""
    answer = post(server.port, message(message_id, inner, **fields), "/open")
    assert response_of(answer, "DeliverMessage")[1]["Report"] == "0", answer.text
    return stored(server, message_id)


def replies(server, sender: str):
    return [each for each in server.receipts() if each["sender"] == sender]


def test_the_vendor_s_example_is_stored_and_answered_in_its_namespace(server):
    message_id = new_id()
    body = (EXAMPLE % message_id).encode()
    head = (
        "POST /soap HTTP/1.0\r\nHost: www.another.com:80\r\n"
        f'Content-type: text/soap; charset="utf-8"\r\nContent-Length: {len(body)}\r\n\r\n'
    )
    answer = send(server.port, head.encode() + body)

    assert answer.headers["content-type"] == "text/soap; charset=utf-8"
    assert response_of(answer, "DeliverMessage") == (
        V5,
        {"MessageIdentifier": message_id, "Report": "0"},
    )
    receipt = stored(server, message_id)
    assert (receipt["kind"], receipt["state"], receipt["code"]) == ("reply", "UNKNOWN", None)
    assert receipt["recipient"] == "447786201000"
    assert receipt["sender"] == "447700912345"
    assert receipt["text"] == "See you at 5 & bring Zoë"
    assert receipt["reported_at"] == "2009-06-09T10:52:00Z"
    assert "BLUE.music" not in receipt["raw"]
    assert "<PIN>***</PIN>" in receipt["raw"]


@pytest.mark.parametrize("namespace", ["", "http://www.itsarrived.net/dtd/sendsms3"])
def test_any_namespace_and_unqualified_children_will_do(server, namespace):
    message_id = new_id()
    body = message(message_id)
    if namespace:
        body = body.replace(V5.encode(), namespace.encode())
    else:
        body = (
            body.replace(b"n:", b"")
            .replace(f' xmlns:n="{V5}"'.encode(), b"")
            .replace(f'xmlns:n="{V5}"'.encode(), b"")
        )
    answer = post(server.port, body, "/open")
    assert response_of(answer, "DeliverMessage")[0] == namespace


def test_a_message_without_an_operator_s_number_or_an_identifier_is_stored_all_the_same(server):
    text = f"only this {new_id()}"
    inner = f"<Message><TextMessage>{text}</TextMessage></Message>"
    body = message(None, inner, ReplyTo=None, Timestamp1=None)
    answer = post(server.port, body, "/open")
    assert response_of(answer, "DeliverMessage")[1] == {"MessageIdentifier": "", "Report": "0"}
    (receipt,) = [each for each in server.receipts() if each["text"] == text]
    assert (receipt["message_id"], receipt["sender"], receipt["reported_at"]) == (None,) * 3


def test_a_message_with_nothing_in_it_is_refused(server):
    answer = post(server.port, message(None, "", ReplyTo=None, Timestamp1=None), "/open")
    fields = response_of(answer, "DeliverMessage")[1]
    assert fields["Report"] == "-1"
    assert "Message is missing" in fields["Text"]


@pytest.mark.parametrize(
    ("inner", "expected"),
    [
        pytest.param(
            "<Recipient><SendTo>1234567</SendTo><MCC>234</MCC><MNC>1</MNC>"
            "<PhoneMake>Nokia</PhoneMake></Recipient>",
            {"network": "23401", "extra": {"Recipient.PhoneMake": "Nokia"}},
            id="the network",
        ),
        pytest.param(
            "<Recipient><MCC>234</MCC></Recipient>",
            {"network": None, "extra": {"Recipient.MCC": "234"}},
            id="half a network",
        ),
        pytest.param(
            "<Recipient><MCC>2x4</MCC><MNC>10</MNC></Recipient>",
            {
                "network": None,
                "unread": ["Recipient.MCC"],
                "extra": {"Recipient.MCC": "2x4", "Recipient.MNC": "10"},
            },
            id="an unreadable network",
        ),
        pytest.param(
            "<Message><FlashMessage>Now</FlashMessage></Message>",
            {"text": "Now", "extra": {"Message.FlashMessage": "Now"}},
            id="a flash message",
        ),
        pytest.param(
            "<Message><TextMessage>  two  \n</TextMessage></Message>",
            {"text": "  two  \n"},
            id="space in a text",
        ),
        pytest.param(
            "<Message><TextMessage><![CDATA[a < b]]></TextMessage></Message>",
            {"text": "a < b"},
            id="a CDATA section",
        ),
        pytest.param(
            "<Message><SmsSubmitPdu><Data>0605040B</Data></SmsSubmitPdu></Message>",
            {"text": None, "extra": {"Message.SmsSubmitPdu": "0605040B"}},
            id="a binary part",
        ),
        pytest.param(
            "<Recipient>447786201000</Recipient><Message>Hello</Message>",
            {"recipient": "447786201000", "text": "Hello"},
            id="texts in the place of elements",
        ),
        pytest.param(
            "<SendTo>447786201000</SendTo><TextMessage>Hello</TextMessage>",
            {"recipient": "447786201000", "text": "Hello", "extra": {}},
            id="elements without those around them",
        ),
        pytest.param(
            '<Message xmlns:i="http://www.w3.org/2001/XMLSchema-instance" i:nil="true"/>',
            {"text": None},
            id="nil",
        ),
    ],
)
def test_what_a_message_may_hold(server, inner, expected):
    receipt = taken(server, new_id(), inner)
    assert {name: receipt[name] for name in expected} == expected


def test_values_may_stand_elsewhere_in_the_body_as_axis_1_writes_them(server):
    message_id = new_id()
    element = (
        f'<n:DeliverMessage xmlns:n="{V5}"><Recipient href="#r"/><Message href="#m"/>'
        f"<MessageIdentifier>{message_id}</MessageIdentifier></n:DeliverMessage>"
        '<multiRef id="r"><SendTo href="#n"/></multiRef><multiRef id="n">447786201000</multiRef>'
        '<multiRef id="m"><TextMessage>Yes</TextMessage></multiRef>'
    )
    answer = post(server.port, (ENVELOPE % element).encode(), "/open")
    assert response_of(answer, "DeliverMessage")[1]["Report"] == "0"
    receipt = stored(server, message_id)
    assert (receipt["recipient"], receipt["text"]) == ("447786201000", "Yes")


@pytest.mark.parametrize(
    ("inner", "says"),
    [
        ("<Message/><Message/>", "Message came twice"),
        ("<Recipient><SendTo>1</SendTo><SendTo>2</SendTo></Recipient>", "SendTo came twice"),
        ("<Message><TextMessage><a/></TextMessage></Message>", "TextMessage holds elements"),
        ('<Recipient href="#nowhere"/>', "Recipient refers to something"),
        ('<Recipient href="#a"/>', "Recipient refers to something"),
    ],
)
def test_what_cannot_be_understood_is_a_fault(server, inner, says):
    answer = post(server.port, message(new_id(), inner), "/open")
    code, text = fault_of(answer)
    assert code == "Client"
    assert says in text


def test_a_circle_of_references_is_a_fault(server):
    element = (
        f'<n:DeliverMessage xmlns:n="{V5}"><Recipient href="#a"/></n:DeliverMessage>'
        '<multiRef id="a" href="#b"/><multiRef id="b" href="#a"/>'
    )
    code, text = fault_of(post(server.port, (ENVELOPE % element).encode(), "/open"))
    assert (code, "more than 8 steps" in text) == ("Client", True)


def test_a_message_beside_a_receipt_is_a_fault_and_nothing_is_stored(server):
    message_id = new_id()
    both = operation(message_id) + f'<n:DeliverMessage xmlns:n="{V5}"/>'
    code, text = fault_of(post(server.port, (ENVELOPE % both).encode(), "/open"))
    assert code == "Client"
    assert "none of these was stored" in text
    assert [each for each in server.receipts() if each["message_id"] == message_id] == []


def test_soap_1_2_is_a_version_mismatch(server):
    body = message(new_id()).replace(SOAP.encode(), b"http://www.w3.org/2003/05/soap-envelope")
    assert fault_of(post(server.port, body, "/open"))[0] == "VersionMismatch"


@pytest.mark.parametrize("encoding", ["utf-16", "utf-8-sig"])
def test_other_encodings_are_read(server, encoding):
    message_id = new_id()
    text = message(message_id).decode().replace("Yes", "Zoë €")
    charset = "utf-16" if encoding == "utf-16" else "utf-8"
    answer = post(
        server.port,
        text.encode(encoding),
        "/open",
        content_type=f"text/xml; charset={charset}",
    )
    assert response_of(answer, "DeliverMessage")[1]["Report"] == "0"
    assert stored(server, message_id)["text"] == "Zoë €"


@pytest.mark.parametrize(
    "credentials",
    [
        "",
        "<Username>ANOther.61234</Username><PIN>BLUE.noise</PIN>",
        "<Username>Another</Username><PIN>BLUE.music</PIN>",
    ],
)
def test_wrong_credentials_are_an_invalid_login_and_no_secret_is_kept(server, credentials):
    message_id = new_id()
    inner = f"{credentials}<Message><TextMessage>Yes</TextMessage></Message>"
    answer = post(server.port, message(message_id, inner), "/soap")
    assert response_of(answer, "DeliverMessage")[1] == {
        "MessageIdentifier": message_id,
        "Report": "2",
        "Text": "Invalid login",
    }
    kept = [each for each in server.rejected() if message_id in each["raw"]]
    assert [each["reason"] for each in kept] == ["unauthorized"]
    assert all("BLUE" not in each["raw"] for each in kept)


def test_a_pin_in_the_text_is_blanked(server):
    message_id = new_id()
    inner = "<Message><TextMessage>my PIN is BLUE.music</TextMessage><PIN>x7</PIN></Message>"
    receipt = taken(server, message_id, inner)
    assert "BLUE.music" not in str(receipt)
    assert "x7" not in str(receipt)


def test_the_endpoint_s_token_is_asked_for(server):
    message_id = new_id()
    answer = post(server.port, message(message_id), "/token")
    assert response_of(answer, "DeliverMessage")[1]["Report"] == "2"
    answer = post(server.port, message(message_id), "/token/let-me-in-please")
    assert response_of(answer, "DeliverMessage")[1]["Report"] == "0"


# --- Repetitions


def test_the_same_message_again_is_stored_once_and_answered_without_a_text(server):
    message_id = new_id()
    for _ in range(3):
        answer = post(server.port, message(message_id), "/open")
        assert response_of(answer, "DeliverMessage")[1] == {
            "MessageIdentifier": message_id,
            "Report": "0",
        }
    assert stored(server, message_id)["repeats"] == 2


def test_without_an_identifier_numbers_time_and_text_tell_messages_apart(server):
    at = f"2009-06-09T11:{next(_seconds):02}:00Z"
    first, second = f"4477{new_id()}", f"4477{new_id()}"

    def post_one(sender: str, text: str) -> None:
        inner = (
            "<Recipient><SendTo>447786201000</SendTo></Recipient>"
            f"<Message><TextMessage>{text}</TextMessage></Message>"
        )
        body = message(None, inner, ReplyTo=sender, Timestamp1=at)
        answer = post(server.port, body, "/open")
        assert response_of(answer, "DeliverMessage")[1]["Report"] == "0"

    for sender, text in ((first, "Yes"), (first, "Yes"), (first, "No"), (second, "Yes")):
        post_one(sender, text)
    found = {(each["text"], each["repeats"]) for each in replies(server, first)}
    assert found == {("Yes", 1), ("No", 0)}
    assert [each["repeats"] for each in replies(server, second)] == [0]


def test_without_an_identifier_and_a_time_nothing_is_a_repetition(server):
    sender = f"4477{new_id()}"
    for _ in range(2):
        post(server.port, message(None, ReplyTo=sender, Timestamp1=None), "/open")
    assert len(replies(server, sender)) == 2


# --- The form


def form(server, path: str = "/open", **fields: str):
    return post(
        server.port,
        urlencode(fields).encode(),
        path,
        content_type='application/x-www-form-urlencoded; charset="utf-8"',
    )


def test_the_form_has_the_same_fields_and_is_answered_in_one_line(server):
    message_id = new_id()
    answer = form(
        server,
        "/soap",
        ReplyTo="447700912345",
        Message="Zoë & co ",
        SendTo="447786201000",
        Username="ANOther.61234",
        PIN="BLUE.music",
        Timestamp1="2009-06-09T10:52:00Z",
        MessageIdentifier=message_id,
        Novelty="yes",
    )
    assert (answer.status, answer.text) == (
        200,
        f"MessageIdentifier={message_id}&Report=0&Text=",
    )
    receipt = stored(server, message_id)
    assert (receipt["kind"], receipt["text"]) == ("reply", "Zoë & co ")
    assert (receipt["sender"], receipt["recipient"]) == ("447700912345", "447786201000")
    assert receipt["extra"] == {"Novelty": "yes"}
    assert "BLUE.music" not in receipt["raw"]


def test_the_older_form_has_neither_time_nor_identifier(server):
    sender = f"4477{new_id()}"
    answer = form(server, SendTo="447786201000", ReplyTo=sender, Message="Yes")
    assert answer.text == "MessageIdentifier=&Report=0&Text="
    (receipt,) = replies(server, sender)
    assert (receipt["message_id"], receipt["text"]) == (None, "Yes")


def test_wrong_credentials_in_the_form_are_an_invalid_login(server):
    answer = form(server, "/soap", Message="Yes", ReplyTo="1234567", Username="a", PIN="b")
    assert parse_qs(answer.text)["Report"] == ["2"]


def test_a_form_with_a_report_is_a_receipt_whatever_else_it_has(server):
    message_id = new_id()
    form(server, MessageIdentifier=message_id, Report="0", SendTo="1234567", Message="Yes")
    receipt = stored(server, message_id)
    assert (receipt["kind"], receipt["extra"]) == ("delivery", {"Message": "Yes"})


def test_a_form_with_neither_is_invalid(server):
    answer = form(server, MessageIdentifier=new_id(), SendTo="1234567")
    assert "Report is missing" in parse_qs(answer.text)["Text"][0]
