"""The folder of the spool: the segments that this process appends to and drains."""

from __future__ import annotations

import errno
import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from threading import Lock

from receiptd.store.database.engine import sqlite_file
from receiptd.store.database.errors import StoreError
from receiptd.store.spool import quarantine
from receiptd.store.spool.custody import Custody, sweep
from receiptd.store.spool.files import make_folder, new_path, number_of, try_writing
from receiptd.store.spool.records import READABLE, Entry, encode
from receiptd.store.spool.segment import Batch, Segment

SEGMENT_SIZE = 64 * 1024 * 1024
"""Bytes after which a new segment is begun, so that what is drained can be deleted."""

LIMIT = 1024 * 1024 * 1024
"""Bytes that a folder's segments may have together unless configured otherwise."""

_ROOM = bytes(128 * 1024)
"""As much as a post's record may well have."""


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
        self._custody = Custody()
        self.records_set_aside = 0
        """How many records are set aside in the folder, when they were last counted."""
        self._unreadable: set[Path] = set()

    def open(self) -> None:
        """Make the folder where it is missing.

        :raises StoreError: where it cannot be written to.
        """
        try:
            make_folder(self.folder)
        except OSError as error:
            raise StoreError(
                f"{self.folder}: cannot be made, for receipts that come while the database does "
                f"not answer: {error.strerror}. Name another folder with store.spool"
            ) from None
        if not os.access(self.folder, os.R_OK | os.W_OK | os.X_OK):
            raise StoreError(f"{self.folder}: not writable. Name another folder with store.spool")

    @property
    def unusable(self) -> Mapping[Path, str]:
        """Segments that are left alone, with what is wrong with them."""
        return self._custody.unusable

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
        try:
            if not self._fitting([_ROOM]):
                return False
            make_folder(self.folder)
            try_writing(self.folder, _ROOM)
        except OSError:
            return False
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
                    self._custody.leave(path, f"cannot be opened: {error.strerror}")
                    continue
                if segment is None:
                    continue
                if segment.version in READABLE:
                    adopted.append(segment)
                else:
                    self._custody.leave_newer(path, segment.version)
                    segment.close()
            # By name, which is the order in which they were begun.
            self._segments = sorted(self._segments + adopted, key=lambda each: each.path.name)
            sweep(self.folder)
        return bool(adopted)

    def count(self) -> None:
        """Count the records of adopted segments, for `records`. Takes a moment for each."""
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
        make_folder(self.folder)
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
                if segment.version not in READABLE:
                    self._custody.leave_newer(path, segment.version)
                    segment.close()
                    continue
                segment.rename(new_path(self.folder, self._next_number()))
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
            make_folder(self.folder)
            active = self._active = Segment.create(new_path(self.folder, self._next_number()))
            self._segments.append(active)
        return active

    def _next_number(self) -> int:
        """A number above all that are there, whoever began them: names sort in the order of time,
        also when the clock was set back."""
        paths = [*self._paths(), *(segment.path for segment in self._segments)]
        return 1 + max(map(number_of, paths), default=0)

    def _rescue(self, *, last: bool = False) -> None:
        """Write anew the segments whose files somebody removed; see `Custody.rescue`."""
        for segment in self._segments:
            self._custody.rescue(
                segment, new_path(self.folder, number_of(segment.path)), last=last
            )

    def _paths(self) -> list[Path]:
        return sorted(self.folder.glob("*.spool"))

    def _tidy(self, segment: Segment) -> None:
        """Put on disk what was drained of `segment`."""
        if self._custody.tidy(segment):
            self._segments.remove(segment)

    def _give_up(self, segment: Segment, error: OSError) -> None:
        """Leave a segment that cannot be read to another process, or to people."""
        self._custody.leave(segment.path, f"cannot be read: {error.strerror or error}")
        self._unreadable.add(segment.path)
        self._segments.remove(segment)
        if segment is self._active:
            self._active = None
        segment.close()
