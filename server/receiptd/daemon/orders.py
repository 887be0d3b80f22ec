"""How a process that the daemon has started is told what to do, and how it reports.

The daemon writes to its descriptor 3: first what it is to do, later what has changed; each is a
pickle behind its length. The end of that pipe is the end of the daemon, and so of the process. The
process writes lines to descriptor 4: `ready` or `alive`, and how it is.
"""

from __future__ import annotations

import os
import pickle
import struct
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from twisted.internet.abstract import FileDescriptor

ORDERS = 3
REPORTS = 4
"""The descriptors."""

LONGEST_REPORT = 4096
"""Bytes of a report that are kept until it is whole."""

_LENGTH = struct.Struct("!I")


def pack(order: object) -> bytes:
    """`order` as it goes through the pipe."""
    # Between two processes of one program, of which one has started the other: nobody else can
    # write there.
    data = pickle.dumps(order)
    return _LENGTH.pack(len(data)) + data


class Orders(FileDescriptor):
    """Reads what the daemon writes."""

    def __init__(
        self, reactor: Any, take: Callable[[Any], object], end: Callable[[], object]
    ) -> None:
        """
        :param take: called with each order.
        :param end: called when the daemon is gone.
        """
        super().__init__(reactor)
        self._take = take
        self._end = end
        self._data = b""
        os.set_blocking(ORDERS, False)
        self.startReading()

    def fileno(self) -> int:
        """The pipe's descriptor."""
        return ORDERS

    def doRead(self) -> None:
        """There is something to read."""
        try:
            data = os.read(ORDERS, 65536)
        except BlockingIOError:
            return
        if not data:
            self.connectionLost(None)
        self._data += data
        while (whole := _whole(self._data)) is not None:
            self._data = self._data[_LENGTH.size + len(whole) :]
            self._take(pickle.loads(whole))  # noqa: S301 see `pack`

    def connectionLost(self, reason: Any) -> None:
        """The daemon is gone; the reactor says so, or there was nothing left to read."""
        if not self.disconnected:
            self.stopReading()
            super().connectionLost(reason)
            self._end()


def _whole(data: bytes) -> bytes | None:
    """The first pickle in `data`, None where it is not whole yet."""
    if len(data) < _LENGTH.size:
        return None
    end = _LENGTH.size + _LENGTH.unpack_from(data)[0]
    return data[_LENGTH.size : end] if len(data) >= end else None


def first_order() -> Any:
    """What the process is to do, which is the first thing that it is told; waits for it.

    :raises EOFError: where the daemon ended before.
    """
    with open(ORDERS, "rb", closefd=False, buffering=0) as orders:

        def exactly(size: int) -> bytes:
            data = b""
            while len(data) < size:
                piece = orders.read(size - len(data))
                if not piece:
                    raise EOFError
                data += piece
            return data

        (length,) = _LENGTH.unpack(exactly(_LENGTH.size))
        return pickle.loads(exactly(length))  # noqa: S301 see `pack`


class Reports:
    """Tells the daemon how this process is."""

    watchdog: float | None = None

    def __init__(self) -> None:
        os.set_blocking(REPORTS, False)

    def _tell(self, text: str) -> None:
        with suppress(OSError):  # a daemon that does not read does not stop it
            os.write(REPORTS, text.encode() + b"\n")

    def ready(self, status: str) -> None:
        """It serves, by the configuration that it was told last."""
        self._tell(f"ready {status}")

    def alive(self, status: str) -> None:
        """It is well."""
        self._tell(f"alive {status}")

    def reloading(self) -> None:
        """The daemon knows."""

    def stopping(self, seconds: float) -> None:
        """The daemon knows."""
