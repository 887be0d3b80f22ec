"""The store while its database does not answer: nothing is refused, lost, doubled or reordered."""

from __future__ import annotations

import errno
import os
import time
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from random import Random
from threading import Event, Thread

import pytest
from sqlalchemy.exc import OperationalError

from kit.server import SOON, wait_until
from kit.store import AT, Store, new_engine, on_sqlite, receipt, rejection
from receiptd.message import Message
from receiptd.receipt import ACCEPTED, Outcome, State
from receiptd.store.database import postgresql as database
from receiptd.store.database import watchdog
from receiptd.store.database.connection import WriterConnection
from receiptd.store.database.engine import open_engine
from receiptd.store.database.errors import refuses
from receiptd.store.database.migrating import upgrade
from receiptd.store.matching import Policy
from receiptd.store.recorder import Quota, Recorder, Submission
from receiptd.store.schema import REVISION
from receiptd.store.spool import fallback
from receiptd.store.spool.drainer import Drainer
from receiptd.store.spool.folder import Spool
from receiptd.store.spool.records import decode, encode, payload_of

QUICK = "0.3"
"""Seconds that another's turn is waited for in these tests."""


@pytest.fixture(params=["sqlite", "postgresql"])
def engine(request, tmp_path):
    """A new database, migrated, that waits shortly only."""
    if request.param == "sqlite":
        url = f"sqlite:///{tmp_path / 'receipts.db'}?timeout={QUICK}"
    else:
        url = request.getfixturevalue("new_postgresql_database")(migrated=True)
    engine = new_engine(url)
    yield engine
    engine.dispose()


on_postgresql = pytest.mark.parametrize("engine", ["postgresql"], indirect=True)


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    monkeypatch.setattr(database, "STATEMENT_TIMEOUT", float(QUICK))
    monkeypatch.setattr(fallback, "PACE", 0.05)
    monkeypatch.setattr(fallback, "LOOK_AROUND", 0.05)


@contextmanager
def locked(engine):
    """As long as another process has the turn to write, and gives it to nobody else. On
    PostgreSQL that is waited for in a statement, which then takes too long."""
    own = open_engine(engine.url.render_as_string(hide_password=False).replace(QUICK, "20"))
    with own.execution_options(patient=True).begin():
        yield
    own.dispose()


@pytest.fixture
def lock(engine):
    """Locks the test's database."""
    return lambda: locked(engine)


def recovered(store):
    wait_until(lambda: store.writer.backlog.since is None, "the spool is drained")


def ids(store):
    return [row.message_id for row in store.receipts()]


def files(folder):
    return sorted(path.suffix for path in folder.iterdir())


WAITED = {"sqlite": "database is locked", "postgresql": "due to statement timeout"}
"""What the databases say of a turn that does not come."""

AWAY = OperationalError("COMMIT", (), Exception("server closed the connection unexpectedly"))


# --- Locked


def test_a_database_that_stays_locked_has_what_came_as_soon_as_it_can(store, lock, tmp_path):
    with lock():
        assert store.outcomes(receipt("A"), receipt("B")) == ["accepted"] * 2
        backlog = store.writer.backlog
        assert backlog.since is not None
        assert WAITED[store.engine.dialect.name] in backlog.reason
        assert (backlog.records, backlog.full) == (2, False)
        assert backlog.bytes > 100
        (state,) = (tmp_path / "spool").iterdir()
        assert state.suffix == ".spool"
    recovered(store)
    assert ids(store) == ["A", "B"]
    assert store.writer.backlog == (None, "", 0, 0, False, 0, "")
    assert files(tmp_path / "spool") == []


@on_sqlite
def test_while_it_is_locked_nobody_waits_for_it(lock, tmp_path):
    engine = open_engine(f"sqlite:///{tmp_path / 'receipts.db'}?timeout=2")
    store = Store(engine, spool=Spool(tmp_path / "spool"))
    with lock():
        store.outcomes(receipt("first"))
        begun = time.monotonic()
        for number in range(20):
            store.outcomes(receipt(f"M{number}"))
        assert time.monotonic() - begun < SOON, "each would wait for two seconds"
    recovered(store)
    assert len(ids(store)) == 21
    store.writer.stop()
    engine.dispose()


