"""The spool's files on disk: begun and opened under a lock, written in full, their names synced.

`flock` tells whose a file is: the process that holds its lock. The lock ends with the process, so
that a file whose process was killed can be adopted.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path


def is_at(path: Path, descriptor: int) -> bool:
    """Whether `descriptor` is of the file that is at `path` now."""
    try:
        return os.path.samestat(path.stat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False


def locked(path: Path) -> int | None:
    """Open the file at `path` and lock it; returns its descriptor. None where the file is gone or
    another process holds the lock.

    :raises OSError: where it cannot be opened.
    """
    try:
        descriptor = os.open(path, os.O_RDWR)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        return None
    if not is_at(path, descriptor):  # drained, and deleted or renamed, before it was locked
        os.close(descriptor)
        return None
    return descriptor


def begun(path: Path, content: Iterable[bytes]) -> int:
    """Begin a segment; returns its descriptor. It has its name once it is locked and has its
    content, so that nobody ever adopts it as long as this process lives."""
    unfinished = path.with_name(path.name + ".new")
    descriptor = os.open(unfinished, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        size = 0
        for chunk in content:
            write(descriptor, chunk, size)
            size += len(chunk)
        os.fsync(descriptor)
        unfinished.rename(path)
        sync_folder(path.parent)
    except OSError:
        os.close(descriptor)
        with suppress(OSError):
            unfinished.unlink()
        raise
    return descriptor


def write(descriptor: int, data: bytes, offset: int) -> None:
    """Write all of `data` at `offset`.

    :raises OSError: where the disk does not take all; a part of it may be there then.
    """
    rest = memoryview(data)
    while rest:
        written = os.pwrite(descriptor, rest, offset)
        rest, offset = rest[written:], offset + written


def sync_folder(folder: Path) -> None:
    """See that the names in `folder` are on disk."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
