"""Whether the server lives (/healthz) and whether it can store receipts (/readyz).

Both are for whatever watches the server, a balancer or a supervisor, so they ask for no
authentication and tell nothing that others must not know.

- /healthz is 200 as long as the server answers at all.
- /readyz is 200 as long as a receipt that comes now can be stored, in the database or, while that
  does not answer, in the spool: a receipt in the spool is on disk and acknowledged, so there is no
  reason to send it elsewhere. The body tells of it, from when on and how much waits. It is 503
  where neither can take receipts, with a line for each reason.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from time import monotonic
from typing import Any, Generic, NamedTuple, TypeVar

from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError
from twisted.internet.defer import Deferred, succeed
from twisted.python.failure import Failure

from receiptd.pipeline import Pipeline
from receiptd.store.schema import iso
from receiptd.store.writer import Writer
from receiptd.web.problem import answer_failure
from receiptd.web.reader import Reader
from receiptd.web.server.request import Request, refuse_method, refuse_path
from receiptd.web.server.response import PLAIN, RETRY_SOON

KEEP = 1.0
"""Seconds for which what was looked up is good enough."""

ANSWER_TIMEOUT = 2.0
"""Seconds that whoever asks waits for a look."""

STALLED = 10.0
"""Seconds without a commit, while posts wait, after which nothing is taken to be storable. A
database that does not answer is given up, for the spool, after about half of that."""

FORGOTTEN = 15.0
"""Seconds after which what was looked up tells nothing any more."""

LEAST_FREE = 1024 * 1024
"""Bytes on the spool's disk without which it is full."""

_NO_STORE = (b"Cache-Control: no-store\r\n",)

SOON = timedelta(days=14)
"""Before a certificate ends, the time from which on that is said: ACME's clients renew one when 30
days are left."""

T = TypeVar("T")


class Look(Generic[T]):
    """Something that is looked up in a thread: not more often than every so many seconds, one
    look at a time. Whoever asks waits for no longer than `ANSWER_TIMEOUT`."""

    def __init__(self, reactor: Any, look: Callable[[], Deferred[T]], keep: float = KEEP) -> None:
        """
        :param keep: seconds for which what was found is good enough.
        """
        self._reactor = reactor
        self._look = look
        self._keep = keep
        self._found: T | None = None
        self._at = float("-inf")
        self._since: float | None = None
        self._waiting: list[Deferred[T | None]] = []

    def ask(self) -> Deferred[T | None]:
        """What there is; None where that could not be found out, or takes too long."""
        now = monotonic()
        if now - self._at < self._keep:
            return succeed(self._found)
        if self._since is None:
            self._since = now
            self._look().addErrback(_nothing).addCallback(self._looked)
            if self._at >= now:  # it was quick
                return succeed(self._found)
        elif now - self._since > ANSWER_TIMEOUT:
            return succeed(None)
        answer: Deferred[T | None] = Deferred()
        self._waiting.append(answer)
        return answer.addTimeout(ANSWER_TIMEOUT, self._reactor, lambda *_: None)

    def recent(self, default: T) -> T | None:
        """What was found out lately, without a look; None where the last look found nothing,
        and `default` where there was none lately."""
        return self._found if monotonic() - self._at < FORGOTTEN else default

    def _looked(self, found: T | None) -> None:
        self._found, self._at, self._since = found, monotonic(), None
        waiting, self._waiting = self._waiting, []
        for answer in waiting:
            if not answer.called:
                answer.callback(found)


def _nothing(_failure: Failure) -> None:
    return None


class State(NamedTuple):
    """Whether receipts can be stored, with a line for each thing that is not as it should be."""

    ready: bool
    lines: list[str]


