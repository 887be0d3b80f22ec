"""Several workers on the same sockets: started again when they die, and nothing lost by that."""

from __future__ import annotations

import errno
import os
import re
import signal
import socket
import subprocess
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import IO

import pytest
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.protocol import Factory

from kit.command_line import execute
from kit.load import Load
from kit.server import Server, environment, stored, wait_until
from kit.wire import get, post, receive
from receiptd.daemon.binding import cannot_listen
from receiptd.daemon.deferreds import at_once
from receiptd.daemon.listener import ListenError
from receiptd.daemon.listeners import Listeners

TWO = ("--workers", "2")


def kill_one(server: Server, number: int = 1) -> None:
    """Kill the process of a worker, and wait until its next one serves."""
    at = server.log.count(f"worker {number} is process ")
    process = int(server.log.rpartition(f"worker {number} is process ")[2].split()[0])
    os.kill(process, signal.SIGKILL)
    wait_until(
        lambda: server.log.count(f"worker {number} is process ") > at, "it is started again"
    )


def test_each_worker_is_a_process_of_its_own_and_all_serve(serve):
    server = serve(options=TWO)
    assert len(server.processes()) == 2
    # The beginning of a request's name is its process's.
    wait_until(
        lambda: (
            len(
                {
                    get(server.port, "/healthz").headers["x-request-id"].split("-")[0]
                    for _ in range(20)
                }
            )
            == 2
        ),
        "both answer",
    )


def test_kill_a_worker_under_load_and_nothing_that_was_acknowledged_is_lost(serve):
    server = serve(options=TWO)
    load = Load(server.port, persevere=True)
    for number in (1, 2):
        wait_until(lambda: len(load.acknowledged) > 100, "the load runs")
        kill_one(server, number)
        before = len(load.acknowledged)
        wait_until(lambda before=before: len(load.acknowledged) > before + 100, "it goes on")
    load.stop()

    assert load.refused == []
    stored = [each["message_id"] for each in server.receipts()]
    assert set(load.acknowledged) <= set(stored)
    assert len(stored) == len(set(stored))
    assert "worker 1 was ended by SIGKILL and is started again" in server.log
    assert server.stop() == 0


def test_a_crash_loop_is_reported_once_and_slowed_down_and_the_others_go_on(serve):
    server = serve(options=TWO)
    for _ in range(4):
        kill_one(server)
    process = int(server.log.rpartition("worker 1 is process ")[2].split()[0])
    others = set(server.processes()) - {process}
    os.kill(process, signal.SIGKILL)
    loop = "worker 1 was ended by SIGKILL, for the 5th time within"
    wait_until(lambda: loop in server.log, "it is reported")
    assert set(server.processes()) == others
    assert get(server.port, "/healthz").status == 200

    wait_until(lambda: len(server.processes()) == 2, "it is started again after a while")
    (again,) = set(server.processes()) - others
    os.kill(again, signal.SIGKILL)
    wait_until(lambda: set(server.processes()) == others, "it is gone")
    assert set(server.processes()) == others
    assert get(server.port, "/healthz").status == 200
    assert server.log.count("CRITICAL") == 1
    assert server.stop() == 0


def test_a_worker_that_hangs_is_killed(serve, monkeypatch, tmp_path):
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "nobody-listens"))
    monkeypatch.setenv("WATCHDOG_USEC", "2000000")
    server = serve(options=TWO)
    hanging = server.processes()[0]
    os.kill(hanging, signal.SIGSTOP)
    wait_until(lambda: "has given no sign of life for" in server.log, "it is noticed")
    wait_until(lambda: hanging not in server.processes(), "it is killed")
    wait_until(lambda: len(server.processes()) == 2, "another is started")


class Impatient(Server):
    """A server that waits for its workers to start for seconds, and not for a minute."""

    def spawn(self, arguments: list[str], log: IO[bytes]) -> subprocess.Popen[bytes]:
        """Start it with less patience."""
        code = (
            "from receiptd import cli; from receiptd.daemon import supervisor; "
            "supervisor.HUNG = 12; cli.main()"
        )
        return super().spawn([arguments[0], "-c", code, *arguments[3:]], log)


