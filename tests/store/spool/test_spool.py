"""The spool's files: what goes in comes out, in order, whatever happened to them meanwhile."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import zlib
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from threading import Thread

import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

from kit.server import DEADLINE, environment
from kit.store import AT, receipt, rejection
from receiptd.cli import main
from receiptd.receipt import MOST_PARTS, Kind, Receipt, State
from receiptd.store.database.errors import StoreError
from receiptd.store.recorder import Submission
from receiptd.store.spool.folder import Spool, SpoolFull, default_folder
from receiptd.store.spool.records import decode, encode, payload_of
from receiptd.store.spool.segment import Segment
from receiptd.store.spool.survey import survey

DOCUMENT = Path(__file__).parents[3] / "docs" / "spool.md"


def record(message_id, received_at=AT, **fields):
    return encode(Submission(None, [receipt(message_id, **fields)]), received_at)


def opened(folder, **options):
    spool = Spool(folder, **options)
    spool.open()
    spool.adopt()
    return spool


def drain(spool, limit=500):
    """The message ids of all that is in it, as they are drained."""
    found = []
    while (batch := spool.head(limit)) is not None:
        found += [entry.submission.receipts[0].message_id for entry in batch.entries]
        spool.done(batch)
    return found


def left(folder):
    """The endings of the files in it."""
    return sorted(path.suffix for path in folder.iterdir())


def one_segment(folder, count=3):
    """The bytes of a segment with `count` records, and the offset of each record's end."""
    records = [record(f"M{number}") for number in range(count)]
    with closing(opened(folder)) as spool:
        spool.append(records)
        (path,) = folder.glob("*.spool")
        data = path.read_bytes()
        drain(spool)
    start = len(data) - sum(map(len, records))
    ends = [start + sum(map(len, records[: number + 1])) for number in range(count)]
    return data, ends


def adopted_from(folder, data):
    """A spool that finds a segment of an ended process."""
    folder.mkdir()
    (folder / "00000001-host-1-abcdef.spool").write_bytes(data)
    return opened(folder)


