"""The spool's files on disk: begun and opened under a lock, written in full, their names synced.

`flock` tells whose a file is: the process that holds its lock. The lock ends with the process, so
that a file whose process was killed can be adopted.
"""

from __future__ import annotations

import fcntl
import os
import re
import socket
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from secrets import token_hex


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


def make_folder(folder: Path) -> None:
    """Make `folder`, for its owner alone, where it is missing; its name is on disk then.

    :raises OSError: where that cannot be done.
    """
    if not folder.is_dir():
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        sync_folder(folder.parent)


def try_writing(folder: Path, data: bytes) -> None:
    """Write `data` to a new file in `folder`, sync it, and delete the file.

    :raises OSError: where the disk does not take it.
    """
    path = folder / f"room-{os.getpid()}-{token_hex(3)}.spool.new"
    try:
        with open(path, "xb", opener=_own) as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
    finally:
        with suppress(OSError):
            path.unlink()


def _own(path: str, flags: int) -> int:
    """Open for its owner alone."""
    return os.open(path, flags, 0o600)


def new_path(folder: Path, number: int) -> Path:
    """A path that no segment has had: its number, the host, the process, and random digits."""
    host = re.sub(r"[^A-Za-z0-9._]", "_", socket.gethostname()) or "host"
    return folder / f"{number:08d}-{host}-{os.getpid()}-{token_hex(3)}.spool"


def number_of(path: Path) -> int:
    """The number that a segment's name begins with, its place in the order of time; 0 where the
    name has none."""
    digits = path.name.partition("-")[0]
    return int(digits) if digits.isdigit() else 0
