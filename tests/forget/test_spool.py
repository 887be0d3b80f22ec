"""A person is forgotten in the spool's files as well, as far as these can be changed."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from kit.store import AT, receipt, rejection
from receiptd.forget.person import Person
from receiptd.forget.pseudonyms import Pseudonyms
from receiptd.forget.rows import Whom
from receiptd.forget.spool import forget
from receiptd.receipt import Receipt
from receiptd.store.recorder import Submission
from receiptd.store.spool.folder import Spool
from receiptd.store.spool.records import Entry, encode

NUMBER = "447700900123"
OTHER = "447700900124"
BATCH = b'[{"to":"+447700900123"},{"to":"+447700900124"}]'
WHOM = Whom(Person(NUMBER, (None, "GB")))

MINE = receipt("mine", recipient="+44 7700 900123", raw=b"to=%2B447700900123", text="hello")
THEIRS = receipt("theirs", recipient=OTHER, raw=b"to=447700900124", price=None, text="\u20ac")
MENTION = receipt("mention", recipient=OTHER, raw=b"cc=447700900123", extra={"cc": NUMBER})
TOGETHER = (
    receipt("one", recipient=NUMBER, raw=BATCH),
    receipt("two", recipient=OTHER, raw=BATCH),
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A spool that an earlier server left."""
    spool = opened(tmp_path / "spool")
    spool.append(
        [
            encode(Submission(None, [MINE]), AT),
            encode(Submission(None, [THEIRS]), AT),
            encode(Submission(None, [MENTION]), AT),
            encode(Submission(None, TOGETHER), AT),
            encode(Submission(None, rejection=rejection(raw=b"447700900123", received_at=AT)), AT),
            encode(Submission(None, rejection=rejection(raw=b"447700900124", received_at=AT)), AT),
        ]
    )
    spool.close()
    return tmp_path / "spool"


def opened(folder: Path) -> Spool:
    spool = Spool(folder)
    spool.open()
    spool.adopt()
    return spool


def entries(folder: Path) -> list[Entry]:
    """What is in the spool, in its order."""
    spool = opened(folder)
    found: list[Entry] = []
    while batch := spool.head(100):
        found += batch.entries
        spool.done(batch)
    spool.close()
    return found


def receipts(folder: Path) -> list[Receipt]:
    return [each for entry in entries(folder) for each in entry.submission.receipts]


def test_what_a_server_left_is_written_anew_without_the_person(folder):
    assert forget(folder, WHOM, dry_run=True).records == 5
    found = forget(folder, WHOM)
    assert found == (5, [])
    assert forget(folder, WHOM) == (0, [])
    left = entries(folder)
    assert [entry.received_at for entry in left] == [AT] * 4
    kept = [each for entry in left for each in entry.submission.receipts]
    assert kept == [
        THEIRS,
        MENTION._replace(raw=b"cc=***", extra={"cc": "***"}),
        TOGETHER[1]._replace(raw=b'[{"to":"+***"},{"to":"+447700900124"}]'),
    ]
    assert [entry.submission.rejection.raw for entry in left if entry.submission.rejection] == [
        b"447700900124"
    ]


def test_a_dry_run_leaves_the_files_as_they_are(folder):
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    forget(folder, WHOM, dry_run=True)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_a_file_without_the_person_is_not_touched(folder):
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert forget(folder, Whom(Person("447700900999"))) == (0, [])
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_a_file_with_nothing_but_the_person_goes(tmp_path):
    spool = opened(tmp_path)
    spool.append([encode(Submission(None, [MINE]), AT)])
    spool.close()
    assert forget(tmp_path, WHOM) == (1, [])
    assert list(tmp_path.glob("*.spool")) == []


def test_a_pseudonym_takes_the_number_s_place(folder):
    pseudonyms = Pseudonyms(b"k" * 32)
    forget(folder, replace(WHOM, pseudonyms=pseudonyms))
    kept = {each.message_id: each for each in receipts(folder)}
    assert kept["mine"] == MINE._replace(recipient=pseudonyms.of(NUMBER), raw=b"", text=None)
    assert kept["one"].recipient == pseudonyms.of(NUMBER)
    assert kept["theirs"] == THEIRS


def test_what_a_running_server_holds_is_named_and_left(folder):
    spool = opened(folder)
    try:
        before = {path.name: path.read_bytes() for path in folder.iterdir()}
        found = forget(folder, WHOM)
        assert found.records == 0
        assert ["a running receiptd holds it" in left.why for left in found.left] == [True]
        assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
        # Of a person who is not in it, nothing is left.
        assert forget(folder, Whom(Person("447700900999"))) == (0, [])
    finally:
        spool.close()


def test_what_was_set_aside_is_written_anew_and_can_be_taken_again(folder):
    spool = opened(folder)
    batch = spool.head(100)
    assert batch is not None
    for entry in batch.entries:
        spool.set_aside(batch, entry)
    spool.done(batch)
    spool.close()
    assert [path.suffix for path in folder.iterdir()] == [".refused"]
    assert forget(folder, WHOM) == (5, [])
    assert [path.suffix for path in folder.iterdir()] == [".refused"]
    spool = Spool(folder)
    assert spool.readmit() == 4
    spool.close()
    assert [each.message_id for each in receipts(folder)] == ["theirs", "mention", "two"]


def test_what_is_damaged_is_named(folder):
    (path,) = folder.glob("*.spool")
    path.rename(path.with_suffix(".damaged"))
    found = forget(folder, WHOM)
    assert [left.path.suffix for left in found.left] == [".damaged"]
    assert forget(folder, Whom(Person("447700900999"))) == (0, [])


def test_a_spool_that_is_not_there_has_nobody(tmp_path):
    assert forget(tmp_path / "none", WHOM) == (0, [])
