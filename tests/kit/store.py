"""Receipts to store, and a writer on a real database to store them with."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from queue import SimpleQueue
from typing import Any

import pytest
from sqlalchemy import Engine, select

from kit.server import new_database
from receiptd.message import Message
from receiptd.receipt import Kind, Receipt, Rejection, State
from receiptd.store.database.engine import open_engine, sqlite_file
from receiptd.store.database.migrating import upgrade
from receiptd.store.matching import Policy
from receiptd.store.posts import whole
from receiptd.store.schema import messages, receipts, rejected_posts
from receiptd.store.writer import Quota, Result, Stored, Submission, Writer

on_sqlite = pytest.mark.parametrize("engine", ["sqlite"], indirect=True)
"""For a test of what only SQLite has."""

AT = datetime(2009, 6, 9, 10, 52, tzinfo=UTC)
START = datetime(2026, 1, 1, tzinfo=UTC)


class Clock:
    """A clock that an hour passes on each time it is read, from `START` on."""

    def __init__(self) -> None:
        self.hours = 0

    def __call__(self) -> datetime:
        self.hours += 1
        return START + timedelta(hours=self.hours)


def receipt(message_id: str | None = "4A2E3C10", **fields: Any) -> Receipt:
    """A receipt with sensible fields where none are given."""
    defaults: dict[str, Any] = {
        "endpoint": "soap",
        "provider": "csoft",
        "kind": Kind.DELIVERY,
        "message_id": message_id,
        "state": State.DELIVERED,
        "code": "0",
        "recipient": "447700912345",
        "reported_at": AT,
        "raw": b"raw",
    }
    return Receipt(**defaults | fields)


def rejection(text: str = "nonsense", **fields: Any) -> Rejection:
    """A rejected post."""
    defaults: dict[str, Any] = {
        "received_at": datetime.now(UTC),
        "endpoint": "soap",
        "provider": "csoft",
        "reason": "invalid",
        "field": "Report",
        "text": text,
        "peer": "192.0.2.1",
        "content_type": "text/xml",
        "raw": b"raw",
    }
    return Rejection(**defaults | fields)


def new_engine(url: str) -> Engine:
    """An engine on a database as a server makes it where there is none: of SQLite a new file,
    of PostgreSQL a database that is there."""
    file = sqlite_file(url)
    if file is not None and not file.exists():
        file.write_bytes(new_database())
        file.chmod(0o640)
    engine = open_engine(url)
    upgrade(engine)
    return engine


def count_on(engine: Engine, last: int) -> None:
    """Have the next receipt's id be one more than `last`, as if there were so many."""
    with engine.begin() as connection:
        connection.exec_driver_sql(
            f"UPDATE sqlite_sequence SET seq = {last} WHERE name = 'receipts'"
            if engine.dialect.name == "sqlite"
            else f"SELECT setval(pg_get_serial_sequence('receipts', 'id'), {last})"
        )


class Store:
    """A writer on a real database, and what is in it."""

    def __init__(self, engine: Engine, **options: Any) -> None:
        self.engine = engine
        self.transactions: SimpleQueue[list[Result]] = SimpleQueue()
        self.writer = Writer(
            engine,
            policies=options.pop("policies", {"soap": Policy(), "cdyne": Policy(region="US")}),
            regions={"csoft": None, "cdyne": "US"},
            quota=options.pop("quota", Quota(1000, 100, 30)),
            deliver=self.transactions.put,
            **options,
        )
        self.writer.start()

    def put(self, *submissions: list[Receipt] | Rejection) -> list[Stored | Exception]:
        """Store, in one transaction; the result of each submission."""
        self.writer.put(
            [
                Submission(None, rejection=each)
                if isinstance(each, Rejection)
                else Submission(None, each)
                for each in submissions
            ]
        )
        return [result for _, result in self.transactions.get(timeout=20)]

    def outcomes(self, *receipts: Receipt) -> list[str]:
        """Store each as a post of its own, in one transaction; the outcomes."""
        found = []
        for result in self.put(*([each] for each in receipts)):
            assert not isinstance(result, Exception), result
            found += [verdict.outcome.value for verdict in result]
        return found

    def register(self, *messages: Message) -> list[str]:
        """Register messages as one request would; what became of each."""
        self.writer.put([Submission(None, messages=messages)])
        ((_, result),) = self.transactions.get(timeout=20)
        assert not isinstance(result, Exception), result
        return [str(each) for each in result]

    def messages(self) -> list[Any]:
        """The rows of messages, in the order they were registered."""
        with self.engine.connect() as connection:
            return list(connection.execute(select(messages).order_by(messages.c.id)))

    def message(self) -> Any:
        """The only row of messages."""
        (row,) = self.messages()
        return row

    def message_of(self, message_key: str) -> Any:
        """The only row of messages of that key."""
        (row,) = [each for each in self.messages() if each.message_key == message_key]
        return row

    def receipts(self) -> list[Any]:
        """The rows of receipts, oldest first."""
        with self.engine.connect() as connection:
            return list(connection.execute(whole(receipts).order_by(receipts.c.id)))

    def rejected(self) -> list[str]:
        """The texts of the rejected posts, oldest first."""
        with self.engine.connect() as connection:
            column = rejected_posts.c
            return list(connection.scalars(select(column.text).order_by(column.id)))
