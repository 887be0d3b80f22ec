"""A command on a real terminal: what it shows there."""

from __future__ import annotations

import fcntl
import os
import pty
import struct
import termios
from pathlib import Path

from kit.server import environment
from kit.warm import Process


def on_terminal(*arguments: str, columns: int = 80, typed: str = "") -> tuple[str, int]:
    """What `receiptd ARGUMENTS` shows on a terminal of so many columns, and its exit code.

    :param typed: what somebody types there.
    """
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    child = Process(
        arguments,
        (theirs, theirs, theirs),
        cwd=Path.cwd(),
        env=environment() | {"TERM": "xterm", "LANG": "C.UTF-8"},
    )
    os.close(theirs)
    os.write(ours, typed.encode())
    shown = b""
    while piece := _read(ours):
        shown += piece
    os.close(ours)
    return shown.decode(), child.wait(60)


def _read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 65536)
    except OSError:  # how Linux says that the other side has gone
        return b""
