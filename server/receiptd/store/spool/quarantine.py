"""What is set aside: records that cannot be stored, kept for people in files of their own.

Beside the segment `00000007-web1-4711-9f2c0a.spool` that is `00000007-web1-4711-9f2c0a.refused`,
in the segments' format. Its lock is held while it is written to, and while it becomes a segment
again.
"""

from __future__ import annotations

import fcntl
import os
from contextlib import suppress
from pathlib import Path

from receiptd.store.spool.files import is_at, sync_folder, write
from receiptd.store.spool.records import VERSION
from receiptd.store.spool.segment import HEADER, HEADER_PATTERN, HEADER_SIZE, Segment

SUFFIX = ".refused"


def path_of(segment: Path) -> Path:
    """Where what is set aside of a segment is kept."""
    return segment.with_suffix(SUFFIX)


def files(folder: Path) -> list[Path]:
    """The files in `folder`, in the order of their names, which is that of time."""
    return sorted(folder.glob("*" + SUFFIX))


def count(folder: Path) -> int:
    """How many records are set aside in `folder`.

    :raises OSError: where a file cannot be read.
    """
    records = 0
    for path in files(folder):
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        try:
            segment = Segment(path, descriptor)
            segment.scan()
            records += segment.records
        finally:
            os.close(descriptor)
    return records


def keep(path: Path, line: bytes) -> None:
    """Append a record's line to the file at `path`. It is on disk when this returns.

    :raises OSError: where it cannot be written.
    """
    descriptor = _locked(path)
    try:
        size = os.fstat(descriptor).st_size
        if not size:
            line = HEADER % (VERSION, HEADER_SIZE) + line
        elif os.pread(descriptor, 1, size - 1) != b"\n":
            line = b"\n" + line  # a crash left a part of one, which is damage by itself
        try:
            if size:
                _bring_forward(descriptor)
            write(descriptor, line, size)
            os.fsync(descriptor)
            sync_folder(path.parent)
        except OSError:
            # The next record must not become one with a part of this.
            with suppress(OSError):
                if size:
                    os.ftruncate(descriptor, size)
                else:
                    path.unlink()
            raise
    finally:
        os.close(descriptor)


def _bring_forward(descriptor: int) -> None:
    """See that a file which an earlier version began says this version: what it gets now is not
    for that one to read."""
    header = HEADER_PATTERN.match(os.pread(descriptor, HEADER_SIZE, 0))
    if header is not None and int(header[1]) < VERSION:
        write(descriptor, HEADER % (VERSION, int(header[2])), 0)
        os.fsync(descriptor)


def _locked(path: Path) -> int:
    """The file at `path`, its lock held: whoever makes it a segment again holds that meanwhile."""
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        except OSError:
            os.close(descriptor)
            raise
        if is_at(path, descriptor):
            return descriptor
        os.close(descriptor)  # renamed before it was locked
