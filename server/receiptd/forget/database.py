"""Forgetting a person in the database: a few rows at a time, beside running servers.

Every table is gone through once, in the order of its ids, by a reader, and what has to change is
changed in short transactions. A run that is stopped is done again: what is done already is found
no more, and nothing but the tables says how far it came. So receipts come before the messages by
which some of them are found.

What comes while it runs, and later, is not affected.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import partial
from threading import Event
from typing import Any, TypeVar, cast

from sqlalchemy import Connection, Engine, Executable, Table, delete, exists, func, select, update
from sqlalchemy.exc import IntegrityError

from receiptd.forget import forwarding, shared_posts
from receiptd.forget.rows import Whom
from receiptd.store.database.engine import open_engine
from receiptd.store.database.write_turns import WriteTurns
from receiptd.store.posts import is_unused
from receiptd.store.retention import SHARE
from receiptd.store.schema import aliases, messages, posts, receipts, rejected_posts

PAGE = 200
"""Rows read at once: each may have a post of a megabyte."""

_LOG_TIMEOUT = 10.0
"""Seconds that readers are waited for who keep SQLite's write-ahead log from being emptied."""

T = TypeVar("T")
Row = Mapping[str, Any]
Changes = dict[str, Any]
Watch = Callable[[str, int, int], object]
"""Is told the table's name, how many ids of it are done with, and how many there are."""


@dataclass
class Forgotten:
    """How many rows were, or would be, deleted (or pseudonymised) and blanked."""

    receipts: int = 0
    messages: int = 0
    rejected_posts: int = 0
    waiting: int = 0
    """Events that wait for a destination or are its dead letters."""
    aliases: int = 0
    posts: int = 0
    """Posts that brought receipts of others, too: the person is blanked in them."""
    mentions: int = 0
    """Rows about others that mention the person, who is blanked in them."""
    spool: int = 0
    """Receipts and rejected posts in the spool's files."""

    def __iter__(self) -> Iterator[tuple[str, int]]:
        return ((each.name, getattr(self, each.name)) for each in fields(self))


