"""Forwarding: what it costs receiving, and how quick it is."""

from __future__ import annotations

import json
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any
from urllib.request import urlopen

from benchmark import machine, store, subjects
from benchmark.load import Load
from benchmark.servers import Failed, Server, ended, environment
from benchmark.speed import Place
from receiptd.receipt import Kind, Receipt, State
from receiptd.store import forward_orders, forward_state
from receiptd.store.database.engine import open_engine
from receiptd.store.database.migrating import upgrade
from receiptd.store.matching import Policy
from receiptd.store.recorder import Quota, Recorder, Submission

CONCURRENCY = 10


@dataclass(frozen=True, slots=True)
class Size:
    """How much is done."""

    single: int
    """Webhooks of one event."""
    batched: int
    """Events in batches of 100."""
    waiting: int
    """Events that wait for a destination that is away."""
    seconds: int
    """Of each measurement of the intake."""
    rounds: int


USUAL = Size(20_000, 100_000, 1_000_000, 4, 3)
SHORT = Size(1_000, 5_000, 5_000, 1, 1)


@dataclass(frozen=True, slots=True)
class Figure:
    """What was measured, and what is to be reached."""

    name: str
    value: float
    target: str
    how: str = ""


def measure(size: Size, place: Place, progress: Callable[[str], object]) -> list[Figure]:
    """All figures.

    :raises Failed: where something could not be measured.
    """
    found: list[Figure] = []
    intakes: dict[str, list[float]] = {"without": [], "paused": []}
    with _receiver(place) as url:
        for number in range(size.rounds):
            for kind in intakes:
                progress(f"intake, {kind}, round {number + 1} of {size.rounds}")
                intakes[kind].append(_intake(size, place, url, kind))
        intake = statistics.median(intakes["without"])
        ratios = [b / a for a, b in zip(intakes["without"], intakes["paused"], strict=True)]
        found.append(
            Figure(
                "intake with a paused destination / without",
                statistics.median(ratios),
                "at least 0.95",
                f"{intake:,.0f} receipts/s without",
            )
        )
        progress("a bare Agent loop")
        bare = _bare(size.single, place, url)
        progress("single webhooks")
        single = _drain(size.single, 1, place, url)
        found.append(
            Figure(
                "single webhooks/s / bare Agent loop",
                single / bare,
                "at least 0.6",
                f"{single:,.0f}/s and {bare:,.0f}/s",
            )
        )
        progress("batches of 100")
        batched = _drain(size.batched, 100, place, url)
        found.append(
            Figure(
                "events/s in batches of 100 / SOAP intake",
                batched / intake,
                "at least 3",
                f"{batched:,.0f}/s",
            )
        )
        progress("latency")
        delays = sorted(_latency(place, 20 if size is SHORT else 300))
        for share, limit in ((0.5, 20), (0.99, 100)):
            found.append(
                Figure(
                    f"from answer to arrival, p{share * 100:.0f}, ms",
                    1000 * delays[min(int(len(delays) * share), len(delays) - 1)],
                    f"at most {limit}",
                )
            )
    progress(f"a destination that is away, {size.waiting:,} events waiting")
    found.append(
        Figure(
            "CPU of a destination that is away, % of a core",
            100 * _away(size.waiting, place),
            "below 1",
            f"{size.waiting:,} events waiting",
        )
    )
    return found


def lines(figures: Sequence[Figure]) -> Iterator[str]:
    """The figures for people."""
    width = max(len(each.name) for each in figures)
    for each in figures:
        yield f"{each.name:<{width}}  {each.value:8.2f}  {each.target:<14}  {each.how}"


@contextmanager
def _receiver(place: Place) -> Iterator[str]:
    process = subprocess.Popen(
        [sys.executable, "-m", "benchmark.competitors.webhooks", "receive"],
        stdout=subprocess.PIPE,
        env=environment({}),
        preexec_fn=partial(machine.pin, place.cores.load),
    )
    try:
        assert process.stdout is not None
        yield process.stdout.readline().decode().strip()
    finally:
        process.terminate()
        process.wait()


def _counts(url: str) -> dict[str, Any]:
    """What has come since this was last asked."""
    with urlopen(url, timeout=10) as answer:
        told: dict[str, Any] = json.load(answer)
        return told


@contextmanager
def _server(
    place: Place, tables: str, prepare: Callable[[Path], object] = lambda folder: None
) -> Iterator[tuple[Server, str, Path]]:
    """A server with a new database; itself, its URL and its folder."""
    folder = place.folder / "run"
    folder.mkdir()
    try:
        engine = open_engine(f"sqlite:///{folder / store.FILE}")
        upgrade(engine)
        engine.dispose()
        prepare(folder)
        command = subjects.receiptd(folder)
        configuration = folder / "receiptd.toml"
        configuration.write_text(configuration.read_text() + tables)
        server = Server(command, folder, place.cores.server)
        with ended(server):
            yield server, f"http://127.0.0.1:{server.wait_for_port()}", folder
    finally:
        shutil.rmtree(folder)


