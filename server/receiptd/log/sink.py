"""Where the lines of the log go: standard error or a file. Writing there never fails or waits.

A receipt must not be refused because nobody reads the log: a disk may be full, a pipe closed or
its reader asleep. What cannot be written waits in memory, up to `MOST_WAITING`; what comes beyond
that is counted and lost.
"""

from __future__ import annotations

import errno
import os
import select
import socket
import stat
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext, suppress
from pathlib import Path
from threading import Lock
from time import monotonic

from receiptd.errors import UserError

MOST_WAITING = 1024 * 1024
"""Bytes of lines that wait for a log that cannot be written."""

LOOK = 1.0
"""Seconds between looks whether the file is still where it was."""

_MODE = 0o640
"""Of a new file: it holds people's phone numbers."""

_SENT_AT_ONCE = getattr(select, "PIPE_BUF", 512)
"""Bytes that a pipe takes as a whole or not at all, whoever else writes to it."""


class LogError(UserError):
    """A log that cannot be opened; the text says why and what to do."""


class Sink:
    """Takes lines, from any thread."""

    def __init__(
        self,
        path: Path | None,
        descriptor: int = 2,
        *,
        opening: Callable[[], AbstractContextManager[None]] = nullcontext,
    ) -> None:
        """
        :param path: the file; None: the log goes to `descriptor`.
        :param opening: within it the file is opened, now and whenever it was moved away.
        :raises LogError: where the file cannot be opened.
        """
        self.lost = 0
        """How many lines could not be written."""
        self.trouble = ""
        """Why a file that was moved away cannot be made anew; empty where it can."""
        self._path = path
        self._opening = opening
        self._lock = Lock()
        self._waiting = bytearray()
        self._looked = monotonic()
        self._socket: socket.socket | None = None
        self._piece = 0
        try:
            if path is None:
                self._descriptor = self._own(descriptor)
            else:
                with opening():
                    self._descriptor = _opened(path)
        except OSError as error:
            raise _unusable(path, error.strerror) from None

    @property
    def waiting(self) -> int:
        """How many bytes wait to be written."""
        return len(self._waiting)

    def write(self, lines: bytes) -> None:
        """Write whole lines, or keep them until they can be written."""
        with self._lock:
            self._look_after_file()
            if self._waiting:
                self._keep(lines)
                self._catch_up()
            elif (sent := self._send(lines)) < len(lines):
                self._keep(lines[sent:])

    def look(self) -> None:
        """See, now and then, whether what waits can be written and where the file is."""
        with self._lock:
            self._look_after_file()
            self._catch_up()

    def reopen(self) -> None:
        """Go on in a new file where the old one was moved away. Where it cannot be opened, the
        old one is written to."""
        if self._path is None:
            return
        with self._lock:
            self._open_again()

    def close(self) -> None:
        """Write what waits, if that is possible, and close."""
        with self._lock:
            self._catch_up()
            # What is written later must not land in a file that gets the same number.
            descriptor, self._descriptor = self._descriptor, -1
            if self._socket is not None:
                self._socket.close()
                self._socket = None
            else:
                os.close(descriptor)

    # --- The rest holds the lock

    def _own(self, descriptor: int) -> int:
        """`descriptor` in such a way that writing to it does not wait.

        It is shared with whoever started this process, so its flags are not ours to change: a
        pipe or a terminal is opened anew, and a socket, such as systemd's journal has, is told
        with each piece.
        """
        mode = os.fstat(descriptor).st_mode
        if stat.S_ISSOCK(mode):
            self._socket = socket.socket(fileno=os.dup(descriptor))
            return self._socket.fileno()
        if stat.S_ISFIFO(mode) or stat.S_ISCHR(mode):
            self._piece = _SENT_AT_ONCE
            with suppress(OSError):  # without /proc, or with a terminal of another user
                flags = os.O_WRONLY | os.O_APPEND | os.O_NONBLOCK | os.O_NOCTTY
                return os.open(f"/proc/self/fd/{descriptor}", flags)
        return os.dup(descriptor)

    def _send(self, lines: bytes | bytearray) -> int:
        """How many bytes of `lines` are written."""
        sent = 0
        try:
            while sent < len(lines):
                piece = lines[sent : self._end(lines, sent)]
                if self._socket is not None:
                    sent += self._socket.send(piece, socket.MSG_DONTWAIT)
                else:
                    sent += os.write(self._descriptor, piece)
        except OSError:
            pass  # BlockingIOError among them: it may do later
        return sent

    def _end(self, lines: bytes | bytearray, start: int) -> int:
        """Where the piece ends that is sent at once: to a pipe, which other workers write to as
        well, as many whole lines as stay together."""
        if not self._piece or len(lines) - start <= self._piece:
            return len(lines)
        end = lines.rfind(b"\n", start, start + self._piece) + 1
        return end or start + self._piece

    def _keep(self, lines: bytes) -> None:
        room = MOST_WAITING - len(self._waiting)
        fitting = len(lines) if len(lines) <= room else lines.rfind(b"\n", 0, room) + 1
        self._waiting += lines[:fitting]
        self.lost += lines.count(b"\n", fitting)

    def _catch_up(self) -> None:
        if self._waiting:
            del self._waiting[: self._send(self._waiting)]

    def _look_after_file(self) -> None:
        """Open the file anew where logrotate has moved it away."""
        if self._path is None or monotonic() - self._looked < LOOK:
            return
        self._looked = monotonic()
        try:
            there = self._path.stat()
            ours = os.fstat(self._descriptor)
            moved = (there.st_dev, there.st_ino) != (ours.st_dev, ours.st_ino)
        except OSError:
            moved = True
        if moved:
            self._open_again()

    def _open_again(self) -> None:
        assert self._path is not None
        try:
            with self._opening():
                opened = _opened(self._path)
        except OSError as error:
            self.trouble = error.strerror or str(error)
        except UserError as error:  # the user to open it as is gone
            self.trouble = str(error)
        else:
            os.close(self._descriptor)
            self._descriptor = opened
            self.trouble = ""


def check_file(path: Path) -> None:
    """See, without opening anything, that lines can be appended to `path`.

    :raises LogError: where they cannot.
    """
    if path.is_dir():
        raise _unusable(path, os.strerror(errno.EISDIR))
    if not path.parent.is_dir():
        raise _unusable(path, os.strerror(errno.ENOENT))
    if not os.access(path if path.exists() else path.parent, os.W_OK):
        raise _unusable(path, os.strerror(errno.EACCES))


def _unusable(path: Path | None, reason: str | None) -> LogError:
    return LogError(
        f"log.file: {path or 'standard error'}: cannot be written: {reason}. Name another file, "
        "or none, so that the log goes to standard error"
    )


def _opened(path: Path) -> int:
    # Not to wait for whoever reads, should it be a named pipe.
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NONBLOCK | os.O_NOCTTY
    return os.open(path, flags, _MODE)
