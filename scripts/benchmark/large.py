"""What a store of many millions of receipts costs: insertions, look-ups, deleting, the start, a
backup. It is filled by SQL (`bulk`), and measured through receiptd's own code."""

from __future__ import annotations

import contextlib
import shutil
import sqlite3
import statistics
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random
from typing import Any

from sqlalchemy import NullPool, create_engine, make_url, text

from benchmark import bulk, growth, identifiers, store, subjects
from benchmark.databases import Database, Databases, PostgresqlServer, databases
from benchmark.servers import Server, ended
from benchmark.speed import Place
from receiptd.message import Message
from receiptd.receipt import Receipt
from receiptd.store.database.engine import open_engine
from receiptd.store.messages import MESSAGES, MessageFilter
from receiptd.store.paging import Source, page
from receiptd.store.queries import RECEIPTS, ReceiptFilter
from receiptd.store.retention import Pruning

Progress = Callable[[str], None]

_BY_RECIPIENT = ("receipts_by_recipient", "messages_by_recipient")

_FIRST = 1 << 40
"""The number of the first receipt that is stored while something is measured."""


@dataclass(frozen=True, slots=True)
class Size:
    """How much to store."""

    few: int
    """Receipts in the database that the large one is compared with."""
    some: int
    """Receipts in the databases with and without the indexes by number: more than a bucket."""
    span: int
    """Receipts of one measurement."""
    repeats: int
    looked_up: int
    """Messages and numbers."""
    deleted: int
    seconds: int
    """For which receipts come alone, before others are deleted beside them."""
    starts: int


USUAL = Size(10_000, 1_000_000, 20_000, 5, 50, 200_000, 10, 3)
SHORT = Size(500, 1_000, 500, 1, 5, 200, 1, 1)


@dataclass(frozen=True, slots=True)
class Figure:
    """A thing that was measured, and what came out, as people read it."""

    name: str
    found: str


def measure(
    kind: str, count: int, size: Size, place: Place, progress: Progress
) -> Iterator[Figure]:
    """Fill a database of a kind, and measure it; each figure as soon as it is known.

    :raises Failed: where something could not be measured.
    """
    with databases(kind, place.folder) as made:
        large = made.make("large")
        begun = time.perf_counter()
        indexes = bulk.fill(large.url, count, progress)
        made.settle(large)
        yield Figure("filling it by SQL", _seconds(time.perf_counter() - begun))
        for name, seconds in indexes.items():
            if name in _BY_RECIPIENT:
                yield Figure(f"building {name}", _seconds(seconds))
        yield from measured(made, large, count, size, place, progress)


def measured(
    made: Databases, large: Database, count: int, size: Size, place: Place, progress: Progress
) -> Iterator[Figure]:
    """The figures of a database that is filled. In the end it is not as it was."""
    yield Figure("room on disk", _room(made, large))
    progress("looking up")
    yield from _look_ups(large, count, size)
    progress("starting")
    yield _start_up(large, place, size.starts)
    yield from _insertions(made, large, size, progress)
    progress("registering")
    yield _registering(large, size)
    progress("deleting")
    yield from _keeping(made, large, count, size)
    progress("backing up")
    yield _backup(made, large, place)


