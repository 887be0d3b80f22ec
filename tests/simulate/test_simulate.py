"""`receiptd simulate`: what it sends, to whom, and what it tells of the answers."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import ssl
import threading
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from random import Random
from typing import NamedTuple
from urllib.parse import parse_qs

import pytest
from click.testing import CliRunner
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from lxml import etree

from kit.command_line import start
from kit.server import CSOFT, wait_until
from kit.terminal import on_terminal
from receiptd.cli import main
from receiptd.providers import Endpoint, Post, Provider
from receiptd.providers.cdyne import Cdyne
from receiptd.providers.csoft import Csoft
from receiptd.providers.seeme import SeeMe
from receiptd.receipt import Receipt
from receiptd.simulate import dialects
from receiptd.simulate import run as simulate

AT = datetime(2009, 6, 9, 10, 52, tzinfo=UTC)
SOAP_REPLY = (
    '<?xml version="1.0"?><E:Envelope xmlns:E="http://schemas.xmlsoap.org/soap/envelope/"><E:Body>'
    '<n:SubmitDeliveryReceiptResponse xmlns:n="x"><MessageIdentifier>{}</MessageIdentifier>'
    "<Report>{}</Report><Text>{}</Text></n:SubmitDeliveryReceiptResponse></E:Body></E:Envelope>"
)


@pytest.fixture(autouse=True)
def _environment(monkeypatch):
    for name in list(os.environ):
        if name.upper().startswith(("RECEIPTD_", "SIMULATE_")):
            monkeypatch.delenv(name)


def run(*arguments, env=None):
    return CliRunner().invoke(main, ["simulate", *arguments], env=env, prog_name="receiptd")


def csoft():
    return Csoft(Endpoint("x"))


class Request(NamedTuple):
    """What came to the stand-in for a server."""

    method: str
    target: str
    headers: dict[str, str]
    body: bytes


class StandIn:
    """Answers as it is told, and remembers what came."""

    def __init__(self, answer: Callable[[int, Request], tuple[int, bytes] | None]) -> None:
        self.requests: list[Request] = []
        lock = threading.Lock()

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def do_POST(handler):  # noqa: N805
                length = int(handler.headers.get("Content-Length", 0))
                headers = {name.lower(): value for name, value in handler.headers.items()}
                request = Request(
                    handler.command, handler.path, headers, handler.rfile.read(length)
                )
                with lock:
                    self.requests.append(request)
                    number = len(self.requests)
                answered = answer(number, request)
                if answered is None:  # leaves without a word
                    handler.close_connection = True
                    return
                status, body = answered
                handler.send_response(status)
                handler.send_header("Content-Length", str(len(body)))
                handler.end_headers()
                handler.wfile.write(body)

            do_GET = do_POST  # noqa: N815

            def log_message(handler, *_):  # noqa: N805
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.port = self.server.server_address[1]
        self.url = f"http://127.0.0.1:{self.port}"
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture
def stand_in():
    """Starts stand-ins."""
    started = []

    def start(answer):
        started.append(StandIn(answer))
        return started[-1]

    yield start
    for each in started:
        each.close()


def identifier(request):
    return re.search(rb"<MessageIdentifier>(.*)</MessageIdentifier>", request.body)[1].decode()


def received(_number, request):
    return 200, SOAP_REPLY.format(identifier(request), 0, "").encode()


# what is sent


def test_the_envelope_is_that_of_the_vendor_and_escapes_markup():
    receipt = csoft().sample(Random(1), AT)._replace(message_id="a<&>\"'")
    root = etree.fromstring(dialects.envelope(receipt, "u<ser", "p&in"))
    (operation,) = root[0]
    assert operation.tag == "{http://www.csoft.co.uk/dtd/sendsms5.xsd}SubmitDeliveryReceipt"
    assert [(child.tag, child.text) for child in operation] == [
        ("Username", "u<ser"),
        ("PIN", "p&in"),
        ("Timestamp1", "2009-06-09T10:52:00Z"),
        ("SentTo", receipt.recipient),
        ("MessageIdentifier", "a<&>\"'"),
        ("Report", receipt.code),
    ]


def test_an_envelope_without_credentials_has_none():
    text = dialects.envelope(csoft().sample(Random(1), AT))
    assert b"Username" not in text
    assert b"PIN" not in text


@pytest.mark.parametrize("form", [[], ["--form"]])
def test_a_real_server_stores_each_receipt_that_was_sent(pooled, form):
    server = pooled(CSOFT)
    result = run(
        *("csoft", "--url", f"{server.url}/soap", "--count", "200", "--json", *form),
        *("--username", "ANOther.61234", "--pin", "BLUE.music"),
    )
    assert result.exit_code == 0, result.output
    summary = json.loads(result.stdout)
    assert (summary["sent"], summary["received"], summary["failures"]) == (200, 200, [])
    assert 0 < summary["latency_ms"]["p50"] <= summary["latency_ms"]["p99"]
    assert summary["latency_ms"]["p99"] <= summary["latency_ms"]["max"]
    stored = server.receipts()
    assert len({each["message_id"] for each in stored}) == 200
    assert b"BLUE.music" not in server.database.read_bytes()


def test_the_same_seed_sends_the_same_again(pooled):
    server = pooled()
    for _ in range(2):
        result = run("csoft", "--url", f"{server.url}/soap", "--count", "20", "--seed", "7")
        assert result.exit_code == 0, result.output
    assert [each["repeats"] for each in server.receipts()] == [1] * 20
    run("csoft", "--url", f"{server.url}/soap", "--count", "20", "--seed", "8")
    assert len(server.receipts()) == 40


def test_runs_without_a_seed_differ():
    one, other = (list(simulate.samples(csoft(), 5, None)) for _ in range(2))
    assert not {each.message_id for each in one} & {each.message_id for each in other}


def test_wrong_credentials_are_told_as_the_server_told_them(pooled):
    server = pooled(CSOFT)
    result = run("csoft", "--url", f"{server.url}/soap", "--username", "u", "--pin", "falsch")
    assert result.exit_code == 1
    assert "Report 2: Invalid login" in result.stdout
    assert "falsch" not in result.output


def test_the_pin_comes_from_the_environment_too(pooled):
    server = pooled(CSOFT)
    result = run(
        *("csoft", "--url", f"{server.url}/soap", "--username", "ANOther.61234"),
        env={"SIMULATE_PIN": "BLUE.music"},
    )
    assert result.exit_code == 0, result.output


def test_the_token_goes_into_the_query(serve):
    server = serve('[[endpoint]]\nprovider = "csoft"\npath = "/soap"\ntoken = "se cret&1"\n')
    url = f"{server.url}/soap"
    assert run("csoft", "--url", url).exit_code == 1
    assert run("csoft", "--url", url, "--token", "se cret&1").exit_code == 0
    result = run("csoft", "--url", url, "--json", env={"SIMULATE_TOKEN": "se cret&1"})
    assert result.exit_code == 0
    assert "cret" not in result.output


def test_credentials_in_the_url_are_sent_as_http_basic(serve):
    server = serve(
        '[[endpoint]]\nprovider = "csoft"\npath = "/soap"\n'
        'basic = { username = "dlr", password = "p:ss/w" }\n'
    )
    url = f"http://dlr:p%3Ass%2Fw@127.0.0.1:{server.port}/soap"
    result = run("csoft", "--url", url, "--json")
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["url"] == f"{server.url}/soap"
    assert run("csoft", "--url", f"{server.url}/soap").exit_code == 1


def test_a_providers_own_post_is_sent_and_any_2xx_is_received(stand_in):
    server = stand_in(lambda number, _: (202 if number == 1 else 200, b""))
    for provider, method in ((SeeMe(Endpoint("x")), "GET"), (Cdyne(Endpoint("x")), "POST")):
        dialect = dialects.Query(provider)
        receipts = list(simulate.samples(provider, 3, 1))
        sending = simulate.Run(
            dialects.target(f"{server.url}/in?a=b"), dialect, iter(receipts), connections=1
        )
        sending.start()
        assert sending.wait(20)
        assert sending.outcome.failures == []
        for receipt, request in zip(receipts, server.requests[-3:], strict=True):
            path, _, query = request.target.partition("?")
            assert (request.method, path, query[:3]) == (method, "/in", "a=b")
            post = Post(
                request.method,
                query.encode(),
                request.body,
                request.headers.get("content-type", ""),
                charset=provider.charset,
            )
            (back,) = provider.read(post)
            assert back.message_id == receipt.message_id
            assert back.state == receipt.state


def test_a_redirection_is_not_followed(stand_in):
    elsewhere = stand_in(received)
    server = stand_in(lambda *_: (307, f"Location: {elsewhere.url}".encode()))
    result = run("csoft", "--url", f"{server.url}/soap")
    assert result.exit_code == 1
    assert "HTTP 307" in result.stdout
    assert elsewhere.requests == []


# how answers are read


@pytest.mark.parametrize(
    ("status", "body", "says"),
    [
        (200, SOAP_REPLY.format("{id}", -1, "unknown message"), "Report -1: unknown message"),
        (200, SOAP_REPLY.format("{id}", 2, ""), "Report 2"),
        (200, SOAP_REPLY.format("other", 0, ""), "Report 0, but for the identifier 'other'"),
        (
            500,
            '<S:Envelope xmlns:S="http://schemas.xmlsoap.org/soap/envelope/"><S:Body><S:Fault>'
            "<faultcode>S:Client</faultcode><faultstring>no good</faultstring></S:Fault></S:Body>"
            "</S:Envelope>",
            "HTTP 500, fault Client: no good",
        ),
        (503, "busy\nreally", "HTTP 503 Service Unavailable: busy"),
        (404, "<html>", "HTTP 404 Not Found"),
        (200, "<html/>", "the answer is no SOAP reply but html"),
        (200, "hello", "the answer is no XML"),
        (200, "", "the answer is no XML"),
        (200, '<?xml version="1.0"?><!DOCTYPE a [<!ENTITY b SYSTEM "file:///etc/passwd">]><a>&b;</a>',
         "the answer is no SOAP reply but a"),
    ],
)  # fmt: skip
def test_what_is_no_report_of_0_is_told(stand_in, status, body, says):
    server = stand_in(
        lambda _, request: (status, body.replace("{id}", identifier(request)).encode())
    )
    result = run("csoft", "--url", f"{server.url}/soap")
    assert result.exit_code == 1
    refused = says.startswith(("Report -1", "Report 2", "HTTP 4"))
    counts = f"refused {refused:d}, failed {not refused:d}"
    assert f'sent 1, answered "received" 0, {counts}; ' in result.stdout
    assert f"  {identifier(server.requests[0])}: {says}" in result.stdout


@pytest.mark.parametrize(
    ("status", "body", "says"),
    [
        (200, "MessageIdentifier={id}&Report=-1&Text=who%3F", "Report -1: who?"),
        (200, "OK", "an answer without Report"),
        (403, "no", "HTTP 403 Forbidden: no"),
    ],
)
def test_the_answer_to_a_form_post_is_read_as_a_form(stand_in, status, body, says):
    def answer(_, request):
        sent = parse_qs(request.body.decode())
        assert sent["PIN"] == ["NULL"]
        return status, body.replace("{id}", sent["MessageIdentifier"][0]).encode()

    server = stand_in(answer)
    result = run("csoft", "--form", "--url", f"{server.url}/soap")
    assert result.exit_code == 1
    assert says in result.stdout


@pytest.mark.parametrize(
    "body",
    [
        b"MessageIdentifier=&Report=-1&Text=MessageIdentifier+is+missing",
        SOAP_REPLY.format("", -1, "MessageIdentifier is missing").encode(),
    ],
)
def test_a_report_of_another_provider_in_a_200_is_no_receipt(stand_in, body):
    server = stand_in(lambda *_: (200, body))
    result = run("cdyne", "--url", f"{server.url}/soap")
    assert result.exit_code == 1
    assert 'answered "received" 0, refused 1, failed 0; ' in result.stdout
    assert "HTTP 200, but Report -1: MessageIdentifier is missing (a csoft endpoint" in (
        result.stdout
    )


def test_another_providers_post_to_the_soap_path_is_told_apart_from_a_receipt(pooled):
    server = pooled()
    result = run("cdyne", "--url", f"http://127.0.0.1:{server.port}/soap", "--json")
    summary = json.loads(result.stdout)
    assert result.exit_code == 1
    assert (summary["sent"], summary["received"], summary["refused"]) == (1, 0, 1)


def test_an_answer_without_an_end_is_read_as_far_as_it_matters(stand_in):
    server = stand_in(lambda *_: (200, b"x" * (simulate.LARGEST_ANSWER + 100_000)))
    result = run("cdyne", "--url", f"{server.url}/cdyne", "--count", "2", "--connections", "1")
    assert (result.exit_code, len(server.requests)) == (0, 2)


@pytest.mark.parametrize(
    "url", ["http://u:geheim@h:x/soap", "ftp://u:geheim@h/", "http://u:ge/heim@h"]
)
def test_a_url_that_is_none_is_not_repeated(url):
    result = run("csoft", "--url", url)
    assert result.exit_code == 2
    assert "heim" not in result.output
    assert "%40" in result.stderr


def test_many_bad_answers_are_grouped_and_none_is_lost(stand_in):
    def answer(number, request):
        if number % 3 == 0:
            return received(number, request)
        if number % 3 == 1:
            return 503, b"busy"
        text = f"{identifier(request)} is unknown"
        return 200, SOAP_REPLY.format(identifier(request), -1, text).encode()

    server = stand_in(answer)
    arguments = ("csoft", "--url", f"{server.url}/soap", "--count", "90")
    result = run(*arguments)
    assert result.exit_code == 1
    assert 'sent 90, answered "received" 30, refused 30, failed 30' in result.stdout
    assert re.search(r"30 times, such as \w+: HTTP 503 Service Unavailable: busy", result.stdout)
    assert re.search(r"30 times, such as \w+: Report -1: <identifier> is unknown", result.stdout)
    verbose = run(*arguments, "--verbose")
    assert len(re.findall(r"^  \w+: ", verbose.stdout, re.MULTILINE)) == 60
    summary = json.loads(run(*arguments, "--json").stdout)
    sent = {identifier(request) for request in server.requests[-90:]}
    assert len(summary["failures"]) == 60
    assert {each["message_id"] for each in summary["failures"]} < sent


def test_an_answer_cannot_control_the_terminal(stand_in):
    server = stand_in(lambda *_: (500, b"\x1b[2Jgone"))
    assert "\\x1b[2Jgone" in run("csoft", "--url", server.url).stdout


# connections


def test_nothing_there_is_one_line_with_a_hint():
    with closing(socket.create_server(("127.0.0.1", 0))) as reserved:
        port = reserved.getsockname()[1]
    result = run("csoft", "--url", f"http://user:geheim@127.0.0.1:{port}/soap?token=geheim")
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == (
        f"http://127.0.0.1:{port}/soap: cannot connect: connection refused. "
        "Is a server running there? Start one with: receiptd serve\n"
    )


@pytest.mark.parametrize("url", ["http://a..b/soap", "http://h:99999/", "ftp://h/", "http:///x"])
def test_what_is_no_url_is_wrong_use(url):
    assert run("csoft", "--url", url).exit_code == 2


def test_a_host_that_does_not_exist_is_one_line():
    result = run("csoft", "--url", "http://nowhere.invalid/soap")
    assert result.exit_code == 1
    assert result.stderr.startswith("http://nowhere.invalid:80/soap: cannot connect: ")
    assert result.stderr.count("\n") == 1


def certificate(folder):
    """A certificate for this machine that is signed by nobody but itself, with its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(UTC)
    signed = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .sign(key, hashes.SHA256())
    )
    file = folder / "certificate.pem"
    file.write_bytes(
        key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        + signed.public_bytes(Encoding.PEM)
    )
    return file