@contextmanager
def largest_file(size):
    """No file of this process may grow beyond `size`: as a full disk, but for this alone."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


# --- Records

texts = st.none() | st.text(st.characters(exclude_categories=()), max_size=20)
times = st.datetimes(timezones=st.just(UTC))
whole_receipts = st.builds(
    Receipt,
    endpoint=st.text(min_size=1),
    provider=st.sampled_from(["csoft", "cdyne"]),
    kind=st.sampled_from(Kind),
    message_id=texts,
    state=st.sampled_from(State),
    code=texts,
    recipient=texts,
    reported_at=st.none() | times,
    raw=st.binary(),
    description=texts,
    sender=texts,
    reference=texts,
    part=st.none() | st.integers(0, MOST_PARTS),
    parts=st.none() | st.integers(0, MOST_PARTS),
    price=st.none() | st.decimals(allow_nan=False, allow_infinity=False),
    network=texts,
    text=texts,
    extra=st.dictionaries(st.text(), st.text() | st.lists(st.text())),
    linked_id=texts,
)


@pytest.mark.parametrize("number", [-1, MOST_PARTS + 1, 2**70])
@pytest.mark.parametrize("name", ["part", "parts"])
def test_a_number_of_parts_that_an_older_version_took_comes_out_as_unread(name, number):
    given = receipt("A", **{name: number}, extra={"status": "x"})
    (found,) = decode(payload_of(encode(Submission(None, [given]), AT))).submission.receipts
    assert getattr(found, name) is None
    assert (found.extra, found.unread) == ({"status": "x", name: str(number)}, (name,))


@given(st.lists(whole_receipts, min_size=1, max_size=3), times)
def test_receipts_come_out_as_they_went_in(receipts, received_at):
    line = encode(Submission(None, receipts), received_at)
    assert line.isascii()
    assert line.count(b"\n") == 1
    entry = decode(payload_of(line))
    assert entry.received_at == received_at
    assert list(entry.submission.receipts) == receipts
    assert [str(each.price) for each in entry.submission.receipts] == [
        str(each.price) for each in receipts
    ]


def of_version_1(line):
    """The record that the first version of the format made of the same receipts."""
    content = json.loads(payload_of(line))
    shared = content.pop("raw")
    content["receipts"] = [{"raw": shared} | each for each in content["receipts"]]
    payload = json.dumps(content, separators=(",", ":")).encode()
    return b"%08x %08x %b\n" % (len(payload), zlib.crc32(payload), payload)


def test_the_post_of_several_receipts_is_in_their_record_once():
    raw = bytes(52_000)
    some = [receipt(f"M{number}", raw=raw) for number in range(100)]
    some[7] = some[7]._replace(raw=b"another")
    line = encode(Submission(None, some), AT)
    assert len(line) < 2 * len(raw)
    assert list(decode(payload_of(line)).submission.receipts) == some
    assert len(of_version_1(line)) > 100 * len(raw)


@given(st.lists(whole_receipts, min_size=2, max_size=3), times)
def test_records_of_the_first_version_are_read(receipts, received_at):
    line = encode(Submission(None, receipts), received_at)
    assert decode(payload_of(of_version_1(line))) == decode(payload_of(line))


def test_files_of_the_first_version_are_drained_and_are_not_appended_to(tmp_path):
    header = b"receiptd spool 1, drained to %012d\n"
    some = [receipt(f"M{number}") for number in range(3)]
    line = of_version_1(encode(Submission(None, some), AT))
    first = record("drained")
    start = len(header % 0) + len(first)
    spool = adopted_from(tmp_path / "spool", header % start + first + line + record("alone"))
    spool.append([record("new", AT + timedelta(1))])
    (old, new) = sorted(spool.folder.glob("*.spool"))
    assert new.read_bytes().startswith(b"receiptd spool 2, ")
    batch = spool.head(1)
    assert list(batch.entries[0].submission.receipts) == some
    spool.done(batch.first(1))
    assert old.read_bytes().startswith(header % (start + len(line)))
    assert drain(spool) == ["alone", "new"]
    assert left(spool.folder) == []


def test_what_the_first_version_set_aside_is_kept_on_and_retried(tmp_path):
    spool = opened(tmp_path)
    path = refused(spool, "A")
    path.write_bytes(path.read_bytes().replace(b"spool 2", b"spool 1", 1))
    several = encode(Submission(None, [receipt("B"), receipt("C")]), AT)
    path.rename(path.with_name("00000001-host-1-abcdef.refused"))
    (tmp_path / "00000001-host-1-abcdef.spool").write_bytes(
        b"receiptd spool 1, drained to 000000000042\n" + of_version_1(several)
    )
    spool.adopt()
    batch = spool.head(1)
    assert spool.set_aside(batch, batch.entries[0]).read_bytes().endswith(several)
    (path,) = tmp_path.glob("*.refused")
    assert path.read_bytes().startswith(b"receiptd spool 2, drained to 000000000042\n")
    spool.done(batch)
    assert spool.readmit() == 2
    assert drain(spool) == ["A", "B"]
    assert left(tmp_path) == []


@pytest.mark.parametrize("fields", [{}, {"field": None, "peer": None, "content_type": None}])
def test_a_rejected_post_comes_out_as_it_went_in(fields):
    post = rejection("Grüße\n", raw=b"\0\xff", **fields)
    entry = decode(payload_of(encode(Submission(None, rejection=post), AT)))
    assert entry == (AT, Submission(None, rejection=post))


def test_the_reader_in_the_document_reads_what_is_written(tmp_path):
    (code,) = re.findall(r"```python\n(.*?)```", DOCUMENT.read_text(), re.DOTALL)
    spool = opened(tmp_path / "spool")
    spool.append([record("M1", price=Decimal("0.10"), raw=b"<raw/>"), b"nonsense\n"])
    several = [receipt(name, raw=b"both") for name in ("M2", "M3")]
    spool.append([encode(Submission(None, several), AT)])
    spool.append([encode(Submission(None, rejection=rejection("no number")), AT)])
    (path,) = spool.folder.glob("*.spool")
    shown = subprocess.run(
        [sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True
    )
    first, damaged, *both, last = shown.stdout.splitlines()
    assert first.startswith("2009-06-09T10:52:00+00:00 {")
    assert "'message_id': 'M1'" in first
    assert "'raw': '<raw/>'" in first
    assert "'price': '0.10'" in first
    assert damaged == "damaged: b'nonsense'"
    assert ["'raw': 'both'" in each for each in both] == [True, True]
    assert "'text': 'no number'" in last


# --- Order, position, rotation


def test_what_is_drained_is_gone_and_what_comes_later_follows(tmp_path):
    spool = opened(tmp_path)
    spool.append([record("A"), record("B")])
    assert (spool.records, spool.empty) == (2, False)
    assert drain(spool) == ["A", "B"]
    assert (spool.records, spool.size, spool.empty) == (0, 0, True)
    assert left(tmp_path) == []
    spool.append([record("C")])
    assert drain(spool) == ["C"]


def test_a_batch_is_the_same_until_it_is_done(tmp_path):
    spool = opened(tmp_path)
    spool.append([record("A")])
    first = spool.head(10)
    spool.append([record("B", AT + timedelta(seconds=1))])
    assert spool.head(1) == first
    spool.done(first)
    assert drain(spool) == ["B"]


def test_what_was_received_at_one_moment_is_drained_together(tmp_path):
    spool = opened(tmp_path)
    later = AT + timedelta(microseconds=1)
    spool.append([record(f"A{number}") for number in range(5)])
    spool.append([record(f"B{number}", later) for number in range(5)])
    assert len(spool.head(3).entries) == 5
    assert len(spool.head(6).entries) == 10


def test_the_position_outlives_the_process(tmp_path):
    spool = opened(tmp_path)
    spool.append([record(f"M{n}", AT + timedelta(seconds=n)) for n in range(10)])
    spool.done(spool.head(4))
    spool.close()
    spool = opened(tmp_path)
    spool.count()
    assert spool.records == 6
    assert drain(spool) == [f"M{number}" for number in range(4, 10)]
    assert left(tmp_path) == []


@pytest.mark.parametrize("position", [0, 3, 50, 10**11])
def test_a_position_that_cannot_be_sends_all_again(tmp_path, position):
    data, _ = one_segment(tmp_path / "other")
    damaged = re.sub(rb"to \d{12}", b"to %012d" % position, data, count=1)
    assert drain(adopted_from(tmp_path / "spool", damaged)) == ["M0", "M1", "M2"]


def test_large_spools_have_several_files_which_go_as_they_are_drained(tmp_path):
    spool = opened(tmp_path, segment_size=1000)
    ids = [f"M{number}" for number in range(20)]
    for number, each in enumerate(ids):
        spool.append([record(each, AT + timedelta(seconds=number))])
    files = len(left(tmp_path))
    assert files > 4
    found = []
    while (batch := spool.head(1)) is not None:
        found += [entry.submission.receipts[0].message_id for entry in batch.entries]
        spool.done(batch)
        spool.head(1)
        assert len(left(tmp_path)) <= files
        files = len(left(tmp_path))
    assert found == ids
    assert files == 0


def test_records_larger_than_what_is_read_at_once(tmp_path):
    spool = opened(tmp_path)
    raw = os.urandom(3 * 1024 * 1024)
    spool.append([record("A"), record("large", raw=raw), record("B")])
    (_, large, last) = spool.head(10).entries
    assert large.submission.receipts[0].raw == raw
    assert last.submission.receipts[0].message_id == "B"


def test_appending_and_draining_at_once_loses_nothing(tmp_path):
    spool = opened(tmp_path, segment_size=20_000)
    ids = [f"M{number}" for number in range(150)]

    def append():
        for number, each in enumerate(ids):
            spool.append([record(each, AT + timedelta(seconds=number))])

    thread = Thread(target=append)
    thread.start()
    found = []
    while thread.is_alive() or not spool.empty:
        found += drain(spool, limit=7)
    thread.join()
    assert found == ids
    assert left(tmp_path) == []


# --- Several processes


def test_files_of_a_living_process_are_left_to_it(tmp_path):
    first, second = opened(tmp_path), opened(tmp_path)
    first.append([record("A")])
    assert not second.adopt()
    assert second.head(1) is None
    second.append([record("B")])
    assert drain(second) == ["B"]
    first.close()
    assert second.adopt()
    assert drain(second) == ["A"]
    assert left(tmp_path) == []


WRITER = """
import sys, time
from pathlib import Path
from receiptd.store.spool.folder import Spool
spool = Spool(Path(sys.argv[1]))
spool.open()
spool.append([line + b"\\n" for line in sys.stdin.buffer.read().splitlines()])
print("written", flush=True)
time.sleep(60)
"""


def test_files_of_a_killed_process_are_adopted(tmp_path):
    process = subprocess.Popen(
        [sys.executable, "-c", WRITER, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=environment(),
    )
    process.stdin.write(record("A") + record("B"))
    process.stdin.close()
    assert process.stdout.readline() == b"written\n"
    spool = opened(tmp_path)
    assert spool.head(10) is None, "it lives"
    process.send_signal(signal.SIGKILL)
    process.wait(DEADLINE)
    process.stdout.close()
    assert spool.adopt()
    assert drain(spool) == ["A", "B"]


def test_one_of_several_adopts_a_file(tmp_path):
    with closing(opened(tmp_path)) as ended:
        ended.append([record("A")])
    spools = [opened(tmp_path) for _ in range(3)]
    assert [drain(spool) for spool in spools] == [["A"], [], []]


def test_the_files_of_ended_processes_are_drained_in_the_order_of_time(tmp_path, monkeypatch):
    # Neither process numbers nor a clock that is set back change it.
    for number, process in enumerate([900, 77, 12345, 5]):
        monkeypatch.setattr(os, "getpid", lambda process=process: process)
        with closing(Spool(tmp_path)) as ended:
            ended.open()
            ended.append([record(f"M{number}", AT - timedelta(days=number))])
    assert drain(opened(tmp_path)) == ["M0", "M1", "M2", "M3"]


def test_what_was_left_of_a_file_that_was_being_begun_goes_in_time(tmp_path):
    young, old = tmp_path / "2-h-1-a.spool.new", tmp_path / "1-h-1-a.spool.new"
    young.touch()
    old.touch()
    os.utime(old, (0, 0))
    assert opened(tmp_path).head(1) is None
    assert [path.name for path in tmp_path.iterdir()] == [young.name]


# --- Damage


def test_a_last_record_that_was_cut_off_is_kept_aside_and_the_others_are_stored(
    tmp_path, monkeypatch
):
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)
    data, (_, second, third) = one_segment(tmp_path / "other")
    for length in range(second, third + 1):
        folder = tmp_path / str(length)
        spool = adopted_from(folder, data[:length])
        expected = ["M0", "M1", "M2"] if length == third else ["M0", "M1"]
        assert drain(spool) == expected
        torn = length not in (second, third)
        assert left(folder) == ([".damaged"] if torn else [])
        if torn:
            (kept,) = folder.iterdir()
            assert kept.read_bytes()[second:] == data[second:length]
        assert not opened(folder).adopt(), "it is reported once"


@settings(max_examples=50, deadline=None)
@given(st.data())
def test_a_file_cut_off_anywhere_has_its_whole_records(tmp_path_factory, data):
    content, ends = one_segment(tmp_path_factory.mktemp("whole"))
    length = data.draw(st.integers(0, len(content)))
    spool = adopted_from(tmp_path_factory.mktemp("torn") / "spool", content[:length])
    assert drain(spool) == [f"M{n}" for n, end in enumerate(ends) if end <= length]


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_damage_anywhere_takes_no_other_record_along(tmp_path_factory, data):
    content, ends = one_segment(tmp_path_factory.mktemp("whole"), 5)
    at = data.draw(st.integers(0, len(content) - 1), "at")
    bad = data.draw(st.binary(min_size=1, max_size=len(content) - at), "bytes")
    damaged = content[:at] + bad + content[at + len(bad) :]
    folder = tmp_path_factory.mktemp("damaged") / "spool"
    spool = adopted_from(folder, damaged)
    starts = [content.index(b"\n") + 1, *ends]
    hurt = {
        # with the line feed before it: without that a record is one with what precedes it
        number
        for number, end in enumerate(ends)
        if at < end and at + len(bad) >= starts[number]
    }
    if not spool.unusable:  # the version of the format may have become another one
        found = drain(spool)
        whole = [f"M{number}" for number in range(5) if number not in hurt]
        assert [each for each in found if each in whole] == whole
        assert found == sorted(set(found)), "each once, in order"


def test_a_damaged_file_is_kept_as_it_is_also_when_it_is_drained_in_two_runs(tmp_path):
    data, (first, second, _) = one_segment(tmp_path / "other")
    damaged = data[: first + 5] + b"?" + data[first + 6 :]
    folder = tmp_path / "spool"
    spool = adopted_from(folder, damaged)
    batch = spool.head(500)
    assert len(batch.entries) == 2
    spool.done(batch._replace(end=second))
    spool.close()
    assert drain(opened(folder)) == ["M2"]
    (kept,) = folder.iterdir()
    assert kept.suffix == ".damaged"
    assert kept.read_bytes()[first:] == damaged[first:]


def test_a_tail_of_zeros_as_a_power_cut_leaves_it(tmp_path):
    data, _ = one_segment(tmp_path / "other")
    spool = adopted_from(tmp_path / "spool", data + b"\0" * 4096)
    assert drain(spool) == ["M0", "M1", "M2"]
    assert left(spool.folder) == [".damaged"]


def test_a_whole_record_that_means_nothing_is_damage(tmp_path):
    data, _ = one_segment(tmp_path / "other")
    payload = b'{"received_at": "2026-01-01T00:00:00+00:00", "receipts": [{"kind": "?"}]}'
    line = b"%08x %08x %b\n" % (len(payload), zlib.crc32(payload), payload)
    spool = adopted_from(tmp_path / "spool", data + line + record("last"))
    assert drain(spool) == ["M0", "M1", "M2", "last"]
    assert left(spool.folder) == [".damaged"]


def test_a_newer_format_is_left_alone(tmp_path):
    data, _ = one_segment(tmp_path / "other")
    spool = adopted_from(tmp_path / "spool", data.replace(b"spool 2", b"spool 3", 1))
    assert drain(spool) == []
    ((path, text),) = spool.unusable.items()
    assert text == "is of the format 3: upgrade receiptd"
    assert path.read_bytes().startswith(b"receiptd spool 3")


def test_an_empty_file_is_nothing(tmp_path):
    assert drain(adopted_from(tmp_path / "spool", b"")) == []
    assert left(tmp_path / "spool") == []


def test_what_is_set_aside_twice_under_one_name_is_kept_twice(tmp_path):
    data, (first, *_) = one_segment(tmp_path / "other")
    damaged = data[: first + 5] + b"?" + data[first + 6 :]
    for _ in range(2):
        (tmp_path / "1-h-1-a.spool").write_bytes(damaged)
        assert drain(opened(tmp_path)) == ["M0", "M2"]
    assert len(list(tmp_path.glob("1-h-1-a*.damaged"))) == 2


# --- Removed


def on_disk(folder):
    """The message ids of what another process would find there if this one were killed now."""
    copy = folder.with_name(f"{folder.name}-copy")
    shutil.copytree(folder, copy)
    try:
        return drain(opened(copy))
    finally:
        shutil.rmtree(copy)


def in_use(folder):
    """A spool whose first of three records is drained, in several files."""
    spool = opened(folder, segment_size=1)
    for number, name in enumerate("ABC"):
        spool.append([record(name, AT + timedelta(seconds=number))])
    spool.done(spool.head(1))
    return spool


REMOVALS = {
    "folder": shutil.rmtree,
    "files": lambda folder: [path.unlink() for path in folder.iterdir()],
    "last": lambda folder: max(folder.iterdir()).unlink(),
    "moved": lambda folder: folder.rename(folder.with_name("elsewhere")),
}


@pytest.mark.parametrize("remove", REMOVALS.values(), ids=REMOVALS)
def test_what_is_removed_while_it_is_in_use_is_written_anew(tmp_path, remove):
    spool = in_use(tmp_path / "spool")
    remove(spool.folder)
    spool.append([record("D", AT + timedelta(seconds=3))])
    assert on_disk(spool.folder) == ["B", "C", "D"]
    assert spool.folder.stat().st_mode & 0o077 == 0
    assert spool.records == 3
    assert not opened(spool.folder).adopt(), "it is locked"
    assert drain(spool, limit=1) == ["B", "C", "D"]
    assert left(spool.folder) == []


def test_a_file_that_is_removed_is_not_appended_to(tmp_path):
    spool = opened(tmp_path / "spool")
    spool.append([record("A")])
    (path,) = spool.folder.iterdir()
    path.unlink()
    spool.append([record("B")])
    assert on_disk(spool.folder) == ["A", "B"]


def test_what_is_removed_while_it_is_drained_is_drained_once(tmp_path):
    spool = in_use(tmp_path / "spool")
    batch = spool.head(1)
    shutil.rmtree(spool.folder)
    spool.append([record("D")])
    assert [entry.submission.receipts[0].message_id for entry in batch.entries] == ["B"]
    spool.done(batch)
    assert on_disk(spool.folder) == ["C", "D"]
    assert drain(spool) == ["C", "D"]
    assert left(spool.folder) == []


def test_what_is_removed_is_written_anew_though_no_post_comes(tmp_path):
    spool = in_use(tmp_path / "spool")
    shutil.rmtree(spool.folder)
    assert spool.head(1), "as is asked for every second while the database does not answer"
    assert on_disk(spool.folder) == ["B", "C"]


def test_what_is_removed_is_written_anew_when_the_process_ends(tmp_path, log):
    spool = in_use(tmp_path / "spool")
    shutil.rmtree(spool.folder)
    spool.close()
    assert drain(opened(spool.folder)) == ["B", "C"]
    assert len(log) == 2
    assert re.search(r"was removed while it was in use. What waits in it is in .*/spool/", log[0])


def test_what_is_removed_and_cannot_be_written_anew_is_told_once_and_drained(tmp_path, log):
    spool = opened(tmp_path / "spool")
    line = record("large", raw=bytes(2000))
    spool.append([line])
    shutil.rmtree(spool.folder)
    with largest_file(len(line)):
        for name in "AB":
            spool.append([record(name)])
    (text,) = log
    assert re.search("cannot be written to a new file: File too large. It is lost if", text)
    assert on_disk(spool.folder) == ["A", "B"]
    assert drain(spool) == ["large", "A", "B"]
    assert left(spool.folder) == []


def test_what_could_not_be_written_anew_is_tried_again_when_the_process_ends(tmp_path):
    spool = opened(tmp_path / "spool")
    line = record("large", raw=bytes(2000))
    spool.append([line])
    shutil.rmtree(spool.folder)
    with largest_file(len(line)):
        spool.append([record("A")])
    spool.close()
    assert drain(opened(spool.folder)) == ["large", "A"]


def test_what_takes_the_place_of_a_file_is_not_touched(tmp_path):
    spool = opened(tmp_path / "spool")
    spool.append([record("A")])
    (path,) = spool.folder.iterdir()
    data, _ = one_segment(tmp_path / "other")
    path.unlink()
    path.write_bytes(data)
    spool.append([record("B")])
    spool.done(spool.head(500))
    spool.done(spool.head(500))
    assert path.read_bytes() == data
    assert spool.adopt()
    assert drain(spool) == ["M0", "M1", "M2"]


def test_what_takes_the_place_of_a_file_outlives_its_draining(tmp_path):
    spool = opened(tmp_path / "spool")
    spool.append([record("A")])
    (path,) = spool.folder.iterdir()
    data, _ = one_segment(tmp_path / "other")
    batch = spool.head(1)
    path.unlink()
    path.write_bytes(data)
    spool.done(batch)
    assert spool.empty
    assert path.read_bytes() == data


def test_a_file_that_is_cut_while_it_is_in_use_is_damaged_and_not_appended_to(tmp_path):
    spool = opened(tmp_path / "spool")
    spool.append([record("A")])
    (path,) = spool.folder.iterdir()
    os.truncate(path, 0)
    spool.append([record("B")])
    assert on_disk(spool.folder) == ["B"]
    batch = spool.head(500)
    assert not batch.entries
    spool.done(batch)
    assert drain(spool) == ["B"]
    assert left(spool.folder) == [".damaged"]


def test_room_is_found_where_the_folder_was_removed(tmp_path):
    spool = opened(tmp_path / "spool")
    shutil.rmtree(spool.folder)
    assert spool.has_room()
    assert left(spool.folder) == []


# --- What is refused


def refused(spool, names):
    """Set aside a record of each name, of one batch; returns the file."""
    spool.append([record(name) for name in names])
    batch = spool.head(500)
    (path,) = {spool.set_aside(batch, entry) for entry in batch.entries}
    spool.done(batch)
    return path


def stored_anew(path):
    """The message ids of what is drained of a refused file once it is renamed, as documented."""
    path.rename(path.with_suffix(".spool"))
    return drain(opened(path.parent))


def test_what_was_refused_is_drained_once_it_is_renamed(tmp_path):
    path = refused(opened(tmp_path), "ABC")
    assert path.stat().st_mode & 0o077 == 0
    assert stored_anew(path) == ["A", "B", "C"]
    assert left(tmp_path) == []


def test_what_is_refused_is_kept_where_the_folder_was_removed(tmp_path):
    spool = opened(tmp_path / "spool")
    spool.append([record("A")])
    batch = spool.head(1)
    shutil.rmtree(spool.folder)
    assert stored_anew(spool.set_aside(batch, batch.entries[0])) == ["A"]


@pytest.mark.parametrize("before", [0, 1])
def test_a_refused_record_that_a_full_disk_takes_in_part_harms_no_later_one(tmp_path, before):
    spool = opened(tmp_path)
    spool.append([record(name) for name in "ABCD"])
    batch = spool.head(500)
    for entry in batch.entries[:before]:
        size = spool.set_aside(batch, entry).stat().st_size
    size = size if before else 0
    for more in (10, 60):  # not even the header; not even one record
        with largest_file(size + more), pytest.raises(OSError, match="File too large"):
            spool.set_aside(batch, batch.entries[before])
    assert left(tmp_path) == ([".refused", ".spool"] if before else [".spool"])
    for entry in batch.entries[2:]:
        path = spool.set_aside(batch, entry)
    spool.done(batch)
    assert stored_anew(path) == ["A"] * before + ["C", "D"]
    assert left(tmp_path) == []


def test_a_refused_record_that_cannot_be_made_sure_of_is_taken_back(tmp_path, monkeypatch):
    spool = opened(tmp_path)
    spool.append([record("A"), record("B")])
    batch = spool.head(500)
    before = spool.set_aside(batch, batch.entries[0]).read_bytes()
    broken = failing(monkeypatch, os, "fsync", errno.EIO)
    with pytest.raises(OSError, match="Input/output error"):
        spool.set_aside(batch, batch.entries[1])
    broken.clear()
    (path,) = tmp_path.glob("*.refused")
    assert path.read_bytes() == before


def test_a_refused_record_that_a_crash_cut_off_harms_no_later_one(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)
    data = refused(opened(tmp_path / "other"), "AB").read_bytes()
    second = data.rindex(b"\n", 0, -1) + 1
    for length in [*range(1, 60), *range(second, len(data))]:
        spool = opened(tmp_path / str(length))
        spool.append([record("C")])
        batch = spool.head(1)
        batch.segment.path.with_suffix(".refused").write_bytes(data[:length])
        path = spool.set_aside(batch, batch.entries[0])
        spool.done(batch)
        assert path.read_bytes().startswith(data[:length])
        whole = ["A"] * (length >= second) + ["B"] * (length == len(data) - 1)
        assert stored_anew(path) == [*whole, "C"]


# --- Full


def test_the_limit_counts_the_files_of_all_processes(tmp_path):
    line = record("A")
    first, second = (opened(tmp_path, limit=5 * len(line)) for _ in range(2))
    first.append([line] * 3)
    with pytest.raises(SpoolFull, match="limit of") as full:
        second.append([line] * 3)
    assert full.value.kept == 1
    with pytest.raises(SpoolFull) as full:
        first.append([line])
    assert full.value.kept == 0
    assert drain(first) == ["A"] * 3
    second.append([line] * 2)
    assert drain(second) == ["A"] * 3


def test_a_disk_that_takes_half_a_record_keeps_the_whole_ones(tmp_path):
    spool = opened(tmp_path)
    spool.append([record("A")])
    (path,) = tmp_path.iterdir()
    size, line = path.stat().st_size, len(record("B"))
    with (
        largest_file(size + 2 * line + line // 2),
        pytest.raises(SpoolFull, match="No space left") as full,
    ):
        spool.append([record(name) for name in "BCDE"])
    assert full.value.kept == 2
    assert path.stat().st_size == size + 2 * line
    spool.append([record("F")])
    assert drain(spool) == ["A", "B", "C", "F"]
    assert left(tmp_path) == []


def test_a_disk_that_takes_nothing_leaves_no_file(tmp_path):
    spool = opened(tmp_path)
    for size in (10, 60):  # not even the header; not even one record
        with largest_file(size), pytest.raises(SpoolFull) as full:
            spool.append([record("A")])
        assert full.value.kept == 0
    assert drain(spool) == []
    spool.append([record("B")])
    assert drain(spool) == ["B"]
    assert left(tmp_path) == []


@pytest.mark.skipif(os.geteuid() != 0, reason="mounts a file system")
def test_a_full_file_system(small_disk):
    spool = opened(small_disk(256 * 1024) / "spool")
    records = [record(f"M{n}", AT + timedelta(seconds=n), raw=b"x" * 2000) for n in range(200)]
    with pytest.raises(SpoolFull, match="No space left") as full:
        spool.append(records)
    kept = full.value.kept
    assert 20 < kept < 120
    assert drain(spool) == [f"M{number}" for number in range(kept)]
    spool.append(records[:20])
    assert drain(spool) == [f"M{number}" for number in range(20)]


def test_what_cannot_be_made_sure_of_is_not_acknowledged(tmp_path, monkeypatch):
    spool = opened(tmp_path)
    spool.append([record("A")])
    real, failing = os.fsync, [True]

    def fsync(descriptor):
        if failing and failing.pop():
            raise OSError(errno.EIO, "Input/output error")
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    with pytest.raises(SpoolFull, match="Input/output error") as full:
        spool.append([record("B")])
    assert full.value.kept == 0
    spool.append([record("C")])
    assert len(left(tmp_path)) == 2, "nothing is appended behind what may be anything"
    assert drain(spool) == ["A", "C"]


def failing(monkeypatch, owner, name, code, when=lambda *arguments: True):
    """Have the system's function fail as with a broken disk, until the returned list is empty."""
    real, broken = getattr(owner, name), [True]

    def function(*arguments, **options):
        if broken and when(*arguments):
            raise OSError(code, os.strerror(code))
        return real(*arguments, **options)

    monkeypatch.setattr(owner, name, function)
    return broken


