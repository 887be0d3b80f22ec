"""What an administrator sees: /metrics, /healthz, /readyz, the log, and requests by their name."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
from contextlib import closing

import pytest
from prometheus_client.parser import text_string_to_metric_families

from kit.api import deliver, register
from kit.command_line import execute, start
from kit.server import CSOFT, DEADLINE, locked, wait_until
from kit.soap import envelope, new_id
from kit.wire import get, post, receive, send

FORM = "application/x-www-form-urlencoded"

SECRETS = (
    "BLUE.music",
    "WRONG.pin",
    "seeme-token",
    "basic-password",
    "another-token",
    "api-secret",
)

CONFIG = (
    CSOFT
    + """
[[endpoint]]
provider = "seeme"
path = "/seeme"
token = "seeme-token"

[[endpoint]]
provider = "cdyne"
path = "/cdyne"
basic = { username = "dlr", password = "basic-password" }
"""
)


def metrics(server, headers=None):
    """All samples of /metrics: name and labels to value."""
    answer = get(server.port, "/metrics", headers or server.bearer)
    assert answer.status == 200, answer.text
    found = {}
    for family in text_string_to_metric_families(answer.text):
        for sample in family.samples:
            key = (sample.name, frozenset(sample.labels.items()))
            assert key not in found
            found[key] = sample.value
    return found


def value(samples, name, **labels):
    """The sum of the samples of this name that have these labels."""
    return sum(
        number
        for (sample, given), number in samples.items()
        if sample == name and labels.items() <= dict(given).items()
    )


@pytest.fixture
def hasty(serve, tmp_path):
    """A server that waits for SQLite's lock but shortly, and has a small spool."""
    url = f"sqlite:///{tmp_path / 'server-0' / 'receipts.db'}?timeout=0.2"
    return serve("[store]\nspool_limit = 1048576\n", options=("--database", url))


# --- /metrics


def test_known_traffic_is_counted(serve):
    server = serve(CONFIG)
    for _ in range(3):
        assert post(server.port, envelope("4A2E3C10")).status == 200
    post(server.port, envelope(new_id(), pin="WRONG.pin"))
    post(server.port, envelope(new_id(), Report=None))
    post(server.port, b"<nonsense")
    get(server.port, "/seeme?token=seeme-token&reference=A-1&number=36301234567&code=6")
    get(server.port, "/seeme?reference=A-1")
    get(server.port, "/nowhere")

    found = metrics(server)
    receipts = "receiptd_receipts_total"
    labels = {"endpoint": "soap", "provider": "csoft", "kind": "delivery", "state": "DELIVERED"}
    assert value(found, receipts, **labels, verdict="accepted") == 1
    assert value(found, receipts, **labels, verdict="duplicate") == 2
    assert value(found, receipts, endpoint="seeme", provider="seeme") == 1
    assert value(found, receipts) == 4
    assert value(found, receipts, endpoint="soap", code="0") == 3
    for endpoint, reason, count in (
        *(("soap", "unauthorized", 1), ("soap", "invalid", 1), ("soap", "unreadable", 1)),
        *(("seeme", "unauthorized", 1), ("seeme", "invalid", 0), ("soap", "busy", 0)),
    ):
        key = (
            "receiptd_rejected_posts_total",
            frozenset({"endpoint": endpoint, "reason": reason}.items()),
        )
        assert found[key] == count, (endpoint, reason)
    assert value(found, "receiptd_soap_faults_total", endpoint="soap", code="Client") == 1
    codes = {200: 6, 403: 1, 404: 1, 500: 1}
    for code, count in codes.items():
        assert value(found, "receiptd_http_responses_total", code=str(code)) == count, code
    assert value(found, "receiptd_request_seconds_count", endpoint="soap") == 6
    assert value(found, "receiptd_request_seconds_count", endpoint="cdyne") == 0
    assert value(found, "receiptd_request_seconds_bucket", endpoint="soap", le="+Inf") == 6
    assert value(found, "receiptd_request_seconds_sum", endpoint="soap") > 0
    assert value(found, "receiptd_batch_size_count") == value(
        found, "receiptd_commit_seconds_count"
    )
    assert value(found, "receiptd_batch_size_sum") == 8
    assert value(found, "receiptd_commit_seconds_sum") > 0
    assert value(found, "receiptd_queue_depth") == 0
    assert value(found, "receiptd_connections") == 1
    assert value(found, "receiptd_workers") == 1
    assert value(found, "receiptd_ready") == 1
    assert value(found, "receiptd_build_info", database="sqlite") == 1
    assert value(found, "process_resident_memory_bytes", worker="0") > 10_000_000
    assert value(found, "process_cpu_seconds_total") > 0


