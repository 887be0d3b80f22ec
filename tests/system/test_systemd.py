"""As a service of systemd: it is told how the service is, and passes the sockets."""

from __future__ import annotations

import configparser
import os
import re
import shutil
import signal
import socket
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import IO, Any

import pytest
from twisted.internet.task import Clock

from kit.certificates import Authority
from kit.command_line import run
from kit.load import Load, answers, request
from kit.server import Server, environment, wait_until
from kit.wire import get
from receiptd.daemon.process import Process
from receiptd.daemon.systemd import Notifier, passed_sockets

UNITS = Path(__file__).parents[2] / "contrib" / "systemd"

PASS = """
import os, sys
descriptors, names, command = sys.argv[1].split(","), sys.argv[2], sys.argv[3:]
for number, descriptor in enumerate(descriptors):
    os.dup2(int(descriptor), 100 + number)
for number in range(len(descriptors)):
    os.dup2(100 + number, 3 + number)
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS=str(len(descriptors)))
if names:
    os.environ["LISTEN_FDNAMES"] = names
os.execv(command[0], command)
"""
"""Starts a command as systemd does, with descriptors from 3 on."""


class Manager:
    """systemd's end of NOTIFY_SOCKET."""

    def __init__(self, address: str) -> None:
        self.address = address
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(address.replace("@", "\0", 1))
        self.heard: list[dict[str, str]] = []
        self._seen = 0
        # All the time, as systemd does: Linux keeps ten messages, and what comes then is lost.
        self._listening = threading.Thread(target=self._listen)
        self._listening.start()

    def _listen(self) -> None:
        while message := self._socket.recv(4096).decode():
            self.heard.append(dict(line.split("=", 1) for line in message.split("\n")))

    def next(self, name: str) -> dict[str, str]:
        """The next message that has a variable of this name."""

        def heard() -> dict[str, str] | None:
            while self._seen < len(self.heard):
                self._seen += 1
                if name in self.heard[self._seen - 1]:
                    return self.heard[self._seen - 1]
            return None

        return wait_until(heard, f"systemd is told {name}")

    def close(self) -> None:
        with closing(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)) as last:
            last.sendto(b"", self.address.replace("@", "\0", 1))
        self._listening.join()
        self._socket.close()


@pytest.fixture
def manager(tmp_path, monkeypatch) -> Iterator[Manager]:
    """Who wants to be told."""
    manager = Manager(str(tmp_path / "notify"))
    monkeypatch.setenv("NOTIFY_SOCKET", manager.address)
    yield manager
    manager.close()


class Activated(Server):
    """A server that is started with sockets. It is not waited for."""

    def __init__(
        self,
        folder: Path,
        sockets: Sequence[socket.socket],
        *,
        config: str = "",
        listen: str = "tcp:1:interface=127.0.0.1",
        names: str = "",
        options: Sequence[str] = (),
    ) -> None:
        folder.mkdir(exist_ok=True)
        self._sockets = sockets
        self._names = names
        super().__init__(folder, config, listen, list(options))

    def spawn(self, arguments: list[str], log: IO[bytes]) -> subprocess.Popen[bytes]:
        """Start it as systemd does."""
        descriptors = [each.fileno() for each in self._sockets]
        return subprocess.Popen(
            [
                *(sys.executable, "-c", PASS, ",".join(map(str, descriptors)), self._names),
                *arguments,
            ],
            cwd=self.folder,
            stdout=log,
            stderr=log,
            env=environment(),
            pass_fds=descriptors,
        )


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    """A socket that systemd holds."""
    with socket.create_server(("127.0.0.1", 0), backlog=128) as bound:
        yield bound


def port(bound: socket.socket) -> int:
    return int(bound.getsockname()[1])


@pytest.fixture
def activate(tmp_path) -> Iterator[Any]:
    """Starts servers with sockets; they are gone at the test's end."""
    started: list[Server] = []

    def start(*sockets: socket.socket, **options: Any) -> Activated:
        server = Activated(tmp_path / "server", sockets, **options)
        started.append(server)
        return server

    yield start
    for server in started:
        if server.process.poll() is None:
            server.kill()


# --- What systemd is told


