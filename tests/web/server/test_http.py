"""The HTTP server's manners and limits, over a real socket."""

from __future__ import annotations

import socket
import threading
import time
from contextlib import closing, suppress
from itertools import islice

import pytest
from lxml import etree

from kit.load import answers, flood
from kit.server import CSOFT, SOON, resident, wait_until
from kit.soap import envelope, new_id
from kit.wire import chunked, get, post, receive, send
from receiptd.web.server.poll import readable

SOAP = "http://schemas.xmlsoap.org/soap/envelope/"


def test_get_says_what_the_url_is_with_a_link_to_the_wsdl(shared_server):
    answer = get(shared_server.port, "/soap")

    assert answer.status == 200
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert answer.text.count("<p>") == 1
    page = etree.HTML(answer.body)
    assert page.xpath("//a/@href") == [f"{shared_server.url}/soap?wsdl"]


def test_head_is_get_without_the_body(shared_server):
    whole = get(shared_server.port, "/soap")
    request = (
        f"HEAD /soap HTTP/1.1\r\nHost: 127.0.0.1:{shared_server.port}\r\nConnection: close\r\n\r\n"
    )
    with closing(socket.create_connection(("127.0.0.1", shared_server.port), 10)) as connection:
        connection.sendall(request.encode())
        head = b"".join(iter(lambda: connection.recv(4096), b""))
    assert head.startswith(b"HTTP/1.1 200 OK\r\n")
    assert b"Content-Length: %d\r\n" % len(whole.body) in head
    assert head.endswith(b"\r\n\r\n")


@pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "X"])
def test_other_methods(shared_server, method):
    answer = get(shared_server.port, "/soap", method=method)
    assert answer.status == 405
    assert answer.headers["allow"] == "GET, HEAD, POST"


@pytest.mark.parametrize("path", ["/", "/soap/x", "/SOAP", "/nothing", "/open/a/b"])
def test_what_is_nowhere_is_404_and_logged(shared_server, path):
    for answer in (get(shared_server.port, path), post(shared_server.port, b"a=b", path)):
        assert answer.status == 404
        assert answer.headers["content-type"] == "text/plain; charset=utf-8"
    if path == "/nothing":
        assert "404: POST /nothing from 127.0.0.1" in shared_server.log


def test_a_slash_behind_the_path_is_no_other_path(shared_server):
    assert (
        get(shared_server.port, "/soap/?wsdl").body == get(shared_server.port, "/soap?wsdl").body
    )