def test_the_oldest_message_without_a_final_state_is_known_by_its_age(serve):
    server = serve()
    register(server, {"provider": "csoft", "message_id": "A1", "recipient": "447700900123"})
    age = value(metrics(server), "receiptd_oldest_unfinished_message_seconds")
    assert 0 < age < DEADLINE
    deliver(server, "A1", phone="447700900123")
    wait_until(
        lambda: not value(metrics(server), "receiptd_oldest_unfinished_message_seconds"),
        "no message is unfinished",
    )


def test_counts_are_for_who_may_read(serve):
    server = serve(
        '[[api.token]]\nname = "prometheus"\ntoken = "api-token"\n'
        '[[api.token]]\nname = "app"\ntoken = "another-token"\nscopes = ["write"]\n'
    )
    assert get(server.port, "/metrics").status == 401
    assert get(server.port, "/metrics", ["Authorization: Bearer another-token"]).status == 403
    assert metrics(server, ["Authorization: Bearer api-token"])


def test_without_a_token_configured_counts_are_for_who_has_the_one_of_the_file(shared_server):
    assert metrics(shared_server, shared_server.bearer)
    answer = get(shared_server.port, "/metrics")
    assert answer.status == 401
    assert answer.headers["content-type"] == "application/problem+json"


def test_openmetrics_is_spoken_with_whoever_asks_for_it(shared_server):
    header = "Accept: application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5"
    answer = get(shared_server.port, "/metrics", [header, *shared_server.bearer])
    assert answer.headers["content-type"].startswith("application/openmetrics-text; version=1.0.0")
    assert answer.text.endswith("# EOF\n")
    plain = get(shared_server.port, "/metrics", shared_server.bearer)
    assert plain.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"


@pytest.mark.parametrize("path", ["/metrics", "/healthz", "/readyz"])
def test_only_reading_and_only_that_path(shared_server, path):
    refused = get(shared_server.port, path, shared_server.bearer, "POST")
    assert (refused.status, refused.headers["allow"]) == (405, "GET, HEAD")
    assert get(shared_server.port, path + "/x", shared_server.bearer).status == 404


def test_two_processes_count_as_one(serve, monkeypatch, tmp_path):
    monkeypatch.setenv("_RECEIPTD_METRICS_FOLDER", str(tmp_path / "counts"))
    one, other = serve(), serve()
    for server, count in ((one, 3), (other, 2)):
        for _ in range(count):
            post(server.port, envelope(new_id()))

    def counted(server):
        return value(metrics(server), "receiptd_receipts_total", endpoint="soap")

    wait_until(lambda: counted(one) == counted(other) == 5, "each tells of both")
    found = metrics(one)
    assert value(found, "receiptd_workers") == 2
    assert value(found, "receiptd_request_seconds_count", endpoint="soap") == 5
    assert value(found, "receiptd_ready") == 1
    processes = {labels for name, labels in found if name == "process_start_time_seconds"}
    assert processes == {frozenset({("worker", "0")}), frozenset({("worker", "1")})}

    # What one has counted is not forgotten with it, and its successor counts on.
    other.kill()
    assert counted(one) == 5
    other.start()
    assert counted(other) == 5
    post(other.port, envelope(new_id()))
    assert counted(other) == 6
    assert one.stop() == 0
    assert counted(other) == 6


# --- /healthz and /readyz


def test_a_server_that_lives_and_can_store_says_so(shared_server):
    for path, body in (("/healthz", "ok\n"), ("/readyz", "ready\n")):
        # Also to others, and without any authentication.
        answer = get(shared_server.port, path, ["Host: elsewhere", "X-Forwarded-For: 192.0.2.1"])
        assert (answer.status, answer.text) == (200, body)
        assert answer.headers["cache-control"] == "no-store"


