"""SIGTERM ends the server without losing anybody, SIGHUP changes what it serves by."""

from __future__ import annotations

import os
import re
import signal
import socket
import sqlite3
import subprocess
import time
from contextlib import closing
from pathlib import Path
from typing import IO

import pytest

from kit.load import Load, answers, flood, request
from kit.server import CSOFT, SOON, Server, wait_until
from kit.wire import get, post, receive

OVER = "the time to stop is over"
"""What the log says where the server ended by its deadline, not by itself."""

PATIENT = "[server]\nstop_timeout = 60\n"
"""For a server that has much to answer before it ends, on a machine that does much else."""


@pytest.fixture(params=[1, 2], ids=["one process", "two workers"])
def workers(request) -> int:
    """How many processes serve."""
    return request.param


def connect(server: Server) -> socket.socket:
    return socket.create_connection(("127.0.0.1", server.port), 10)


def only(connection: socket.socket) -> tuple[bytes, bytes]:
    """The one answer on a connection that then ends."""
    (answer,) = answers(connection)
    return answer


def stored(server: Server) -> list[str]:
    return [each["message_id"] for each in server.receipts()]


# --- SIGTERM


def test_under_load_everybody_is_answered_and_all_that_is_acknowledged_is_stored(serve, workers):
    server = serve(PATIENT, options=("--workers", str(workers)))
    load = Load(server.port)
    wait_until(lambda: len(load.acknowledged) > 300, "the load runs")

    assert server.stop() == 0
    assert OVER not in server.log
    load.join()

    assert load.unanswered == []
    assert load.closing > 0
    found = stored(server)
    assert sorted(found) == sorted(load.acknowledged)
    assert "Traceback" not in server.log


def pending(process: int, number: signal.Signals) -> bool:
    """Whether a stopped process will find that signal when it goes on."""
    return bool(int(status(process, "ShdPnd"), 16) >> (number - 1) & 1)


def status(process: int, field: str) -> str:
    """What the system says of a process."""
    found = re.search(rf"^{field}:\s+(.*)", Path(f"/proc/{process}/status").read_text(), re.M)
    assert found
    return found[1]


def test_who_waits_in_the_queue_is_served(serve, workers):
    server = serve(options=("--workers", str(workers)))
    processes = server.processes()
    for process in processes:
        os.kill(process, signal.SIGSTOP)
        wait_until(lambda pid=process: status(pid, "State").startswith("T"), "it stands still")
    connections = [connect(server) for _ in range(40)]
    for number, connection in enumerate(connections):
        connection.sendall(request(f"Q{number}"))
    # Before it can accept any of them.
    os.kill(server.process.pid, signal.SIGTERM)
    for process in processes:
        wait_until(lambda pid=process: pending(pid, signal.SIGTERM), "the signal is there")
        os.kill(process, signal.SIGCONT)
    for connection in connections:
        with closing(connection):
            head, body = only(connection)
            assert head.startswith(b"HTTP/1.1 200 ")
            assert b"\r\nConnection: close" in head
            assert b"<Report>0</Report>" in body
    assert server.process.wait(20) == 0
    assert sorted(stored(server)) == sorted(f"Q{number}" for number in range(40))


def test_a_request_that_comes_right_behind_the_signal_is_answered(serve):
    server = serve()
    with closing(connect(server)) as connection:
        connection.sendall(request("A"))
        replies = answers(connection)
        next(replies)
        server.process.send_signal(signal.SIGTERM)
        wait_until(lambda: "stopping" in server.log, "it stops")
        connection.sendall(request("B"))
        head, _ = next(replies)
        assert b"\r\nConnection: close" in head
        assert next(replies, None) is None
    assert server.process.wait(20) == 0
    assert stored(server) == ["A", "B"]


def test_requests_that_were_sent_one_behind_the_other_are_all_answered(serve):
    server = serve(PATIENT)
    server.process.send_signal(signal.SIGSTOP)
    with closing(connect(server)) as connection:
        connection.sendall(b"".join(request(f"P{number}") for number in range(50)))
        server.process.send_signal(signal.SIGTERM)
        server.process.send_signal(signal.SIGCONT)
        found = list(answers(connection))
    assert len(found) == 50
    assert b"Connection: close" in found[-1][0]
    assert server.process.wait(20) == 0
    assert stored(server) == [f"P{number}" for number in range(50)]


@pytest.mark.parametrize(
    "begun",
    [b"", b"POST /soap HTTP/1.1\r\nHost: h\r\n", request("X")[:-10]],
    ids=["nothing", "half a header", "half a body"],
)
def test_what_is_no_whole_request_does_not_hold_the_end(serve, begun):
    server = serve()
    with closing(connect(server)) as connection:
        connection.sendall(begun)
        wait_until(lambda: get(server.port, "/healthz").status == 200, "it was read")
        server.process.send_signal(signal.SIGTERM)
        # Closed, not reset.
        assert connection.recv(1000) == b""
        assert server.process.wait(20) == 0
    assert OVER not in server.log
    assert stored(server) == []