def _destination(url: str, batch: int = 1) -> str:
    return (
        f'\n[[forward]]\nname = "app"\nurl = "{url}"\nbatch = {batch}\n'
        f"concurrency = {CONCURRENCY}\n"
        'secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"\n'
    )


def _intake(size: Size, place: Place, url: str, kind: str) -> float:
    """SOAP receipts a second."""

    def pause(folder: Path) -> None:
        if kind == "paused":
            with _writing(folder) as connection:
                forward_state.register(connection, ["app"])
                forward_orders.pause(connection, "app", "for the benchmark")

    tables = _destination(url) if kind == "paused" else ""
    with _server(place, tables, pause) as (_, server, _folder):
        soap = next(each for each in subjects.SUBJECTS if each.script == "soap")
        target = f"{server}{soap.path}"
        core = place.cores.load
        warm_up = Load(soap.script, target, 0, 1, core).answers()
        answers = Load(soap.script, target, warm_up.sent, size.seconds, core).answers()
        if not answers.stored:
            raise Failed(f"no receipt was taken: {answers.last_refusal!r}")
        return answers.stored / answers.seconds


@contextmanager
def _writing(folder: Path) -> Iterator[Any]:
    engine = open_engine(f"sqlite:///{folder / store.FILE}")
    with engine.begin() as connection:
        yield connection
    engine.dispose()


def _fill(folder: Path, count: int) -> None:
    """Store receipts of which the destination is to be told."""
    engine = open_engine(f"sqlite:///{folder / store.FILE}")
    recorder = Recorder(engine, policies={"soap": Policy()}, quota=Quota(1, 1, 1))
    now = datetime.now(UTC)
    with engine.connect() as connection:
        for first in range(0, count, 1000):
            with connection.begin():
                if not first:
                    forward_state.register(connection, ["app"])
                batch = [
                    Submission(None, [_receipt(number)])
                    for number in range(first, min(first + 1000, count))
                ]
                recorder.record(connection, batch, [now] * len(batch))
    engine.dispose()


def _receipt(number: int) -> Receipt:
    return Receipt(
        *("soap", "csoft", Kind.DELIVERY, f"{number:08X}", State.DELIVERED, "0"),
        "447700912345",
        datetime(2009, 6, 9, 10, 52, tzinfo=UTC),
        b"x" * 900,
    )


def _drain(count: int, batch: int, place: Place, url: str) -> float:
    """Events a second that a sender brings to the receiver."""
    _counts(url)
    fill = partial(_fill, count=count)
    with _server(place, _destination(url, batch), fill):
        end = time.monotonic() + 60 + count / 100
        arrived, first, last = 0, 0.0, 0.0
        while arrived < count:
            time.sleep(0.5)
            told = _counts(url)
            arrived += told["events"]
            first = first or told["first"]
            last = told["last"]
            if time.monotonic() > end:
                raise Failed(f"only {arrived} of {count} events have arrived")
    return count / (last - first)


def _bare(count: int, place: Place, url: str) -> float:
    done = subprocess.run(
        [
            *(sys.executable, "-m", "benchmark.competitors.webhooks", "send", url),
            *(str(count), str(CONCURRENCY)),
        ],
        capture_output=True,
        text=True,
        env=environment({}),
        preexec_fn=partial(machine.pin, place.cores.server),
        check=True,
    )
    return float(done.stdout)


def _latency(place: Place, count: int) -> list[float]:
    """Seconds from the provider's answer to the arrival, at an idle destination."""
    from http.client import HTTPConnection
    from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
    from threading import Event, Thread
    from urllib.parse import urlsplit

    arrived = Event()
    at = [0.0]

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            at[0] = time.perf_counter()
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(204)
            self.end_headers()
            arrived.set()

        def log_message(self, *_: object) -> None: ...

    application = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    application.daemon_threads = True
    Thread(target=application.serve_forever, daemon=True).start()
    tables = _destination(f"http://127.0.0.1:{application.server_address[1]}/")
    delays = []
    with _server(place, tables) as (_, server, _folder):
        connection = HTTPConnection(urlsplit(server).netloc, timeout=30)
        for number in range(count + 1):
            arrived.clear()
            form = f"MessageIdentifier={number:08X}&Report=0&SendTo=447700912345"
            connection.request(
                "POST",
                "/soap",
                form + "&Username=ANOther.61234&Pin=BLUE.music",
                {"Content-Type": "application/x-www-form-urlencoded"},
            )
            connection.getresponse().read()
            answered = time.perf_counter()
            if not arrived.wait(30):
                raise Failed("a receipt was not forwarded")
            if number:  # the first one waits for the process to start
                delays.append(max(at[0] - answered, 0.0))
            time.sleep(0.05)
    application.shutdown()
    application.server_close()
    return delays


def _away(count: int, place: Place) -> float:
    """The share of a core that is used for a destination that is away."""
    fill = partial(_fill, count=count)
    with _server(place, _destination("http://127.0.0.1:9/"), fill) as (server, _url, _folder):
        time.sleep(20)  # the breaker is open
        used, begun = server.cpu_seconds(), time.monotonic()
        time.sleep(20)
        return (server.cpu_seconds() - used) / (time.monotonic() - begun)
