"""How often it was tried to store the records at a segment's head, kept on disk.

A record may end the process that stores it: it may take all memory, or so long that a watchdog
ends the server. So each attempt is written down before it begins, beside the segment, in a file of
one line: `00000007-web1-4711-9f2c0a.tries`. After a crash the next process reads there which
records were being stored, and how often that was begun.

    000000000040 000000031288 000001

The numbers are the offsets at which those records begin and end, and the count.
"""

from __future__ import annotations

import os
import re
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

_LINE = b"%012d %012d %06d\n"
_PATTERN = re.compile(rb"(\d{12}) (\d{12}) (\d{6})\n")
_SIZE = len(_LINE % (0, 0, 0))

SUFFIX = ".tries"


class Attempt(NamedTuple):
    """An attempt that was begun, and of which it is not known that it has ended well."""

    start: int
    """The offset of the first record."""
    end: int
    """The offset behind the last."""
    tries: int
    """How often it was begun."""


class Attempts:
    """The last attempt on a segment. For whoever holds the segment's lock."""

    def __init__(self, segment: Path) -> None:
        self._path = segment.with_suffix(SUFFIX)
        self._descriptor: int | None = None
        self._last: Attempt | None = None
        self._read = False

    @property
    def last(self) -> Attempt | None:
        """The last one, by this process or by the one that had the segment before."""
        if not self._read:
            self._read = True
            with suppress(OSError), self._path.open("rb") as file:
                if found := _PATTERN.fullmatch(file.read(_SIZE)):
                    self._last = Attempt(*map(int, found.groups()))
        return self._last

    def begin(self, start: int, end: int) -> int:
        """Write down that the records from `start` to `end` are tried now. The line is on disk
        when this returns, unless the disk does not take it: then it is remembered in memory.

        :returns: how often these very records have been tried, this time included.
        """
        last = self.last
        tries = last.tries + 1 if last and last[:2] == (start, end) else 1
        self._write(Attempt(start, end, min(tries, 999_999)))
        return tries

    def take_back(self) -> None:
        """Do not count the last attempt: it failed for what is no fault of the records."""
        if self._last is not None:
            self._write(self._last._replace(tries=max(0, self._last.tries - 1)))

    def forget(self) -> None:
        """Delete the file."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None
        with suppress(OSError):
            self._path.unlink()

    def close(self) -> None:
        """Leave the file to the next one that has the segment."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def _write(self, attempt: Attempt) -> None:
        self._last, self._read = attempt, True
        with suppress(OSError):
            if self._descriptor is None:
                self._descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT, 0o600)
            os.pwrite(self._descriptor, _LINE % attempt, 0)
            os.fdatasync(self._descriptor)
