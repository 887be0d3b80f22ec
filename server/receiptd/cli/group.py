"""How the command line ends where its output cannot be written, and what its errors look like."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import click

from receiptd.cli.output import printable

_CANNOT_WRITE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)
"""What a write says when a disk is full, a quota or a limit is reached, or a disk is broken."""


class CommandLine(click.Group):
    """The group of all commands."""

    def main(self, *arguments: Any, **options: Any) -> Any:
        """Run, and see that all that was printed has been written. A reader that went early (as
        `head` does) is nothing to speak of; a disk that is full is one line."""
        try:
            try:
                return super().main(*arguments, **options)
            finally:
                if sys.stdout is not None:  # it is None where it was closed before the start
                    sys.stdout.flush()
        except OSError as error:
            if error.errno not in (errno.EPIPE, *_CANNOT_WRITE) or error.filename is not None:
                raise
            _let_go()
            if error.errno != errno.EPIPE:
                with suppress(OSError):  # standard error may be on the same disk
                    click.echo(f"the output cannot be written: {error.strerror}", err=True)
            sys.exit(1)

    def make_context(self, *arguments: Any, **options: Any) -> click.Context:
        """As click does it; what is wrong with the words is shown without control characters."""
        with _printable():
            return super().make_context(*arguments, **options)

    def invoke(self, ctx: click.Context) -> Any:
        """As click does it; what is wrong with the words is shown without control characters."""
        with _printable():
            return super().invoke(ctx)


@contextmanager
def _printable() -> Iterator[None]:
    try:
        yield
    except click.ClickException as error:
        # click shows this attribute, and declares that nobody is to set it anew.
        vars(error)["message"] = printable(error.message, lines=True)
        raise


def _let_go() -> None:
    """Lose what could not be written: Python would try again at its end, and complain."""
    if sys.stdout is None:
        return
    with suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)
        sys.stdout.flush()
