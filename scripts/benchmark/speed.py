"""How fast: every server in turn, round after round, each time a fresh one on a fresh database."""

from __future__ import annotations

import os
import shutil
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from time import perf_counter, sleep

from benchmark import machine, store, subjects
from benchmark.load import Load
from benchmark.machine import Cores
from benchmark.servers import PATIENCE, Failed, Server, ended
from benchmark.subjects import Subject

FASTEST = 16_000
"""Receipts a second that messages are registered for; of what a faster server takes beyond
that, none is matched."""


@dataclass(frozen=True, slots=True)
class Pace:
    """How long to measure."""

    rounds: int
    warm_up: int
    """Seconds of load before each measurement."""
    seconds: int
    """Seconds of each measurement."""
    starts: int
    """How often the start-up is timed."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where to measure."""

    folder: Path
    cores: Cores


@dataclass(frozen=True, slots=True)
class Run:
    """One measurement of one server."""

    subject: str
    round: int
    rate: float
    """Receipts a second, answered."""
    p50: float
    p99: float
    p999: float
    cpu: float
    """Microseconds of the server's CPU time for a receipt."""
    resident: float
    """Megabytes in memory at the end."""
    matched: float
    """Share of the receipts that a registered message explains, of all that are stored."""
    load: float
    """Share of its core that wrk needed: near 1 it was the limit, not the server."""
    others: float
    """Share of all cores that other processes of the machine used meanwhile."""
    broken: int
    """Connections that failed, and answers that were neither."""
    answered: int
    stored: int | None
    faults: tuple[str, ...]


def prepare(folder: Path, pace: Pace, share: float) -> None:
    """Make the databases that runs begin with; a run works on a copy."""
    store.make(folder / "empty.db")
    store.copy(folder / "empty.db", folder / "receiptd.db")
    count = (pace.warm_up + pace.seconds) * FASTEST
    filling = store.Filling(
        f"sqlite:///{folder / 'receiptd.db'}", folder / "spool", ("soap", "seeme")
    )
    filling.register(subjects.soap_messages(count, share))
    filling.register(subjects.query_messages(count, share))
    filling.close()
    store.settle(folder / "receiptd.db")


def rounds(
    chosen: Sequence[Subject], pace: Pace, place: Place, progress: Callable[[str], None]
) -> list[Run]:
    """Measure the chosen ones in turn, every other round backwards: what else goes on in the
    machine then bears on all of them alike."""
    runs = []
    for number in range(pace.rounds):
        for subject in chosen if number % 2 == 0 else reversed(chosen):
            progress(f"round {number + 1} of {pace.rounds}: {subject.title}")
            runs.append(measure(subject, number, pace, place))
    return runs


def measure(subject: Subject, number: int, pace: Pace, place: Place) -> Run:
    """Start the server, load it, stop it, count what it has stored.

    :raises Failed: where it takes no receipts.
    """
    folder = place.folder / "run"
    folder.mkdir()
    database = folder / store.FILE
    core = place.cores.load
    try:
        if subject.template:
            store.copy(place.folder / f"{subject.template}.db", database)
        server = Server(subject.command(folder), folder, place.cores.server, subject.variables)
        with ended(server):
            url = f"http://127.0.0.1:{server.wait_for_port()}{subject.path}"
            warm_up = Load(subject.script, url, 0, pace.warm_up, core).answers()
            busy, used = machine.busy_seconds(), server.cpu_seconds()
            answers = Load(subject.script, url, warm_up.sent, pace.seconds, core).answers()
            used = server.cpu_seconds() - used
            busy = machine.busy_seconds() - busy
            resident = server.resident_megabytes()
            if not answers.stored:
                raise Failed(f"no receipt was taken, the answer was {answers.last_refusal!r}")
        found = store.stored(database) if subject.template else None
    except Failed as error:
        raise Failed(f"{subject.title}: {error}") from None
    finally:
        shutil.rmtree(folder)
    both = (warm_up, answers)
    machine_time = answers.seconds * (os.cpu_count() or 1)
    return Run(
        subject=subject.name,
        round=number,
        rate=answers.stored / answers.seconds,
        p50=answers.p50,
        p99=answers.p99,
        p999=answers.p999,
        cpu=used / answers.stored * 1e6,
        resident=resident,
        matched=found.accepted / found.receipts if found and found.receipts else 0.0,
        load=answers.load_seconds / answers.seconds,
        others=max(0.0, busy - used - answers.load_seconds) / machine_time,
        broken=int(sum(each.broken + each.refused for each in both)),
        answered=sum(each.stored for each in both),
        stored=found.receipts if found else None,
        faults=tuple(store.lost(both, found)) if found else (),
    )


def start_up(pace: Pace, place: Place) -> list[float]:
    """Seconds from starting `receiptd serve` without a database until it has acknowledged its
    first receipt, several times."""
    found = []
    for _ in range(pace.starts):
        folder = place.folder / "start"
        folder.mkdir()
        try:
            server = Server(subjects.receiptd(folder), folder, place.cores.server)
            with ended(server):
                _acknowledged(server.wait_for_port())
                found.append(perf_counter() - server.started)
        finally:
            shutil.rmtree(folder)
    return found


_FIRST = b"""<e:Envelope xmlns:e="http://schemas.xmlsoap.org/soap/envelope/"><e:Body>
<SubmitDeliveryReceipt><Username>ANOther.61234</Username><PIN>BLUE.music</PIN>
<MessageIdentifier>4A2E3C10</MessageIdentifier><Report>0</Report></SubmitDeliveryReceipt>
</e:Body></e:Envelope>"""


def _acknowledged(port: int) -> None:
    """Post a receipt until it is acknowledged.

    :raises Failed: where it is not in time.
    """
    end = perf_counter() + PATIENCE
    said = "nothing"
    while perf_counter() < end:
        connection = HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
        try:
            connection.request("POST", "/soap", _FIRST, {"Content-Type": "text/xml"})
            said = connection.getresponse().read().decode()
        except (OSError, HTTPException) as error:
            said = str(error)
        finally:
            connection.close()
        if "<Report>0</Report>" in said:
            return
        sleep(0.001)
    raise Failed(f"receiptd does not acknowledge its first receipt; it says: {said}")


def middle(runs: Sequence[Run], subject: str, figure: str) -> float:
    """The median of a figure of `subject` over the rounds."""
    values = [float(getattr(run, figure)) for run in runs if run.subject == subject]
    return statistics.median(values)


def ratios(runs: Sequence[Run], subject: str, other: str, figure: str) -> list[float]:
    """A figure of `subject` over that of `other`, for each round in which both were measured."""
    measured = {(run.subject, run.round): float(getattr(run, figure)) for run in runs}
    return [
        value / measured[other, number]
        for (name, number), value in measured.items()
        if name == subject and (other, number) in measured
    ]