def test_a_process_without_a_descriptor_to_spare_says_so_and_goes_on(tmp_path, monkeypatch):
    spool = opened(tmp_path)
    broken = failing(monkeypatch, os, "scandir", errno.EMFILE)
    with pytest.raises(SpoolFull, match="Too many open files") as full:
        spool.append([record("A")])
    assert full.value.kept == 0
    broken.clear()
    spool.append([record("B")])
    assert drain(spool) == ["B"]


@pytest.mark.parametrize("name", ["unlink", "pwrite"])
def test_what_is_stored_keeps_nobody_waiting_on_a_disk_that_became_read_only(
    tmp_path, monkeypatch, name
):
    spool = opened(tmp_path)
    spool.append([record(f"M{n}", AT + timedelta(seconds=n)) for n in range(3)])
    broken = failing(monkeypatch, os, name, errno.EROFS)
    assert drain(spool, limit=1) == ["M0", "M1", "M2"]
    assert spool.empty
    spool.close()
    broken.clear()
    # Sent again, and recognised by the time it was received.
    assert set(drain(opened(tmp_path))) <= {"M0", "M1", "M2"}
    assert left(tmp_path) == []


def test_a_file_that_cannot_be_read_keeps_no_other_waiting_and_stays(tmp_path, monkeypatch):
    for name in "AB":
        with closing(Spool(tmp_path)) as ended:
            ended.append([record(name)])
    bad, _ = sorted(tmp_path.iterdir())
    spool = opened(tmp_path)
    broken = failing(
        monkeypatch,
        os,
        "pread",
        errno.EIO,
        lambda descriptor, *_: os.fstat(descriptor).st_ino == bad.stat().st_ino,
    )
    spool.count()
    assert drain(spool) == ["B"]
    assert spool.empty
    assert spool.unusable == {bad: "cannot be read: Input/output error"}
    assert not spool.adopt(), "it is told once"
    broken.clear()
    assert drain(opened(tmp_path)) == ["A"]