@pytest.mark.parametrize("workers", ["1", "2"])
def test_systemd_is_told_when_it_serves_reloads_and_stops(manager, serve, workers, monkeypatch):
    monkeypatch.setenv("WATCHDOG_USEC", "3000000")
    server = serve(options=("--workers", workers))
    told = manager.next("READY")
    assert told["READY"] == "1"
    assert "serv" in told["STATUS"]
    assert get(server.port, "/healthz").status == 200
    for _ in range(2):
        assert manager.next("WATCHDOG")["WATCHDOG"] == "1"

    before = time.monotonic_ns() // 1000
    server.process.send_signal(signal.SIGHUP)
    reloading = manager.next("RELOADING")
    assert before <= int(reloading["MONOTONIC_USEC"]) <= time.monotonic_ns() // 1000
    assert manager.next("READY")["READY"] == "1"

    server.process.send_signal(signal.SIGTERM)
    assert int(manager.next("STOPPING")["EXTEND_TIMEOUT_USEC"]) >= 10_000_000
    assert server.process.wait(20) == 0


def test_a_reload_that_is_refused_is_over_as_well(manager, serve):
    server = serve()
    manager.next("READY")
    server.config.write_text("nonsense = 1")
    server.process.send_signal(signal.SIGHUP)
    manager.next("RELOADING")
    manager.next("READY")
    assert "the old one stays in force" in server.log


def test_the_workers_do_not_speak_for_the_service(manager, serve):
    server = serve(options=("--workers", "2"))
    manager.next("READY")
    for process in server.processes():
        assert b"NOTIFY_SOCKET" not in Path(f"/proc/{process}/environ").read_bytes()


class Writing:
    """A daemon, as far as it concerns who looks after it."""

    healthy = True
    status = "serving"
    stop_timeout = 10.0


class Listening:
    """Who is told."""

    watchdog = 30.0

    def __init__(self) -> None:
        self.alive_at: list[float] = []

    def alive(self, status: str) -> None:
        self.alive_at.append(clock.seconds())

    def ready(self, status: str) -> None: ...


clock = Clock()


def test_a_writer_that_hangs_gives_no_sign_of_life():
    daemon: Any = Writing()
    reporter: Any = Listening()
    process = Process(clock, daemon, reporter)
    process._ready([], lambda addresses: None)
    clock.pump([1.0] * 5)
    assert len(reporter.alive_at) == 6
    daemon.healthy = False
    clock.pump([1.0] * 60)
    assert len(reporter.alive_at) == 6


def test_an_abstract_address_is_told(tmp_path):
    manager = Manager(f"@receiptd-{tmp_path}")
    with closing(manager):
        Notifier({"NOTIFY_SOCKET": manager.address}).ready("serving")
        assert manager.next("READY") == {"READY": "1", "STATUS": "serving"}


def test_nobody_is_told_where_nobody_wants_to_be(tmp_path):
    for given in ({}, {"NOTIFY_SOCKET": ""}, {"NOTIFY_SOCKET": "vsock:2:1"}):
        notifier = Notifier(dict(given))
        notifier.ready("x")
        assert notifier.watchdog is None
    # Whoever should listen has gone.
    Notifier({"NOTIFY_SOCKET": str(tmp_path / "nobody")}).ready("x")


