"""Care for the spool's segments: those that were removed, damaged or left, and those drained.

It acts on the files and tells the log; which segments there are, `folder` knows.
"""

from __future__ import annotations

import time
from contextlib import suppress
from pathlib import Path

from twisted.logger import Logger

from receiptd.store.spool.attempts import SUFFIX
from receiptd.store.spool.files import make_folder
from receiptd.store.spool.segment import Segment

_STALE = 60.0
"""Seconds after which a segment that was begun and not finished is left over from a crash."""

_log = Logger(namespace="receiptd.store")


class Custody:
    """Keeps the files of segments in order. Not safe for threads: `folder` holds its lock."""

    def __init__(self) -> None:
        self.unusable: dict[Path, str] = {}
        """Segments that are left alone, with what is wrong with them."""
        # Segments whose files were removed and could not be written anew.
        self._lost: set[Path] = set()
        # Whether the log has been told that the spool cannot be kept in order.
        self._untidy = False

    def leave(self, path: Path, text: str) -> None:
        """Leave the segment at `path` alone and say why, once."""
        if path not in self.unusable:
            self.unusable[path] = text
            _log.error("{path}: {text}. The records in it wait", path=path, text=text)

    def leave_newer(self, path: Path, version: int) -> None:
        """Leave a segment alone that a later version of receiptd wrote."""
        self.leave(path, f"is of the format {version}: upgrade receiptd")

    def rescue(self, segment: Segment, new: Path, *, last: bool) -> None:
        """Write a segment anew whose file somebody removed. It can be read only as long as this
        process has the file open.

        :param new: the path to write to. It begins with the same number, which is the segment's
            place in the order of time.
        :param last: whether to try again where it failed before. Otherwise each post would try
            it, with a whole segment.
        """
        path = segment.path
        if segment.position >= segment.size or (path in self._lost and not last):
            return
        try:
            if not segment.removed:
                return
            make_folder(new.parent)
            segment.write_anew(new)
        except OSError as error:
            self._lost.add(path)
            _log.critical(
                "{path}: was removed while it was in use, and what waits in it cannot be "
                "written to a new file: {error}. It is lost if this process ends before the "
                "database has stored it",
                path=path,
                error=error.strerror or error,
            )
        else:
            _log.error(
                "{path}: was removed while it was in use. What waits in it is in {new} now",
                path=path,
                new=segment.path,
            )

    def tidy(self, segment: Segment) -> bool:
        """Put on disk what was drained of `segment`; returns whether it is drained and its file
        was put away. The log tells once where the disk does not take it."""
        removed = False
        try:
            if segment.position < segment.size:
                segment.advance(segment.position)
            else:
                _put_away(segment)
                removed = True
        except OSError as error:
            if not self._untidy:
                self._untidy = True
                _log.error(
                    "{path}: that its records are stored cannot be written there: {error}. They "
                    "are stored all the same",
                    path=segment.path,
                    error=error.strerror or error,
                )
        else:
            self._untidy = False
        return removed


def _put_away(segment: Segment) -> None:
    kept = segment.remove()
    if kept is not None:
        _log.error(
            "{kept}: a part of this file of the spool was damaged, as by a crash while it "
            "was written; all records that are whole were stored. It is kept to be looked at",
            kept=kept,
        )


def sweep(folder: Path) -> None:
    """Delete the files of processes that ended while they began a segment, which hold no record,
    and notes of attempts without a segment."""
    for path in folder.glob("*.spool.new"):
        with suppress(OSError):
            if time.time() - path.stat().st_mtime > _STALE:
                path.unlink()
    for path in folder.glob("*" + SUFFIX):
        with suppress(OSError):
            if not path.with_suffix(".spool").exists():
                path.unlink()
