"""The lines of a file of messages: numbered, bounded, and decoded one by one."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from typing import BinaryIO, NamedTuple

LONGEST_LINE = 65536
"""Bytes; a file of messages has no longer line."""


class NotReadable(Exception):
    """A file that cannot be read at all; the text says why and what to do."""


class Line(NamedTuple):
    """A line of the file."""

    number: int
    """From 1."""
    text: str
    problem: str = ""
    """Why it cannot be read; its text is then empty."""


class Lines:
    """The lines of a file, numbered. Lines that were read too early can be given back."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._back: deque[Line] = deque()
        self._number = 0
        self.position = 0

    def __iter__(self) -> Iterator[Line]:
        while (line := self.next()) is not None:
            yield line

    def next(self) -> Line | None:
        """The next line, without its line end; None at the end of the file."""
        if self._back:
            return self._back.popleft()
        raw = self._read()
        if not raw:
            return None
        if len(raw) > LONGEST_LINE:
            while raw and not raw.endswith(b"\n"):
                raw = self._file.readline(LONGEST_LINE)
                self.position += len(raw)
            return Line(self._number, "", f"is longer than {LONGEST_LINE} bytes")
        if self._number == 1:
            raw = _without_mark(raw)
        try:
            return Line(self._number, raw.decode().rstrip("\r\n"))
        except UnicodeDecodeError as error:
            return Line(
                self._number, "", f"is not UTF-8 at its byte {error.start + 1}: save it as UTF-8"
            )

    def give_back(self, lines: Sequence[Line]) -> None:
        """Return these lines next."""
        self._back.extendleft(reversed(lines))

    def skip_to(self, number: int) -> None:
        """Skip the lines before this number."""
        while self._number < number - 1 and self._read():
            pass

    def _read(self) -> bytes:
        raw = self._file.readline(LONGEST_LINE + 1)
        self.position += len(raw)
        self._number += bool(raw)
        return raw


def _without_mark(raw: bytes) -> bytes:
    if raw.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise NotReadable("is UTF-16: save it as UTF-8")
    return raw.removeprefix(b"\xef\xbb\xbf")
