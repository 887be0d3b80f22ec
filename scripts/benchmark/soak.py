"""A long run under full load, with messages registered as it goes: does anything creep?"""

from __future__ import annotations

import contextlib
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass

from benchmark import store, subjects
from benchmark.databases import Database, databases
from benchmark.load import CONNECTIONS, Load
from benchmark.servers import Server, ended
from benchmark.speed import Place
from receiptd.store.database.engine import open_engine
from receiptd.store.matching import Policy
from receiptd.store.registry import Registry

AHEAD = 20_000
"""How many receipts before they come their messages are registered."""

_INTERVALS = 20


@dataclass(frozen=True, slots=True)
class Interval:
    """What was seen in a part of the run."""

    until: float
    """Seconds since its begin."""
    stored: int
    """Receipts since its begin."""
    rate: float
    """Receipts a second in this part."""
    resident: float
    """Megabytes in memory at the end of this part."""


@dataclass(frozen=True, slots=True)
class Soak:
    """What a run showed."""

    intervals: tuple[Interval, ...]
    answered: int
    stored: int
    faults: tuple[str, ...]


HEADING = "  seconds     receipts  receipts/s     MB"


def line(interval: Interval) -> str:
    """An interval as a line beneath `HEADING`."""
    return (
        f"{interval.until:9.0f}  {interval.stored:11,}  {interval.rate:10,.0f}  "
        f"{interval.resident:5.1f}"
    )


def soak(
    kind: str, seconds: int, share: float, place: Place, seen: Callable[[Interval], None]
) -> Soak:
    """Load the SOAP endpoint for `seconds`, as another process registers the messages that a
    `share` of the receipts are about, just before they come.

    :param kind: of the database.
    """
    folder = place.folder / "soak"
    folder.mkdir()
    with contextlib.ExitStack() as after:
        after.callback(shutil.rmtree, folder)
        database = after.enter_context(databases(kind, place.folder)).make("receipts")
        messages = _Ahead(database, share)
        messages.register(AHEAD)
        server = Server(subjects.receiptd(folder, database.url), folder, place.cores.server)
        intervals: list[Interval] = []

        def noted(interval: Interval) -> None:
            intervals.append(interval)
            seen(interval)

        with ended(server):
            url = f"http://127.0.0.1:{server.wait_for_port()}/soap"
            load = Load("soap", url, 0, seconds, place.cores.load, threads=CONNECTIONS)
            try:
                _watch(load, server, database, messages, max(1.0, seconds / _INTERVALS), noted)
            finally:
                load.finish()
                answers = load.answers()
        messages.close()
        found = list(database.identifiers())
        faults = store.lost_by_number(answers, found, database.repeats())
        return Soak(tuple(intervals), answers.stored, len(found), tuple(faults))


def _watch(
    load: Load,
    server: Server,
    database: Database,
    messages: _Ahead,
    length: float,
    noted: Callable[[Interval], None],
) -> None:
    """Register messages until the load ends, and note what is seen every `length` seconds."""
    begun = last = time.monotonic()
    before = 0
    while load.running:
        time.sleep(0.2)
        now, count = time.monotonic(), database.newest()
        messages.register(count + AHEAD)
        if now - last >= length:
            rate = (count - before) / (now - last)
            noted(Interval(now - begun, count, rate, server.resident_megabytes()))
            last, before = now, count


class _Ahead:
    """Registers the messages of receipts that are about to come."""

    def __init__(self, database: Database, share: float) -> None:
        self._engine = open_engine(database.url)
        self._registry = Registry(self._engine, {"soap": Policy()}, {})
        self._share = share
        self._registered = 0

    def register(self, count: int) -> None:
        """Register those of the first `count` receipts that are not yet."""
        if count > self._registered:
            self._registry.register(
                subjects.soap_messages(count, self._share, first=self._registered)
            )
            self._registered = count

    def close(self) -> None:
        """Give the database back."""
        self._engine.dispose()