def test_each_receipt_keeps_the_time_at_which_it_came(open_store, lock):
    times = iter([AT + timedelta(minutes=minute) for minute in range(100)])
    store = open_store(now=lambda: next(times))
    with lock():
        for number in range(3):
            store.outcomes(receipt(f"M{number}", reported_at=None))
    recovered(store)
    stored = [row.received_at for row in store.receipts()]
    assert stored[0] < stored[1] < stored[2] < AT + timedelta(minutes=6)


def test_a_clock_that_is_set_back_changes_no_order(open_store, lock):
    times = iter([AT - timedelta(hours=hour) for hour in range(1000)])
    store = open_store(now=lambda: next(times))
    with lock():
        for number in range(20):
            store.outcomes(receipt(f"M{number}"))
    recovered(store)
    assert ids(store) == [f"M{number}" for number in range(20)]
    assert len({row.received_at for row in store.receipts()}) == 20


def test_what_comes_while_the_spool_is_drained_is_stored_behind_it(open_store, lock):
    store = open_store()
    expected = [f"M{number}" for number in range(3000)]
    with lock():
        store.put(*([receipt(each)] for each in expected[:2500]))
        for each in expected[2500:2600]:
            store.outcomes(receipt(each))
    for each in expected[2600:]:
        store.outcomes(receipt(each))
    recovered(store)
    assert ids(store) == expected


def test_it_is_logged_once_that_it_begins_and_once_that_it_ends(store, lock, log):
    with lock():
        for number in range(10):
            store.outcomes(receipt(f"M{number}"))
    recovered(store)
    begun, ended = (text for text in log if "the database" in text)
    assert begun.startswith("the database does not store: ")
    assert f"{WAITED[store.engine.dialect.name]}. What comes is acknowledged" in begun
    assert ended.startswith("the database stores again, after ")
    assert ended.endswith("of the spool 10 posts were stored, 0 set aside")


def test_messages_are_not_spooled_but_receipts_beside_them_are(store, lock):
    message = Message("csoft", "A", "447700912345")
    with lock():
        store.writer.put([Submission(None, messages=[message]), Submission(None, [receipt("A")])])
        (_, registered), (_, stored) = store.transactions.get(timeout=20)
        assert isinstance(registered, Exception)
        assert [verdict.outcome for verdict in stored] == [Outcome.ACCEPTED]
    recovered(store)
    assert store.register(message) == ["registered"]
    assert store.message().state == State.DELIVERED.value, "adopted"


def test_only_messages_come_and_it_ends_all_the_same(store, lock):
    with lock():
        store.writer.put([Submission(None, messages=[Message("csoft", "A")])])
        ((_, result),) = store.transactions.get(timeout=20)
        assert isinstance(result, Exception)
        assert store.writer.backlog.since is not None
    recovered(store)
    assert store.register(Message("csoft", "A")) == ["registered"]


def test_what_was_spooled_is_matched_when_it_is_stored(store, lock):
    store.register(Message("csoft", "known", "447700912345"))
    with lock():
        assert store.outcomes(receipt("known"), receipt("unknown")) == ["accepted"] * 2
        assert store.outcomes(receipt("known", recipient="15550100")) == ["accepted"]
    recovered(store)
    assert [row.verdict for row in store.receipts()] == [
        "accepted",
        "unknown-message",
        "wrong-recipient",
    ]
    assert store.message().state == "DELIVERED"


def test_what_came_twice_is_stored_once_and_counted(store, lock):
    store.outcomes(receipt("A"))
    with lock():
        store.outcomes(receipt("A"), receipt("B"))
        store.outcomes(receipt("B"))
    recovered(store)
    assert [(row.message_id, row.repeats) for row in store.receipts()] == [("A", 1), ("B", 1)]


def test_rejected_posts_are_spooled_too(store, lock):
    with lock():
        (result,) = store.put(rejection("no number"))
        assert result == []
    recovered(store)
    assert store.rejected() == ["no number"]