def test_while_the_database_is_locked_the_server_is_ready_and_says_since_when(hasty):
    with locked(hasty):
        assert b"<Report>0</Report>" in post(hasty.port, envelope("A1")).body
        assert b"<Report>0</Report>" in post(hasty.port, envelope("A2")).body
        answer = get(hasty.port, "/readyz")
        assert answer.status == 200
        head, degraded = answer.text.splitlines()
        assert head == "ready"
        found = re.fullmatch(
            r"degraded since (\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z): posts go to the spool, "
            r"since the database does not store; 2 records of (\d+) bytes wait there",
            degraded,
        )
        assert found, degraded
        counted = metrics(hasty)
        assert value(counted, "receiptd_degraded") == 1
        assert value(counted, "receiptd_ready") == 1
        assert value(counted, "receiptd_spool_records") == 2
        assert value(counted, "receiptd_spool_bytes") == int(found[2])
    wait_until(lambda: get(hasty.port, "/readyz").text == "ready\n", "the spool is drained")
    assert value(metrics(hasty), "receiptd_degraded") == 0
    assert value(metrics(hasty), "receiptd_spool_records") == 0


def test_where_neither_database_nor_spool_takes_posts_the_server_is_not_ready(hasty):
    body = envelope("A1", Filler="x" * 60_000)
    with locked(hasty):

        def busy():
            return post(hasty.port, body.replace(b"A1", new_id().encode())).status == 500

        wait_until(busy, "the spool is full")
        answer = get(hasty.port, "/readyz")
        assert (answer.status, answer.headers["retry-after"]) == (503, "5")
        lines = answer.text.splitlines()
        assert lines[:2] == ["not ready", "the spool takes no more; the log says why"]
        assert lines[2].startswith("degraded since ")
        assert get(hasty.port, "/healthz").status == 200
        counted = metrics(hasty)
        assert value(counted, "receiptd_ready") == 0
        assert value(counted, "receiptd_rejected_posts_total", reason="busy") >= 1
        assert value(counted, "receiptd_soap_faults_total", code="Server") >= 1
    wait_until(lambda: get(hasty.port, "/readyz").status == 200, "the server is ready again")


# --- The request's name

NAMED = re.compile(r"[0-9a-f]{8}-[0-9a-f]+")


def test_every_answer_has_a_name_of_its_own(shared_server):
    port = shared_server.port
    answers = [
        post(port, envelope(new_id())),
        post(port, b"<nonsense"),
        post(port, b"x" * 70_000),
        post(port, b"a=b", "/nowhere"),
        get(port, "/soap?wsdl"),
        get(port, "/soap", method="PUT"),
        get(port, "/api/v1/receipts"),
        get(port, "/api/v1/nothing"),
        get(port, "/metrics"),
        get(port, "/healthz"),
        get(port, "/readyz"),
        send(port, b"nonsense\r\n\r\n"),
    ]
    names = [answer.headers["x-request-id"] for answer in answers]
    assert all(map(NAMED.fullmatch, names)), names
    assert len(set(names)) == len(names)
    for answer in answers:
        assert answer.headers["x-request-id"] in names


def test_a_stream_has_a_name_too(shared_server):
    address = ("127.0.0.1", shared_server.port)
    with closing(socket.create_connection(address, DEADLINE)) as connection:
        host = f"Host: 127.0.0.1:{shared_server.port}"
        lines = [host, "X-Request-Id: s1", *shared_server.bearer, "", ""]
        request = "\r\n".join(["GET /api/v1/receipts/stream HTTP/1.1", *lines])
        connection.sendall(request.encode())
        head = b""
        while b"\r\n\r\n" not in head:
            head += connection.recv(4096)
    assert b"\r\nX-Request-Id: s1\r\n" in head


@pytest.mark.parametrize("name", ["a", "0af7651916cd43dd8448eb211c80319c", "A-b_c.d:e=f+g/h@i~j"])
def test_a_name_that_came_is_taken_over(shared_server, name):
    message_id = new_id()
    answer = post(shared_server.port, envelope(message_id), headers=[f"X-Request-Id: {name}"])
    assert answer.headers["x-request-id"] == name
    assert re.search(f"Z {re.escape(name)} soap csoft delivery {message_id} ", shared_server.log)


@pytest.mark.parametrize("name", ["", "a" * 65, "a b", "a\tb", "a<b>", "é", '"', "a;b", "{}"])
def test_a_name_that_is_not_short_and_plain_is_not(shared_server, name):
    answer = get(shared_server.port, "/healthz", [f"X-Request-Id: {name}"])
    assert NAMED.fullmatch(answer.headers["x-request-id"])