def test_a_certificate_that_nobody_vouches_for_is_not_trusted(tmp_path):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate(tmp_path))
    with closing(socket.create_server(("127.0.0.1", 0))) as listening:

        def accept():
            connection, _ = listening.accept()
            with closing(connection), pytest.raises((ssl.SSLError, OSError)):
                context.wrap_socket(connection, server_side=True)

        thread = threading.Thread(target=accept)
        thread.start()
        port = listening.getsockname()[1]
        result = run("csoft", "--url", f"https://127.0.0.1:{port}/soap")
        thread.join(20)
    assert result.exit_code == 1
    assert "the certificate is not trusted" in result.stderr


def test_connections_are_kept_between_posts(stand_in):
    peers = set()
    server = stand_in(received)
    inner = server.server.process_request

    def count(request, peer):
        peers.add(peer)
        inner(request, peer)

    server.server.process_request = count
    arguments = ("--url", f"{server.url}/soap", "--count", "60", "--connections", "3")
    assert run("csoft", *arguments).exit_code == 0
    # One more for the look whether anybody is there.
    assert len(peers) <= 4


def test_a_kept_connection_that_the_server_closed_is_opened_again(stand_in):
    # Every second post on a connection finds it closed; its repetition comes on a new one.
    server = stand_in(lambda number, request: received(number, request) if number % 2 else None)
    result = run(
        "csoft", "--url", f"{server.url}/soap", "--count", "9", "--connections", "1", "--verbose"
    )
    assert result.exit_code == 0, result.output


