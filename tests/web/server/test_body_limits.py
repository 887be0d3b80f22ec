"""An endpoint's own `max_body`, larger or smaller than the server's."""

from __future__ import annotations

import gzip

import pytest

from kit.server import Server, wait_until
from kit.soap import envelope, fault_of, new_id, response_of
from kit.wire import post, send
from receiptd.config import ConfigError, load

CONFIG = """
[server]
max_body = 4000

[[endpoint]]
provider = "csoft"
path = "/soap"

[[endpoint]]
provider = "csoft"
name = "large"
path = "/large"
max_body = 20000

[[endpoint]]
provider = "seeme"
path = "/small"
max_body = 1024
"""
FORM = "application/x-www-form-urlencoded"


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    server = Server(tmp_path_factory.mktemp("server"), CONFIG, "tcp:0:interface=127.0.0.1", [])
    yield server
    server.kill()


def padded(size: int) -> bytes:
    body = envelope(new_id(), username=None, pin=None)
    return body + b" " * (size - len(body))


@pytest.mark.parametrize(
    ("path", "size", "status", "says"),
    [
        ("/soap", 4000, 200, ""),
        ("/soap", 4001, 413, "larger than 4000 bytes (server.max_body)"),
        ("/large", 4001, 200, ""),
        ("/large", 20000, 200, ""),
        ("/large", 20001, 413, "larger than 20000 bytes (max_body of the endpoint)"),
        ("//large/", 20000, 200, ""),
        ("/nowhere", 4001, 413, "larger than 4000 bytes (server.max_body)"),
    ],
)
def test_each_endpoint_has_its_own_limit(server, path, size, status, says):
    answer = post(server.port, padded(size), path)
    assert answer.status == status
    if status == 413:
        assert says in answer.text
    else:
        assert response_of(answer)[1]["Report"] == "0"


@pytest.mark.parametrize(("size", "status"), [(900, 200), (1100, 413)])
def test_it_may_be_smaller_than_the_server_s(server, size, status):
    body = f"reference={new_id()}&code=6&message=".encode()
    body += b"x" * (size - len(body))
    assert post(server.port, body, "/small", content_type=FORM).status == status


@pytest.mark.parametrize(
    ("path", "size", "status"),
    [("/large", 20000, 200), ("/large", 20001, 413), ("/soap", 4001, 413)],
)
def test_it_holds_for_chunks_whose_length_nobody_announced(server, path, size, status):
    head = (
        f"POST {path} HTTP/1.1\r\nHost: h\r\nContent-Type: text/xml\r\n"
        "Transfer-Encoding: chunked\r\n\r\n"
    )
    body = padded(size)
    pieces = [body[start : start + 3000] for start in range(0, len(body), 3000)]
    chunks = b"".join(b"%x\r\n%b\r\n" % (len(each), each) for each in pieces)
    answer = send(server.port, head.encode() + chunks + b"0\r\n\r\n")
    assert answer.status == status


def test_it_holds_for_what_a_body_decodes_to(server):
    compressed = ["Content-Encoding: gzip"]
    fits, too_large = gzip.compress(padded(20000)), gzip.compress(padded(20001))
    assert post(server.port, fits, "/large", headers=compressed).status == 200
    assert post(server.port, too_large, "/large", headers=compressed).status == 413
    assert post(server.port, fits, "/soap", headers=compressed).status == 413


def test_a_fault_is_still_a_fault(server):
    answer = post(server.port, b"<a>" + b" " * 15000, "/large")
    assert fault_of(answer)[0] == "Client"


def test_a_limit_is_changed_by_a_reload(serve):
    server = serve(CONFIG)
    assert post(server.port, padded(20001), "/large").status == 413
    config = server.folder / "receiptd.toml"
    config.write_text(config.read_text().replace("max_body = 20000", "max_body = 30000"))
    server.process.send_signal(1)
    wait_until(lambda: post(server.port, padded(20001), "/large").status == 200, "it is reloaded")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("max_body = 1000", "expected at least 1024"),
        ("max_body = 16777217", "expected at most 16777216"),
        ('max_body = "many"', "max_body"),
        ("max_body = 2000000", "more than server.max_bodies, which is 1048576"),
    ],
)
def test_a_limit_that_cannot_be_is_an_error_of_the_configuration(tmp_path, text, says):
    file = tmp_path / "receiptd.toml"
    file.write_text(
        "[server]\nmax_bodies = 1048576\n\n"
        f'[[endpoint]]\nprovider = "csoft"\npath = "/soap"\n{text}\n'
    )
    with pytest.raises(ConfigError) as caught:
        load(file)
    assert says in str(caught.value)
