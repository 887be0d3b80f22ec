"""Where the log goes: whatever happens there, nothing fails, nothing waits, no line is broken."""

from __future__ import annotations

import os
import re
import socket
from contextlib import suppress

import pytest

from kit.server import wait_until
from receiptd.log import sink as module
from receiptd.log.sink import LogError, Sink, check_file

LINE = b"%07d a line of the log that is long enough for a pipe to be full of them soon\n"


@pytest.fixture
def pipe():
    """A pipe's ends, closed at the end."""
    reader, writer = os.pipe()
    yield reader, writer
    for each in (reader, writer):
        with suppress(OSError):
            os.close(each)


def read(descriptor):
    """All that is in a pipe now."""
    os.set_blocking(descriptor, False)
    found = b""
    with suppress(BlockingIOError):
        while piece := os.read(descriptor, 65536):
            found += piece
    return found


def test_lines_are_appended_to_a_file(tmp_path):
    path = tmp_path / "log"
    path.write_bytes(b"before\n")
    sink = Sink(path)
    sink.write(b"one\ntwo\n")
    sink.write(b"three\n")
    sink.close()
    assert path.read_bytes() == b"before\none\ntwo\nthree\n"


def test_a_file_that_was_cut_in_place_is_filled_from_its_beginning(tmp_path):
    # logrotate's copytruncate
    path = tmp_path / "log"
    sink = Sink(path)
    sink.write(b"one\n")
    os.truncate(path, 0)
    sink.write(b"two\n")
    sink.close()
    assert path.read_bytes() == b"two\n"


@pytest.mark.parametrize("deleted", [True, False])
def test_a_file_that_was_moved_or_deleted_is_made_anew_within_a_second(tmp_path, deleted):
    path, moved = tmp_path / "log", tmp_path / "log.1"
    sink = Sink(path)
    sink.write(b"one\n")
    path.unlink() if deleted else path.rename(moved)

    def look():
        sink.look()
        return path.exists()

    wait_until(look, "the file is there again", 5)
    sink.write(b"two\n")
    sink.close()
    assert path.read_bytes() == b"two\n"
    assert deleted or moved.read_bytes() == b"one\n"


def test_where_the_file_cannot_be_made_anew_the_old_one_goes_on(tmp_path):
    folder = tmp_path / "folder"
    folder.mkdir()
    sink = Sink(folder / "log")
    folder.rename(tmp_path / "moved")
    sink.reopen()
    sink.write(b"one\n")
    assert sink.trouble == "No such file or directory"
    assert (tmp_path / "moved" / "log").read_bytes() == b"one\n"
    folder.mkdir()
    sink.reopen()
    assert sink.trouble == ""
    sink.write(b"two\n")
    sink.close()
    assert (folder / "log").read_bytes() == b"two\n"


def test_a_file_that_cannot_be_opened_is_named(tmp_path):
    for use in (Sink, check_file):
        with pytest.raises(LogError, match=r"log\.file: .*/nowhere/log: .* No such file"):
            use(tmp_path / "nowhere" / "log")
        with pytest.raises(LogError, match="Is a directory"):
            use(tmp_path)
    check_file(tmp_path / "log")
    assert not (tmp_path / "log").exists()


def test_a_full_disk_costs_lines_and_nothing_else(monkeypatch, tmp_path):
    monkeypatch.setattr(module, "MOST_WAITING", 1000)
    monkeypatch.setattr(module, "LOOK", 0.0)
    path = tmp_path / "log"
    path.symlink_to("/dev/full")
    sink = Sink(path)
    for number in range(100):
        sink.write(LINE % number)
    assert 900 < sink.waiting <= 1000
    kept = 100 - sink.lost
    assert kept == sink.waiting // len(LINE % 0)

    # There is room again.
    path.unlink()
    sink.look()
    assert path.read_bytes() == b"".join(LINE % number for number in range(kept))
    assert sink.waiting == 0
    sink.write(LINE % 100)
    assert path.read_bytes().endswith(LINE % 100)
    sink.close()


def test_a_pipe_whose_reader_is_asleep_holds_nobody_up(monkeypatch, pipe):
    monkeypatch.setattr(module, "MOST_WAITING", 10_000)
    reader, writer = pipe
    sink = Sink(None, writer)
    assert os.get_blocking(writer), "it is shared with others, who would be surprised"
    for number in range(0, 3000, 3):
        sink.write(b"".join(LINE % (number + each) for each in range(3)))
    assert 0 < sink.waiting <= 10_000
    assert sink.lost > 0

    found = read(reader)
    sink.look()
    while piece := read(reader):
        found += piece
        sink.look()
    assert sink.waiting == 0
    count = 3000 - sink.lost
    assert found == b"".join(LINE % number for number in range(count)), "the first, all whole"
    sink.close()


def test_a_pipe_that_is_closed_holds_nobody_up(monkeypatch, pipe):
    monkeypatch.setattr(module, "MOST_WAITING", 1000)
    reader, writer = pipe
    sink = Sink(None, writer)
    os.close(reader)
    for number in range(100):
        sink.write(LINE % number)
    assert sink.lost > 0
    sink.close()


def test_a_pipe_that_several_write_to_gets_whole_lines(pipe):
    reader, writer = pipe
    sinks = [Sink(None, writer) for _ in range(2)]
    lines = [b"".join(LINE % (start + each) for each in range(100)) for start in (0, 100)]
    found = b""
    for _ in range(20):
        for sink, some in zip(sinks, lines, strict=True):
            sink.write(some)
        found += read(reader)
    while any(sink.waiting for sink in sinks):
        for sink in sinks:
            sink.look()
        found += read(reader)
    for line in found.splitlines(keepends=True):
        assert re.fullmatch(LINE.replace(b"%07d", rb"\d{7}"), line)
    assert found.count(b"\n") == 4000
    for sink in sinks:
        sink.close()


def test_a_socket_such_as_the_journals_holds_nobody_up():
    ours, theirs = socket.socketpair()
    sink = Sink(None, ours.fileno())
    sink.write(b"one\n")
    assert theirs.recv(100) == b"one\n"
    while not sink.waiting:
        sink.write(LINE % 0 * 100)
    assert ours.getblocking()
    theirs.settimeout(5)
    found = 0
    while sink.waiting or found % len(LINE % 0 * 100):
        found += len(theirs.recv(65536))
        sink.look()
    assert sink.lost == 0
    sink.close()
    ours.close()
    theirs.close()


def test_what_is_written_after_the_end_goes_nowhere(tmp_path):
    sink = Sink(tmp_path / "log")
    sink.close()
    with (tmp_path / "other").open("wb"):  # it gets the number that is free now
        sink.write(b"late\n")
    assert (tmp_path / "other").read_bytes() == b""