def test_a_worker_that_hangs_while_it_starts_is_killed(tmp_path):
    server = Impatient(tmp_path, "", "tcp:0:interface=127.0.0.1", list(TWO))
    try:
        first = server.processes()
        os.kill(first[0], signal.SIGKILL)
        hanging = wait_until(lambda: set(server.processes()) - set(first), "it is started again")
        for process in hanging:
            os.kill(process, signal.SIGSTOP)
        wait_until(lambda: "has given no sign of life for" in server.log, "it is noticed")
        wait_until(lambda: not hanging & set(server.processes()), "it is killed")
        wait_until(lambda: len(server.processes()) == 2, "another is started")
        assert server.stop() == 0
    finally:
        server.kill()


class Logging(Server):
    """A server that logs to a file of its own."""

    def start(self) -> None:
        self.log_file = self.folder / "receiptd.log"
        super().start()


SET = """
import pathlib, sys, time
as_it_is, file = time.time, pathlib.Path("clock")
time.time = lambda: as_it_is() + (float(file.read_text()) if file.exists() else 0)
from receiptd import cli
cli.main()
"""


class Set(Logging):
    """A server whose time of day can be set: the first process of it."""

    def spawn(self, arguments: list[str], log: IO[bytes]) -> subprocess.Popen[bytes]:
        """Start it with a clock of its own."""
        return super().spawn([arguments[0], "-c", SET, *arguments[3:]], log)


def put_clock(server: Server, seconds: int) -> None:
    """Set its time of day, and wait until it goes by that."""
    (server.folder / "clock").write_text(str(seconds))
    date = f"{datetime.now(UTC) + timedelta(seconds=seconds):%Y-%m-%dT%H:}"
    server.process.send_signal(signal.SIGHUP)
    wait_until(lambda: f"\n{date}" in server.log, "the log goes by it")


@pytest.mark.parametrize("workers", ["1", "2"])
def test_when_the_clock_is_put_forward_nobody_was_idle_or_silent_for_long(tmp_path, workers):
    config = f'[log]\nfile = "{tmp_path}/receiptd.log"\n'
    server = Set(tmp_path, config, "tcp:0:interface=127.0.0.1", ["--workers", workers])
    try:
        before = server.processes()
        with closing(socket.create_connection(("127.0.0.1", server.port), 20)) as idle:
            idle.sendall(b"GET /healthz HTTP/1.1\r\nHost: h\r\n\r\n")
            assert receive(idle).status == 200
            put_clock(server, 7200)
            looks_past(server)
            idle.sendall(b"GET /healthz HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n")
            assert idle.recv(100).startswith(b"HTTP/1.1 200")
        assert server.processes() == before
        assert server.stop() == 0
    finally:
        server.kill()


def looks_past(server: Server) -> None:
    """Wait until what is looked at every second was looked at: log files, connections, workers."""
    log = server.folder / "receiptd.log"
    for number in range(6):
        log.rename(server.folder / f"receiptd.log.{number}")
        wait_until(log.exists, "the log's file is made anew")


def test_when_the_clock_is_put_back_what_has_its_time_still_has_it(tmp_path):
    config = f'[server]\nidle_seconds = 1\n[log]\nfile = "{tmp_path}/receiptd.log"\n'
    server = Set(tmp_path, config, "tcp:0:interface=127.0.0.1", [])
    try:
        put_clock(server, -7200)
        with closing(socket.create_connection(("127.0.0.1", server.port), 20)) as idle:
            assert idle.recv(1) == b""
        assert server.stop() == 0
    finally:
        server.kill()


def test_workers_end_with_their_supervisor(serve):
    server = serve(options=TWO)
    port, processes = server.port, server.processes()
    server.kill()
    for process in processes:
        wait_until(lambda process=process: not Path(f"/proc/{process}").exists(), "it is gone")
    # Now, and not before, both the port and the database are another server's.
    serve(listen=f"tcp:{port}:interface=127.0.0.1", folder=server.folder)


def test_a_second_server_on_the_database_of_workers_is_refused(serve):
    server = serve(options=TWO)
    with pytest.raises(AssertionError) as refused:
        serve(folder=server.folder)
    assert f"another receiptd (process {server.process.pid}) serves this database" in str(
        refused.value
    )
    with pytest.raises(AssertionError) as refused:
        serve(folder=server.folder, options=TWO)
    assert "serves this database already" in str(refused.value)


def test_what_keeps_workers_from_starting_is_said_once(serve, tmp_path):
    tmp_path.joinpath("receipts.db").write_text("this is no database, and it is long enough")
    with pytest.raises(AssertionError) as refused:
        serve(folder=tmp_path, options=("--workers", "4"))
    lines = (tmp_path / "log").read_text().splitlines()
    assert len([line for line in lines if "receipts.db: the database does not" in line]) == 1
    assert "Traceback" not in str(refused.value)