def _look_ups(large: Database, count: int, size: Size) -> Iterator[Figure]:
    engine = open_engine(large.url, writes=False)
    random = Random(7)

    def some() -> list[int]:
        # Not every hundredth, which is about the busy phone; every tenth has a message.
        return [random.randrange(count // 10) * 10 + 1 for _ in range(size.looked_up)]

    def messages() -> list[int]:
        return [max(each // 100 * 100, 10) + 10 for each in some()]

    looked_up: list[tuple[str, Source, list[Any]]] = [
        (
            "receipts of a message",
            RECEIPTS,
            [ReceiptFilter(message_id=bulk.key_of(each)) for each in some()],
        ),
        (
            "receipts of a number",
            RECEIPTS,
            [ReceiptFilter(recipient=bulk.phone_of(each, count)) for each in some()],
        ),
        (
            "receipts of a number that has none",
            RECEIPTS,
            [ReceiptFilter(recipient=f"4476{each:08d}") for each in some()],
        ),
        (
            "the newest 50 receipts of a number that a hundredth is about",
            RECEIPTS,
            [ReceiptFilter(recipient=bulk.BUSY)] * size.looked_up,
        ),
        (
            "messages of a number",
            MESSAGES,
            [MessageFilter(recipient=bulk.phone_of(each, count)) for each in messages()],
        ),
    ]
    try:
        for name, source, filters in looked_up:
            yield Figure(f"look-up, {name}", _times(_each(engine, source, filters)))
    finally:
        engine.dispose()


def _each(engine: Any, source: Source, filters: Iterable[Any]) -> Iterator[float]:
    for wanted in filters:
        begun = time.perf_counter()
        page(engine, source, wanted, limit=50)
        yield time.perf_counter() - begun


def _start_up(large: Database, place: Place, starts: int) -> Figure:
    folder = place.folder / "start"
    found = []
    for _ in range(starts):
        folder.mkdir()
        try:
            server = Server(subjects.receiptd(folder, large.url), folder, place.cores.server)
            with ended(server):
                server.wait_for_port()
                found.append(time.perf_counter() - server.started)
        finally:
            shutil.rmtree(folder)
    return Figure("start-up of a server", _seconds(statistics.median(found)))


def _insertions(
    made: Databases, large: Database, size: Size, progress: Progress
) -> Iterator[Figure]:
    few, some = made.make("few"), made.make("some")
    for database, count in ((few, size.few), (some, size.some)):
        bulk.fill(database.url, count, progress)
        made.settle(database)
    large_over_few, with_over_without, rates = [], [], []
    at = _FIRST
    for number in range(size.repeats):
        progress(f"inserting, repeat {number + 1} of {size.repeats}")
        after_few = _rate(made.copy(few, "work"), at, size)
        after_many = _rate(large, at, size)
        rates.append(after_many)
        large_over_few.append(after_many / after_few)
        pair = {}
        # In turn the first and the second, since what goes on beside them changes.
        for indexed in (True, False) if number % 2 else (False, True):
            work = made.copy(some, "work")
            if not indexed:
                _run(work, *(f"DROP INDEX {each}" for each in _BY_RECIPIENT))
            made.settle(work)
            pair[indexed] = _rate(work, at, size)
        with_over_without.append(pair[True] / pair[False])
        at += size.span + 1000
    yield Figure("insert rate, random ids", f"{statistics.median(rates):,.0f} receipts/s")
    yield Figure(f"insert rate over that with {size.few:,}", _ratio(large_over_few))
    yield Figure(
        f"insert rate with the indexes by number over without, {size.some:,}",
        _ratio(with_over_without),
    )


def _rate(database: Database, first: int, size: Size) -> float:
    return growth.rate(database, _new(first, size.span + 1000))


def _new(first: int, count: int) -> Iterator[Receipt]:
    """Receipts of these numbers, from now on."""
    begun = datetime.now(UTC) - timedelta(seconds=first / 200)
    return growth.made(identifiers.scattered, first, count, begun)


def _registering(large: Database, size: Size) -> Figure:
    filling = store.Filling(large.url, large.spool)
    try:
        filling.register([Message("csoft", "the first", "447700900123")])
        begun = time.perf_counter()
        filling.register(
            Message("csoft", identifiers.scattered(number), identifiers.csoft_recipient(number))
            for number in range(_FIRST - size.span, _FIRST)
        )
        return Figure(
            "registering messages", f"{size.span / (time.perf_counter() - begun):,.0f} a second"
        )
    finally:
        filling.close()


def _keeping(made: Databases, large: Database, count: int, size: Size) -> Iterator[Figure]:
    """Deletes the oldest receipts while others come, as quickly as they are taken."""
    deleted = min(size.deleted, count // 10)
    apart = timedelta(days=bulk.DAYS) / count
    with contextlib.closing(_Coming(large)) as coming:
        time.sleep(1)  # the first ones are slower
        alone = coming.rate_while(lambda: time.sleep(size.seconds))
        engine = open_engine(large.url)
        with engine.connect() as connection:
            query = text("SELECT received_at FROM receipts WHERE id = 1")
            oldest = connection.execute(query).scalar_one()
        if isinstance(oldest, str):
            oldest = datetime.fromisoformat(oldest)
        pruning = Pruning(engine, oldest + apart * deleted)
        begun = time.perf_counter()
        beside = coming.rate_while(pruning.run)
        seconds = time.perf_counter() - begun
        engine.dispose()
    gone = pruning.pruned
    yield Figure(
        "keep: deleted while receipts came",
        f"{gone.receipts:,} receipts and {gone.messages:,} messages, "
        f"{gone.receipts / seconds:,.0f} receipts/s",
    )
    yield Figure(
        "keep: stored meanwhile", f"{beside:,.0f} receipts/s, {beside / alone:.2f} of before"
    )
    yield Figure("keep: room on disk afterwards", _room(made, large))


class _Coming:
    """Receipts that come as quickly as they are taken, in a thread of their own."""

    def __init__(self, database: Database) -> None:
        self._filling = store.Filling(database.url, database.spool)
        self._stored = 0
        self._ends = False
        self._failed: Exception | None = None
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def rate_while(self, work: Callable[[], object]) -> float:
        """Receipts a second that are stored while something else is done."""
        stored, begun = self._stored, time.perf_counter()
        work()
        return (self._stored - stored) / (time.perf_counter() - begun)

    def close(self) -> None:
        """No more of them.

        :raises Failed: where one could not be stored.
        """
        self._ends = True
        self._thread.join()
        self._filling.close()
        if self._failed is not None:
            raise self._failed

    def _run(self) -> None:
        first = 2 * _FIRST
        try:
            while not self._ends:
                self._filling.store_as_posted(_new(first, 200), growth.TOGETHER)
                self._stored += 200
                first += 200
        except Exception as error:
            self._failed = error


def _backup(made: Databases, large: Database, place: Place) -> Figure:
    target = place.folder / "backup"
    begun = time.perf_counter()
    if isinstance(made, PostgresqlServer):
        made.dump(large, target)
        how = "pg_dump --format=custom"
    else:
        with contextlib.closing(sqlite3.connect(_file(large))) as connection:
            connection.execute("VACUUM INTO ?", (str(target),))
        how = "VACUUM INTO"
    seconds = time.perf_counter() - begun
    room = target.stat().st_size
    target.unlink()
    return Figure(f"backup, {how}", f"{_seconds(seconds)}, {_bytes(room)}")


def _room(made: Databases, database: Database) -> str:
    if isinstance(made, PostgresqlServer):
        ((size, receipts, rows, dead),) = _run(
            database,
            "SELECT pg_database_size(current_database()), pg_total_relation_size('receipts'), "
            "n_live_tup, n_dead_tup FROM pg_stat_user_tables WHERE relname = 'receipts'",
        )
        return f"{_bytes(size)}, receipts {_bytes(receipts)} ({dead:,} dead rows beside {rows:,})"
    ((pages,),) = _run(database, "PRAGMA page_count")
    ((free,),) = _run(database, "PRAGMA freelist_count")
    ((each,),) = _run(database, "PRAGMA page_size")
    return f"{_bytes(pages * each)}, of it free {_bytes(free * each)}"


def _run(database: Database, *statements: str) -> list[Any]:
    engine = create_engine(database.url, isolation_level="AUTOCOMMIT", poolclass=NullPool)
    found: list[Any] = []
    with engine.connect() as connection:
        for statement in statements:
            result = connection.exec_driver_sql(statement)
            found = list(result) if result.returns_rows else []
    return found


def _file(database: Database) -> Path:
    return Path(make_url(database.url).database or "")


def _seconds(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds >= 1 else f"{seconds * 1000:.0f} ms"


def _bytes(size: float) -> str:
    return f"{size / 1e9:.2f} GB" if size >= 1e8 else f"{size / 1e6:.1f} MB"


def _times(seconds: Iterable[float]) -> str:
    found = sorted(seconds)
    return (
        f"{statistics.median(found) * 1000:.1f} ms "
        f"(worst of {len(found)}: {found[-1] * 1000:.0f} ms)"
    )


def _ratio(found: list[float]) -> str:
    return f"{statistics.median(found):.2f} ({min(found):.2f} to {max(found):.2f})"