class Readiness:
    """Finds out whether receipts can be stored: from the writer, which knows best, and where that
    has had nothing to do for a while, by a look at the database and at the spool's folder."""

    def __init__(
        self, reactor: Any, pipeline: Pipeline, writer: Writer, reader: Reader, spool: Path
    ) -> None:
        """
        :param spool: the spool's folder.
        """
        self._pipeline = pipeline
        self._writer = writer
        self._database = Look(reactor, lambda: reader.read(_answers))
        self._spool = Look(reactor, lambda: reader.read(lambda _: _spool_trouble(spool)))
        self._stored_at = float("-inf")
        self._leaving = False
        self.certificate: Callable[[], datetime] | None = None
        """Says when the TLS certificate ends (aware); None without TLS."""

    def stored(self) -> None:
        """That the writer has just stored something; in any thread."""
        self._stored_at = monotonic()

    def leave(self) -> None:
        """That the server is about to end: from now on others should be asked."""
        self._leaving = True

    async def find_out(self) -> State:
        """The state now."""
        database: bool | None = True
        if monotonic() - self._stored_at > KEEP and self._writer.backlog.since is None:
            database = await self._database.ask()
        return self._judge(bool(database), await self._spool.ask())

    def latest(self) -> State:
        """The state as far as it is known without looking anywhere."""
        return self._judge(bool(self._database.recent(True)), self._spool.recent(""))

    def _judge(self, database: bool, spool_trouble: str | None) -> State:
        """
        :param spool_trouble: why the spool takes nothing, empty where it does, None where even
            that cannot be found out.
        """
        if spool_trouble is None:
            spool_trouble = "its disk does not answer"
        against = []
        notes = []
        if self._leaving:
            against.append("the server is about to end")
        if not self._writer.running:
            against.append("the writer has ended; the log says why")
        stalled = self._pipeline.stalled
        if stalled > STALLED:
            against.append(
                f"nothing was stored for {stalled:.0f} s, and {self._pipeline.waiting} posts wait"
            )
        backlog = self._writer.backlog
        if backlog.since is not None:
            why = "the database does not store" if backlog.reason else "an earlier one is drained"
            why += f" ({backlog.remedy})" if backlog.remedy else ""
            notes.append(
                f"degraded since {iso(backlog.since)}: posts go to the spool, since {why}; "
                f"{backlog.records} records of {backlog.bytes} bytes wait there"
            )
            if backlog.full:
                against.append("the spool takes no more; the log says why")
        elif not database:
            notes.append("the database does not answer; posts will go to the spool")
        if backlog.set_aside:
            notes.append(
                f"{backlog.set_aside} records cannot be stored and are set aside: receiptd spool "
                "status"
            )
        if self.certificate is not None:
            left = (ends := self.certificate()) - datetime.now(UTC)
            if left < SOON:
                what = "has ended" if left < timedelta() else "ends"
                notes.append(f"the TLS certificate {what} at {iso(ends)}: renew it")
        if spool_trouble:
            text = f"the spool cannot be used: {spool_trouble}"
            (notes if database and backlog.since is None else against).append(text)
        return State(not against, against + notes)


def _answers(engine: Engine) -> bool:
    """Whether the database answers. In a thread."""
    try:
        with engine.connect() as connection:
            connection.exec_driver_sql("SELECT version_num FROM alembic_version")
    except SQLAlchemyError:
        return False
    return True


def _spool_trouble(folder: Path) -> str:
    """Why nothing can be written to `folder`, empty where it can. In a thread."""
    if not os.access(folder, os.R_OK | os.W_OK | os.X_OK):
        return "its folder cannot be written to"
    disk = os.statvfs(folder)
    if disk.f_bavail * disk.f_frsize < LEAST_FREE:
        return "its disk is full"
    return ""


class Healthz:
    """Answers as long as the reactor runs."""

    def handle(self, request: Request, rest: bytes) -> None:
        """Answer."""
        if may_ask(request, rest):
            request.answer(200, b"ok\n", PLAIN, _NO_STORE)


class Readyz:
    """Answers whether receipts can be stored."""

    def __init__(self, readiness: Readiness) -> None:
        self._readiness = readiness

    def handle(self, request: Request, rest: bytes) -> None:
        """Answer, as soon as it is found out."""
        if may_ask(request, rest):
            Deferred.fromCoroutine(self._answer(request)).addErrback(answer_failure, request)

    async def _answer(self, request: Request) -> None:
        state = await self._readiness.find_out()
        head = "ready" if state.ready else "not ready"
        body = "".join(f"{line}\n" for line in (head, *state.lines)).encode()
        if state.ready:
            request.answer(200, body, PLAIN, _NO_STORE)
        else:
            request.answer(503, body, PLAIN, (*_NO_STORE, RETRY_SOON))


def may_ask(request: Request, rest: bytes) -> bool:
    """Whether `request` asks for the very page, in a way that it may; else it is answered so."""
    if rest:
        refuse_path(request)
    elif request.method not in (b"GET", b"HEAD"):
        refuse_method(request, (b"GET", b"HEAD"))
    else:
        return True
    return False