def test_a_server_that_never_answers_properly_is_told(stand_in):
    server = stand_in(lambda *_: None)
    result = run("csoft", "--url", f"{server.url}/soap", "--count", "3")
    assert result.exit_code == 1
    assert "the connection broke before the answer" in result.stdout


def test_a_server_that_is_silent_is_waited_for_as_long_as_asked():
    with closing(socket.create_server(("127.0.0.1", 0))) as silent:
        port = silent.getsockname()[1]
        result = run("csoft", "--url", f"http://127.0.0.1:{port}/soap", "--timeout", "0.2")
    assert result.exit_code == 1
    assert "no answer in time" in result.stdout


def test_a_server_that_goes_ends_the_run_with_what_was_done(serve):
    server = serve()
    ended = {}

    def sending():
        ended["result"] = run(
            *("csoft", "--url", f"{server.url}/soap", "--count", "1000000", "--json")
        )

    thread = threading.Thread(target=sending)
    thread.start()
    wait_until(server.receipts, "the first receipt")
    server.kill()
    thread.join(20)
    result = ended["result"]
    assert result.exit_code == 1
    summary = json.loads(result.stdout)
    assert summary["sent"] == summary["received"] + len(summary["failures"]) < 1_000_000
    assert "cannot connect: connection refused" in result.stderr
    assert len(server.receipts()) >= summary["received"]