# --- The log


def lines(server):
    """The lines of a server's log, which are JSON."""
    return [json.loads(line) for line in server.log.splitlines()]


def line_of(server, request_id):
    """The only line about a request, as soon as it is written."""
    return wait_until(
        lambda: [each for each in lines(server) if each.get("request_id") == request_id],
        f"a line about {request_id}",
    )[0]


RECEIPT = (
    *("time", "level", "request_id", "endpoint", "provider", "kind", "message_id", "state"),
    *("verdict", "milliseconds", "recipient", "peer"),
)


def test_each_receipt_has_a_json_line_with_stable_keys(serve):
    server = serve('[log]\nformat = "json"\n' + CONFIG)
    post(server.port, envelope("4A2E3C10"), headers=["X-Request-Id: r1"])
    line = line_of(server, "r1")
    assert tuple(line) == RECEIPT
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", line.pop("time"))
    assert 0 < line.pop("milliseconds") < DEADLINE * 1000
    assert line == {
        "level": "info",
        "request_id": "r1",
        "endpoint": "soap",
        "provider": "csoft",
        "kind": "delivery",
        "message_id": "4A2E3C10",
        "state": "DELIVERED",
        "verdict": "accepted",
        "recipient": "447700912345",
        "peer": "127.0.0.1",
    }

    answer = post(server.port, envelope("X", Report=None), headers=["X-Request-Id: r2"])
    assert answer.status == 200
    line = line_of(server, "r2")
    assert set(line) == {
        *("time", "level", "request_id", "endpoint", "provider", "verdict", "milliseconds"),
        *("peer", "text"),
    }
    assert (line["level"], line["verdict"]) == ("warn", "invalid")
    assert "Report" in line["text"]

    get(server.port, "/metrics", ["X-Request-Id: r3"])
    line = line_of(server, "r3")
    assert set(line) == {"time", "level", "request_id", "logger", "text"}
    assert line["logger"] == "receiptd.web"
    assert line["text"].startswith(
        "401 to 127.0.0.1, who asked for /metrics: the token is missing"
    )
    for path, method, text in (
        ("/nowhere", "GET", "404: GET /nowhere from 127.0.0.1: no endpoint has this path"),
        ("/soap/token", "POST", "404: POST /soap/... from 127.0.0.1: no endpoint has this path"),
        ("/cdyne/token", "POST", "404: POST /cdyne/... from 127.0.0.1: no endpoint has this path"),
        ("/soap", "PUT", "405: PUT /soap from 127.0.0.1: only GET, HEAD, POST here"),
    ):
        name = get(server.port, path, method=method).headers["x-request-id"]
        line = line_of(server, name)
        assert (line["level"], line["text"]) == ("warn", text)
    name = send(server.port, b"nonsense\r\n\r\n").headers["x-request-id"]
    assert line_of(server, name)["text"].startswith("400 to 127.0.0.1: ")
    assert server.stop() == 0
    assert all({"time", "level"} <= set(each) for each in lines(server))


def test_no_line_has_a_secret_in_it(serve):
    for form in ("plain", "json"):
        server = serve(f'[log]\nformat = "{form}"\nlevel = "debug"\n' + CONFIG)
        port = server.port
        post(port, envelope("A1"))
        post(port, envelope("A2", pin="WRONG.pin"))
        post(port, envelope("A3").replace(b"</e:Envelope>", b""))
        post(port, envelope("A4", Report=None))
        post(port, b"Username=ANOther.61234&PIN=BLUE.music&Report=x", content_type=FORM)
        for query in ("?token=seeme-token&", "?token=another-token&", "/seeme-token?"):
            get(port, f"/seeme{query}reference=A-1&number=36301234567&code=6")
            get(port, f"/seeme{query}reference=A-1&price=nonsense")
        for path in ("/nowhere/seeme-token", "/seeme-token", "/%73eeme-token/", "/seeme-token."):
            get(port, f"{path}?token=seeme-token")
        for credentials in ("ZGxyOmJhc2ljLXBhc3N3b3Jk", "ZGxyOldST05HLnBpbg=="):
            header = f"Authorization: Basic {credentials}"
            post(port, b"MessageID=x", "/cdyne", FORM, headers=[header])
            assert credentials not in server.log
        get(port, "/api/v1/receipts?token=api-secret", ["Authorization: Bearer api-secret"])
        assert server.stop() == 0
        for secret in SECRETS:
            assert secret not in server.log, (form, secret)
        assert server.log.count("A1") == 1, "one line for each receipt"


