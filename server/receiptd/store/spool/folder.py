"""The folder of the spool: the segments that this process appends to and drains."""

from __future__ import annotations

import errno
import os
import re
import socket
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from secrets import token_hex
from threading import Lock

from twisted.logger import Logger

from receiptd.store.database.engine import sqlite_file
from receiptd.store.database.errors import StoreError
from receiptd.store.spool import quarantine
from receiptd.store.spool.attempts import SUFFIX
from receiptd.store.spool.files import sync_folder
from receiptd.store.spool.records import VERSION, Entry, encode
from receiptd.store.spool.segment import Batch, Segment

SEGMENT_SIZE = 64 * 1024 * 1024
"""Bytes after which a new segment is begun, so that what is drained can be deleted."""

LIMIT = 1024 * 1024 * 1024
"""Bytes that a folder's segments may have together unless configured otherwise."""

_ROOM = bytes(128 * 1024)
"""As much as a post's record may well have."""

_STALE = 60.0
"""Seconds after which a segment that was begun and not finished is an accident's."""

_log = Logger(namespace="receiptd.store")


class SpoolFull(Exception):
    """The spool takes no more; the text says why."""

    def __init__(self, text: str, kept: int) -> None:
        super().__init__(text)
        self.kept = kept
        """How many of the records, from the first, are on disk all the same."""


def default_folder(url: str) -> Path:
    """Where the spool of the database at `url` is unless configured: beside SQLite's file, else
    in the working directory."""
    file = sqlite_file(url)
    return file.with_name(file.name + "-spool") if file else Path("receiptd-spool")