class Forgetting:
    """One run over the database."""

    def __init__(
        self, engine: Engine, whom: Whom, *, dry_run: bool = False, stop: Event | None = None
    ) -> None:
        """
        :param engine: opened for writing; of a dry run, for reading will do.
        :param dry_run: whether it is only counted.
        :param stop: ends the run when set: after the transaction that is under way.
        """
        self.forgotten = Forgotten()
        self.log_truncated = True
        """Whether SQLite's write-ahead log has nothing of what was deleted any more."""
        self._engine = engine
        self._whom = whom
        self._dry_run = dry_run
        self._stop = stop or Event()
        self._url = engine.url.render_as_string(hide_password=False)
        self._turns = WriteTurns(engine, share=SHARE, rest=self._stop.wait)
        self._watch: Watch = lambda table, done, ids: None

    def run(self, watch: Watch | None = None) -> Forgotten:
        """Forget, until nothing is left to or the run is stopped.

        :param watch: is told how far it is.
        :raises StoreTaken: where the database stays locked.
        """
        self._watch = watch or self._watch
        reader = open_engine(self._url, writes=False)
        try:
            about, mentions = self._find_messages(reader)
            self._receipts(reader, frozenset(row["id"] for row in about))
            self._posts(reader)
            self._rejected(reader)
            self._take(about, self._drop_messages)
            self._take(mentions, partial(self._change, messages))
            self._names(reader)
            self._waiting(reader)
        finally:
            reader.dispose()
        if not self._dry_run and self._engine.dialect.name == "sqlite":
            self.log_truncated = self._truncate_log()
        return self.forgotten

    def _pages(self, reader: Engine, table: Table) -> Iterator[Sequence[Row]]:
        with reader.connect() as connection:
            first = connection.execute(select(func.min(table.c.id))).scalar_one() or 0
            last = connection.execute(select(func.max(table.c.id))).scalar_one() or 0
        at = first - 1
        statement = select(table).order_by(table.c.id).limit(PAGE)
        while at < last and not self._stop.is_set():
            with reader.connect() as connection:
                page = connection.execute(statement.where(table.c.id > at)).mappings().all()
            if not page:
                return
            yield cast(Sequence[Row], page)
            at = page[-1]["id"]
            self._watch(table.name, min(at, last) - first + 1, last - first + 1)

    def _take(self, some: Sequence[T], work: Callable[[Connection, Sequence[T]], object]) -> None:
        """Do `work` for all of `some`, as many at a time as a transaction should change."""
        while some and not self._dry_run and not self._stop.is_set():
            batch, some = some[: self._turns.batch], some[self._turns.batch :]
            self._turns.take(partial(_securely, work, batch))

    def _find_messages(self, reader: Engine) -> tuple[list[Row], list[tuple[int, Changes]]]:
        about: list[Row] = []
        mentions: list[tuple[int, Changes]] = []
        for page in self._pages(reader, messages):
            for row in page:
                if self._whom.about(row):
                    about.append(row)
                elif changes := self._whom.blanked(row):
                    mentions.append((row["id"], changes))
        self.forgotten.messages += len(about)
        self.forgotten.mentions += len(mentions)
        if self._dry_run and self._whom.pseudonyms is None:
            with reader.connect() as connection:
                for row in about:
                    self.forgotten.waiting += forwarding.count(connection, (), [row["id"]])
        return about, mentions

    def _receipts(self, reader: Engine, of_messages: frozenset[int]) -> None:
        whom = self._whom
        for page in self._pages(reader, receipts):
            about = [row for row in page if whom.about(row, of_messages)]
            ids = {row["id"] for row in about}
            mentions = [
                (row["id"], changes)
                for row in page
                if row["id"] not in ids and (changes := whom.blanked(row))
            ]
            self.forgotten.receipts += len(about)
            self.forgotten.mentions += len(mentions)
            if self._dry_run and ids and whom.pseudonyms is None:
                with reader.connect() as connection:
                    self.forgotten.waiting += forwarding.count(connection, ids)
            self._take(about, self._drop_receipts)
            self._take(mentions, partial(self._change, receipts))

    def _drop_receipts(self, connection: Connection, about: Sequence[Row]) -> None:
        if self._whom.pseudonyms is None:
            ids = [row["id"] for row in about]
            self.forgotten.waiting += forwarding.drop(connection, ids)
            connection.execute(delete(receipts).where(receipts.c.id.in_(ids)))
        else:
            changes = [(row["id"], self._whom.pseudonymised(row)) for row in about]
            self._change(receipts, connection, changes)
        self.forgotten.posts += shared_posts.clear(connection, self._whom, about)

    def _posts(self, reader: Engine) -> None:
        for page in self._pages(reader, posts):
            found = [
                (row["id"], {"raw": raw})
                for row in page
                if (raw := self._whom.person.blanked(row["raw"])) is not row["raw"]
            ]
            self.forgotten.posts += len(found)
            self._take(found, self._change_posts)

    def _change_posts(self, connection: Connection, found: Sequence[tuple[int, Changes]]) -> None:
        for number, changes in found:
            itself = posts.c.id == number
            if not connection.execute(delete(posts).where(itself, is_unused())).rowcount:
                connection.execute(update(posts).where(itself).values(**changes))

    def _rejected(self, reader: Engine) -> None:
        within = self._whom.person.within
        for page in self._pages(reader, rejected_posts):
            ids = [
                row["id"]
                for row in page
                if any(within(row[name]) for name in ("raw", "text", "field", "content_type"))
            ]
            self.forgotten.rejected_posts += len(ids)
            self._take(ids, _drop_rejected)

    def _drop_messages(self, connection: Connection, about: Sequence[Row]) -> None:
        if self._whom.pseudonyms is not None:
            changes = [(row["id"], self._whom.pseudonymised(row)) for row in about]
            self._change(messages, connection, changes)
            return
        ids = [row["id"] for row in about]
        self.forgotten.waiting += forwarding.drop(connection, (), ids)
        _delete_messages(connection, ids)
        for provider, key in {(row["provider"], row["message_key"]) for row in about}:
            of_others = exists().where(
                messages.c.message_key == key, messages.c.provider == provider
            )
            self.forgotten.aliases += connection.execute(
                delete(aliases).where(
                    aliases.c.provider == provider, aliases.c.message_key == key, ~of_others
                )
            ).rowcount

    def _change(
        self, table: Table, connection: Connection, found: Sequence[tuple[int, Changes]]
    ) -> None:
        """Change rows. One that then says the same as another is a repetition of that, and goes:
        the person's receipt may have come again since they were forgotten."""
        for number, changes in found:
            itself = table.c.id == number
            try:
                with connection.begin_nested():
                    connection.execute(update(table).where(itself).values(**changes))
            except IntegrityError:
                if table is messages:
                    _delete_messages(connection, [number])
                else:
                    connection.execute(delete(table).where(itself))

    def _names(self, reader: Engine) -> None:
        """Delete names of messages that hold the number."""
        within = self._whom.person.within
        with reader.connect() as connection:
            found = [
                (row.provider, row.alias_key)
                for row in connection.execute(select(aliases))
                if within(row.alias_key) or within(row.message_key)
            ]
        self.forgotten.aliases += len(found)
        self._take(found, _drop_names)

    def _waiting(self, reader: Engine) -> None:
        with reader.connect() as connection:
            mentions = forwarding.mentions(connection, self._whom)
        self._take(mentions, _execute)
        if not self._dry_run and not self._stop.is_set():
            self.forgotten.waiting += self._turns.take(forwarding.drop_orphans)

    def _truncate_log(self) -> bool:
        """Have SQLite copy its write-ahead log into the database and empty it: it has the rows as
        they were. Whether it did: a reader may be in the way."""
        connection = self._engine.raw_connection()  # as this is not done in a transaction
        try:
            cursor = connection.cursor()
            cursor.execute(f"PRAGMA busy_timeout = {_LOG_TIMEOUT * 1000:.0f}")
            busy, *_ = cursor.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
            return not busy
        finally:
            connection.invalidate()


def _securely(
    work: Callable[[Connection, Sequence[T]], object], batch: Sequence[T], connection: Connection
) -> None:
    """Do `work`, and have SQLite overwrite with zeros what it deletes."""
    if connection.dialect.name == "sqlite":
        connection.exec_driver_sql("PRAGMA secure_delete = ON")
    work(connection, batch)


def _drop_rejected(connection: Connection, ids: Sequence[int]) -> None:
    connection.execute(delete(rejected_posts).where(rejected_posts.c.id.in_(ids)))


def _delete_messages(connection: Connection, ids: Sequence[int]) -> None:
    connection.execute(
        update(receipts).where(receipts.c.message_ref.in_(ids)).values(message_ref=None)
    )
    connection.execute(delete(messages).where(messages.c.id.in_(ids)))


def _drop_names(connection: Connection, names: Sequence[tuple[str, str]]) -> None:
    for provider, key in names:
        connection.execute(
            delete(aliases).where(aliases.c.provider == provider, aliases.c.alias_key == key)
        )


def _execute(connection: Connection, statements: Sequence[Executable]) -> None:
    for each in statements:
        connection.execute(each)
