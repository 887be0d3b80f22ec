"""The spool: what the database does not take for now, on disk in the order in which it came.

A spool is a folder of files, its segments. `00000007-web1-4711-9f2c0a.spool` was the 7th, begun
on host web1 by process 4711; the random end keeps names apart. A segment is text, a header and a
record a line:

    receiptd spool 1, drained to 000000000040
    0000013f 5f1d9a2c {"received_at": "2026-01-31T18:00:00.000001+00:00", "receipts": [{…}]}

- The header's digits are the format's version (1) and the offset up to which the records are in
  the database: written in place, after the database's commit.
- A record is one submission: the length of its payload in bytes and the CRC-32 (`zlib.crc32`) of
  it, 8 hexadecimal digits each, and the payload, which is JSON in ASCII: `received_at`, and
  either `receipts` or `rejection`, with the fields of `Receipt` or `Rejection` that are not empty;
  bytes (`raw`) in base64, times in ISO 8601, prices as strings. JSON has no line feed in it, so a
  reader that comes upon damage goes on behind the next line feed.

Each append is on disk (fsync) before it returns. A segment belongs to the process that holds its
lock (flock): it alone appends to it and drains it. The lock is gone with the process, and any
other may then adopt the segment. A segment that is drained is deleted; one in which anything was
damaged is renamed to `….damaged` instead. What the database refuses to take goes to `….refused`,
which is in the same format.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import re
import socket
import time
import zlib
from base64 import b64decode, b64encode
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from secrets import token_hex
from threading import Lock
from typing import Any, NamedTuple

from twisted.logger import Logger

from receiptd.receipt import Kind, Receipt, Rejection, State
from receiptd.store.database.engine import StoreError, sqlite_file
from receiptd.store.recorder import Submission

VERSION = 1

SEGMENT_SIZE = 64 * 1024 * 1024
"""Bytes after which a new segment is begun, so that what is drained can be deleted."""

LIMIT = 1024 * 1024 * 1024
"""Bytes that a folder's segments may have together unless configured otherwise."""

_HEADER = b"receiptd spool %d, drained to %012d\n"
_HEADER_PATTERN = re.compile(rb"receiptd spool (\d+), drained to (\d{12})\n")
_HEADER_SIZE = len(_HEADER % (VERSION, 0))

_CHUNK = 1024 * 1024
"""Bytes read at once."""

_MOST_BYTES = 8 * _CHUNK
"""Bytes of records that are stored together."""

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


class Entry(NamedTuple):
    """What one record holds."""

    received_at: datetime
    submission: Submission


class Batch(NamedTuple):
    """The oldest records of a spool: `Spool.done` is told when they are stored."""

    segment: Segment
    entries: Sequence[Entry]
    end: int
    """The offset behind them."""


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
    error: str | None = None
    """What the system says where it cannot be read."""


def default_folder(url: str) -> Path:
    """Where the spool of the database at `url` is unless configured: beside SQLite's file, else
    in the working directory."""
    file = sqlite_file(url)
    return file.with_name(file.name + "-spool") if file else Path("receiptd-spool")


# --- Records


def encode(submission: Submission, received_at: datetime) -> bytes:
    """The record of receipts or of a rejected post, its line feed included.

    :raises TypeError: where a receipt's `extra` holds what JSON cannot say.
    """
    content: dict[str, Any] = {"received_at": received_at.isoformat()}
    if submission.rejection is not None:
        content["rejection"] = _plain(submission.rejection._asdict())
    else:
        content["receipts"] = [_plain(each._asdict()) for each in submission.receipts]
    payload = json.dumps(content, separators=(",", ":")).encode()
    return b"%08x %08x %b\n" % (len(payload), zlib.crc32(payload), payload)


def _plain(fields: Mapping[str, Any]) -> dict[str, Any]:
    defaults = Receipt._field_defaults
    plain = {
        name: value
        for name, value in fields.items()
        if value is not None and not (name in defaults and value == defaults[name])
    }
    for name, value in plain.items():
        if isinstance(value, bytes):
            plain[name] = b64encode(value).decode()
        elif isinstance(value, datetime):
            plain[name] = value.isoformat()
        elif isinstance(value, Decimal):
            plain[name] = str(value)
    return plain


def payload_of(line: bytes) -> bytes | None:
    """The payload of a record's line, None where it is damaged."""
    payload = line[18:-1]
    framed = b"%08x %08x %b\n" % (len(payload), zlib.crc32(payload), payload)
    return payload if line == framed else None


def decode(payload: bytes) -> Entry:
    """What a record's payload says.

    :raises Exception: of any kind, where it is no payload that `encode` made.
    """
    content = json.loads(payload)
    received_at = datetime.fromisoformat(content["received_at"])
    if "rejection" in content:
        fields = dict.fromkeys(Rejection._fields) | content["rejection"]
        fields["received_at"] = datetime.fromisoformat(fields["received_at"])
        fields["raw"] = b64decode(fields["raw"])
        return Entry(received_at, Submission(None, rejection=Rejection(**fields)))
    return Entry(received_at, Submission(None, tuple(map(_receipt, content["receipts"]))))


def _receipt(plain: Mapping[str, Any]) -> Receipt:
    fields: dict[str, Any] = dict.fromkeys(("message_id", "code", "recipient", "reported_at"))
    fields |= plain
    fields["kind"] = Kind(fields["kind"])
    fields["state"] = State(fields["state"])
    fields["raw"] = b64decode(fields["raw"])
    if fields["reported_at"] is not None:
        fields["reported_at"] = datetime.fromisoformat(fields["reported_at"])
    if "price" in fields:
        fields["price"] = Decimal(fields["price"])
    fields["unread"] = tuple(fields.get("unread", ()))
    return Receipt(**fields)


