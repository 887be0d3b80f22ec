"""TLS: what is agreed on, whose certificate counts, and certificates that change."""

from __future__ import annotations

import os
import re
import signal
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import NamedTuple

import pytest
from twisted.internet.task import Clock
from twisted.logger import capturedLogs, formatEvent

from kit.certificates import Authority
from kit.load import Load
from kit.server import CSOFT, SAMPLES, SOON, Server, wait_until
from kit.wire import TIMEOUT, Answer, get, receive
from receiptd.config import Tls
from receiptd.web.server.certificates import LOOK, Files, TlsError, cautions, load


def settings(certificate: Path, key: Path, more: str = "", endpoint: str = CSOFT) -> str:
    return (
        "[server.tls]\nlisten = 'tcp:0:interface=127.0.0.1'\n"
        f"certificate = '{certificate}'\nkey = '{key}'\n{more}\n{endpoint}"
    )


def tls_port(server: Server) -> int:
    found = wait_until(
        lambda: re.search(r"listening on https://127\.0\.0\.1:(\d+)", server.log),
        "the server listens under TLS",
    )
    return int(found[1])


class Secured(NamedTuple):
    """A server, its port for TLS, and who has issued its certificate."""

    server: Server
    port: int
    authority: Authority


@pytest.fixture
def secured(serve, tmp_path):
    """Starts a server with TLS."""

    def start(
        more: str = "",
        authority: Authority | None = None,
        *,
        workers: int = 1,
        days: float = 30,
        endpoint: str = CSOFT,
    ) -> Secured:
        authority = authority or Authority(tmp_path)
        files = authority.issue("receiptd", "server", days)
        text = settings(*files, more, endpoint)
        server = serve(text, options=("--workers", str(workers)))
        return Secured(server, tls_port(server), authority)

    return start


@pytest.fixture(scope="module", params=["server.tls", "ssl:"])
def any_shared(request, tmp_path_factory) -> Iterator[Secured]:
    """One with `[server.tls]`, and one with an endpoint of Twisted's own."""
    if request.param == "server.tls":
        yield request.getfixturevalue("shared")
        return
    authority = Authority(tmp_path_factory.mktemp("certificates"))
    certificate, key = authority.issue("receiptd", "server")
    listen = f"ssl:0:interface=127.0.0.1:privateKey={key}:certKey={certificate}"
    folder = tmp_path_factory.mktemp("server")
    server = Server(folder, CSOFT, "tcp:0:interface=127.0.0.1", ["--listen", listen])
    yield Secured(server, tls_port(server), authority)
    server.kill()


@pytest.fixture(scope="module")
def shared(tmp_path_factory) -> Iterator[Secured]:
    """One for the tests that change nothing."""
    authority = Authority(tmp_path_factory.mktemp("certificates"))
    text = settings(*authority.issue("receiptd", "server"))
    server = Server(tmp_path_factory.mktemp("server"), text, "tcp:0:interface=127.0.0.1", [])
    yield Secured(server, tls_port(server), authority)
    server.kill()


def connect(port: int, context: ssl.SSLContext) -> ssl.SSLSocket:
    plain = socket.create_connection(("127.0.0.1", port), timeout=TIMEOUT)
    try:
        return context.wrap_socket(plain, server_hostname="localhost")
    except BaseException:
        plain.close()
        raise


def exchange(port: int, context: ssl.SSLContext, *pieces: bytes) -> Answer:
    with closing(connect(port, context)) as connection:
        for piece in pieces:
            connection.sendall(piece)
        return receive(connection)


def request(body: bytes, version: str = "1.1", *headers: str) -> bytes:
    lines = [
        f"POST /soap HTTP/{version}",
        "Host: localhost",
        "Content-Type: text/xml; charset=utf-8",
        f"Content-Length: {len(body)}",
        *headers,
    ]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def name_of(connection: ssl.SSLSocket) -> str:
    subject = connection.getpeercert()["subject"]
    return next(value for ((key, value),) in subject if key == "commonName")


def presented(port: int, context: ssl.SSLContext) -> str:
    """The name in the certificate that a new connection gets."""
    with closing(connect(port, context)) as connection:
        return name_of(connection)


@pytest.mark.parametrize("version", ["1.0", "1.1"])
def test_receipts_are_taken_over_tls_by_either_version_of_http(any_shared, sample, version):
    server, port, authority = any_shared
    body = sample("csoft-v5-qualified.xml")
    answer = exchange(port, authority.client(), request(body, version))
    assert answer.status == 200
    assert b"<Report>0</Report>" in answer.body
    assert answer.closed == (version == "1.0")
    assert len(server.receipts()) == 1