def test_a_file_that_is_set_aside_just_now_is_not_adopted(tmp_path, monkeypatch):
    data, _ = one_segment(tmp_path / "other")
    path, real = tmp_path / "1-h-1-a.spool", fcntl.flock
    path.write_bytes(data)

    def flock(descriptor, operation):
        path.rename(path.with_suffix(".damaged"))
        real(descriptor, operation)

    monkeypatch.setattr(fcntl, "flock", flock)
    assert Segment.adopt(path) is None


def test_looking_at_a_file_keeps_nobody_from_adopting_it(tmp_path, monkeypatch):
    with closing(opened(tmp_path)) as ended:
        ended.append([record("A")])
    adopted, real = [], Segment.scan

    def scan(segment):
        if not adopted:
            adopted.append(None)
            adopted[0] = opened(tmp_path)
        return real(segment)

    monkeypatch.setattr(Segment, "scan", scan)
    survey(tmp_path)
    assert drain(adopted[0]) == ["A"]


# --- Around it


def test_the_folder_is_beside_sqlites_file_or_here():
    assert default_folder("sqlite:////var/lib/r.db?timeout=1") == Path("/var/lib/r.db-spool")
    assert default_folder("postgresql+psycopg://u:p@h/d") == Path("receiptd-spool")


def test_a_folder_that_cannot_be_is_said_with_the_key_to_set(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(StoreError, match=r"Name another folder with store\.spool"):
        Spool(tmp_path / "file" / "spool").open()


def test_nobody_else_reads_what_is_spooled(tmp_path):
    spool = opened(tmp_path / "spool")
    spool.append([record("A")])
    assert spool.folder.stat().st_mode & 0o077 == 0
    (path,) = spool.folder.iterdir()
    assert path.stat().st_mode & 0o077 == 0


def test_the_survey_tells_of_each_file_and_changes_nothing(tmp_path):
    spool = opened(tmp_path)
    times = [datetime(2026, 1, day, tzinfo=UTC) for day in (1, 2, 3)]
    spool.append([record(f"M{n}", at) for n, at in enumerate(times)])
    spool.done(spool.head(1))
    (state,) = survey(tmp_path)
    assert (state.held, state.records, state.damaged) == (True, 2, False)
    assert (state.oldest, state.newest) == (times[1], times[2])
    assert state.bytes == spool.size
    spool.close()
    (tmp_path / state.name).write_bytes((tmp_path / state.name).read_bytes()[:-1])
    (state,) = survey(tmp_path)
    assert (state.held, state.records, state.damaged) == (False, 1, True)
    with pytest.raises(FileNotFoundError):
        survey(tmp_path / "missing")


def test_the_survey_tells_of_what_it_cannot_read_and_of_the_others(tmp_path, monkeypatch):
    for name in "AB":
        with closing(Spool(tmp_path)) as ended:
            ended.open()
            ended.append([record(name)])
    (tmp_path / "00000003-h-1-a.spool").mkdir()
    os.mkfifo(tmp_path / "00000004-h-1-a.spool")
    (tmp_path / "00000005-h-1-a.spool").symlink_to("nowhere")
    bad, *_ = sorted(tmp_path.iterdir())
    failing(monkeypatch, os, "open", errno.EACCES, lambda path, *_: path == bad)
    unread, read, *others = survey(tmp_path)
    assert (unread.name, unread.records, unread.error) == (bad.name, None, "Permission denied")
    assert (read.records, read.error) == (1, None)
    assert [each.error for each in others] == ["Is a directory", "Illegal seek"]


def test_the_survey_counts_a_whole_record_that_means_nothing(tmp_path):
    payload = b'{"received_at": "2026-01-01T00:00:00+00:00", "receipts": [{"kind": "?"}]}'
    line = b"%08x %08x %b\n" % (len(payload), zlib.crc32(payload), payload)
    with closing(opened(tmp_path)) as spool:
        spool.append([line, record("A")])
    (state,) = survey(tmp_path)
    assert (state.records, state.oldest, state.newest) == (2, None, AT)


def test_the_status_names_a_file_that_cannot_be_read_and_shows_the_others(tmp_path):
    folder = tmp_path / "r.db-spool"
    with closing(opened(folder)) as spool:
        spool.append([record("A"), record("B")])
    bad = folder / "00000009-h-1-a.spool"
    bad.mkdir()
    (folder / "1-h-1-a.refused").touch()
    arguments = ["spool", "status", "--database", f"sqlite:///{tmp_path}/r.db"]
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 1
    _, _, shown, unread, aside = result.stdout.splitlines()
    assert aside.split()[1:4] == ["set", "aside", "0"]
    assert shown.split()[1:4] == ["left", "behind", "2"]
    assert unread.split() == [bad.name, "unreadable", "-", "-", "-", "-"]
    assert result.stderr.splitlines() == [
        f"kept for you to look at: {folder}/1-h-1-a.refused",
        f"{bad}: cannot be read: Is a directory",
    ]
    result = CliRunner().invoke(main, [*arguments, "--json"])
    assert result.exit_code == 1
    read, unread, aside = json.loads(result.stdout)
    assert (aside["set_aside"], read["set_aside"]) == (True, False)
    assert (read["posts"], read["error"]) == (2, None)
    assert (unread["file"], unread["posts"]) == (str(bad), None)
    assert unread["error"] == "Is a directory"
    assert result.stderr == f"{bad}: cannot be read: Is a directory\n"
