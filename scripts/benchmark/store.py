"""Databases to measure on: made by receiptd, filled by its writer, counted afterwards."""

from __future__ import annotations

import contextlib
import os
import shutil
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import TypeVar

from benchmark import identifiers
from benchmark.load import Answers
from benchmark.servers import Failed
from receiptd.message import Message
from receiptd.receipt import Receipt
from receiptd.store.database.engine import open_engine
from receiptd.store.database.migrating import upgrade
from receiptd.store.matching import Policy
from receiptd.store.spool.folder import Spool
from receiptd.store.writer import Quota, Result, Submission, Writer

T = TypeVar("T")

FILE = "receipts.db"

_STALLED = 120.0
"""Seconds without a commit after which the writer is given up."""


def make(file: Path) -> None:
    """A database without a receipt, as `receiptd db upgrade` makes it."""
    engine = open_engine(f"sqlite:///{file}")
    upgrade(engine)
    engine.dispose()


def copy(source: Path, target: Path) -> None:
    """Copy a database that nobody has open, down to the disk."""
    for ending in ("-wal", "-shm"):
        target.with_name(target.name + ending).unlink(missing_ok=True)
    shutil.copyfile(source, target)
    settle(target)


def settle(file: Path) -> None:
    """Wait until all of a database is on disk, its write-ahead log merged into it, so that what
    is measured next does not pay for what was done before."""
    with contextlib.closing(sqlite3.connect(file)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    with file.open("rb") as opened:
        os.fsync(opened.fileno())


class Filling:
    """receiptd's writer on a database, without a server in front of it."""

    def __init__(self, url: str, spool: Path, endpoints: Sequence[str] = ("soap",)) -> None:
        """
        :param spool: a folder in which nothing comes to be, unless the database fails.
        """
        self._engine = open_engine(url)
        self._delivered: SimpleQueue[list[Result]] = SimpleQueue()
        self._drained: list[None] = []
        self._writer = Writer(
            self._engine,
            policies={name: Policy() for name in endpoints},
            quota=Quota(0, 0, 1),
            spool=Spool(spool),
            deliver=self._delivered.put,
            drained=lambda: self._drained.append(None),
        )
        self._writer.start()

    def close(self) -> None:
        """End the writer.

        :raises Failed: where the database did not take all, but the spool had to.
        """
        spooled = self._drained or self._writer.backlog.since is not None
        self._writer.stop()
        self._engine.dispose()
        if spooled:
            raise Failed("the database did not store meanwhile, and the spool had to help out")

    def register(self, messages: Iterable[Message]) -> None:
        """Register messages, in large transactions."""
        for some in _slices(messages, 2000):
            self._put([Submission(None, messages=some)])
            self._take()

    def store_at_once(self, receipts: Iterable[Receipt]) -> None:
        """Store receipts quickly: thousands of them in one transaction."""
        for some in _slices(receipts, 5000):
            self._put([Submission(None, some)])
            self._take()

    def store_as_posted(self, receipts: Iterable[Receipt], together: int) -> None:
        """Store receipts as a busy server does: each a post of its own, `together` of them
        handed over at once, and as many again while these are committed."""
        waiting = 0
        for some in _slices(receipts, together):
            self._put([Submission(None, (each,)) for each in some])
            waiting += len(some)
            while waiting > together:
                waiting -= self._take()
        while waiting:
            waiting -= self._take()

    def _put(self, submissions: list[Submission]) -> None:
        self._writer.put(submissions)

    def _take(self) -> int:
        try:
            results = self._delivered.get(timeout=_STALLED)
        except Empty:
            raise Failed(f"the writer has stored nothing for {_STALLED:.0f} s") from None
        for _, stored in results:
            if isinstance(stored, Exception):
                raise Failed(f"the writer could not store: {stored}")
        return len(results)


def _slices(items: Iterable[T], size: int) -> Iterator[list[T]]:
    some: list[T] = []
    for item in items:
        some.append(item)
        if len(some) == size:
            yield some
            some = []
    if some:
        yield some


@dataclass(frozen=True, slots=True)
class Stored:
    """What is in a database after a run."""

    receipts: int
    identifiers: int
    """How many different ones they have."""
    accepted: int
    """How many of them are explained by a registered message, or were not checked."""
    repeats: int
    """How often a receipt came again."""


def stored(file: Path) -> Stored:
    """Count what is in a database."""
    with contextlib.closing(sqlite3.connect(file)) as connection:
        return Stored(
            *connection.execute(
                "SELECT count(*), count(DISTINCT message_key), "
                "coalesce(sum(verdict = 'accepted'), 0), coalesce(sum(repeats), 0) FROM receipts"
            ).fetchone()
        )


def lost(runs: Sequence[Answers], found: Stored) -> list[str]:
    """What the answers to `runs` promised and the database does not keep; empty where all is
    well: every receipt that was answered is stored, none twice, none that was not sent. (What
    wrk cuts off at its end may be stored without having been answered.)"""
    answered = sum(run.stored for run in runs)
    sent = sum(run.sent for run in runs)
    faults = []
    if found.receipts < answered:
        faults.append(f"{answered} receipts were answered and {found.receipts} are stored")
    if found.receipts > sent:
        faults.append(f"{sent} receipts were sent and {found.receipts} are stored")
    if found.identifiers != found.receipts or found.repeats:
        faults.append(
            f"{found.receipts} receipts are stored with {found.identifiers} identifiers and "
            f"{found.repeats} repeats: each was sent once, with one of its own"
        )
    acknowledged = sum(run.acknowledged for run in runs)
    tells = any(run.unmatched for run in runs)  # a query's answer is the same for both
    if tells and found.accepted < acknowledged:
        faults.append(
            f"{acknowledged} receipts were answered Report 0 and {found.accepted} are stored "
            "as accepted"
        )
    return faults


def lost_by_number(run: Answers, found: Iterable[str], repeats: int) -> list[str]:
    """What the answers to a run that knows its unanswered numbers promised and the database does
    not keep, identifier by identifier; empty where all is well.

    :param found: the identifiers of all stored receipts.
    :param repeats: how often a receipt came again.
    """
    missing = set(run.numbers())
    twice: list[str] = []
    foreign: list[str] = []
    seen: set[int] = set()
    for identifier in found:
        number = identifiers.number_of(identifier)
        if number in missing:
            missing.remove(number)
            seen.add(number)
        else:
            (twice if number in seen else foreign).append(identifier)
    lost = sorted(missing - set(run.unanswered))
    faults = []
    for what, some in (
        ("were answered and are not stored", [identifiers.hexadecimal(each) for each in lost]),
        ("are stored twice", twice),
        ("are stored and were never sent", foreign),
    ):
        if some:
            faults.append(f"{len(some)} receipts {what}, such as {some[0]}")
    if repeats:
        faults.append(f"{repeats} receipts were taken for repetitions: each was sent once")
    return faults