def test_the_rate_is_kept(stand_in):
    server = stand_in(received)
    result = run(
        *("csoft", "--url", f"{server.url}/soap", "--count", "20", "--rate", "50", "--json")
    )
    summary = json.loads(result.stdout)
    # The last of 20 is due 19 intervals after the first.
    assert summary["seconds"] >= 19 / 50


def test_an_interrupted_run_tells_what_was_done(stand_in):
    server = stand_in(received)
    arguments = ("csoft", "--url", f"{server.url}/soap", "--count", "1000", "--rate", "20")
    child = start("simulate", *arguments)
    wait_until(lambda: server.requests, "the first post")
    child.send_signal(signal.SIGINT)
    stdout, stderr = (each.decode() for each in child.communicate(timeout=20))
    assert (child.returncode, stderr) == (1, "interrupted\n")
    assert stdout.startswith("sent ")


# the command


def test_an_unknown_provider_is_told_which_there_are():
    result = run("nobody", "--url", "http://127.0.0.1:9/")
    assert result.exit_code == 2
    assert "csoft" in result.stderr


@pytest.mark.parametrize("option", [["--username", "u"], ["--pin", "p"], ["--form"]])
def test_credentials_are_for_posts_that_carry_them(monkeypatch, option):
    from receiptd import providers

    monkeypatch.setitem(providers.load(), "seeme", SeeMe)
    result = run("seeme", "--url", "http://127.0.0.1:9/", *option)
    assert result.exit_code == 2
    assert option[0] in result.stderr


