"""Progress bars: on a terminal where somebody waits, and nowhere else.

All are on standard error, and gone once the work is done: what a command prints stays clean.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.progress import Progress, ProgressColumn

LEFT = "left"
COUNTED = "counted"
"""Columns behind the bar, besides texts: the time that is left, and how many of how many."""


def progress_bar(*columns: str, beside_output: bool = False) -> Progress | None:
    """A bar to be entered as a context manager; None where nobody would see one.

    :param columns: texts, which may name the fields of a task; the first is the name of what is
        done. `LEFT` and `COUNTED` stand for themselves.
    :param beside_output: whether standard output shows on the same terminal, where a bar and the
        output would run into each other.
    """
    if not sys.stderr.isatty() or (beside_output and sys.stdout.isatty()):
        return None
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TaskProgressColumn,
        TextColumn,
        TimeRemainingColumn,
    )

    shown: list[ProgressColumn] = [TextColumn(columns[0]), BarColumn()]
    if COUNTED not in columns:
        shown.append(TaskProgressColumn())
    for column in columns[1:]:
        if column == LEFT:
            shown.append(TimeRemainingColumn())
        elif column == COUNTED:
            shown.append(MofNCompleteColumn())
        else:
            shown.append(TextColumn(column))
    return Progress(*shown, console=Console(stderr=True), transient=True)