def test_every_answer_has_a_content_length(shared_server):
    # `receive` reads by Content-Length and fails without one; these are the odd answers.
    for request in (
        b"nonsense\r\n\r\n",
        b"GET / HTTP/3.0\r\n\r\n",
        b"POST /soap HTTP/1.1\r\nHost: h\r\nno colon\r\n\r\n",
        b"POST /soap HTTP/1.1\r\nHost: h\r\nContent-Length: x\r\n\r\n",
        b"POST /soap HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        b"POST /soap HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: gzip\r\n\r\n",
        b"POST /soap HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    ):
        answer = send(shared_server.port, request)
        assert answer.status == 400, request
        assert answer.headers["content-type"] == "text/plain; charset=utf-8"
        assert answer.closed


def test_a_header_line_without_end(shared_server):
    answer = send(shared_server.port, b"POST /soap HTTP/1.1\r\nX: ", b"x" * 40_000)
    assert answer.status in (400, 431)


def test_a_body_announced_too_large_is_refused_before_it_is_sent(shared_server):
    head = b"POST /soap HTTP/1.1\r\nHost: h\r\nContent-Length: 65537\r\n\r\n"
    answer = send(shared_server.port, head)
    assert answer.status == 413
    assert "65536 bytes" in answer.text
    assert answer.closed


def test_a_body_announced_too_large_gets_no_100_continue(shared_server):
    head = (
        b"POST /soap HTTP/1.1\r\nHost: h\r\nContent-Length: 1000000\r\n"
        b"Expect: 100-continue\r\n\r\n"
    )
    assert send(shared_server.port, head).status == 413


def test_a_chunked_body_is_refused_as_soon_as_it_is_too_large(shared_server):
    head = b"POST /soap HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n"
    with closing(socket.create_connection(("127.0.0.1", shared_server.port), 10)) as connection:
        connection.sendall(head)
        connection.sendall(chunked(b"x" * 65_537, 4096)[: -len(b"0\r\n\r\n")])
        assert receive(connection).status == 413


def test_whoever_keeps_sending_reads_the_answer_nevertheless(shared_server):
    """A reset would take the answer with it."""
    body = b"x" * 3_000_000
    head = b"POST /soap HTTP/1.1\r\nHost: h\r\nContent-Length: %d\r\n\r\n" % len(body)
    with closing(socket.create_connection(("127.0.0.1", shared_server.port), 10)) as connection:

        def push() -> None:
            with suppress(OSError):
                connection.sendall(head + body)

        sender = threading.Thread(target=push)
        sender.start()
        assert receive(connection).status == 413
        sender.join()


def test_a_body_of_the_largest_size_is_taken(shared_server):
    filler = b"<Filler>" + b"x" * 60_000 + b"</Filler>"
    body = (
        b'<e:Envelope xmlns:e="http://schemas.xmlsoap.org/soap/envelope/"><e:Body>'
        b"<SubmitDeliveryReceipt><MessageIdentifier>LARGE</MessageIdentifier>"
        b"<Report>0</Report>" + filler + b"</SubmitDeliveryReceipt></e:Body></e:Envelope>"
    )
    body += b" " * (65_536 - len(body))
    answer = post(shared_server.port, body, "/open")
    assert b"<Report>0</Report>" in answer.body


def test_the_body_limit_is_configurable(serve):
    server = serve("[server]\nmax_body = 2000\n" + CSOFT)
    assert post(server.port, b" " * 2000).status == 500
    assert post(server.port, b" " * 2001).status == 413


def test_an_idle_connection_is_no_reason_to_answer_others_later(shared_server):
    with closing(socket.create_connection(("127.0.0.1", shared_server.port), 10)) as idle:
        idle.sendall(b"POST /soap HTTP/1.1\r\n")
        assert get(shared_server.port, "/soap").status == 200


# --- Hostile XML: a fault, quickly, in bounded memory, nothing fetched

DOCTYPES = {
    "a DOCTYPE": "<!DOCTYPE a>",
    "an external subset": '<!DOCTYPE a SYSTEM "http://127.0.0.1:{port}/dtd">',
    "an external entity": ('<!DOCTYPE a [<!ENTITY x SYSTEM "http://127.0.0.1:{port}/entity">]>'),
    "a file": '<!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/passwd">]>',
    "a parameter entity": (
        '<!DOCTYPE a [<!ENTITY % x SYSTEM "http://127.0.0.1:{port}/parameter"> %x;]>'
    ),
    "a billion laughs": "<!DOCTYPE a [<!ENTITY x0 'ha'>"
    + "".join(f"<!ENTITY x{n} '{f'&x{n - 1};' * 10}'>" for n in range(1, 30))
    + "<!ENTITY x '&x29;'>]>",
    "a quadratic blow-up": "<!DOCTYPE a [<!ENTITY x '" + "x" * 30_000 + "'>]>",
    "a default attribute": '<!DOCTYPE a [<!ATTLIST a b CDATA "{port}">]>',
}


@pytest.fixture
def trap():
    """A listening socket that notes who comes; its port, and the list of visits."""
    visits: list[bytes] = []
    listener = socket.create_server(("127.0.0.1", 0))

    def watch() -> None:
        with suppress(OSError):
            while True:
                connection, _ = listener.accept()
                visits.append(connection.recv(1000))
                connection.close()

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    yield listener.getsockname()[1], visits
    listener.shutdown(socket.SHUT_RDWR)
    listener.close()
    thread.join(10)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
@pytest.mark.parametrize("label", DOCTYPES)
def test_document_types_are_faults_and_nothing_is_fetched(shared_server, trap, label, encoding):
    port, visits = trap
    doctype = DOCTYPES[label].replace("{port}", str(port))
    uses = "&x;" * (30 if "quadratic" in label else 1) if "ENTITY x" in doctype else ""
    text = (
        f"{doctype}<e:Envelope xmlns:e='{SOAP}' a='{uses}'><e:Body><SubmitDeliveryReceipt>"
        f"<MessageIdentifier>X{uses}</MessageIdentifier><Report>0</Report>"
        "</SubmitDeliveryReceipt></e:Body></e:Envelope>"
    )
    before, started = resident(shared_server.process.pid), time.monotonic()
    answer = post(shared_server.port, text.encode(encoding), "/open")

    assert answer.status == 500
    assert b"<faultcode>SOAP-ENV:Client</faultcode>" in answer.body
    assert time.monotonic() - started < SOON
    assert resident(shared_server.process.pid) - before < 50_000_000
    assert visits == []
    assert b"root:" not in answer.body


SHAPES = {
    "deep nesting": b"<SubmitDeliveryReceipt>" + b"<a>" * 9000 + b"</a>" * 9000,
    "attributes": b"<SubmitDeliveryReceipt "
    + b" ".join(b"a%d=''" % n for n in range(6000))
    + b">",
    "namespaces": b"<SubmitDeliveryReceipt "
    + b" ".join(b"xmlns:a%d='u'" % n for n in range(3500))
    + b">",
    "elements": b"<SubmitDeliveryReceipt>" + b"<a/>" * 12_000,
}


@pytest.mark.parametrize("label", SHAPES)
def test_shapes_out_of_proportion_are_faults_quickly(shared_server, label):
    body = (
        f"<e:Envelope xmlns:e='{SOAP}'><e:Body>".encode()
        + SHAPES[label]
        + b"<MessageIdentifier>X</MessageIdentifier><Report>0</Report>"
        b"</SubmitDeliveryReceipt></e:Body></e:Envelope>"
    )
    assert len(body) <= 65536
    before, started = resident(shared_server.process.pid), time.monotonic()
    answer = post(shared_server.port, body, "/open")

    assert answer.status == 500, answer.text[:500]
    assert b"<faultcode>SOAP-ENV:Client</faultcode>" in answer.body
    assert time.monotonic() - started < SOON
    assert resident(shared_server.process.pid) - before < 50_000_000


# --- The served contract


def addresses(document: bytes) -> tuple[str, str]:
    """The WSDL's soap:address and the location of its schema."""
    root = etree.fromstring(document)
    (address,) = root.iter("{http://schemas.xmlsoap.org/wsdl/soap/}address")
    (schema,) = root.iter("{http://www.w3.org/2001/XMLSchema}import")
    return address.get("location"), schema.get("schemaLocation")


@pytest.mark.parametrize("path", ["/soap?wsdl", "/soap?WSDL", "/soap/sendsms5.wsdl"])
def test_the_wsdl_carries_the_host_that_was_asked_for(shared_server, path):
    answer = get(shared_server.port, path, headers=["Host: dlr.example.com:8443"])
    assert answer.status == 200
    assert answer.headers["content-type"] == "text/xml; charset=utf-8"
    assert addresses(answer.body) == (
        "http://dlr.example.com:8443/soap",
        "http://dlr.example.com:8443/soap/sendsms5.xsd",
    )


@pytest.mark.parametrize(
    "host", ["a\"/><evil xmlns='x'/>", "<script>", "a b", "a/b?c", "user@host", "", "&amp;"]
)
def test_a_hostile_host_changes_nothing(shared_server, host):
    for path in ("/soap?wsdl", "/soap"):
        answer = get(shared_server.port, path, headers=[f"Host: {host}"])
        assert answer.status == 200
        assert b"evil" not in answer.body
        assert b"<script>" not in answer.body
    answer = get(shared_server.port, "/soap?wsdl", headers=[f"Host: {host}"])
    assert addresses(answer.body)[0] == f"{shared_server.url}/soap"


def test_the_public_url_goes_before_the_host(serve):
    server = serve('[server]\npublic_url = "https://dlr.example.com/in/"\n' + CSOFT)
    answer = get(server.port, "/soap?wsdl", headers=["Host: elsewhere"])
    assert addresses(answer.body) == (
        "https://dlr.example.com/in/soap",
        "https://dlr.example.com/in/soap/sendsms5.xsd",
    )


def test_the_schema_beneath(shared_server):
    answer = get(shared_server.port, "/soap/sendsms5.xsd")
    etree.XMLSchema(etree.fromstring(answer.body))


def test_bodies_that_are_no_xml_do_not_stay_in_memory(serve):
    server = serve("[server]\nmax_body = 1000000\n")
    body = envelope("1").replace(b"</e:Envelope>", b"<!--" + b"x" * 500_000 + b"-->")
    for number in range(150):
        if number == 20:
            before = resident(server.process.pid)
        assert post(server.port, body).status == 500
    assert resident(server.process.pid) - before < 20_000_000


def test_a_target_may_name_the_host_as_well(shared_server):
    for path in ("http://127.0.0.1/soap?wsdl", "HTTPS://x:1?wsdl", "http://x/nowhere?wsdl"):
        expected = 200 if "/soap?" in path else 404
        assert (get(shared_server.port, path).status, path) == (expected, path)
    assert post(shared_server.port, envelope(new_id()), "http://h/soap").status == 200


def test_options_of_the_server_itself_are_answered_as_all_else(shared_server):
    answer = get(shared_server.port, "*", method="OPTIONS")
    assert (answer.status, answer.headers["server"]) == (404, "receiptd")
    assert answer.headers["x-request-id"]


@pytest.mark.parametrize(
    "options", ["close", "TE, Close", "Upgrade,close", "x\r\nConnection: close"]
)
def test_a_client_may_end_the_connection_with_its_request(shared_server, options):
    request = f"GET /soap?wsdl HTTP/1.1\r\nHost: h\r\nConnection: {options}\r\n\r\n"
    with closing(socket.create_connection(("127.0.0.1", shared_server.port), 10)) as connection:
        connection.sendall(request.encode())
        assert receive(connection).headers["connection"] == "close"
        assert connection.recv(1) == b""


def test_whoever_sends_and_never_reads_fills_no_memory(serve):
    server = serve()
    before = resident(server.process.pid)
    with closing(socket.socket()) as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.connect(("127.0.0.1", server.port))
        with pytest.raises(TimeoutError):
            flood(connection, lambda: resident(server.process.pid) - before < 50_000_000)
        assert resident(server.process.pid) - before < 50_000_000


def test_whoever_reads_late_gets_all_answers(pooled):
    server = pooled()
    number = 3000
    with closing(socket.create_connection(("127.0.0.1", server.port), 10)) as connection:
        sender = threading.Thread(
            target=connection.sendall,
            args=(b"GET /soap?wsdl HTTP/1.1\r\nHost: h\r\n\r\n" * number,),
        )
        sender.start()
        wait_until(lambda: readable([connection]), "the first answer")
        found = list(islice(answers(connection), number))
        sender.join()
    assert len(found) == number
    assert {len(body) for _, body in found} == {len(found[0][1])}


# --- Starting and stopping


def test_a_second_server_on_the_same_port_says_so(serve, shared_server):
    with pytest.raises(AssertionError) as refused:
        serve(listen=f"tcp:{shared_server.port}:interface=127.0.0.1")
    assert "cannot listen there: Address already in use" in str(refused.value)
    assert "--listen" in str(refused.value)


def test_a_second_server_on_the_same_database_says_so(serve):
    first = serve()
    with pytest.raises(AssertionError) as refused:
        serve(folder=first.folder)
    assert f"another receiptd (process {first.process.pid}) serves this database" in str(
        refused.value
    )
    first.kill()
    assert get(serve(folder=first.folder).port, "/soap").status == 200


def test_sigterm_ends_it_with_success(serve):
    server = serve()
    assert server.stop() == 0


def test_an_idle_client_does_not_keep_it_from_ending(serve):
    server = serve()
    with closing(socket.create_connection(("127.0.0.1", server.port), 10)) as idle:
        idle.sendall(b"POST /soap HTTP/1.1\r\n")
        wait_until(lambda: get(server.port, "/soap").status == 200, "the server has read it")
        assert server.stop() == 0