def test_many_requests_on_one_connection(shared, sample):
    _, port, authority = shared
    body = sample("csoft-v5-qualified.xml")
    with closing(connect(port, authority.client())) as connection:
        for _ in range(3):
            connection.sendall(request(body))
            assert receive(connection).status == 200
        # Two at once, and one in pieces
        connection.sendall(request(body) * 2)
        received = b""
        while received.count(b"<Report>0</Report>") < 2:
            received += connection.recv(65536)
        head, _, body_in_pieces = request(body).partition(b"\r\n\r\n")
        for piece in (head[:20], head[20:] + b"\r\n\r\n", body_in_pieces[:9], body_in_pieces[9:]):
            connection.sendall(piece)
        assert receive(connection).status == 200


def test_plain_http_is_served_beside_it(shared):
    assert get(shared.server.port, "/soap").status == 200


def test_plain_http_on_the_port_of_tls_is_no_harm(shared):
    server, port, authority = shared
    with closing(socket.create_connection(("127.0.0.1", port), TIMEOUT)) as plain:
        plain.sendall(b"GET /soap HTTP/1.1\r\nHost: h\r\n\r\n")
        with suppress(ConnectionResetError):
            assert not plain.recv(100).startswith(b"HTTP")
    assert presented(port, authority.client()) == "receiptd"
    wait_until(lambda: "no TLS with 127.0.0.1: " in server.log, "the failure is logged")


@pytest.mark.parametrize(
    ("oldest", "newest", "spoken"),
    [
        (ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1, None),
        (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_2, "TLSv1.2"),
        (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3, "TLSv1.3"),
    ],
)
@pytest.mark.filterwarnings("ignore:ssl.TLSVersion")
def test_versions_of_tls(shared, oldest, newest, spoken):
    _, port, authority = shared
    context = authority.client()
    context.minimum_version, context.maximum_version = oldest, newest
    context.set_ciphers("ALL:@SECLEVEL=0")
    if spoken is None:
        with pytest.raises((ssl.SSLError, ConnectionError)):
            connect(port, context)
        return
    with closing(connect(port, context)) as connection:
        assert connection.version() == spoken


def test_the_oldest_version_is_configurable(secured):
    _, port, authority = secured("minimum = 'TLSv1.3'")
    context = authority.client()
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    with pytest.raises((ssl.SSLError, ConnectionError)):
        connect(port, context)


@pytest.mark.parametrize("cipher", ["AES128-GCM-SHA256", "ECDHE-ECDSA-AES128-SHA256", "DHE"])
def test_ciphers_without_forward_secrecy_or_authentication_are_refused(shared, cipher):
    _, port, authority = shared
    context = authority.client()
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(f"{cipher}:@SECLEVEL=0")
    with pytest.raises((ssl.SSLError, ConnectionError)):
        connect(port, context)


