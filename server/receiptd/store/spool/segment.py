"""A segment: one file of the spool, open, with its lock."""

from __future__ import annotations

import errno
import os
import re
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from pathlib import Path
from secrets import token_hex
from typing import NamedTuple

from twisted.logger import Logger

from receiptd.store.spool.attempts import Attempts
from receiptd.store.spool.files import begun, is_at, locked, sync_folder, write
from receiptd.store.spool.records import VERSION, Entry, decode, payload_of

HEADER = b"receiptd spool %d, drained to %012d\n"
HEADER_PATTERN = re.compile(rb"receiptd spool (\d+), drained to (\d{12})\n")
HEADER_SIZE = len(HEADER % (VERSION, 0))

_CHUNK = 1024 * 1024
"""Bytes read at once."""

_MOST_BYTES = 8 * _CHUNK
"""Bytes of records that are stored together."""

_log = Logger(namespace="receiptd.store")


class Batch(NamedTuple):
    """The oldest records of a spool: `Spool.done` is told when they are stored."""

    segment: Segment
    start: int
    """The offset of the first."""
    entries: Sequence[Entry]
    ends: Sequence[int]
    """The offset behind each entry."""
    end: int
    """The offset behind them all, and behind what is damaged after the last."""

    def first(self, count: int) -> Batch:
        """A batch of the first `count` entries alone."""
        if count >= len(self.entries):
            return self
        ends = self.ends[:count]
        return Batch(self.segment, self.start, self.entries[:count], ends, ends[-1])

    def before(self, end: int) -> int:
        """How many of the entries are before the offset `end`."""
        return bisect_right(self.ends, end)


class Found(NamedTuple):
    """A record in a segment, or, without payload, bytes that are none."""

    start: int
    end: int
    payload: bytes | None


