"""The command line in this process, and in one of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import IO, Any

from click.testing import CliRunner, Result

from kit.server import environment
from kit.warm import Process
from receiptd.cli import main


def run(*arguments: str, **options: Any) -> Result:
    """`receiptd ARGUMENTS` in this process."""
    return CliRunner().invoke(main, arguments, prog_name="receiptd", **options)


class Command(Process):
    """`receiptd ARGUMENTS` in a process of its own, with what tests use of `subprocess.Popen`'s
    pipes."""

    def __init__(
        self,
        *arguments: str,
        stdin: int | IO[Any] = subprocess.DEVNULL,
        stdout: int | IO[Any] = subprocess.PIPE,
        stderr: int | IO[Any] = subprocess.PIPE,
        cwd: Path | str | None = None,
        env: Mapping[str, str] | None = None,
    ) -> None:
        """
        :param env: None is this process's environment without receiptd's own variables.
        """
        with ExitStack() as theirs:
            self.stdin, of_stdin = _ends(stdin, theirs, write=True)
            self.stdout, of_stdout = _ends(stdout, theirs)
            self.stderr, of_stderr = _ends(stderr, theirs)
            super().__init__(
                arguments,
                (of_stdin, of_stdout, of_stderr),
                cwd=cwd or Path.cwd(),
                env=environment() if env is None else env,
            )

    def communicate(self, timeout: float = 60) -> tuple[bytes, bytes]:
        """Wait for its end; all of its output and of its errors."""
        if self.stdin is not None:
            self.stdin.close()
        with ThreadPoolExecutor(2) as readers:
            out, errors = (readers.submit(_rest, each) for each in (self.stdout, self.stderr))
            try:
                self.wait(timeout)
            except subprocess.TimeoutExpired:
                self.kill()
                raise
        return out.result(), errors.result()


def _rest(stream: IO[bytes] | None) -> bytes:
    """What is still to be read of a stream, which is then closed."""
    if stream is None or stream.closed:
        return b""
    with stream:
        return stream.read()


def _ends(
    stream: int | IO[Any], theirs: ExitStack, *, write: bool = False
) -> tuple[IO[bytes] | None, int]:
    """Our end of a stream of a command, where we have one, and its own."""
    if not isinstance(stream, int):
        return None, stream.fileno()
    if stream == subprocess.DEVNULL:
        null = os.open(os.devnull, os.O_RDWR)
        theirs.callback(os.close, null)
        return None, null
    reading, writing = os.pipe()
    our, its = (writing, reading) if write else (reading, writing)
    theirs.callback(os.close, its)
    return os.fdopen(our, "wb" if write else "rb"), its


def start(*arguments: str, **options: Any) -> Command:
    """`receiptd ARGUMENTS` in a process of its own, its output in pipes."""
    return Command(*arguments, **options)


def execute(
    *arguments: str, timeout: float = 60, **options: Any
) -> subprocess.CompletedProcess[str]:
    """`receiptd ARGUMENTS` in a process of its own, once that has ended."""
    command = Command(*arguments, **options)
    out, errors = (each.decode() for each in command.communicate(timeout))
    return subprocess.CompletedProcess(["receiptd", *arguments], command.wait(), out, errors)


def peak_memory(*arguments: str) -> int:
    """The most memory in bytes that `receiptd ARGUMENTS` had."""
    # Cold: a fork has the memory of what it was forked from.
    child = subprocess.Popen(
        [sys.executable, "-m", "receiptd", *arguments],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        env=environment(),
    )
    assert child.stderr is not None
    errors = child.stderr.read()
    _, status, usage = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    assert child.returncode == 0, errors.decode()
    return usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024)
