"""What is in a spool, for people: its files are only looked at."""

from __future__ import annotations

import fcntl
import os
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

from receiptd.store.spool.quarantine import SUFFIX
from receiptd.store.spool.records import decode
from receiptd.store.spool.segment import Segment


class SegmentState(NamedTuple):
    """What `survey` finds in a segment: None where that cannot be found out."""

    name: str
    held: bool | None
    """Whether a process holds it, which drains it."""
    records: int | None
    bytes: int | None
    """Of the records that are not drained."""
    oldest: datetime | None
    newest: datetime | None
    damaged: bool
    set_aside: bool = False
    """Whether its records are set aside, since they cannot be stored."""
    error: str | None = None
    """What the system says where it cannot be read."""


def survey(folder: Path) -> list[SegmentState]:
    """What is in the spool at `folder`, which is only looked at, in the order of its names.

    :raises OSError: where it is not there, or cannot be read: `glob` alone would find it empty.
    """
    found = []
    for path in sorted(each for each in folder.iterdir() if each.suffix in (".spool", SUFFIX)):
        try:
            found.append(_state(path))
        except FileNotFoundError:
            continue
        except OSError as error:
            text = error.strerror or str(error)
            aside = path.suffix == SUFFIX
            found.append(SegmentState(path.name, None, None, None, None, None, False, aside, text))
    return found


def _state(path: Path) -> SegmentState:
    # A pipe would else be waited for.
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    try:
        held = _is_held(descriptor)
        segment = Segment(path, descriptor)
        first, last = segment.scan()
    finally:
        os.close(descriptor)
    return SegmentState(
        path.name,
        held,
        segment.records,
        segment.size - segment.position,
        _received_at(first),
        _received_at(last),
        # Of one that is held, the end may be half written just now.
        segment.damaged and not held,
        path.suffix == SUFFIX,
    )


def _received_at(payload: bytes | None) -> datetime | None:
    try:
        return decode(payload).received_at if payload else None
    except Exception:  # it is whole, and means nothing: whoever drains it says so
        return None


def _is_held(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return True
    # At once, so that whoever would adopt it meanwhile need not think that it is held.
    fcntl.flock(descriptor, fcntl.LOCK_UN)
    return False
