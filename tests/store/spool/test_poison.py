"""A spooled record that cannot be stored, whatever it does: it alone is set aside, in the end."""

from __future__ import annotations

import multiprocessing
import signal
from datetime import timedelta

import pytest
from click.testing import CliRunner
from sqlalchemy.exc import OperationalError

from kit.poison import drain_and_die
from kit.server import wait_until
from kit.store import AT, Store, on_sqlite, receipt
from receiptd.cli import main
from receiptd.message import Message
from receiptd.store.recorder import Recorder, Submission
from receiptd.store.spool import fallback
from receiptd.store.spool.drainer import TRIES
from receiptd.store.spool.folder import Spool
from receiptd.store.spool.records import decode, encode, payload_of
from receiptd.store.spool.survey import survey

FAULTS = {
    "memory": lambda: MemoryError("too much"),
    "descriptors": lambda: OSError(24, "Too many open files"),
    "a lost connection": lambda: OperationalError("INSERT", (), Exception("server closed it")),
    "our mistake": lambda: ZeroDivisionError("by zero"),
    "recursion": lambda: RecursionError("too deep"),
}


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    monkeypatch.setattr(fallback, "PACE", 0.01)
    monkeypatch.setattr(fallback, "LOOK_AROUND", 0.05)


def spooled(folder, names):
    """A spool that a process has left: a record of each name."""
    spool = Spool(folder)
    spool.open()
    spool.append(
        [
            encode(Submission(None, [receipt(name)]), AT + timedelta(seconds=number))
            for number, name in enumerate(names)
        ]
    )
    spool.close()


def poisoned(monkeypatch, fault, name="poison"):
    """Have the recorder fail by `fault` where a receipt has this name."""
    record = Recorder.record

    def failing(self, connection, batch, times, **options):
        if any(each.message_id == name for one in batch for each in one.receipts):
            fault()
        return record(self, connection, batch, times, **options)

    monkeypatch.setattr(Recorder, "record", failing)


def raises(make):
    def fault():
        raise make()

    return fault


def set_aside(folder):
    """The names in the files of what is set aside."""
    return [
        each.message_id
        for path in sorted(folder.glob("*.refused"))
        for line in path.read_bytes().splitlines(keepends=True)[1:]
        for each in decode(payload_of(line)).submission.receipts
    ]


def names(store):
    return [row.message_id for row in store.receipts()]


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
@pytest.mark.parametrize("at", [0, 699], ids=["the first", "the last"])
def test_one_that_fails_is_set_aside_and_the_others_are_stored(
    engine, tmp_path, monkeypatch, log, fault, at
):
    others = [f"m{number}" for number in range(700)]
    spooled(tmp_path / "spool", [*others[:at], "poison", *others[at:]])
    poisoned(monkeypatch, raises(fault))
    store = Store(engine, spool=Spool(tmp_path / "spool"))
    try:
        wait_until(lambda: store.writer.backlog.since is None, "the spool is drained")
        assert names(store) == others
        assert store.writer.backlog.set_aside == 1
        assert store.outcomes(receipt("late")) == ["accepted"]
    finally:
        store.writer.stop()
    assert set_aside(tmp_path / "spool") == ["poison"]
    assert len([line for line in log if "cannot be stored" in line]) == 1
    assert len(store.rejected()) == 1


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
def test_one_that_fails_as_it_comes_takes_no_other_along(open_store, monkeypatch, tmp_path, fault):
    poisoned(monkeypatch, raises(fault))
    store = open_store()
    outcomes = store.put([receipt("A")], [receipt("poison")], [receipt("B")])
    assert not isinstance(outcomes[0], Exception)
    assert not isinstance(outcomes[2], Exception)
    wait_until(lambda: store.writer.backlog.since is None, "the spool is drained")
    assert names(store) == ["A", "B"]
    assert len(store.rejected()) == 1
    # What was acknowledged is kept; of the other the sender was told that it is not stored.
    assert set_aside(tmp_path / "spool") == (
        [] if isinstance(outcomes[1], Exception) else ["poison"]
    )


def test_messages_that_fail_keep_nothing_waiting(open_store, monkeypatch):
    store = open_store()
    record = Recorder.record

    def failing(self, connection, batch, times, **options):
        if any(one.messages for one in batch):
            raise MemoryError("too much")
        return record(self, connection, batch, times, **options)

    monkeypatch.setattr(Recorder, "record", failing)
    with pytest.raises(Exception, match="too much"):
        store.register(Message("csoft", "A1"))
    wait_until(lambda: store.writer.backlog.since is None, "posts go to the database again")
    assert store.outcomes(receipt("A")) == ["accepted"]