def test_a_worker_that_is_told_to_end_is_replaced(serve):
    server = serve(options=TWO)
    first = server.processes()[0]
    os.kill(first, signal.SIGTERM)
    wait_until(
        lambda: len(server.processes()) == 2 and first not in server.processes(), "it is replaced"
    )
    assert "ended with exit code 0 and is started again" in server.log
    # The sockets are as open as before.
    assert all(get(server.port, "/healthz").status == 200 for _ in range(10))


def test_what_workers_count_is_one_sum_and_its_folder_is_gone_with_them(serve):
    server = serve(options=TWO)
    for number in range(20):
        body = f"MessageIdentifier=M{number}&Report=0".encode()
        post(server.port, body, content_type="application/x-www-form-urlencoded")

    def counted() -> bool:
        page = get(server.port, "/metrics", server.bearer).text
        return (
            sum(
                float(line.rpartition(" ")[2])
                for line in page.splitlines()
                if line.startswith("receiptd_receipts_total{")
            )
            == 20
        )

    wait_until(counted, "all are counted")
    environment = Path(f"/proc/{server.processes()[0]}/environ").read_bytes().split(b"\0")
    (folder,) = (
        Path(each.partition(b"=")[2].decode())
        for each in environment
        if each.startswith(b"_RECEIPTD_METRICS_FOLDER=")
    )
    assert folder.is_dir()
    assert server.stop() == 0
    assert not folder.exists()


def test_a_supervisor_that_cannot_listen_leaves_no_worker_behind(serve):
    first = serve()
    with pytest.raises(AssertionError) as refused:
        serve(listen=f"tcp:{first.port}:interface=127.0.0.1", options=TWO)
    assert "cannot listen there: Address already in use" in str(refused.value)
    assert "worker 1" not in str(refused.value)


def test_the_log_of_all_is_one_and_its_lines_are_whole(serve):
    server = serve(options=TWO)
    load = Load(server.port, 8)
    wait_until(lambda: len(load.acknowledged) > 500, "the load runs")
    load.stop()
    assert server.stop() == 0
    lines = [line for line in server.log.splitlines() if " DELIVERED accepted " in line]
    named = {word for line in lines for word in line.split() if word.startswith("L")}
    assert named == set(load.acknowledged)
    assert [line for line in server.log.splitlines() if not line.startswith("20")] == []


def test_workers_share_one_postgresql_and_start_again_without_it(serve, own_postgresql):
    url = own_postgresql.url(own_postgresql.new_database())
    server = serve(options=("--database", url, *TWO))
    load = Load(server.port, 8, persevere=True)

    def goes_on() -> None:
        before = len(load.acknowledged)
        wait_until(lambda: len(load.acknowledged) > before + 100, "receipts are acknowledged")

    goes_on()
    own_postgresql.stop()
    goes_on()
    killed = server.processes()
    for process in killed:
        os.kill(process, signal.SIGKILL)
    wait_until(lambda: len(set(server.processes()) - set(killed)) == 2, "both run again")
    goes_on()
    own_postgresql.start()
    goes_on()
    load.stop()
    assert load.refused == []

    wait_until(lambda: set(load.acknowledged) <= set(stored(url)), "the spool is drained")
    found = stored(url)
    assert len(found) == len(set(found))
    assert server.stop() == 0


def test_why_a_worker_does_not_start_again_is_in_the_log_as_well(serve, tmp_path):
    log = tmp_path / "receiptd.log"
    config = f'[log]\nfile = "{log}"\n'
    server = Logging(tmp_path, config, "tcp:0:interface=127.0.0.1", list(TWO))
    try:
        (tmp_path / "receipts.db-spool").rename(tmp_path / "elsewhere")
        (tmp_path / "receipts.db-spool").touch()
        os.kill(server.processes()[0], signal.SIGKILL)
        wait_until(lambda: "ended with exit code 1 and is started again" in log.read_text(), "it")
        assert re.search(r"CRITICAL: .*receipts\.db-spool", log.read_text())
    finally:
        server.kill()


class Closed(Server):
    """A server that is started without standard input and output."""

    def spawn(self, arguments: list[str], log: IO[bytes]) -> subprocess.Popen[bytes]:
        """Start it from a shell that closes them."""
        return subprocess.Popen(
            ["sh", "-c", 'exec "$@" <&- >&-', "sh", *arguments],
            cwd=self.folder,
            stderr=log,
            env=environment(),
        )