def test_a_key_of_the_endpoint_shapes_the_posts(monkeypatch, stand_in):
    from receiptd import providers

    monkeypatch.setitem(providers.load(), "seeme", SeeMe)
    server = stand_in(lambda *_: (200, b""))
    arguments = ("seeme", "--url", server.url, "--seed", "1")
    for zone in ("UTC", "Asia/Tokyo"):
        assert run(*arguments, "--set", f"timezone={zone}").exit_code == 0
    here, there = (parse_qs(each.target.partition("?")[2]) for each in server.requests)
    assert here.pop("timestamp") == ["2026-01-01 00:00:00"]
    assert there.pop("timestamp") == ["2026-01-01 09:00:00"]
    assert here == there
    result = run(*arguments, "--set", "timezone=Tokyo")
    assert result.exit_code == 2
    assert "no time zone is called 'Tokyo'" in result.stderr


def test_a_path_that_is_not_served_gets_a_hint(pooled):
    server = pooled()
    result = run("csoft", "--url", f"{server.url}/soup")
    assert result.exit_code == 1
    assert "hint: --url must end in the endpoint's path" in result.stdout


def test_there_is_a_progress_bar_on_a_terminal_and_none_in_a_pipe(stand_in):
    server = stand_in(received)
    arguments = ("csoft", "--url", f"{server.url}/soap", "--count", "40", "--rate", "100")
    shown, code = on_terminal("simulate", *arguments)
    assert code == 0
    assert re.search(r"posting .*\d+/40", shown)
    assert 'sent 40, answered "received" 40' in shown
    assert run(*arguments).stderr == ""


def test_percentiles_are_those_of_the_latencies():
    latencies = simulate.Outcome().latencies
    latencies.extend(number / 1000 for number in reversed(range(1, 101)))
    assert simulate.percentile(latencies, 0.5) == pytest.approx(0.051)
    assert simulate.percentile(latencies, 0.99) == pytest.approx(0.1)
    assert simulate.percentile(simulate.Outcome().latencies, 0.99) == 0


def test_a_provider_needs_nothing_more_than_its_own_module_to_be_simulated(monkeypatch, stand_in):
    from receiptd import providers

    class Tiny(Provider):
        name, title, path = "tiny", "Tiny", "/tiny"

        def sample(self, random: Random, at: datetime) -> Receipt:
            return csoft().sample(random, at)

        def write(self, receipt: Receipt) -> Post:
            return Post("POST", b"x=1", b"id=" + (receipt.message_id or "").encode(), "text/plain")

    monkeypatch.setitem(providers.load(), "tiny", Tiny)
    server = stand_in(lambda *_: (200, b""))
    assert run("tiny", "--url", f"{server.url}/tiny?a=1").exit_code == 0
    (request,) = server.requests
    assert (request.target, request.body[:3]) == ("/tiny?a=1&x=1", b"id=")