@on_sqlite
def test_a_database_that_is_away_sets_nothing_aside(engine, tmp_path, monkeypatch):
    spooled(tmp_path / "spool", ["A", "B"])
    tries = []

    def away():
        tries.append(1)
        raise OperationalError("INSERT", (), Exception("server closed the connection"))

    record = Recorder.record
    monkeypatch.setattr(Recorder, "record", lambda *_, **__: away())
    store = Store(engine, spool=Spool(tmp_path / "spool"))
    try:
        wait_until(lambda: len(tries) > 10 * TRIES, "it was tried often")
        monkeypatch.setattr(Recorder, "record", record)
        wait_until(lambda: store.writer.backlog.since is None, "the spool is drained")
        assert names(store) == ["A", "B"]
    finally:
        store.writer.stop()
    assert not set_aside(tmp_path / "spool")


@pytest.mark.parametrize("at", [0, 250, 599])
def test_one_that_ends_the_process_does_so_a_few_times_only(engine, tmp_path, at):
    others = [f"m{number}" for number in range(599)]
    spooled(tmp_path / "spool", [*others[:at], "poison", *others[at:]])
    url = engine.url.render_as_string(hide_password=False)
    died = tmp_path / "died"
    processes = multiprocessing.get_context("forkserver")
    processes.set_forkserver_preload(["kit.poison"])
    for _ in range(3 + TRIES + 1):
        process = processes.Process(target=drain_and_die, args=(url, tmp_path / "spool", died))
        process.start()
        process.join(30)
        if process.exitcode == 0:
            break
        assert process.exitcode == -signal.SIGKILL
    else:
        raise AssertionError("the process ends again and again")
    assert len(died.read_text()) <= 3 + TRIES
    assert set_aside(tmp_path / "spool") == ["poison"]
    assert not list((tmp_path / "spool").glob("*.tries"))
    store = Store(engine, spool=Spool(tmp_path / "spool"))
    try:
        assert names(store) == others
    finally:
        store.writer.stop()


def test_what_is_set_aside_is_shown_and_taken_again(engine, tmp_path, monkeypatch):
    spooled(tmp_path / "spool", ["A", "poison"])
    with monkeypatch.context() as patch:
        poisoned(patch, raises(FAULTS["memory"]))
        store = Store(engine, spool=Spool(tmp_path / "spool"))
        wait_until(lambda: store.writer.backlog.since is None, "the spool is drained")
        store.writer.stop()
    (state,) = survey(tmp_path / "spool")
    assert (state.set_aside, state.records, state.held) == (True, 1, False)
    spool = Spool(tmp_path / "spool")
    spool.open()
    assert spool.readmit() == 1
    spool.close()
    store = Store(engine, spool=Spool(tmp_path / "spool"))
    try:
        wait_until(lambda: store.writer.backlog.since is None, "the spool is drained")
        assert names(store) == ["A", "poison"]
        assert store.writer.backlog.set_aside == 0
    finally:
        store.writer.stop()


def test_the_command_takes_again_what_was_set_aside_once_its_cause_is_mended(
    engine, tmp_path, monkeypatch
):
    folder = tmp_path / "spool"
    config = tmp_path / "receiptd.toml"
    config.write_text(f'[store]\nspool = "{folder}"\n')
    url = engine.url.render_as_string(hide_password=False)

    def command(name):
        given = ["spool", name, "--config", str(config), "--database", url]
        result = CliRunner().invoke(main, given)
        return result.exit_code, result.stdout, result.stderr

    spooled(folder, ["A", "poison"])
    with monkeypatch.context() as patch:
        poisoned(patch, raises(FAULTS["our mistake"]))
        command("drain")
        assert set_aside(folder) == ["poison"]
        code, told, error = command("retry")
        assert code == 1
        assert told.startswith(f"{folder}: 1 posts taken again, 0 posts stored, 1 cannot be")
        assert "1 posts cannot be stored; to see why: receiptd rejected list" in error
        assert set_aside(folder) == ["poison"]
    assert command("retry") == (0, f"{folder}: 1 posts taken again, 1 posts stored\n", "")
    assert list(folder.glob("*.refused")) == []
    assert command("retry") == (0, f"{folder}: 0 posts taken again, 0 posts stored\n", "")
    store = Store(engine, spool=Spool(folder))
    try:
        assert names(store) == ["A", "poison"]
    finally:
        store.writer.stop()


@pytest.mark.parametrize("number", [999_999_999, 256, -1])
def test_a_record_of_an_older_version_with_a_huge_number_of_parts_is_stored(
    engine, tmp_path, number
):
    spooled(tmp_path / "spool", ["A"])
    (path,) = (tmp_path / "spool").iterdir()
    path.unlink()
    spool = Spool(tmp_path / "spool")
    spool.append([encode(Submission(None, [receipt("A", part=number, parts=number)]), AT)])
    spool.close()
    store = Store(engine, spool=Spool(tmp_path / "spool"))
    try:
        wait_until(lambda: store.writer.backlog.since is None, "the spool is drained")
        (row,) = store.receipts()
        assert (row.message_id, row.part, row.parts) == ("A", None, None)
        assert f'"parts": "{number}"' in row.extra
    finally:
        store.writer.stop()