class Segment:
    """One file of a spool, open. Unless it is only looked at, its lock is held."""

    def __init__(self, path: Path, descriptor: int) -> None:
        self.path = path
        self._descriptor = descriptor
        self.size = os.fstat(descriptor).st_size
        """Bytes that are on disk."""
        header = HEADER_PATTERN.match(os.pread(descriptor, HEADER_SIZE, 0))
        self._header = header is not None
        self.version = int(header[1]) if header else VERSION
        self._start = HEADER_SIZE if header else 0
        self.position = self._checked(int(header[2])) if header else 0
        """The offset up to which the records are in the database."""
        self.records = 0
        """How many are not; of what was there before, once that is scanned."""
        self.damaged = False
        self.scanned = False
        self.attempts = Attempts(path)

    @classmethod
    def create(cls, path: Path) -> Segment:
        """A new one, its lock held."""
        segment = cls(path, begun(path, [HEADER % (VERSION, HEADER_SIZE)]))
        segment.scanned = True
        return segment

    @classmethod
    def adopt(cls, path: Path) -> Segment | None:
        """The segment at `path` with its lock, None where another process has it."""
        descriptor = locked(path)
        if descriptor is None:
            return None
        try:
            return cls(path, descriptor)
        except OSError:
            os.close(descriptor)
            raise

    def append(self, records: Sequence[bytes]) -> int:
        """Append records; returns how many of them, from the first, are on disk: fewer than all
        where the disk is full.

        :raises OSError: where not even that can be made sure of. Then this segment must not be
            appended to any more.
        """
        data = memoryview(b"".join(records))
        written = 0
        try:
            while written < len(data):
                written += os.pwrite(self._descriptor, data[written:], self.size + written)
        except OSError as error:
            if error.errno not in _FULL:
                raise
        kept = end = 0
        while kept < len(records) and end + len(records[kept]) <= written:
            end += len(records[kept])
            kept += 1
        if written < len(data):
            os.ftruncate(self._descriptor, self.size + end)
        os.fsync(self._descriptor)
        self.size += end
        self.records += kept
        return kept

    @property
    def whole(self) -> bool:
        """Whether its file is where it was, and has all that was written: nobody has removed,
        replaced or cut it."""
        return not self.removed and os.fstat(self._descriptor).st_size >= self.size

    @property
    def removed(self) -> bool:
        """Whether its file is not where it was, but can still be read here."""
        return not is_at(self.path, self._descriptor)

    def write_anew(self, path: Path) -> None:
        """Write what is in it to a new file, its lock held, and go on with that. Whatever is at
        which offset stays there, so that it may be read meanwhile.

        :raises OSError: where that cannot be done; then all is as it was.
        """
        descriptor = begun(path, self._chunks())
        os.dup2(descriptor, self._descriptor, inheritable=False)
        os.close(descriptor)
        self.path = path
        self.attempts.forget()
        self.attempts = Attempts(path)

    def rename(self, path: Path) -> None:
        """Give it another name in its folder; its lock is held on."""
        self.path.rename(path)
        sync_folder(path.parent)
        self.path = path
        self.attempts = Attempts(path)

    def found(self, start: int) -> Iterator[Found]:
        """What is in it from `start` on: records, and between them what is damaged, as one."""
        bad, end = None, self.size  # which may grow meanwhile
        seen = start
        for offset, line in self._lines(start, end):
            seen = offset + len(line)
            payload = payload_of(line)
            if payload is None:
                bad = offset if bad is None else bad
                continue
            if bad is not None:
                yield Found(bad, offset, None)
                bad = None
            yield Found(offset, offset + len(line), payload)
        if bad is not None or seen < end:  # somebody has cut it
            yield Found(seen if bad is None else bad, end, None)

    def scan(self) -> tuple[bytes | None, bytes | None]:
        """Count the records that are not drained, and see whether anything is damaged. Returns
        the payloads of the first and the last of them."""
        records = 0
        first = last = None
        for each in self.found(self._start):
            if each.payload is None:
                self.damaged = True
            elif each.start >= self.position:
                records += 1
                first, last = first or each.payload, each.payload
        self.records = records
        self.scanned = True
        return first, last

    def head(self, limit: int) -> Batch | None:
        """The first `limit` records that are not drained, or a few more: those received at one
        moment stay together. None where there are none, nor anything damaged in their place."""
        if not self.scanned:
            self.scan()
        if self.position >= self.size:
            return None
        entries: list[Entry] = []
        ends: list[int] = []
        start = end = self.position
        for each in self.found(start):
            entry = self._entry(each)
            if entry is not None:
                many = len(entries) >= limit or end - start >= _MOST_BYTES
                if many and entries and entry.received_at != entries[-1].received_at:
                    break
                entries.append(entry)
                ends.append(each.end)
            end = each.end
        return Batch(self, start, entries, ends, end)

    def _entry(self, found: Found) -> Entry | None:
        if found.payload is not None:
            try:
                return decode(found.payload)
            except Exception as error:  # whatever is wrong with it, the others are not
                _log.error(
                    "{file}: the record at {start} is damaged: {error!r}",
                    file=self.path,
                    start=found.start,
                    error=error,
                )
        self.damaged = True
        return None

    def advance(self, position: int) -> None:
        """Remember, on disk, that the records before `position` are in the database."""
        self.position = position
        if self._header:
            write(self._descriptor, HEADER % (self.version, position), 0)
            os.fsync(self._descriptor)

    def remove(self) -> Path | None:
        """Delete it, or, where anything in it is damaged, rename it; returns its new name."""
        kept = None
        if not self.removed:  # what is in its place by now is not its own
            if self.damaged:
                kept = self.path.with_suffix(".damaged")
                if kept.exists():  # of its name before it was `….refused`
                    kept = kept.with_stem(f"{kept.stem}-{token_hex(3)}")
                self.path.rename(kept)
            else:
                self.path.unlink()
            sync_folder(self.path.parent)
        self.attempts.forget()
        self.close()
        return kept

    def close(self) -> None:
        """Let others have it."""
        self.attempts.close()
        os.close(self._descriptor)

    def _chunks(self) -> Iterator[bytes]:
        """All that is on disk."""
        at = 0
        while chunk := os.pread(self._descriptor, min(_CHUNK, self.size - at), at):
            yield chunk
            at += len(chunk)

    def _lines(self, start: int, end: int) -> Iterator[tuple[int, bytes]]:
        """Each line with its offset, its line feed included; the last may lack that."""
        offset, rest = start, b""
        while (at := offset + len(rest)) < end:
            chunk = os.pread(self._descriptor, min(_CHUNK, end - at), at)
            if not chunk:
                break
            *lines, rest = (rest + chunk).split(b"\n")
            for line in lines:
                yield offset, line + b"\n"
                offset += len(line) + 1
        if rest:
            yield offset, rest

    def _checked(self, position: int) -> int:
        """`position` if a record can begin there, else the first one's: that what is stored is
        sent again does no harm, that something is skipped would."""
        if position == self._start or (
            self._start < position <= self.size
            and os.pread(self._descriptor, 1, position - 1) == b"\n"
        ):
            return position
        return self._start


_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""What the system says of a disk, a quota or a file that is full."""
