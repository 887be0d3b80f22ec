"""The API about single rejected posts: show one, try it again, delete it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from sqlalchemy import Connection, Engine
from twisted.logger import Logger

from receiptd.providers import values
from receiptd.rejected.retry import Became, Retry, Rules, left
from receiptd.store.database.engine import open_engine
from receiptd.store.database.errors import StoreAway, StoreError
from receiptd.store.database.write_turns import WriteTurns
from receiptd.store.queries import RejectionFilter
from receiptd.store.rejections import delete_rejected, rejected_post
from receiptd.store.rows import rejection_json
from receiptd.web.api.bodies import encoded
from receiptd.web.api.parameters import Query, RejectedPostQuery
from receiptd.web.api.partial import selecting
from receiptd.web.problem import PRIVATE, Problem
from receiptd.web.reader import Reader
from receiptd.web.server.request import Request

PATIENCE = 5.0
"""Seconds that a change waits for the database's turn to write."""

T = TypeVar("T")

_log = Logger(namespace="receiptd.web")


class RejectedApi:
    """Answers what is asked about one rejected post, and changes it."""

    def __init__(
        self, reader: Reader, database: str, rules: Rules, stored: Callable[[], object]
    ) -> None:
        """
        :param database: the store's URL.
        :param rules: see `renew`.
        :param stored: called in another thread when receipts were stored.
        """
        self._reader = reader
        self._writing = open_engine(database)
        self._stored = stored
        self.renew(rules)

    def renew(self, rules: Rules) -> None:
        """Go by a new configuration."""
        self._rules = rules

    def stop(self) -> None:
        """End."""
        self._writing.dispose()

    async def show_rejected(self, request: Request, query: RejectedPostQuery, id: str) -> None:
        """One post."""
        shape = selecting(rejection_json, query.fields, query.raw)
        row = await self._row(id)
        request.answer(200, encoded(shape(row)), b"application/json", (PRIVATE,))

    async def retry_rejected(self, request: Request, _query: Query, id: str) -> None:
        """Read it again, and store its receipts."""
        became = await self.retry(id)
        _log.info(
            "rejected post {id} was tried again: {result}",
            id=became.id,
            result=became.result,
            request_id=request.request_id,
        )
        request.answer(200, encoded(became.json()), b"application/json", (PRIVATE,))

    async def retry(self, id: str) -> Became:
        """Try the post of this number again; what became of it. For whoever has authenticated
        the request.

        :raises Problem: where there is no such post, or the database is busy.
        """
        rules = self._rules
        # A provider's module runs in the reactor's thread, as always; the store's does not.
        kept = rules.posts.read(await self._row(id))
        if not kept.receipts:
            return left(kept)

        def store(_engine: Engine) -> Became:
            (became,) = Retry(self._writing, rules, PATIENCE).store([kept])
            if became.receipts:
                self._stored()
            return became

        became = await self._write(store)
        if became.result == "gone":
            raise _missing(id)
        return became

    async def delete_rejected(self, request: Request, _query: Query, id: str) -> None:
        """Delete it."""
        number = await self.delete(id)
        _log.info("rejected post {id} was deleted", id=number, request_id=request.request_id)
        request.answer(200, encoded({"id": number}), b"application/json", (PRIVATE,))

    async def delete(self, id: str) -> int:
        """Delete the post of this number; returns the number.

        :raises Problem: where there is no such post, or the database is busy.
        """
        number = _number(id)

        def work(connection: Connection) -> int:
            return delete_rejected(connection, RejectionFilter(number=number), limit=1)

        turns = WriteTurns(self._writing, patience=PATIENCE)
        if not await self._write(lambda _engine: turns.take(work)):
            raise _missing(id)
        return number

    async def _row(self, id: str) -> Any:
        number = _number(id)

        def read(engine: Engine) -> Any:
            with engine.connect() as connection:
                return rejected_post(connection, number)

        row = await self._reader.read(read)
        if row is None:
            raise _missing(id)
        return row

    async def _write(self, function: Callable[[Engine], T]) -> T:
        def run(engine: Engine) -> T:
            try:
                return function(engine)
            except StoreAway:
                raise
            except StoreError:
                raise Problem.unavailable("the database is busy: try later") from None

        return await self._reader.read(run)


def _number(id: str) -> int:
    if not (id.isascii() and id.isdigit() and len(id) < 20):
        raise _missing(id)
    return int(id)


def _missing(id: str) -> Problem:
    return Problem(404, f"there is no rejected post {values.shown(id)}")
