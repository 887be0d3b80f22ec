"""Whether receiptd stays as quick and as small as it was once millions of receipts are stored."""

from __future__ import annotations

import contextlib
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from benchmark import identifiers, machine, store, subjects
from benchmark.databases import Database, databases
from benchmark.load import CONNECTIONS, Load
from benchmark.servers import Failed, Server, ended
from benchmark.speed import Place
from receiptd.message import Message
from receiptd.receipt import Kind, Receipt, State

TOGETHER = 16
"""Receipts handed to the writer at once: half of 32 connections' while the other half's are
committed, as it comes out under load."""

_WARM_UP = 1000
"""Receipts stored before each measurement, on the connection that is measured."""

_STALLED = 30.0
"""Seconds without a new receipt after which a run is given up."""

_RAW = b"""<?xml version="1.0" encoding="UTF-8"?>
<SOAP-ENV:Envelope xmlns:SOAP-ENV="http://schemas.xmlsoap.org/soap/envelope/" \
xmlns:ns2="http://www.csoft.co.uk/dtd/sendsms5.xsd">
<SOAP-ENV:Body>
<ns2:SubmitDeliveryReceipt>
<Username>ANOther.61234</Username>
<PIN>***</PIN>
<Timestamp1>%s</Timestamp1>
<SentTo>%s</SentTo>
<MessageIdentifier>%s</MessageIdentifier>
<Report>0</Report>
</ns2:SubmitDeliveryReceipt>
</SOAP-ENV:Body>
</SOAP-ENV:Envelope>
"""


@dataclass(frozen=True, slots=True)
class Size:
    """How much to store."""

    few: int
    many: int
    few_posted: int
    many_posted: int
    span: int
    """Receipts of one measurement: enough for several checkpoints of the write-ahead log."""
    repeats: int


@dataclass(frozen=True, slots=True)
class Grown:
    """A figure with few receipts stored, and with many."""

    few: float
    many: float

    @property
    def ratio(self) -> float:
        """How much of it is left."""
        return self.many / self.few


def shown(count: int) -> str:
    """A count as people say it."""
    return f"{count // 1_000_000} million" if count % 1_000_000 == 0 else f"{count:,}"


def insert_rates(
    kind: str,
    identifier: Callable[[int], str],
    size: Size,
    share: float,
    place: Place,
    progress: Callable[[str], None],
) -> list[Grown]:
    """The receipts a second that the writer stores: one pair for each repeat, measured one right
    after the other.

    :param kind: of the database.
    :param share: of the receipts, those that match a registered message.
    :raises Failed: where what was stored is not in the database, each once and in order.
    """
    step = size.span + _WARM_UP
    # Two hundred receipts a second until now: a time is then shared by as many as in reality.
    begun = datetime.now(UTC) - timedelta(seconds=(size.many + size.repeats * step) / 200)

    def receipts(first: int, count: int) -> Iterator[Receipt]:
        return made(identifier, first, count, begun)

    with databases(kind, place.folder) as places:
        few, many = places.make("few"), places.make("many")
        # A PostgreSQL server begun here would be pinned as well.
        with machine.pinned(place.cores.server):
            for database, stored, steps in ((few, size.few, 1), (many, size.many, size.repeats)):
                progress(f"storing {shown(stored)} receipts, {identifier.__name__} identifiers")
                filling = store.Filling(database.url, database.spool)
                filling.register(_messages(identifier, stored + steps * step, share))
                filling.store_at_once(receipts(0, stored))
                filling.close()
                places.settle(database)
            found = []
            for repeat in range(size.repeats):
                progress(f"inserting, repeat {repeat + 1} of {size.repeats}")
                work = places.copy(few, "work")
                after_few = rate(work, receipts(size.few, step))
                after_many = rate(many, receipts(size.many + repeat * step, step))
                found.append(Grown(after_few, after_many))
                _check(work, identifier, size.few + step)
        progress("comparing what was stored with what is there")
        _check(many, identifier, size.many + size.repeats * step)
        return found