@pytest.mark.parametrize(
    ("offered", "agreed"),
    [
        (["h2", "http/1.1"], "http/1.1"),
        (["http/1.1"], "http/1.1"),
        # Who offers others alone is served as who offers none: curl --http1.0 is one of them.
        (["http/1.0"], None),
        (["h2"], None),
        ([], None),
    ],
)
def test_alpn_is_http_1_1_only(any_shared, offered, agreed):
    _, port, authority = any_shared
    context = authority.client()
    if offered:
        context.set_alpn_protocols(offered)
    with closing(connect(port, context)) as connection:
        assert connection.selected_alpn_protocol() == agreed
        connection.sendall(b"GET /soap HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert receive(connection).status == 200


def test_a_session_is_resumed(shared):
    _, port, authority = shared
    context = authority.client()
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    with closing(connect(port, context)) as first:
        session = first.session
    plain = socket.create_connection(("127.0.0.1", port), timeout=TIMEOUT)
    with closing(
        context.wrap_socket(plain, server_hostname="localhost", session=session)
    ) as second:
        assert second.session_reused


def test_client_certificates_are_required_where_configured(secured, tmp_path):
    (tmp_path / "other").mkdir()
    stranger = Authority(tmp_path / "other", "stranger")
    authority = Authority(tmp_path)
    server, port, _ = secured(f"client_ca = '{authority.file}'", authority)
    ask = b"GET /soap HTTP/1.1\r\nHost: localhost\r\n\r\n"

    for files in (None, stranger.issue("client", "client")):
        # Under TLS 1.3 the client learns of it with its first read.
        with pytest.raises((ssl.SSLError, ConnectionError, AssertionError)):
            exchange(port, authority.client(files), ask)
    known = authority.client(authority.issue("client", "client"))
    assert exchange(port, known, ask).status == 200
    wait_until(
        lambda: server.log.count("no TLS with 127.0.0.1") >= 1, "a refused client is in the log"
    )


def test_a_new_certificate_is_used_without_dropping_a_connection(secured, sample):
    server, port, authority = secured()
    context = authority.client()
    with closing(connect(port, context)) as old:
        assert name_of(old) == "receiptd"
        authority.issue("renewed", "server")
        wait_until(lambda: presented(port, context) == "renewed", "the new one is presented")
        old.sendall(request(sample("csoft-v5-qualified.xml")))
        assert receive(old).status == 200
    assert "new connections get the certificate" in server.log


def test_sighup_reads_the_certificate_again(secured):
    server, port, authority = secured()
    authority.issue("renewed", "server")
    server.process.send_signal(signal.SIGHUP)
    wait_until(
        lambda: presented(port, authority.client()) == "renewed",
        "the new one is presented",
    )


BAD = {
    "no certificate": (lambda files, _: files[0].write_text("nonsense"), "holds no certificate"),
    "no key": (lambda files, _: files[1].write_text("nonsense"), "holds no private key"),
    "gone": (lambda files, _: files[0].unlink(), "cannot be read: No such file or directory"),
    "another's key": (
        lambda files, authority: files[1].write_bytes(
            authority.issue("x", "other")[1].read_bytes()
        ),
        "the key is not that of the certificate",
    ),
    "expired": (lambda _, authority: authority.issue("x", "server", days=-1), "expired on 20"),
}


def test_a_bad_certificate_is_refused_and_the_old_one_stays(secured):
    server, port, authority = secured()
    for spoil, says in BAD.values():
        files = authority.issue("good", "server")
        spoil(files, authority)
        wait_until(lambda says=says: says in server.log, says)
        assert presented(port, authority.client()) == "receiptd"
        assert server.log.count(says) == 1
    assert server.log.count("what was used before is kept") == len(BAD)
    # Nor does a reload take it, or anything else beside it.
    server.process.send_signal(signal.SIGHUP)
    wait_until(lambda: server.log.count("expired on 20") == 2, "the reload is refused")
    wait_until(lambda: "the new configuration is not used" in server.log, "and says so")
    assert presented(port, authority.client()) == "receiptd"
    assert "Traceback" not in server.log


def test_workers_get_what_their_supervisor_has_found_to_be_usable(secured):
    server, port, authority = secured(workers=2)
    client = authority.client()
    authority.issue("renewed", "server")
    said = "new connections get the certificate"
    wait_until(lambda: said in server.log, "the new one is read")
    wait_until(
        lambda: {presented(port, client) for _ in range(8)} == {"renewed"}, "all present it"
    )
    assert server.log.count(said) == 1

    # Of a bad one they hear nothing, and it is said once: when it is there, and at each reload.
    authority.issue("x", "server", days=-1)
    kept = "what was used before is kept"
    wait_until(lambda: kept in server.log, "it is refused")
    server.process.send_signal(signal.SIGHUP)
    wait_until(lambda: "the new configuration is not used" in server.log, "the reload is refused")
    assert "the configuration was reloaded" not in server.log
    assert server.log.count("expired on 20") == 2

    # Nor does it keep a worker from starting that has died.
    processes = server.processes()
    for process in processes:
        os.kill(process, signal.SIGKILL)
    wait_until(
        lambda: len(server.processes()) == 2 and not {*server.processes()} & {*processes},
        "others are started",
    )
    assert {presented(port, client) for _ in range(8)} == {"renewed"}
    assert server.log.count("expired on 20") == 2

    # A good one ends all that.
    authority.issue("third", "server")
    server.process.send_signal(signal.SIGHUP)
    wait_until(lambda: "the configuration was reloaded" in server.log, "it is reloaded")
    wait_until(lambda: {presented(port, client) for _ in range(8)} == {"third"}, "all present it")
    assert server.stop() == 0
    assert "Traceback" not in server.log


def test_a_bad_file_that_a_reload_has_refused_is_not_refused_once_more(tmp_path):
    authority, clock = Authority(tmp_path), Clock()
    certificate, key = authority.issue("receiptd", "server")
    tls = Tls(certificate=str(certificate), key=str(key))
    with capturedLogs() as events:
        files = Files(tls, clock, lambda _: None)
        first = files.material
        authority.issue("x", "server", days=-1)
        with pytest.raises(TlsError):
            files.check(tls)
        files.start()
        clock.pump([LOOK] * 5)
        files.stop()
    assert [formatEvent(event) for event in events] == []
    assert files.material is first


@pytest.mark.parametrize("workers", [1, 2])
def test_a_certificate_that_expires_in_use_hinders_no_other_change(secured, workers):
    server, port, authority = secured(workers=workers, days=8 / 86400)
    careless = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    careless.check_hostname, careless.verify_mode = False, ssl.CERT_NONE
    wait_until(lambda: not valid(port, authority), "it expires")
    server.config.write_text(server.config.read_text().replace("BLUE.music", "new"))
    server.process.send_signal(signal.SIGHUP)
    wait_until(lambda: "the configuration was reloaded" in server.log, "it is reloaded")
    body = (SAMPLES / "csoft-v5-qualified.xml").read_bytes().replace(b"BLUE.music", b"new")
    wait_until(
        lambda: b"<Report>0</Report>" in exchange(port, careless, request(body)).body,
        "the new PIN counts",
    )


def test_when_a_certificate_ends_is_measured_and_said_in_time(secured):
    server, _, authority = secured(days=3)
    name = "receiptd_tls_certificate_expires_timestamp_seconds"

    def days_left() -> float:
        page = get(server.port, "/metrics", server.bearer).text
        return (float(re.findall(rf"^{name} (\S+)$", page, re.MULTILINE)[0]) - time.time()) / 86400

    assert 2.9 < days_left() <= 3
    answer = get(server.port, "/readyz")
    assert answer.status == 200
    assert "\nthe TLS certificate ends at 20" in answer.text
    authority.issue("receiptd", "server", 60)
    server.process.send_signal(signal.SIGHUP)
    wait_until(lambda: days_left() > 59, "the new one is measured")
    assert "certificate" not in get(server.port, "/readyz").text


def valid(port: int, authority: Authority) -> bool:
    try:
        presented(port, authority.client())
    except ssl.SSLCertVerificationError:
        return False
    return True


def test_what_workers_cannot_start_with_is_said_in_a_line(serve, tmp_path):
    files = Authority(tmp_path).issue("receiptd", "server", days=-1)
    with pytest.raises(AssertionError) as ended:
        serve(settings(*files), options=("--workers", "2"))
    assert str(ended.value).count("the certificate expired on 20") == 1
    assert "Traceback" not in str(ended.value)


def test_a_key_stays_out_of_what_is_shown_of_it(tmp_path):
    certificate, key = Authority(tmp_path).issue("receiptd", "server")
    shown = repr(load(Tls(certificate=str(certificate), key=str(key))))
    assert "PRIVATE KEY" not in shown


@pytest.mark.parametrize("label", BAD)
def test_what_is_wrong_with_a_certificate_is_said_in_a_line(tmp_path, label):
    authority = Authority(tmp_path)
    files = authority.issue("receiptd", "server")
    spoil, says = BAD[label]
    spoil(files, authority)
    with pytest.raises(TlsError) as refused:
        load(Tls(certificate=str(files[0]), key=str(files[1])))
    assert says in str(refused.value)
    assert str(tmp_path) in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_bad_certificate_at_the_start_is_one_line(serve, tmp_path):
    files = Authority(tmp_path).issue("receiptd", "server", days=-1)
    with pytest.raises(AssertionError) as ended:
        serve(settings(*files))
    lines = [line for line in str(ended.value).splitlines() if "expired" in line]
    assert len(lines) == 1
    assert f"server.tls: {files[0]}: the certificate expired on 20" in lines[0]
    assert "Traceback" not in str(ended.value)


def test_certificate_and_key_may_be_in_one_file(tmp_path):
    certificate, key = Authority(tmp_path).issue("receiptd", "server")
    certificate.write_bytes(key.read_bytes() + certificate.read_bytes())
    load(Tls(certificate=str(certificate)))


def test_doubts_about_certificates(tmp_path):
    certificate, key = Authority(tmp_path).issue("receiptd", "server", days=3)
    key.chmod(0o644)
    readable, expires = cautions(Tls(certificate=str(certificate), key=str(key)))
    assert readable.startswith(f"the private key {key} can be read by every user")
    assert expires.startswith(f"the certificate {certificate} expires on 20")


def test_a_body_too_large_is_refused_and_the_answer_read(shared):
    _, port, authority = shared
    head = b"POST /soap HTTP/1.1\r\nHost: h\r\nContent-Length: 3000000\r\n\r\n"
    with closing(connect(port, authority.client())) as connection:

        def push() -> None:
            with suppress(OSError):
                connection.sendall(head + b"x" * 500_000)

        sender = threading.Thread(target=push)
        sender.start()
        answer = receive(connection)
        assert answer.status == 413
        assert answer.closed
        sender.join()


def test_a_malformed_request_is_answered_and_closed(shared):
    answer = exchange(shared.port, shared.authority.client(), b"nonsense\r\n\r\n")
    assert (answer.status, answer.closed) == (400, True)


def test_the_wsdl_says_https(shared):
    _, port, authority = shared
    answer = exchange(
        port,
        authority.client(),
        b"GET /soap?wsdl HTTP/1.1\r\nHost: dlr.example.com\r\n\r\n",
    )
    assert b'location="https://dlr.example.com/soap"' in answer.body


def test_a_client_that_closes_its_side_behind_the_request_is_answered(any_shared, sample):
    """As `openssl s_client` does: close_notify, then it reads."""
    server, port, authority = any_shared
    plain = socket.create_connection(("127.0.0.1", port), timeout=TIMEOUT)
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = authority.client().wrap_bio(incoming, outgoing, server_hostname="localhost")
    with closing(plain):

        def read() -> None:
            plain.sendall(outgoing.read())
            data = plain.recv(65536)
            incoming.write(data) if data else incoming.write_eof()

        while True:
            try:
                tls.do_handshake()
                break
            except ssl.SSLWantReadError:
                read()
        tls.write(request(sample("csoft-v5-qualified.xml")))
        with suppress(ssl.SSLWantReadError):
            tls.unwrap()
        plain.sendall(outgoing.read())
        # What comes behind our own close_notify Python does not decrypt; it has the size of one.
        received = b""
        while data := plain.recv(65536):
            received += data
    assert len(server.receipts()) == 1
    assert len(received) > 400


@pytest.mark.parametrize("begun", [0, 100], ids=["nothing", "half of it"])
def test_a_handshake_that_does_not_come_is_not_waited_for(serve, tmp_path, begun):
    authority = Authority(tmp_path)
    server = serve(
        "[server]\nidle_seconds = 1\n" + settings(*authority.issue("receiptd", "server"))
    )
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = authority.client().wrap_bio(incoming, outgoing, server_hostname="localhost")
    with suppress(ssl.SSLWantReadError):
        client.do_handshake()
    with closing(socket.create_connection(("127.0.0.1", tls_port(server)), TIMEOUT)) as plain:
        started = time.monotonic()
        plain.sendall(outgoing.read()[:begun])
        with suppress(ConnectionResetError):  # there is nothing that this could take along
            assert plain.recv(100) == b""
        assert 0.9 < time.monotonic() - started < SOON


def test_idle_tls_connections_do_not_keep_it_from_ending(secured):
    server, port, authority = secured()
    with closing(connect(port, authority.client())):
        assert server.stop() == 0
        assert "the time to stop is over" not in server.log


@pytest.mark.parametrize(
    ("workers", "newest"), [(1, ssl.TLSVersion.TLSv1_2), (2, ssl.TLSVersion.TLSv1_3)]
)
def test_under_load_it_ends_without_a_reset_and_without_losing_a_receipt(secured, workers, newest):
    server, port, authority = secured(workers=workers, endpoint="")
    context = authority.client()
    context.maximum_version = newest
    load = Load(port, 8, tls=context)
    wait_until(lambda: len(load.acknowledged) > 200, "the load runs")
    assert server.stop() == 0
    load.join()
    assert load.unanswered == []
    assert load.closing > 0
    # Nor is anybody's handshake cut short: who is not let in any more finds nobody.
    assert {each for each in load.refused if "ConnectionRefused" not in each} == set()
    assert sorted(each["message_id"] for each in server.receipts()) == sorted(load.acknowledged)


def test_under_load_a_new_certificate_is_not_noticed(secured):
    server, port, authority = secured(workers=2, endpoint="")
    load = Load(port, 4, persevere=True, tls=authority.client())
    for number in range(3):
        before = len(load.acknowledged)
        authority.issue(f"renewed {number}", "server")
        wait_until(
            lambda number=number: server.log.count("new connections get") > number, "it is read"
        )
        wait_until(lambda before=before: len(load.acknowledged) > before + 30, "the load goes on")
    load.stop()
    assert (load.unanswered, load.refused) == ([], [])
