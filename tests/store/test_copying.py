"""Copying a database into another one, of either kind."""

from __future__ import annotations

import random
from decimal import Decimal

import pytest
from sqlalchemy import delete, func, select, update

from kit.command_line import run
from kit.load import Load
from kit.server import stored, wait_until
from kit.store import Store, new_engine, receipt, rejection
from receiptd.message import Message
from receiptd.store import copying
from receiptd.store.copying import Copy
from receiptd.store.database.engine import open_engine
from receiptd.store.database.errors import StoreError
from receiptd.store.database.migrating import require
from receiptd.store.event_tables import event_log
from receiptd.store.schema import messages, metadata, receipts, rejected_posts


@pytest.fixture
def database(tmp_path, new_postgresql_database):
    """Gives the URL of a database that is not there yet, of a kind."""
    count = iter(range(10))

    def give(kind):
        if kind == "sqlite":
            return f"sqlite:///{tmp_path}/{next(count)}.db"
        return new_postgresql_database()

    return give


def fill(engine, count=200):
    """What a server that has run for a while has."""
    store = Store(engine)
    try:
        numbers = [f"4477009{number:05d}" for number in range(count)]
        store.register(*(Message("csoft", f"M{n}", numbers[n]) for n in range(0, count, 3)))
        made = [
            receipt(
                f"M{number}",
                recipient=numbers[number],
                price=Decimal("13.90"),
                text="ő\U0001f600'\\ \t",
                extra={"a": "b"},
                raw=random.randbytes(50),
            )
            for number in range(count)
        ]
        store.put(*([each] for each in made))
        store.put(*([each] for each in made[:20]))
        store.register(*(Message("csoft", f"M{n}", numbers[n]) for n in range(1, count, 3)))
        store.put(*(rejection(f"nonsense {number}") for number in range(10)))
    finally:
        store.writer.stop()


def everything(engine):
    with engine.execution_options(reads=True).connect() as connection:
        return {
            table.name: sorted(map(tuple, connection.execute(select(table))), key=repr)
            for table in metadata.sorted_tables
        }


def finished(source, target):
    """Copy until both are equal, as the command does."""
    work = Copy(source, target)
    work.begin()
    runs = [work.run().written]
    while runs[-1]:
        assert len(runs) < 5
        runs.append(work.run().written)
    work.finish()
    return runs


@pytest.mark.parametrize("to", ["sqlite", "postgresql"])
@pytest.mark.parametrize("of", ["sqlite", "postgresql"])
def test_everything_is_copied_and_ids_go_on(database, monkeypatch, of, to):
    monkeypatch.setattr(copying, "RANGE", 17)
    source, url = new_engine(database(of)), database(to)
    fill(source)
    with source.begin() as connection:  # an id that must not be given again
        newest = connection.scalar(select(func.max(rejected_posts.c.id)))
        connection.execute(delete(rejected_posts).where(rejected_posts.c.id == newest))
    target = open_engine(url)
    assert finished(source, target)[1:] == [0]
    assert everything(target) == everything(source)
    require(target)
    store = Store(target)
    store.put(rejection("the next"))
    assert store.outcomes(receipt("M199", recipient="447700900199")) is not None
    with target.connect() as connection:
        assert connection.scalar(select(func.max(rejected_posts.c.id))) == newest + 1
    store.writer.stop()


@pytest.mark.parametrize("to", ["sqlite", "postgresql"])
def test_what_changed_since_is_caught_up_with(database, monkeypatch, to):
    monkeypatch.setattr(copying, "RANGE", 13)
    source, target = new_engine(database("sqlite")), open_engine(database(to))
    fill(source)
    work = Copy(source, target)
    work.begin()
    work.run()
    with source.begin() as connection:
        connection.execute(update(messages).where(messages.c.id % 7 == 0).values(state="EXPIRED"))
        connection.execute(delete(receipts).where(receipts.c.id.between(50, 90)))
        connection.execute(delete(rejected_posts))
    fill(source, 230)
    runs = finished(source, target)
    assert runs[0] > 0
    assert everything(target) == everything(source)


def test_a_copy_that_is_not_finished_is_not_served(database):
    source, target = new_engine(database("sqlite")), open_engine(database("sqlite"))
    Copy(source, target).begin()
    with pytest.raises(StoreError, match="receiptd db copy --finish"):
        require(target)


def test_a_row_that_differs_by_one_byte_is_found(database):
    source, target = new_engine(database("sqlite")), open_engine(database("sqlite"))
    fill(source)
    work = Copy(source, target)
    work.begin()
    work.run()
    with target.execution_options(any_revision=True).begin() as connection:
        connection.execute(update(receipts).where(receipts.c.id == 77).values(raw=b"x"))
    assert work.run().written == 1
    assert everything(target) == everything(source)


def test_a_database_that_holds_anything_is_left_alone(database):
    source, target = new_engine(database("sqlite")), new_engine(database("sqlite"))
    fill(target, 3)
    before = everything(target)
    with pytest.raises(StoreError, match="not empty: there are"):
        Copy(source, target).begin()
    assert everything(target) == before


def test_a_copy_that_was_begun_is_not_taken_for_another_databases(database):
    one, other = new_engine(database("sqlite")), new_engine(database("sqlite"))
    fill(one, 5)
    fill(other, 3)
    with other.begin() as connection:  # databases of tests are copies of one
        connection.execute(update(event_log).values(store="another"))
    target = open_engine(database("sqlite"))
    work = Copy(one, target)
    work.begin()
    work.run()
    with pytest.raises(StoreError, match="a copy of another database was begun here"):
        Copy(other, target).begin()
    assert everything(target)["receipts"] == everything(one)["receipts"]


def test_the_command_copies_beside_a_server_and_finishes_without_it(
    serve, new_postgresql_database
):
    server = serve()
    source, target = f"sqlite:///{server.database}", new_postgresql_database()
    command = ("db", "copy", "--from", source, "--to", target)
    load = Load(server.port, clients=2)
    wait_until(lambda: len(load.acknowledged) > 100, "receipts come")
    first = run(*command)
    assert first.exit_code == 0, first.stderr
    assert "run this again with --finish" in first.stdout
    load.stop()
    refused = run(*command, "--finish")
    assert (refused.exit_code, "serves this database already" in refused.stderr) == (1, True)
    server.stop()
    done = run(*command, "--finish")
    assert done.exit_code == 0, done.stderr
    assert "every row is the same in both" in done.stdout
    assert sorted(stored(target)) == sorted(load.acknowledged)
    moved = serve("", options=("--database", target))
    more = Load(moved.port, clients=1)
    wait_until(lambda: len(more.acknowledged) > 5, "the new database takes receipts")
    more.stop()


def test_a_price_that_differs_by_a_digit_alone_is_copied_anew(database):
    source, target = new_engine(database("sqlite")), open_engine(database("sqlite"))
    fill(source, 5)
    work = Copy(source, target)
    work.begin()
    work.run()
    with target.execution_options(any_revision=True).begin() as connection:
        connection.execute(
            update(receipts).where(receipts.c.id == 2).values(price=Decimal("13.9"))
        )
    assert work.run().written == 1
    assert repr(everything(target)) == repr(everything(source))