def _check(database: Database, identifier: Callable[[int], str], count: int) -> None:
    """See that the first `count` receipts are there, one after the other, and no others.

    :raises Failed: where they are not.
    """
    found = database.identifiers()
    for number in range(count):
        expected, there = identifier(number), next(found, None)
        if there != expected:
            raise Failed(f"NOT KEPT: in place {number + 1} is {there} and not {expected}")
    if (more := next(found, None)) is not None or database.repeats():
        raise Failed(f"NOT KEPT: a receipt is there twice, such as {more or 'a repetition'}")


def memory(
    kind: str, size: Size, share: float, place: Place, progress: Callable[[str], None]
) -> Grown:
    """Megabytes in memory of a server that receipts are posted to by HTTP.

    :param kind: of the database.
    :raises Failed: where the server stops taking receipts, or loses one.
    """
    folder = place.folder / "memory"
    folder.mkdir()
    few, many = size.few_posted, size.many_posted
    with contextlib.ExitStack() as after:
        after.callback(shutil.rmtree, folder)
        database = after.enter_context(databases(kind, place.folder)).make("receipts")
        progress(f"registering messages for {shown(many)} receipts")
        filling = store.Filling(database.url, database.spool)
        filling.register(subjects.soap_messages(many, share))
        filling.close()
        server = Server(subjects.receiptd(folder, database.url), folder, place.cores.server)
        with ended(server):
            url = f"http://127.0.0.1:{server.wait_for_port()}/soap"
            progress(f"posting {shown(many)} receipts")
            seconds = max(60, many // 200)
            load = Load("soap", url, 0, seconds, place.cores.load, threads=CONNECTIONS)
            try:
                _wait_for(database, few, load)
                after_few = server.resident_megabytes()
                _wait_for(database, many, load)
                after_many = server.resident_megabytes()
            finally:
                load.finish()
                answers = load.answers()
        progress("comparing what was answered with what is there")
        found = database.identifiers()
        if faults := store.lost_by_number(answers, found, database.repeats()):
            raise Failed("NOT KEPT: " + "; ".join(faults))
        return Grown(after_few, after_many)


def _messages(identifier: Callable[[int], str], count: int, share: float) -> Iterator[Message]:
    for number in subjects.spread(count, share):
        yield Message("csoft", identifier(number), identifiers.csoft_recipient(number))


def _receipt(number: int, message_id: str, begun: datetime) -> Receipt:
    reported_at = (begun + timedelta(seconds=number / 200)).replace(microsecond=0)
    recipient = identifiers.csoft_recipient(number)
    raw = _RAW % (reported_at.isoformat().encode(), recipient.encode(), message_id.encode())
    return Receipt(
        endpoint="soap",
        provider="csoft",
        kind=Kind.DELIVERY,
        message_id=message_id,
        state=State.DELIVERED,
        code="0",
        recipient=recipient,
        reported_at=reported_at,
        raw=raw,
        description="Accepted by phone",
    )


def made(
    identifier: Callable[[int], str], first: int, count: int, begun: datetime
) -> Iterator[Receipt]:
    """Receipts of these numbers, two hundred of them a second from `begun` on."""
    for number in range(first, first + count):
        yield _receipt(number, identifier(number), begun)


def rate(database: Database, receipts: Iterator[Receipt]) -> float:
    """Receipts a second, those after the first `_WARM_UP`; made before, so that only storing
    them counts."""
    made = list(receipts)
    filling = store.Filling(database.url, database.spool)
    try:
        filling.store_as_posted(made[:_WARM_UP], TOGETHER)
        begun = time.perf_counter()
        filling.store_as_posted(made[_WARM_UP:], TOGETHER)
        return (len(made) - _WARM_UP) / (time.perf_counter() - begun)
    finally:
        filling.close()


def _wait_for(database: Database, count: int, load: Load) -> None:
    """Return as soon as `count` receipts are stored."""
    seen, since = -1, time.monotonic()
    while (found := database.newest()) < count:
        if found != seen:
            seen, since = found, time.monotonic()
        if not load.running or time.monotonic() - since > _STALLED:
            raise Failed(f"only {found} of {count} receipts came to be stored")
        time.sleep(0.02 if count < 100_000 else 0.2)
