"""What commands print: tables for people, plain columns for pipes, JSON for programs.

A table has few columns, which fit 80 characters as long as identifiers are short; `--wide` shows
all. No identifier is ever cut off. What came in a post is shown with its control characters
escaped: otherwise anybody who can reach the server could control the terminal.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from itertools import chain, islice
from typing import Any

import click

WIDTH = 80
"""Characters that a table should fit."""

LEAST_TEXT = 20
"""Characters of a long text that a narrow table shows at least."""

BLOCK = 1000
"""Rows whose widths are looked at together, so that a long list needs no memory."""

COLOURS = {
    "DELIVERED": "green",
    "EXPIRED": "red",
    "DELETED": "red",
    "UNDELIVERABLE": "red",
    "REJECTED": "red",
    "unknown-message": "red",
    "wrong-recipient": "red",
}
_NOT_ASCII = re.compile("[^\x00-\x7e]")


def printable(value: object, *, lines: bool = False) -> str:
    """`value` for people: `-` for None, control characters escaped.

    :param lines: whether line feeds and tabs (as spaces) may stay.
    """
    if value is None:
        return "-"
    text = str(value)
    if text.isprintable():
        return text
    if lines:
        text = text.replace("\r\n", "\n").expandtabs()
    return "".join(
        character
        if character.isprintable() or (lines and character == "\n")
        else character.encode("unicode_escape").decode()
        for character in text
    )


def say(text: object = "", *, err: bool = False) -> None:
    """Print lines for people, on standard output or (`err`) on standard error."""
    click.echo(printable(text, lines=True), err=err)


def short_time(value: Any) -> Any:
    """A time in UTC, as `rows.time` writes it, in 14 characters or fewer: without the year where
    that is this one, else without the time of day, as `ls -l` has it. Anything else as it is."""
    if not (isinstance(value, str) and len(value) in (20, 27) and value.endswith("Z")):
        return value
    if value[:4] == str(datetime.now(UTC).year):
        return f"{value[5:10]} {value[11:19]}"
    return value[:10]


def table(
    headers: Sequence[str],
    rows: Iterable[Sequence[object]],
    *,
    text: str | None = None,
    spare: Sequence[str] = (),
) -> None:
    """Print rows under headers, in columns.

    :param text: the header of a column of long texts, which are cut to what is left of the width.
    :param spare: headers of the columns that a terminal does without, the first one first, where
        all of them do not fit.
    """
    texts = ([printable(value) for value in row] for row in rows)
    at = headers.index(text) if text in headers else None
    if sys.stdout.isatty():
        _rich_table(headers, texts, at, [headers.index(each) for each in spare])
    else:
        _plain_table(headers, texts, at)


def _blocks(rows: Iterator[list[str]]) -> Iterator[list[list[str]]]:
    while block := list(islice(rows, BLOCK)):
        yield block


def _widths(rows: Iterable[Sequence[str]], least: Sequence[int]) -> list[int]:
    widths = list(least)
    for row in rows:
        widths = [max(width, len(text)) for width, text in zip(widths, row, strict=True)]
    return widths


def _cut(rows: list[list[str]], widths: list[int], at: int | None, width: int) -> None:
    """Cut the texts of the column `at`, so that the rows are `width` wide if that can be."""
    if at is None:
        return
    left = width - sum(widths) - 2 * (len(widths) - 1) + widths[at]
    left = max(left, LEAST_TEXT)
    widths[at] = min(widths[at], left)
    for row in rows:
        if len(row[at]) > left:
            row[at] = row[at][: left - 1] + "…"


def _plain_table(headers: Sequence[str], rows: Iterator[list[str]], at: int | None) -> None:
    widths = [len(header) for header in headers]
    heading = [list(headers)]
    for block in _blocks(rows):
        widths = _widths(block, widths)
        _cut(block, widths, at, WIDTH)
        for row in chain(heading, block):
            cells = (text.ljust(width) for text, width in zip(row, widths, strict=True))
            sys.stdout.write("  ".join(cells).rstrip() + "\n")
        heading = []


def _terminal_width() -> int:
    try:
        return os.get_terminal_size(sys.stdout.fileno()).columns or WIDTH
    except (OSError, ValueError):
        return shutil.get_terminal_size((WIDTH, 24)).columns


def _rich_table(
    headers: Sequence[str], rows: Iterator[list[str]], at: int | None, spare: Sequence[int]
) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    terminal = _terminal_width()
    least = [len(header) for header in headers]
    for block in _blocks(rows):
        widths = _widths(block, least)
        _cut(block, widths, at, terminal)
        columns = list(range(len(headers)))
        for index in spare:
            if sum(widths[each] + 2 for each in columns) - 2 > terminal:
                columns.remove(index)
        shown = Table(
            *(headers[index] for index in columns), box=None, pad_edge=False, header_style="bold"
        )
        for row in block:
            shown.add_row(
                *(Text(row[index], style=COLOURS.get(row[index], "")) for index in columns)
            )
        # As wide as it is: the terminal wraps a long line, while a folded cell would break an
        # identifier into pieces that cannot be copied.
        natural = sum(widths[index] + 2 for index in columns)
        Console(width=max(natural, terminal)).print(shown, crop=False, soft_wrap=True)


def json_array(items: Iterable[Mapping[str, Any]]) -> None:
    """Print one JSON array, an item at a time."""
    write = sys.stdout.write
    separator = "["
    for item in items:
        write(f"{separator}\n{json_text(item)}")
        separator = ","
    write("[]\n" if separator == "[" else "\n]\n")


def json_text(item: Any, indent: int | None = None, unicode: bool | None = None) -> str:
    """`item` as JSON.

    :param unicode: whether the encoding has every character; None: as that of standard output.
    """
    if unicode is None:
        unicode = (sys.stdout.encoding or "").lower().replace("-", "") == "utf8"
    text = json.dumps(item, ensure_ascii=not unicode, indent=indent)
    # JSON may hold characters as they are that a terminal obeys or a line-wise reader ends at.
    # They stand in strings alone, where an escape means the same.
    return _NOT_ASCII.sub(_printable_or_escaped, text)


def _printable_or_escaped(found: re.Match[str]) -> str:
    return found[0] if found[0].isprintable() else json.dumps(found[0])[1:-1]


def fields(heading: str, values: Mapping[str, Any], longest: str) -> None:
    """Print one thing with all its fields, and under them `longest`, the one of many lines."""
    write = sys.stdout.write
    write(f"{heading}\n")
    width = max(map(len, values)) + 2
    for name, value in values.items():
        if name == longest:
            continue
        if isinstance(value, Mapping):
            shown = [f"{printable(key)} = {_plain(each)}" for key, each in value.items()] or ["-"]
        elif isinstance(value, list):
            shown = [_plain(each) for each in value] or ["-"]
        else:
            shown = printable(value, lines=True).split("\n")
        write(f"  {name:<{width}}{shown[0]}\n")
        for more in shown[1:]:
            write(f"  {'':<{width}}{more}\n")
    write(f"  {longest}\n")
    for line in printable(values[longest], lines=True).rstrip("\n").split("\n"):
        write(f"    {line}\n".rstrip(" ") if line else "\n")


def _plain(value: object) -> str:
    """A value within another one: a text as it is, anything else as JSON."""
    return printable(value) if isinstance(value, str) else json_text(value)
