"""`health` asks the server where the configuration has it listen."""

from __future__ import annotations

import re
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from kit.certificates import Authority
from kit.command_line import run
from kit.server import wait_until

NOWHERE = "systemd:domain=INET:index=0"
"""A socket that only the server itself knows."""


def configured(*listen: str) -> str:
    """A configuration that listens there."""
    Path("other.toml").write_text(f"[server]\nlisten = {list(listen)!r}\n")
    return "other.toml"


@pytest.mark.parametrize(("options", "page"), [([], "ok\n"), (["--ready"], "ready\n")])
@pytest.mark.parametrize("interface", [":interface=127.0.0.1", ""])
def test_it_prints_what_the_server_says(shared_default, options, page, interface):
    file = configured(f"tcp:{shared_default.port}{interface}")
    result = run("health", "--config", file, *options)
    assert (result.exit_code, result.stdout, result.stderr) == (0, page, "")


def test_it_asks_by_a_unix_socket(serve, tmp_path):
    file = configured(f"unix:{tmp_path / 'socket'}")
    serve(listen="tcp:0:interface=127.0.0.1", options=("--listen", f"unix:{tmp_path / 'socket'}"))
    assert run("health", "--config", file).stdout == "ok\n"


def test_it_asks_by_tls_whatever_name_the_certificate_has(serve, tmp_path):
    certificate, key = Authority(tmp_path).issue("dlr.example.com", "server")
    tls = (
        "[server.tls]\nlisten = 'tcp:{}:interface=127.0.0.1'\n"
        f"certificate = '{certificate}'\nkey = '{key}'\n"
    )
    server = serve(tls.format(0))
    found = wait_until(
        lambda: re.search(r"https://127\.0\.0\.1:(\d+)", server.log), "it listens for TLS"
    )
    file = Path(configured(NOWHERE))
    file.write_text(file.read_text() + tls.format(found[1]))
    assert run("health", "--config", str(file)).stdout == "ok\n"


@pytest.fixture
def hanging_port() -> Iterator[int]:
    """A port at which nobody answers."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        yield silent.getsockname()[1]


@pytest.fixture
def unused_port() -> int:
    """A port at which nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as gone:
        return int(gone.getsockname()[1])


@pytest.mark.parametrize("ready", [[], ["--ready"]])
def test_where_no_server_answers_it_fails(ready, unused_port):
    result = run("health", "--config", configured(f"tcp:{unused_port}"), *ready)
    assert (result.exit_code, result.stdout) == (1, "")
    assert f"no server answers at 127.0.0.1 port {unused_port}: " in result.stderr


def test_a_server_that_hangs_is_not_waited_for(hanging_port):
    result = run("health", "--config", configured(f"tcp:{hanging_port}"), "--timeout", "0.1")
    assert (result.exit_code, result.stdout) == (1, "")
    assert "timed out" in result.stderr


def test_where_nothing_can_be_asked_it_says_so():
    result = run("health", "--config", configured(NOWHERE))
    assert (result.exit_code, result.stdout) == (1, "")
    assert "listen nowhere that could be asked" in result.stderr
