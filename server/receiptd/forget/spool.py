"""Forgetting a person in the files of the spool.

A file that no process holds, and one of records that were set aside, is written anew without the
person. A file that a server holds cannot be: the server knows by offsets what it has stored of it.
Such a file is drained by its server, and what was in it is found in the database afterwards. What
is damaged is for people to look at and to delete.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from receiptd.forget.rows import Whom
from receiptd.store.spool import quarantine
from receiptd.store.spool.files import begun, new_path, number_of, sync_folder
from receiptd.store.spool.records import VERSION, decode, encode
from receiptd.store.spool.segment import HEADER, HEADER_SIZE, Segment

_LARGEST = 64 * 1024 * 1024
"""Bytes of a damaged file that are looked at."""


class Left(NamedTuple):
    """A file that still holds something about the person, or may."""

    path: Path
    why: str


class Found(NamedTuple):
    """What is about the person in the spool."""

    records: int
    """Receipts and rejected posts that were removed, or would be."""
    left: list[Left]


def forget(folder: Path, whom: Whom, *, dry_run: bool = False) -> Found:
    """Remove the person from the files in `folder`.

    :param dry_run: whether they are only looked at.
    :raises OSError: where the folder cannot be read.
    """
    count, left = 0, []
    if not folder.exists():
        return Found(0, [])
    for path in sorted(folder.iterdir()):
        try:
            if path.suffix in (".spool", quarantine.SUFFIX):
                some, why = _file(path, whom, dry_run)
                count += some
                if why:
                    left.append(Left(path, why))
            elif path.name.endswith((".damaged", ".spool.new")) and _mentions(path, whom):
                left.append(Left(path, "is damaged: look at it, then delete it"))
        except FileNotFoundError:
            continue  # drained meanwhile
        except OSError as error:
            left.append(Left(path, f"cannot be read or written: {error.strerror}"))
    return Found(count, left)


def _file(path: Path, whom: Whom, dry_run: bool) -> tuple[int, str]:
    """How many were removed from a file, and why something is left in it."""
    count, held = _look(path, whom)
    if held:
        return (0, held) if count else (0, "")
    if dry_run or not count:
        return count, ""
    segment = Segment.adopt(path)
    if segment is None:
        return 0, _HELD
    try:
        segment.scan()
        if segment.damaged:
            return 0, "is damaged: receiptd spool drain"
        records = [new for line, new in _lines(segment, whom)]
        aside = path.suffix == quarantine.SUFFIX
        content = [HEADER % (VERSION, HEADER_SIZE), *filter(None, records)]
        if len(content) > 1:
            new = new_path(path.parent, number_of(path))
            # The new file is on disk before the old one goes: what stands in both after a crash
            # is stored once.
            os.close(begun(new.with_suffix(path.suffix) if aside else new, content))
        path.unlink()
        sync_folder(path.parent)
        with suppress(OSError):
            segment.attempts.forget()
    finally:
        segment.close()
    return count, ""


_HELD = "a running receiptd holds it, and stores it in the database: run this again then"


def _look(path: Path, whom: Whom) -> tuple[int, str]:
    """How many records of a file are about the person, and why it cannot be changed."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    try:
        segment = Segment(path, descriptor)
        count = 0
        for each in segment.found(segment.position):
            if each.payload is None:
                count += whom.person.within(
                    os.pread(descriptor, min(each.end - each.start, _LARGEST), each.start)
                )
                continue
            count += _without(each.payload, whom)[1]
    finally:
        os.close(descriptor)
    locked = Segment.adopt(path)
    if locked is None:
        return count, _HELD
    locked.close()
    return count, ""


def _lines(segment: Segment, whom: Whom) -> Iterator[tuple[bytes, bytes | None]]:
    """Each record that is not drained: as it is, and what stays of it."""
    for each in segment.found(segment.position):
        if each.payload is not None:
            yield each.payload, _without(each.payload, whom)[0]


def _without(payload: bytes, whom: Whom) -> tuple[bytes | None, int]:
    """What stays of a record, and how much of it is about the person."""
    received_at, submission = decode(payload)
    rejection = submission.rejection
    if rejection is not None:
        texts = (rejection.raw, rejection.text, rejection.field, rejection.content_type)
        count = int(any(map(whom.person.within, texts)))
        return (None if count else encode(submission, received_at)), count
    receipts, count = whom.receipts(submission.receipts)
    if not receipts:
        return None, count
    return encode(submission._replace(receipts=receipts), received_at), count


def _mentions(path: Path, whom: Whom) -> bool:
    """Whether a file that is no segment any more holds the number: a record's posts are in
    base64."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    try:
        segment = Segment(path, descriptor)
        for each in segment.found(0):
            if each.payload is None:
                piece = os.pread(descriptor, min(each.end - each.start, _LARGEST), each.start)
                if whom.person.within(piece):
                    return True
            elif _without(each.payload, whom)[1]:
                return True
    finally:
        os.close(descriptor)
    return False