# --- Segments


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
        header = _HEADER_PATTERN.match(os.pread(descriptor, _HEADER_SIZE, 0))
        self._header = header is not None
        self.version = int(header[1]) if header else VERSION
        self._start = _HEADER_SIZE if header else 0
        self.position = self._checked(int(header[2])) if header else 0
        """The offset up to which the records are in the database."""
        self.records = 0
        """How many are not; of what was there before, once that is scanned."""
        self.damaged = False
        self.scanned = False

    @classmethod
    def create(cls, path: Path) -> Segment:
        """A new one, its lock held."""
        segment = cls(path, _begun(path, [_HEADER % (VERSION, _HEADER_SIZE)]))
        segment.scanned = True
        return segment

    @classmethod
    def adopt(cls, path: Path) -> Segment | None:
        """The segment at `path` with its lock, None where another process has it."""
        try:
            descriptor = os.open(path, os.O_RDWR)
        except FileNotFoundError:
            return None
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(descriptor)
            return None
        if not _is_at(path, descriptor):  # drained, and deleted or renamed, before it was locked
            os.close(descriptor)
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
        return not _is_at(self.path, self._descriptor)

    def write_anew(self, path: Path) -> None:
        """Write what is in it to a new file, its lock held, and go on with that. Whatever is at
        which offset stays there, so that it may be read meanwhile.

        :raises OSError: where that cannot be done; then all is as it was.
        """
        descriptor = _begun(path, self._chunks())
        os.dup2(descriptor, self._descriptor, inheritable=False)
        os.close(descriptor)
        self.path = path

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
        end = self.position
        for each in self.found(self.position):
            entry = self._entry(each)
            if entry is not None:
                many = len(entries) >= limit or end - self.position >= _MOST_BYTES
                if many and entries and entry.received_at != entries[-1].received_at:
                    break
                entries.append(entry)
            end = each.end
        return Batch(self, entries, end)

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
            _write(self._descriptor, _HEADER % (self.version, position), 0)
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
            _sync_folder(self.path.parent)
        self.close()
        return kept

    def close(self) -> None:
        """Let others have it."""
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


# --- The folder


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
            with path.open("xb") as file:
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

    def refuse(self, batch: Batch, entry: Entry) -> Path:
        """Set aside, on disk, an entry that the database does not take; returns the file.

        :raises OSError: where it cannot be written.
        """
        path = batch.segment.path.with_suffix(".refused")
        line = encode(entry.submission, entry.received_at)
        self._make_folder()
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            size = os.fstat(descriptor).st_size
            if not size:
                line = _HEADER % (VERSION, _HEADER_SIZE) + line
            elif os.pread(descriptor, 1, size - 1) != b"\n":
                line = b"\n" + line  # a crash left a part of one, which is damage by itself
            try:
                _write(descriptor, line, size)
                os.fsync(descriptor)
                _sync_folder(path.parent)
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
        return path

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
            _sync_folder(self.folder.parent)

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
            # A number above all that are there, whoever began them: names sort in the order of
            # time, also when the clock does not go by it.
            paths = [*self._paths(), *(segment.path for segment in self._segments)]
            number = 1 + max(map(_number, paths), default=0)
            active = self._active = Segment.create(self._named(number))
            self._segments.append(active)
        return active

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


def survey(folder: Path) -> list[SegmentState]:
    """What is in the spool at `folder`, which is only looked at, in the order of its names.

    :raises OSError: where it is not there, or cannot be read: `glob` alone would find it empty.
    """
    found = []
    for path in sorted(each for each in folder.iterdir() if each.suffix == ".spool"):
        try:
            found.append(_state(path))
        except FileNotFoundError:
            continue
        except OSError as error:
            text = error.strerror or str(error)
            found.append(SegmentState(path.name, None, None, None, None, None, False, text))
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


def _is_at(path: Path, descriptor: int) -> bool:
    """Whether `descriptor` is of the file that is at `path` now."""
    try:
        return os.path.samestat(path.stat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False


def _begun(path: Path, content: Iterable[bytes]) -> int:
    """Begin a segment; returns its descriptor. It has its name once it is locked and has its
    content, so that nobody ever adopts it as long as this process lives."""
    unfinished = path.with_name(path.name + ".new")
    descriptor = os.open(unfinished, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        size = 0
        for chunk in content:
            _write(descriptor, chunk, size)
            size += len(chunk)
        os.fsync(descriptor)
        unfinished.rename(path)
        _sync_folder(path.parent)
    except OSError:
        os.close(descriptor)
        with suppress(OSError):
            unfinished.unlink()
        raise
    return descriptor


def _write(descriptor: int, data: bytes, offset: int) -> None:
    """Write all of `data` at `offset`.

    :raises OSError: where the disk does not take all; a part of it may be there then.
    """
    rest = memoryview(data)
    while rest:
        written = os.pwrite(descriptor, rest, offset)
        rest, offset = rest[written:], offset + written


def _number(path: Path) -> int:
    digits = path.name.partition("-")[0]
    return int(digits) if digits.isdigit() else 0


def _sync_folder(folder: Path) -> None:
    """See that the names in `folder` are on disk."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