def test_recipients_are_masked_on_request(serve):
    for form in ("plain", "json"):
        server = serve(f'[log]\nformat = "{form}"\nmask_recipients = true\n')
        register(server, {"provider": "csoft", "message_id": "A1", "recipient": "447700900123"})
        for phone in ("447700912345", "%2B44 7700 912345", "(0)7700-912345", "0770091234x5"):
            deliver(server, "A1", phone=phone)
        deliver(server, new_id(), phone="447700912345")
        get(server.port, "/cdyne?Recipient=447700912345")
        assert server.stop() == 0
        assert "91234" not in server.log
        assert re.search(r"\*\*\*2345\b", server.log), form


def test_what_is_less_important_than_the_level_is_not_logged(serve):
    server = serve('[log]\nlevel = "info"\n')
    deliver(server, "A1")
    wait_until(lambda: " A1 " in server.log, "the receipt's line")

    server.config.write_text('[log]\nlevel = "warn"\nformat = "json"\n')
    server.process.send_signal(signal.SIGHUP)

    def refused():
        deliver(server, "A2")
        deliver(server, "A3", report="")
        return '"verdict": "invalid"' in server.log

    wait_until(refused, "the new configuration holds")
    before = server.log.count(" A2 ")
    deliver(server, "A2")
    deliver(server, "A4", report="")
    wait_until(lambda: server.log.count('"invalid"') > 1, "another line of what was refused")
    assert server.log.count(" A2 ") == before
    assert '"A2"' not in server.log


def test_a_log_that_is_moved_away_is_made_anew(serve):
    # The file that standard error goes to as well, where the server is looked for.
    server = serve('[log]\nfile = "log"\n')
    moved = server.folder / "log.1"
    server.log_file.rename(moved)

    def anew():
        deliver(server, new_id())
        return server.log_file.exists() and server.log

    wait_until(anew, "the log is made anew")
    assert " accepted " in server.log
    assert " listening on " in moved.read_text()
    assert server.log_file.stat().st_mode & 0o007 == 0, "phone numbers are not for everybody"

    # A signal is obeyed at once.
    server.log_file.rename(moved)
    server.process.send_signal(signal.SIGUSR1)
    wait_until(server.log_file.exists, "the signal is obeyed")
    deliver(server, "LAST")
    wait_until(lambda: "LAST" in server.log, "the line is in the new file")
    assert "LAST" not in moved.read_text()


def test_a_log_that_cannot_be_opened_keeps_the_server_from_starting(tmp_path):
    (tmp_path / "receiptd.toml").write_text('[log]\nfile = "nowhere/log"\n')
    done = execute("serve", "--listen", "tcp:0:interface=127.0.0.1", cwd=tmp_path)
    assert done.returncode == 1
    assert re.fullmatch(
        r"log\.file: /.*/nowhere/log: cannot be written: No such file or directory\. .*\n",
        done.stderr,
    )


@pytest.mark.parametrize("end", ["asleep", "closed"])
def test_a_log_that_nobody_reads_stops_no_receipt(tmp_path, end):
    process = start("serve", "--listen", "tcp:0:interface=127.0.0.1", cwd=tmp_path)
    try:
        pipe = process.stderr
        assert pipe is not None
        while not (found := re.search(rb"listening on \S+:(\d+)", pipe.readline())):
            assert process.poll() is None
        port = int(found[1])
        while b"seeme posts to" not in pipe.readline():
            pass
        assert os.get_blocking(pipe.fileno())
        if end == "closed":
            pipe.close()
        # More lines than a pipe holds.
        count = 1200
        with closing(socket.create_connection(("127.0.0.1", port), DEADLINE)) as connection:
            for number in range(count):
                query = f"reference={number:060}&number=36301234567&code=6"
                connection.sendall(f"GET /seeme?{query} HTTP/1.1\r\nHost: h\r\n\r\n".encode())
                assert receive(connection).status == 200
        if end == "asleep":
            text = b""
            while f"{count - 1:060}".encode() not in text:
                text += os.read(pipe.fileno(), 65536)
            assert text.count(b" seeme delivery ") == count, "all lines came after all"
    finally:
        process.kill()
        process.wait()
        process.stderr.close()