def test_who_sends_on_and_on_without_a_whole_request_does_not_hold_the_end(serve):
    server = serve("[server]\nstop_timeout = 3\n")
    with closing(connect(server)) as connection:
        connection.sendall(b"POST /soap HTTP/1.1\r\nHost: h\r\n")
        server.process.send_signal(signal.SIGTERM)
        began = time.monotonic()

        def ended() -> bool:
            try:
                connection.sendall(b"X: y\r\n")
            except OSError:
                return True
            return False

        wait_until(ended, "the connection ends")
        assert server.process.wait(20) == 0
        assert time.monotonic() - began < SOON


def test_a_client_that_never_reads_is_cut_off_at_the_deadline(serve):
    server = serve("[server]\nstop_timeout = 1\n")
    with closing(socket.socket()) as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.connect(("127.0.0.1", server.port))
        with pytest.raises(TimeoutError):
            flood(connection)
        began = time.monotonic()
        server.process.send_signal(signal.SIGTERM)
        server.process.wait(20)
        assert 0.5 < time.monotonic() - began < SOON
        assert "the time to stop is over" in server.log


def test_who_waits_for_a_database_that_hangs_is_no_reason_to_wait_longer(serve):
    server = serve("[server]\nstop_timeout = 1\n")
    with closing(sqlite3.connect(server.database, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with closing(connect(server)) as connection:
            connection.sendall(request("A"))
            wait_until(
                lambda: (
                    "\nreceiptd_queue_depth 1.0\n"
                    in get(server.port, "/metrics", server.bearer).text
                ),
                "it was read",
            )
            began = time.monotonic()
            # Not everybody was answered.
            assert server.stop() == 1
            assert time.monotonic() - began < SOON
    assert "1 requests stay without an answer" in server.log
    assert 'not acknowledged, no provider was told "received"' in server.log


def test_the_port_is_free_at_once(serve):
    server = serve(listen="tcp:0:interface=127.0.0.1")
    port = server.port
    assert server.stop() == 0
    again = serve(listen=f"tcp:{port}:interface=127.0.0.1")
    assert again.port == port


def test_a_second_sigterm_ends_it_at_once(serve, workers):
    server = serve("[server]\nstop_timeout = 60\n", options=("--workers", str(workers)))
    processes = server.processes()
    with closing(connect(server)) as connection:
        connection.sendall(b"POST /soap HTTP/1.1\r\n")
        server.process.send_signal(signal.SIGTERM)
        wait_until(lambda: "stopping" in server.log, "it stops")
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(20) == -signal.SIGTERM
    for process in processes:
        wait_until(lambda process=process: not alive(process), "the worker is gone")


def alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    with Path(f"/proc/{process}/stat").open() as stat:
        return stat.read().rpartition(")")[2].split()[0] != "Z"


def test_a_stream_of_events_ends_as_an_answer_ends(serve):
    server = serve()
    with closing(connect(server)) as connection:
        connection.sendall(
            b"GET /api/v1/receipts/stream HTTP/1.1\r\nHost: 127.0.0.1:%d\r\n%b\r\n\r\n"
            % (server.port, server.bearer[0].encode())
        )
        received = connection.recv(1000)
        assert b"200 OK" in received
        assert server.stop() == 0
        while data := connection.recv(1000):
            received += data
        assert received.endswith(b"0\r\n\r\n")


# --- SIGHUP


OPEN = '\n[[endpoint]]\nprovider = "csoft"\npath = "/open"\n'


def envelope(pin: str) -> bytes:
    return (
        b'<e:Envelope xmlns:e="http://schemas.xmlsoap.org/soap/envelope/"><e:Body>'
        b"<SubmitDeliveryReceipt><Username>ANOther.61234</Username><PIN>%s</PIN>"
        b"<MessageIdentifier>A</MessageIdentifier><Report>0</Report>"
        b"</SubmitDeliveryReceipt></e:Body></e:Envelope>" % pin.encode()
    )


def reload(server: Server, config: str, said: str = "the configuration was reloaded") -> None:
    """Write another configuration and have it read."""
    seen = server.log.count(said)
    server.config.write_text(config)
    server.process.send_signal(signal.SIGHUP)
    wait_until(lambda: server.log.count(said) > seen, said)


def test_another_pin_and_another_endpoint_without_dropping_a_connection(serve, workers):
    server = serve(CSOFT, options=("--workers", str(workers)))
    assert b"<Report>2</Report>" in post(server.port, envelope("new")).body
    with closing(connect(server)) as connection:
        connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: h\r\n\r\n")
        assert receive(connection).status == 200

        reload(server, CSOFT.replace("BLUE.music", "new") + OPEN)
        wait_until(
            lambda: all(
                b"<Report>0</Report>" in post(server.port, envelope("new")).body for _ in range(8)
            ),
            "all go by it",
        )
        assert b"<Report>2</Report>" in post(server.port, envelope("BLUE.music")).body
        connection.sendall(request("B", "/open"))
        assert b"<Report>0</Report>" in receive(connection).body


def test_under_load_a_reload_is_not_noticed(serve, workers):
    config = '[[endpoint]]\nprovider = "csoft"\npath = "/soap"\n'
    server = serve(config, options=("--workers", str(workers)))
    load = Load(server.port, 8, persevere=True)
    for number in range(5):
        before = len(load.acknowledged)
        reload(server, f'{config}[[endpoint]]\nprovider = "csoft"\npath = "/other{number}"\n')
        wait_until(lambda before=before: len(load.acknowledged) > before + 20, "the load goes on")
    load.stop()
    assert (load.unanswered, load.refused) == ([], [])
    assert sorted(stored(server)) == sorted(load.acknowledged)


def test_a_bad_configuration_is_refused_and_the_old_one_stays_in_force(serve, workers):
    server = serve(CSOFT, options=("--workers", str(workers)))
    reload(server, CSOFT.replace("pin", "pinn"), "the old one stays in force")
    assert f"{server.config}: endpoint 1.pinn: unknown key: did you mean 'pin'?" in server.log
    assert b"<Report>0</Report>" in post(server.port, envelope("BLUE.music")).body
    # It is the old one for workers that are started later, too.
    if workers > 1:
        os.kill(server.processes()[0], signal.SIGKILL)
        wait_until(lambda: "is started again" in server.log, "it is started again")
        wait_until(lambda: len(server.processes()) == workers, "it runs")
    assert b"<Report>0</Report>" in post(server.port, envelope("BLUE.music")).body
    assert server.stop() == 0


def test_what_only_a_restart_can_change_is_named(serve):
    server = serve("[server]\nworkers = 1\n")
    reload(server, "[server]\nworkers = 3\nmax_body = 2000\n")
    assert "server.workers cannot change while the server runs" in server.log
    assert post(server.port, b" " * 3000).status == 413
    reload(server, "[server]\nworkers = 3\n")
    assert post(server.port, b" " * 3000).status == 500


def test_tokens_matching_and_quotas_are_those_of_the_new_configuration(serve):
    server = serve(OPEN)
    made = server.bearer
    assert get(server.port, "/api/v1/receipts", made).status == 200
    reload(
        server,
        OPEN + 'match = "always"\n[[api.token]]\nname = "a"\ntoken = "secret"\n',
    )
    assert get(server.port, "/api/v1/receipts", made).status == 401
    header = ["Authorization: Bearer secret"]
    assert get(server.port, "/api/v1/receipts", header).status == 200
    assert b"<Report>-1</Report>" in post(server.port, envelope("x"), "/open").body


def test_a_sighup_while_it_starts_is_obeyed_as_soon_as_it_serves(tmp_path, workers):
    class Hasty(Server):
        def spawn(self, arguments: list[str], log: IO[bytes]) -> subprocess.Popen[bytes]:
            process = super().spawn(arguments, log)
            wait_until(lambda: catches(process.pid, signal.SIGHUP), "it is ready for signals")
            self.config.write_text(OPEN)
            for number in (signal.SIGUSR1, signal.SIGHUP):
                process.send_signal(number)
            return process

    server = Hasty(tmp_path, CSOFT, "tcp:0:interface=127.0.0.1", ["--workers", str(workers)])
    try:
        wait_until(lambda: "the configuration was reloaded" in server.log, "it is reloaded")
        wait_until(
            lambda: all(get(server.port, "/open").status == 200 for _ in range(8)), "all go by it"
        )
        assert server.stop() == 0
    finally:
        server.kill()


def catches(process: int, number: signal.Signals) -> bool:
    """Whether a process handles a signal: proc(5), SigCgt."""
    status = Path(f"/proc/{process}/status").read_text()
    mask = int(status.partition("SigCgt:")[2].split()[0], 16)
    return bool(mask & 1 << number - 1)


def test_a_sighup_while_it_stops_changes_nothing(serve):
    server = serve()
    with closing(connect(server)):
        wait_until(lambda: get(server.port, "/healthz").status == 200, "it is accepted")
        server.process.send_signal(signal.SIGTERM)
        wait_until(lambda: "stopping" in server.log, "it stops")
        server.process.send_signal(signal.SIGHUP)
        assert server.process.wait(20) == 0
    assert "reload" not in server.log
