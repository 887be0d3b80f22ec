"""The command line in this process, and in one of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any

from click.testing import CliRunner, Result

from kit.server import environment
from receiptd.cli import main


def run(*arguments: str, **options: Any) -> Result:
    """`receiptd ARGUMENTS` in this process."""
    return CliRunner().invoke(main, arguments, prog_name="receiptd", **options)


def start(*arguments: str, **options: Any) -> subprocess.Popen[bytes]:
    """`receiptd ARGUMENTS` in a process of its own, its output in pipes."""
    return subprocess.Popen(
        [sys.executable, "-m", "receiptd", *arguments],
        stdin=options.pop("stdin", subprocess.DEVNULL),
        stdout=options.pop("stdout", subprocess.PIPE),
        stderr=subprocess.PIPE,
        env=environment() | {"PYTHONIOENCODING": "utf-8"},
        **options,
    )


def peak_memory(*arguments: str) -> int:
    """The most memory in bytes that `receiptd ARGUMENTS` had."""
    child = start(*arguments, stdout=subprocess.DEVNULL)
    assert child.stderr is not None
    errors = child.stderr.read()
    _, status, usage = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    assert child.returncode == 0, errors.decode()
    return usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024)