class Spool:
    """The segments that this process holds: it appends to the newest of its own, and drains all,
    adopted ones too. Append and drain may be called from two threads."""

    def __init__(
        self, folder: Path, *, limit: int = LIMIT, segment_size: int | None = None
    ) -> None:
        """
        :param limit: bytes that the folder's segments, of all processes, may have together.
        """
        self.folder = folder
        self._limit = limit
        # Of a small spool too, what is drained should make room before all of it is.
        self._segment_size = segment_size or min(SEGMENT_SIZE, limit // 8)
        self._segments: list[Segment] = []
        self._active: Segment | None = None
        self._lock = Lock()
        self.unusable: dict[Path, str] = {}
        """Segments that are left alone, with what is wrong with them."""
        self.records_set_aside = 0
        """How many records are set aside in the folder, when they were last counted."""
        self._unreadable: set[Path] = set()
        # Those that were removed and could not be written anew.
        self._lost: set[Path] = set()
        # Whether it has been told that the spool cannot be kept in order.
        self._untidy = False

    def open(self) -> None:
        """Make the folder where it is missing.

        :raises StoreError: where it cannot be written to.
        """
        try:
            self._make_folder()
        except OSError as error:
            raise StoreError(
                f"{self.folder}: cannot be made, for receipts that come while the database does "
                f"not answer: {error.strerror}. Name another folder with store.spool"
            ) from None
        if not os.access(self.folder, os.R_OK | os.W_OK | os.X_OK):
            raise StoreError(f"{self.folder}: not writable. Name another folder with store.spool")

    @property
    def records(self) -> int:
        """How many records wait to be drained."""
        return sum(segment.records for segment in tuple(self._segments))

    @property
    def size(self) -> int:
        """How many bytes they have."""
        return sum(segment.size - segment.position for segment in tuple(self._segments))

    @property
    def empty(self) -> bool:
        """Whether nothing waits to be drained."""
        return all(segment.position >= segment.size for segment in tuple(self._segments))

    def append(self, records: Sequence[bytes]) -> None:
        """Append records, as `encode` made them. They are on disk when this returns.

        :raises SpoolFull: with how many of them are on disk, where not all are: the limit is
            reached, or the disk is full or does not work.
        """
        if not records:
            return
        with self._lock:
            text = f"the limit of {self._limit} bytes is reached"
            kept = 0
            try:
                if fitting := self._fitting(records):
                    kept = self._segment().append(records[:fitting])
                    text = os.strerror(errno.ENOSPC) if kept < fitting else text
            except OSError as error:
                self._active = None
                text = error.strerror or str(error)
            if kept < len(records):
                raise SpoolFull(f"{self.folder}: {text}", kept)

    def has_room(self) -> bool:
        """Whether it would take a post now: found out by writing one's worth of bytes."""
        path = self.folder / f"room-{os.getpid()}-{token_hex(3)}.spool.new"
        try:
            if not self._fitting([_ROOM]):
                return False
            self._make_folder()
            with open(path, "xb", opener=_own) as file:
                file.write(_ROOM)
                file.flush()
                os.fsync(file.fileno())
        except OSError:
            return False
        finally:
            with suppress(OSError):
                path.unlink()
        return True

    def adopt(self) -> bool:
        """Take over the segments whose process has ended; whether there are any.

        :raises OSError: where the folder cannot be looked through.
        """
        with self._lock:
            adopted = []
            others = {segment.path for segment in self._segments} | self._unreadable
            for path in self._paths():
                if path in others:
                    continue
                try:
                    segment = Segment.adopt(path)
                except OSError as error:
                    self._leave(path, f"cannot be opened: {error.strerror}")
                    continue
                if segment is None:
                    continue
                if segment.version == VERSION:
                    adopted.append(segment)
                else:
                    self._leave(path, f"is of the format {segment.version}: upgrade receiptd")
                    segment.close()
            # By name, which is the order in which they were begun.
            self._segments = sorted(self._segments + adopted, key=lambda each: each.path.name)
            self._sweep()
        return bool(adopted)

    def count(self) -> None:
        """See what is in the segments that were adopted, so that `records` tells of them too.
        Takes a moment for each."""
        for segment in tuple(self._segments):
            if not segment.scanned:
                with suppress(OSError):  # `head` meets it again, and tells
                    segment.scan()

    def head(self, limit: int) -> Batch | None:
        """The oldest records, `limit` of them or a few more; None where there are none. A segment
        that cannot be read is left alone, so that it keeps nothing else from being drained."""
        with self._lock:
            self._rescue()
        for segment in tuple(self._segments):
            try:
                batch = segment.head(limit)
            except OSError as error:
                with self._lock:
                    self._give_up(segment, error)
                continue
            if batch is not None:
                return batch
            with self._lock:
                if segment is not self._active and segment.position >= segment.size:
                    self._tidy(segment)
        return None

    def done(self, batch: Batch) -> None:
        """Remember, on disk, that `batch` is stored. Where that cannot be written it is
        remembered in memory: the next process may then send it again, which does no harm."""
        segment = batch.segment
        with self._lock:
            segment.records = max(0, segment.records - len(batch.entries))
            segment.position = batch.end
            if batch.end >= segment.size and segment is self._active:
                self._active = None
            self._tidy(segment)

    def set_aside(self, batch: Batch, entry: Entry) -> Path:
        """Keep, on disk, an entry that cannot be stored; returns the file.

        :raises OSError: where it cannot be written.
        """
        self._make_folder()
        path = quarantine.path_of(batch.segment.path)
        quarantine.keep(path, encode(entry.submission, entry.received_at))
        self.count_set_aside()
        return path

    def count_set_aside(self) -> None:
        """Count what is set aside in the folder, by whichever process."""
        with suppress(OSError):
            self.records_set_aside = quarantine.count(self.folder)

    def readmit(self) -> int:
        """Take what is set aside into the spool again, behind all that is there: it is drained
        then like what was adopted. Returns how many records that are.

        :raises OSError: where that cannot be done.
        """
        records = 0
        with self._lock:
            for path in quarantine.files(self.folder):
                segment = Segment.adopt(path)
                if segment is None:
                    continue
                if segment.version != VERSION:
                    self._leave(path, f"is of the format {segment.version}: upgrade receiptd")
                    segment.close()
                    continue
                segment.rename(self._named(self._next_number()))
                segment.scan()
                self._segments.append(segment)
                records += segment.records
        self.count_set_aside()
        return records

    def close(self) -> None:
        """Let other processes have what is left."""
        with self._lock:
            self._rescue(last=True)
            for segment in self._segments:
                segment.close()
            self._segments, self._active = [], None

    def _make_folder(self) -> None:
        if not self.folder.is_dir():
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            sync_folder(self.folder.parent)

    def _fitting(self, records: Sequence[bytes]) -> int:
        """How many of the records, from the first, the limit allows."""
        room = self._limit
        with suppress(FileNotFoundError), os.scandir(self.folder) as files:
            for file in files:
                if file.name.endswith(".spool"):
                    with suppress(FileNotFoundError):
                        room -= file.stat().st_size
        for fitting, record in enumerate(records):
            room -= len(record)
            if room < 0:
                return fitting
        return len(records)

    def _segment(self) -> Segment:
        """The one to append to."""
        active = self._active
        if active is None or active.size >= self._segment_size or not active.whole:
            self._rescue()
            self._make_folder()
            active = self._active = Segment.create(self._named(self._next_number()))
            self._segments.append(active)
        return active

    def _next_number(self) -> int:
        """A number above all that are there, whoever began them: names sort in the order of time,
        also when the clock does not go by it."""
        paths = [*self._paths(), *(segment.path for segment in self._segments)]
        return 1 + max(map(_number, paths), default=0)

    def _named(self, number: int) -> Path:
        """A name that no segment has had."""
        host = re.sub(r"[^A-Za-z0-9._]", "_", socket.gethostname()) or "host"
        return self.folder / f"{number:08d}-{host}-{os.getpid()}-{token_hex(3)}.spool"

    def _rescue(self, *, last: bool = False) -> None:
        """Write anew the segments whose files somebody removed, which can be read only as long
        as this process has them open.

        :param last: whether those that could not be written are tried again. Else that would be
            done with every post, of a whole segment.
        """
        for segment in self._segments:
            path = segment.path
            if segment.position >= segment.size or (path in self._lost and not last):
                continue
            try:
                if not segment.removed:
                    continue
                self._make_folder()
                # Of the same number, which is its place in the order of time.
                segment.write_anew(self._named(_number(path)))
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

    def _paths(self) -> list[Path]:
        return sorted(self.folder.glob("*.spool"))

    def _tidy(self, segment: Segment) -> None:
        """Put on disk what was drained of `segment`."""
        try:
            if segment.position < segment.size:
                segment.advance(segment.position)
            else:
                self._remove(segment)
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

    def _give_up(self, segment: Segment, error: OSError) -> None:
        """Leave a segment that cannot be read to another process, or to people."""
        self._leave(segment.path, f"cannot be read: {error.strerror or error}")
        self._unreadable.add(segment.path)
        self._segments.remove(segment)
        if segment is self._active:
            self._active = None
        segment.close()

    def _remove(self, segment: Segment) -> None:
        kept = segment.remove()
        self._segments.remove(segment)
        if kept is not None:
            _log.error(
                "{kept}: a part of this file of the spool was damaged, as by a crash while it "
                "was written; all records that are whole were stored. It is kept to be looked at",
                kept=kept,
            )

    def _leave(self, path: Path, text: str) -> None:
        if path not in self.unusable:
            self.unusable[path] = text
            _log.error("{path}: {text}. The records in it wait", path=path, text=text)

    def _sweep(self) -> None:
        """Delete what processes left that ended while they began a segment: nothing is in it."""
        for path in self.folder.glob("*.spool.new"):
            with suppress(OSError):
                if time.time() - path.stat().st_mtime > _STALE:
                    path.unlink()
        for path in self.folder.glob("*" + SUFFIX):
            with suppress(OSError):
                if not path.with_suffix(".spool").exists():
                    path.unlink()


def _own(path: str, flags: int) -> int:
    """Open for its owner alone."""
    return os.open(path, flags, 0o600)


def _number(path: Path) -> int:
    digits = path.name.partition("-")[0]
    return int(digits) if digits.isdigit() else 0