def test_a_post_of_several_receipts_is_spooled_and_stored_once(store, lock):
    raw = b"x" * 50_000
    with lock():
        store.put([receipt(f"M{number}", raw=raw) for number in range(100)], [receipt("alone")])
        assert store.writer.backlog.bytes < 2 * len(raw)
    recovered(store)
    assert [row.raw for row in store.receipts()] == [raw] * 100 + [b"raw"]
    assert [row.post_id for row in store.receipts()] == [1] * 100 + [None]


def test_receipts_of_an_endpoint_that_is_gone_are_stored(engine, lock, tmp_path):
    spool = Spool(tmp_path / "spool")
    spool.open()
    spool.append([encode(Submission(None, [receipt("A", endpoint="gone")]), AT)])
    spool.close()
    store = Store(engine, spool=Spool(tmp_path / "spool"))
    recovered(store)
    assert ids(store) == ["A"]
    store.writer.stop()


@on_sqlite
def test_a_file_that_is_deleted_is_not_written_on(store, tmp_path):
    file = tmp_path / "receipts.db"
    store.outcomes(receipt("deleted"))
    for each in tmp_path.glob("receipts.db*"):
        each.unlink()
    assert store.outcomes(receipt("A")) == ["accepted"]
    assert f"{file} is gone" in store.writer.backlog.reason
    assert not file.exists(), "the next start begins a new one, no attempt to store"
    store.engine.dispose()
    upgrade(store.engine)
    recovered(store)
    assert store.outcomes(receipt("B")) == ["accepted"]
    assert ids(store) == ["A", "B"]


@on_sqlite
def test_a_file_that_takes_its_place_is_written_from_then_on(store, tmp_path):
    store.outcomes(receipt("before"))
    other = open_engine(f"sqlite:///{tmp_path / 'other.db'}")
    upgrade(other)
    other.dispose()
    for each in tmp_path.glob("receipts.db*"):
        each.unlink()
    (tmp_path / "other.db").rename(tmp_path / "receipts.db")
    assert store.outcomes(receipt("after")) == ["accepted"]
    store.engine.dispose()
    assert ids(store) == ["after"]


# --- Stopping, starting, crashing


def test_what_cannot_be_stored_when_the_server_stops_is_stored_after_the_next_start(
    open_store, lock, log
):
    store = open_store()
    with lock():
        for number in range(5):
            store.writer.put([Submission(None, [receipt(f"M{number}")])])
        store.writer.stop()
        assert any("5 posts stay in" in text for text in log)
        again = open_store()
        again.outcomes(receipt("later"))
    recovered(again)
    assert ids(again) == [*(f"M{number}" for number in range(5)), "later"]


def test_what_can_be_stored_when_the_server_stops_is(open_store, lock, tmp_path, monkeypatch):
    monkeypatch.setattr(watchdog, "AT_THE_END", 30.0)  # a busy machine takes longer than usual
    store = open_store()
    with lock():
        store.put(*([receipt(f"M{number}")] for number in range(1500)))
    store.writer.stop()
    assert len(ids(store)) == 1500
    assert files(tmp_path / "spool") == []


def test_what_an_ended_process_left_is_stored_by_another_one_that_runs(open_store, tmp_path, log):
    store = open_store()
    store.outcomes(receipt("A"))
    ended = Spool(tmp_path / "spool")
    ended.open()
    ended.append([encode(Submission(None, [receipt("B")]), AT)])
    assert ids(store) == ["A"]
    ended.close()
    wait_until(lambda: len(ids(store)) == 2, "the other's records are stored")
    recovered(store)
    assert store.outcomes(receipt("C"), receipt("B")) == ["accepted", "duplicate"]
    begun, ended = log
    assert begun == f"storing what an earlier process left in {tmp_path / 'spool'}"
    assert ended.startswith("the spool is drained, after ")
    assert ended.endswith(" of the spool 1 posts were stored, 0 set aside")


def drainer(engine, folder, **quota):
    spool = Spool(folder)
    spool.open()
    spool.adopt()
    recorder = Recorder(
        engine, policies={"soap": Policy()}, quota=Quota(1000, 100, 30)._replace(**quota)
    )
    connection = WriterConnection(engine)
    return spool, Drainer(spool, recorder, connection.transact), connection