def test_closed_standard_streams_are_nobody_elses(tmp_path):
    server = Closed(tmp_path, "", "tcp:0:interface=127.0.0.1", list(TWO))
    try:
        for process in (server.process.pid, *server.processes()):
            for descriptor in (0, 1):
                opened = Path(f"/proc/{process}/fd/{descriptor}").readlink()
                assert opened == Path(os.devnull)
        assert server.stop() == 0
    finally:
        server.kill()


def test_a_worker_is_started_by_nobody_else(tmp_path):
    done = execute("worker", "1", cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr == "a worker is started by its supervisor: see receiptd serve --workers\n"


# --- What keeps the server from starting


LOGGED = re.compile(r"\S+Z (?!CRITICAL|ERROR)")
"""A line of the log that tells of no failure."""


def start(folder: Path, *options: str, config: str = "") -> subprocess.CompletedProcess[str]:
    """Start a server that is not going to serve."""
    (folder / "receiptd.toml").write_text(config)
    return execute("serve", *options, cwd=folder)


@pytest.mark.parametrize("workers", ["1", "2"])
@pytest.mark.parametrize(
    ("what", "said"),
    [
        ("a file that is no database", "receipts.db: the database does not answer: file is not"),
        ("a folder", "receipts.db: is a folder: store.url must name a file"),
        ("a spool that is a file", "receipts.db-spool"),
        ("a socket in use", "receiptd.sock: cannot listen there: Address already in use"),
    ],
)
def test_it_is_one_line_and_the_port_is_free_afterwards(tmp_path, what, said, workers):
    listen = ["--listen", f"unix:{tmp_path}/free.sock"]
    if what == "a file that is no database":
        (tmp_path / "receipts.db").write_text("this is no database, and it is long enough" * 9)
    elif what == "a folder":
        (tmp_path / "receipts.db").mkdir()
    elif what == "a spool that is a file":
        (tmp_path / "receipts.db-spool").touch()
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    listen += ["--listen", f"tcp:{port}:interface=127.0.0.1"]
    with socket.socket(socket.AF_UNIX) as taken:
        taken.bind(str(tmp_path / "receiptd.sock"))
        taken.listen()
        if what == "a socket in use":
            listen += ["--listen", f"unix:{tmp_path}/receiptd.sock"]
        listen += ["--database", "sqlite:///receipts.db"]
        done = start(tmp_path, *listen, "--workers", workers)
    assert done.returncode == 1
    (line,) = (line for line in done.stderr.splitlines() if not LOGGED.match(line))
    assert said in line
    socket.create_server(("127.0.0.1", port)).close()
    assert not (tmp_path / "free.sock").exists()
    assert (tmp_path / "receiptd.sock").exists()


def test_a_port_of_roots_is_explained():
    error = PermissionError(errno.EACCES, "Permission denied")
    text = cannot_listen("tcp:80", error)
    assert text.startswith("tcp:80: cannot listen there: Permission denied. A port below 1024 is ")


def test_a_unix_socket_that_a_dead_server_left_is_replaced(serve, tmp_path):
    path = tmp_path / "receiptd.sock"
    options = ("--listen", f"unix:{path}")
    server = serve(options=options)
    server.kill()
    assert path.exists()
    server.start()
    with closing(socket.socket(socket.AF_UNIX)) as client:
        client.connect(str(path))
    assert server.stop() == 0
    assert not path.exists()


@pytest.mark.parametrize(
    ("listen", "said"),
    [
        ("tcp:99999", "'tcp:99999' is no Twisted endpoint description that works here"),
        ("tcp:1:interface=192.0.2.1", "No interface of this machine has that address"),
        ("systemd:domain=INET:index=0", "is no Twisted endpoint description that works here"),
    ],
)
def test_what_cannot_be_listened_on_is_explained(listen, said):
    with pytest.raises(ListenError) as error:
        at_once(Deferred.fromCoroutine(Listeners().bind(reactor, [listen], Factory())))
    assert said in str(error.value)


def test_what_is_no_socket_is_never_replaced(tmp_path):
    file = tmp_path / "precious"
    file.write_text("precious")
    done = start(tmp_path, "--listen", f"unix:{file}")
    assert done.returncode == 1
    assert "cannot listen there: Address already in use" in done.stderr
    assert file.read_text() == "precious"