@pytest.mark.parametrize(
    ("given", "watchdog"),
    [
        ({"WATCHDOG_USEC": "30000000"}, 30.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": str(os.getpid())}, 30.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "1"}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "x"}, None),
    ],
)
def test_the_watchdog_is_for_whom_it_names(given: Mapping[str, str], watchdog, tmp_path):
    variables = {"NOTIFY_SOCKET": str(tmp_path / "n"), **given}
    assert Notifier(variables).watchdog == watchdog
    assert variables == {}


# --- Sockets that systemd passes


@pytest.mark.parametrize("workers", ["1", "2"])
def test_who_connects_before_it_starts_and_while_it_restarts_is_served(
    activate, listener, workers
):
    with closing(socket.create_connection(listener.getsockname(), 20)) as early:
        early.sendall(request("EARLY", close=True))
        server = activate(listener, options=["--workers", workers])
        ((_, body),) = answers(early)
        assert b"<Report>0</Report>" in body
    load = Load(port(listener), 8, persevere=True)
    for _ in range(2):
        before = len(load.acknowledged)
        assert server.stop() == 0
        server.start()
        wait_until(lambda before=before: len(load.acknowledged) > before + 50, "it goes on")
    load.stop()
    assert (load.refused, load.unanswered) == ([], [])
    stored = [each["message_id"] for each in server.receipts()]
    assert sorted(stored) == sorted(["EARLY", *load.acknowledged])


@pytest.mark.parametrize("workers", ["1", "2"])
def test_the_passed_socket_is_used_instead_of_listen(activate, listener, workers):
    with socket.create_server(("127.0.0.1", 0)) as other:
        # That one could not be listened on anyhow.
        server = activate(
            listener,
            listen=f"tcp:{port(other)}:interface=127.0.0.1",
            names="http",
            options=["--workers", workers],
        )
        assert server.port == port(listener)
        assert get(server.port, "/healthz").status == 200
        assert server.log.count("is not listened on: the sockets that the service manager") == 1


@pytest.mark.parametrize("workers", ["1", "2"])
def test_tls_is_spoken_on_the_passed_socket_whose_port_it_names(
    activate, listener, tmp_path, workers
):
    authority = Authority(tmp_path)
    certificate, key = authority.issue("receiptd", "server")
    with socket.create_server(("127.0.0.1", 0)) as secure:
        server = activate(
            secure,
            listener,
            config=f"[server.tls]\ncertificate = '{certificate}'\nkey = '{key}'\n"
            f"listen = 'tcp:{port(secure)}'\n",
            options=["--workers", workers],
        )
        assert server.port == port(listener)
        assert get(server.port, "/healthz").status == 200
        with closing(socket.create_connection(secure.getsockname(), 20)) as plain:
            client = authority.client().wrap_socket(plain, server_hostname="localhost")
            client.sendall(request("T", close=True))
            ((_, body),) = answers(client)
            client.close()
        assert b"<Report>0</Report>" in body


def test_a_unix_socket_is_left_as_it_was(activate, listener, tmp_path):
    path = tmp_path / "receiptd.sock"
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind(str(path))
        path.chmod(0o660)
        bound.listen()
        server = activate(listener, bound, names="http:proxy")
        with closing(socket.socket(socket.AF_UNIX)) as client:
            client.connect(str(path))
            client.sendall(b"GET /healthz HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n")
            ((head, _),) = answers(client)
            assert head.startswith(b"HTTP/1.1 200")
        assert server.stop() == 0
        assert stat.S_IMODE(path.stat().st_mode) == 0o660


def test_sockets_of_another_process_are_not_ours():
    variables = {"LISTEN_PID": "1", "LISTEN_FDS": "3", "LISTEN_FDNAMES": "a:b:c", "OTHER": "x"}
    assert passed_sockets(variables) == []
    assert variables == {"OTHER": "x"}


def test_sockets_of_ours_are_not_a_childs(listener):
    variables = {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "1"}
    (passed,) = passed_sockets(variables, first=listener.dup().detach())
    with passed:
        assert passed.getsockname() == listener.getsockname()
        assert not passed.get_inheritable()
        assert not passed.getblocking()


def test_a_descriptor_that_is_no_socket_is_named(activate, tmp_path):
    with (tmp_path / "file").open("w") as file, pytest.raises(AssertionError) as refused:
        activate(file)
    assert "LISTEN_FDS names descriptor 3, which is no socket" in str(refused.value)
    assert "Traceback" not in str(refused.value)


def test_what_nobody_can_connect_to_is_named(activate):
    with socket.socket() as bound, socket.socket(type=socket.SOCK_DGRAM) as datagrams:
        for each in (bound, datagrams):
            each.bind(("127.0.0.1", 0))
            with pytest.raises(AssertionError) as refused:
                activate(each)
            assert "names descriptor 3, which is no listening stream socket" in str(refused.value)


# --- The units


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="there is no systemd here")
def test_the_units_are_what_systemd_takes_and_leave_little_open(tmp_path):
    for unit in UNITS.glob("receiptd.s*"):
        text = unit.read_text()
        # What the unit starts is not installed here.
        (tmp_path / unit.name).write_text(re.sub(r"(?m)^(ExecStart=)\S+", r"\1/bin/true", text))
    units = [str(tmp_path / name) for name in ("receiptd.service", "receiptd.socket")]
    verified = subprocess.run(
        ["systemd-analyze", "verify", *units], capture_output=True, text=True
    )
    assert (verified.returncode, verified.stderr) == (0, "")
    judged = subprocess.run(
        ["systemd-analyze", "security", "--offline=yes", "--threshold=20", units[0]],
        capture_output=True,
        text=True,
    )
    assert judged.returncode == 0, judged.stdout


def test_systemd_never_gives_up_starting_it():
    unit = configparser.RawConfigParser(strict=False, comment_prefixes="#")
    unit.optionxform = str  # type: ignore[assignment, method-assign]
    unit.read(UNITS / "receiptd.service")
    assert unit["Unit"]["StartLimitIntervalSec"] == "0"
    assert unit["Service"]["Restart"] == "always"


def test_what_the_unit_starts_is_what_there_is():
    text = (UNITS / "receiptd.service").read_text()
    arguments = re.search(r"(?m)^ExecStart=\S+/receiptd (.*)", text)[1].split()
    helped = run(*arguments[:1], "--help")
    for option in arguments[1:]:
        assert not option.startswith("--") or option in helped.output