RECORDS = [
    *(encode(Submission(None, [receipt(f"M{number}")]), AT) for number in range(3)),
    encode(Submission(None, rejection=rejection("first", received_at=AT)), AT),
    encode(Submission(None, [receipt("M0")]), AT),
    *(
        encode(Submission(None, [receipt(f"M{number}")]), AT + timedelta(seconds=1))
        for number in range(3, 5)
    ),
    encode(Submission(None, rejection=rejection("second", received_at=AT)), AT),
    encode(Submission(None, [receipt(f"B{number}", raw=b"batch") for number in range(2)]), AT),
]


@pytest.mark.parametrize("crashes", [0, 1, 2])
def test_a_crash_between_commit_and_position_doubles_nothing(
    engine, tmp_path, monkeypatch, crashes
):
    folder = tmp_path / "spool"
    spool, _, _ = drainer(engine, folder)
    spool.append(RECORDS)
    spool.close()
    for _ in range(crashes):
        spool, drains, connection = drainer(engine, folder)
        monkeypatch.setattr(spool, "done", raising(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            drains.step()
        connection.close()
        spool.close()
    spool, drains, connection = drainer(engine, folder)
    while drains.step():
        pass
    connection.close()
    store = Store(engine, spool=spool)
    assert [(row.message_id, row.repeats) for row in store.receipts()] == [
        ("M0", 1),
        ("M1", 0),
        ("M2", 0),
        ("M3", 0),
        ("M4", 0),
        ("B0", 0),
        ("B1", 0),
    ]
    assert [row.raw for row in store.receipts()] == [b"raw"] * 5 + [b"batch"] * 2
    with engine.connect() as connection:
        assert connection.exec_driver_sql("SELECT count(*) FROM posts").scalar_one() == 1
    assert store.rejected() == ["first", "second"]
    store.writer.stop()


def raising(error):
    def function(*arguments):
        raise error

    return function


@pytest.mark.parametrize("after", [False, True], ids=["before the commit", "after it"])
def test_a_commit_that_nobody_knows_of_doubles_nothing(open_store, monkeypatch, after):
    real, left = WriterConnection.transact, [AWAY] * 3

    def transact(connection, work):
        if left and not after:
            raise left.pop()
        result = real(connection, work)
        if left:
            raise left.pop()
        return result

    # One is the writer's, the others are the drainer's.
    monkeypatch.setattr(WriterConnection, "transact", transact)
    store = open_store()
    several = [receipt("C", raw=b"both"), receipt("D", raw=b"both")]
    answers = store.put([receipt("A")], [receipt("B")], [receipt("A")], several, rejection("one"))
    assert answers == [[ACCEPTED], [ACCEPTED], [ACCEPTED], [ACCEPTED] * 2, []]
    recovered(store)
    assert not left
    assert [(row.message_id, row.repeats, row.post_id) for row in store.receipts()] == [
        ("A", 1, None),
        ("B", 0, None),
        ("C", 0, 1),
        ("D", 0, 1),
    ]
    assert {row.raw for row in store.receipts()[2:]} == {b"both"}
    with store.engine.connect() as connection:
        assert connection.exec_driver_sql("SELECT count(*) FROM posts").scalar_one() == 1
    assert store.rejected() == ["one"]


# --- What the database refuses


def test_a_spooled_receipt_that_the_database_refuses_keeps_nobody_waiting(engine, tmp_path, log):
    folder = tmp_path / "spool"
    spool, drains, connection = drainer(engine, folder)
    bad = receipt("bad", last_try=2**70, raw=b"the post")
    posts = [receipt("A"), bad, receipt("B"), receipt("C")]
    spool.append([encode(Submission(None, [each]), AT) for each in posts])
    while drains.step():
        pass
    connection.close()
    assert (drains.stored, drains.set_aside) == (3, 1)
    store = Store(engine, spool=spool)
    assert ids(store) == ["A", "B", "C"]
    (text,) = store.rejected()
    assert text.startswith("the database refuses the receipt: ")
    store.writer.stop()
    (path,) = folder.iterdir()
    assert path.suffix == ".refused"
    assert str(path) in log[-1]
    _, line = path.read_bytes().splitlines(keepends=True)
    assert decode(payload_of(line)).submission.receipts == (bad,)
    path.rename(path.with_suffix(".spool"))
    spool, drains, connection = drainer(engine, folder)
    assert [entry.received_at for entry in spool.head(1).entries] == [AT]
    spool.close()


@on_postgresql
def test_a_spooled_rejection_that_the_database_refuses_is_kept_in_a_file(engine, tmp_path):
    folder = tmp_path / "spool"
    spool, drains, connection = drainer(engine, folder)
    posts = [rejection("good"), rejection("no\0text"), rejection("good too")]
    spool.append([encode(Submission(None, rejection=each), AT) for each in posts])
    while drains.step():
        pass
    connection.close()
    assert files(folder) == [".refused"]
    store = Store(engine, spool=spool)
    assert store.rejected() == ["good", "good too"]
    store.writer.stop()


@on_postgresql
def test_what_exceeds_a_limit_of_postgresql_is_refused_alone(open_store):
    large = Random(1).randbytes(10_000).hex()  # so that it cannot be compressed into the index
    store = open_store()
    results = store.put([receipt("A")], [receipt(large)], [receipt("B")])
    assert [isinstance(result, Exception) for result in results] == [False, True, False]
    assert store.writer.backlog.since is None
    assert ids(store) == ["A", "B"]


def test_what_is_refused_is_told_from_a_database_that_is_not_as_it_should_be(engine):
    with (
        engine.connect() as connection,
        pytest.raises(Exception, match="nowhere") as missing,
    ):
        connection.exec_driver_sql("INSERT INTO nowhere VALUES (1)")
    assert not refuses(missing.value)
    assert not refuses(AWAY)
    assert not refuses(OSError())
    assert refuses(OverflowError())


# --- Full


def test_a_full_spool_is_busy_until_there_is_room(open_store, lock, tmp_path, log):
    store = open_store(spool=Spool(tmp_path / "spool", limit=20_000))
    with lock():
        accepted = []
        for number in range(40):
            (result,) = store.put([receipt(f"M{number}", raw=b"x" * 500)])
            if not isinstance(result, Exception):
                accepted.append(f"M{number}")
        assert 10 < len(accepted) < 30
        assert store.writer.backlog.full
    recovered(store)
    assert ids(store) == accepted
    assert store.outcomes(receipt("later")) == ["accepted"]
    assert [text for text in log if "spool is full" in text] == [
        f"the spool is full, posts are answered busy: {tmp_path / 'spool'}: the limit of 20000 "
        "bytes is reached"
    ]


def fill(disk):
    """Take all that is left of a file system."""
    with (disk / "filler").open("wb", buffering=0) as file:
        for size in (65536, 4096, 1):
            try:
                while file.write(b"\0" * size):
                    pass
            except OSError:
                continue
    return disk / "filler"


@pytest.mark.parametrize("own_disk", [True, False], ids=["spool elsewhere", "spool beside it"])
def test_a_full_disk_of_the_database_mends_without_a_restart(small_disk, tmp_path, own_disk):
    disk = small_disk(4 * 1024 * 1024)
    engine = new_engine(f"sqlite:///{disk / 'receipts.db'}")
    store = Store(engine, spool=Spool((tmp_path if own_disk else disk) / "spool"))
    assert store.outcomes(receipt("before")) == ["accepted"]
    filler = fill(disk)
    acknowledged = ["before"]
    refused = 0
    for number in range(40):
        (result,) = store.put([receipt(f"M{number}", raw=b"x" * 20_000)])
        if isinstance(result, Exception):
            refused += 1
        else:
            acknowledged.append(f"M{number}")
    assert store.writer.backlog.since is not None
    assert (refused == 0) == own_disk
    filler.unlink()
    recovered(store)
    assert store.outcomes(receipt("after")) == ["accepted"]
    assert ids(store) == [*acknowledged, "after"]
    store.writer.stop()
    engine.dispose()


BREAKS = {
    "sqlite": ["ALTER TABLE {0} RENAME TO others"],
    "postgresql": [
        "CREATE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
        "RAISE 'could not extend file: No space left on device' USING ERRCODE = '53100'; END $$",
        "CREATE TRIGGER fails BEFORE INSERT ON {0} FOR EACH ROW EXECUTE FUNCTION fail()",
    ],
}
"""Has the database store nothing in one of its tables, as a full disk may, though it answers."""

MENDS = {
    "sqlite": ["ALTER TABLE others RENAME TO {0}"],
    "postgresql": ["DROP TRIGGER fails ON {0}"],
}


def change(engine, statements, table):
    """Do this to a table."""
    with engine.begin() as connection:
        for each in statements[engine.dialect.name]:
            connection.exec_driver_sql(each.format(table))


@pytest.fixture
def tries(monkeypatch):
    """How often the database was tried in vain."""
    real, errors = WriterConnection.transact, []

    def transact(connection, work):
        try:
            return real(connection, work)
        except Exception as error:
            errors.append(error)
            raise

    monkeypatch.setattr(WriterConnection, "transact", transact)
    return errors


@pytest.mark.parametrize(
    ("table", "submission"),
    [
        ("receipts", Submission(None, [receipt("A")])),
        ("rejected_posts", Submission(None, rejection=rejection())),
        ("matching", Submission(None, messages=[Message("csoft", "A")])),
    ],
    ids=["receipts", "rejected posts", "messages"],
)
def test_it_does_not_end_before_that_can_be_stored_which_could_not(
    open_store, tmp_path, tries, log, table, submission
):
    store = open_store(spool=Spool(tmp_path / "spool", limit=1))
    change(store.engine, BREAKS, table)
    for number in range(1, 6):
        store.writer.put([submission])
        ((_, result),) = store.transactions.get(timeout=20)
        assert isinstance(result, Exception)
        wait_until(lambda least=5 * number: len(tries) >= least, "it is tried")
        assert store.writer.backlog.since is not None
        assert store.writer.backlog.full == (table != "matching")
    change(store.engine, MENDS, table)
    recovered(store)  # though nobody posts
    assert (store.receipts(), store.rejected(), store.messages()) == ([], [], [])
    assert [text.partition(":")[0] for text in log if "the spool is full" not in text] == [
        "the database does not store",
        f"the database stores again, after {log[-1].split()[5]} s",
    ]
    assert len(log) == 2 + (table != "matching")
    store.writer.put([submission])
    ((_, result),) = store.transactions.get(timeout=20)
    assert not isinstance(result, Exception)


def test_it_ends_though_what_could_not_be_stored_is_refused_now(open_store, tmp_path, tries):
    store = open_store(spool=Spool(tmp_path / "spool", limit=1))
    change(store.engine, BREAKS, "receipts")
    results = store.put([receipt("A")], [receipt("bad", part=2**70)])
    assert all(isinstance(result, Exception) for result in results)
    change(store.engine, MENDS, "receipts")
    recovered(store)
    assert any(refuses(error) for error in tries)
    assert ids(store) == []


def test_no_more_than_a_sample_is_kept_of_what_could_not_be_stored(
    open_store, lock, tmp_path, monkeypatch
):
    store = open_store(spool=Spool(tmp_path / "spool", limit=1))
    sizes = []
    real = Recorder.record

    def record(recorder, connection, batch, times, **options):
        sizes.append([len(each.receipts) + len(each.messages) for each in batch])
        return real(recorder, connection, batch, times, **options)

    posts = [Submission("a request", [receipt(f"{n}-{m}") for m in range(150)]) for n in range(3)]
    messages = Submission("a request", messages=[Message("csoft", f"{n}") for n in range(150)])
    with lock():
        store.writer.put([*posts, messages])
        store.transactions.get(timeout=20)
        monkeypatch.setattr(Recorder, "record", record)
    recovered(store)
    assert sizes == [[100, 100]]
    assert ids(store) == []


@pytest.mark.parametrize("left", [2, 8, 16])
def test_a_disk_that_is_all_but_full_is_full_for_good(small_disk, tmp_path, tries, log, left):
    # With room for something smaller than what a receipt needs.
    disk = small_disk(4 * 1024 * 1024)
    engine = new_engine(f"sqlite:///{disk / 'receipts.db'}")
    store = Store(engine, spool=Spool(tmp_path / "spool", limit=1))
    with engine.execution_options(reads=True).connect() as connection:
        # As long as it reads, the log is not begun anew.
        connection.exec_driver_sql("SELECT 1 FROM receipts").all()
        filler = fill(disk)
        os.truncate(filler, filler.stat().st_size - left * 4096)
        stored = 0
        for number in range(60):
            (result,) = store.put([receipt(f"M{number}", raw=b"x" * 5000)])
            stored += not isinstance(result, Exception)
        wait_until(lambda: len(tries) >= 5, "it is tried")
        assert store.writer.backlog.full
    filler.unlink()
    recovered(store)
    assert store.outcomes(receipt("after")) == ["accepted"]
    assert len(ids(store)) == stored + 1
    assert len(log) == 3, "it began, the spool was full, it ended"
    store.writer.stop()
    engine.dispose()


def test_the_log_of_a_full_sqlite_gives_back_its_room(small_disk, tmp_path, monkeypatch, tries):
    monkeypatch.setattr(fallback, "PACE", 0.3)  # so that there is room before a try begins
    disk = small_disk(4 * 1024 * 1024)
    engine = new_engine(f"sqlite:///{disk / 'receipts.db'}")
    store = Store(engine, spool=Spool(tmp_path / "spool"))
    filler = disk / "filler"
    filler.write_bytes(bytes(1024 * 1024))
    count = 0
    with engine.execution_options(reads=True).connect():
        while store.writer.backlog.since is None:
            store.outcomes(receipt(f"M{count}"))
            count += 1
        log = disk / "receipts.db-wal"
        before, tried = log.stat().st_size, len(tries)
        wait_until(lambda: len(tries) > tried, "it is tried")
        filler.unlink()
        recovered(store)
        assert log.stat().st_size < before / 2
        assert len(ids(store)) == count
    store.writer.stop()
    engine.dispose()


@on_sqlite
def test_a_log_that_somebody_reads_is_not_waited_for(open_store, tmp_path):
    store = open_store()
    store.outcomes(receipt("A"))
    connection = WriterConnection(store.engine)
    with store.engine.execution_options(reads=True).connect() as reader:
        reader.exec_driver_sql("SELECT * FROM receipts").all()
        store.outcomes(receipt("B"))
        begun = time.monotonic()
        assert not connection.truncate_log()
        assert time.monotonic() - begun < 4, "SQLite's own way is to wait for five"
    assert connection.truncate_log()
    assert (tmp_path / "receipts.db-wal").stat().st_size == 0
    assert ids(store) == ["A", "B"]


@on_sqlite
def test_a_full_spool_that_has_room_again_says_so_though_nobody_posts(
    open_store, lock, small_disk, log
):
    # Whoever goes by /readyz sends nothing as long as it says that nothing is taken.
    disk = small_disk(1024 * 1024)
    store = open_store(spool=Spool(disk / "spool"))
    filler = fill(disk)
    with lock():
        (result,) = store.put([receipt("A")])
        assert isinstance(result, Exception)
        assert store.writer.backlog.full
        filler.unlink()
        wait_until(lambda: not store.writer.backlog.full, "there is room")
        assert store.writer.backlog.since is not None
        assert store.outcomes(receipt("B")) == ["accepted"]
    recovered(store)
    assert ids(store) == ["B"]
    assert log.count("the spool takes posts again") == 1
    assert files(disk / "spool") == []


def test_a_spool_that_cannot_be_tidied_ends_the_detour_all_the_same(
    store, lock, tmp_path, monkeypatch, log
):
    def unlink(path):
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(os, "unlink", unlink)
    with lock():
        assert store.outcomes(receipt("A"), receipt("B")) == ["accepted"] * 2
    recovered(store)
    assert store.outcomes(receipt("C"), receipt("A")) == ["accepted", "duplicate"]
    assert ids(store) == ["A", "B", "C"]
    assert len([text for text in log if "Read-only file system" in text]) == 1


# --- PostgreSQL

END_OTHERS = (
    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
    "WHERE pid <> pg_backend_pid() AND datname = current_database()"
)


@on_postgresql
def test_a_connection_that_postgresql_ends_refuses_nobody(open_store, log):
    store = open_store()
    store.outcomes(receipt("A"))
    with store.engine.connect() as connection:
        connection.exec_driver_sql(END_OTHERS)
    assert store.outcomes(receipt("B")) == ["accepted"]
    recovered(store)
    assert store.outcomes(receipt("C"), receipt("B")) == ["accepted", "duplicate"]
    assert ids(store) == ["A", "B", "C"]


@on_postgresql
def test_a_full_disk_of_postgresql_mends_without_a_restart(open_store, small_disk, tmp_path):
    disk = small_disk(4 * 1024 * 1024)
    (disk / "space").mkdir()
    store = open_store()
    administrator = store.engine.execution_options(isolation_level="AUTOCOMMIT", reads=True)
    with administrator.connect() as connection:
        connection.exec_driver_sql("SET statement_timeout = 0")
        owner = Path(connection.exec_driver_sql("SHOW data_directory").scalar_one()).stat()
        os.chown(disk / "space", owner.st_uid, owner.st_gid)
        for folder in (disk, *disk.parents[: len(disk.parents) - 2]):
            folder.chmod(folder.stat().st_mode | 0o011)  # PostgreSQL may be another user
        connection.exec_driver_sql(f"CREATE TABLESPACE small LOCATION '{disk / 'space'}'")
        connection.exec_driver_sql("ALTER TABLE receipts SET TABLESPACE small")
        filler = fill(disk)
        raw = Random(1).randbytes(20_000)  # so that it cannot be compressed
        acknowledged = [f"M{number}" for number in range(40)]
        for each in acknowledged:
            assert store.outcomes(receipt(each, raw=raw)) == ["accepted"]
        assert "No space left on device" in store.writer.backlog.reason
        filler.unlink()
        recovered(store)
        assert store.outcomes(receipt("after")) == ["accepted"]
        assert ids(store) == [*acknowledged, "after"]
        store.writer.stop()
        connection.exec_driver_sql("ALTER TABLE receipts SET TABLESPACE pg_default")
        connection.exec_driver_sql("DROP TABLESPACE small")


@on_postgresql
@pytest.mark.parametrize(
    ("breaks", "mends"),
    [
        (
            "ALTER DATABASE {0} SET default_transaction_read_only = on",
            "ALTER DATABASE {0} SET default_transaction_read_only = off",
        ),
        ("ALTER TABLE receipts RENAME TO others", "ALTER TABLE others RENAME TO receipts"),
    ],
    ids=["read-only", "without its table"],
)
def test_a_postgresql_that_is_not_as_it_should_be_is_waited_for(open_store, breaks, mends):
    store = open_store()
    administrator = store.engine.execution_options(isolation_level="AUTOCOMMIT", reads=True)
    with administrator.connect() as connection:
        connection.exec_driver_sql(breaks.format(store.engine.url.database))
        connection.exec_driver_sql(END_OTHERS)
        assert store.outcomes(receipt("A")) == ["accepted"]
        assert store.writer.backlog.since is not None
        connection.exec_driver_sql(mends.format(store.engine.url.database))
    store.engine.dispose()
    recovered(store)
    assert ids(store) == ["A"]


def test_postgresql_is_not_waited_for_without_end(new_postgresql_database, tmp_path, monkeypatch):
    monkeypatch.setattr(database, "STATEMENT_TIMEOUT", 0.3)
    engine = new_engine(new_postgresql_database())
    store = Store(engine, spool=Spool(tmp_path / "spool"))
    held, release = Event(), Event()

    def hold():
        with engine.begin():
            held.set()
            release.wait(20)

    holder = Thread(target=hold)
    holder.start()
    held.wait(20)
    assert store.outcomes(receipt("A")) == ["accepted"]
    assert "statement timeout" in store.writer.backlog.reason
    release.set()
    holder.join()
    recovered(store)
    assert ids(store) == ["A"]
    store.writer.stop()
    engine.dispose()


@on_sqlite
def test_looking_at_the_revision_waits_for_nobody(engine, lock):
    with lock():
        assert upgrade(engine) == REVISION


def test_the_url_may_say_how_long_to_wait():
    with open_engine("sqlite:///?timeout=0.3", writes=False).connect() as connection:
        assert connection.exec_driver_sql("PRAGMA busy_timeout").scalar() == 300
