"""What commands print: tables for people, plain columns for pipes, JSON for programs.

Nothing is cut off because a terminal is narrow. What came in a post is shown with its control
characters escaped: a terminal must not obey whoever can reach the server.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain, islice
from typing import Any

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


def table(headers: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Print rows under headers, in columns."""
    texts = ([printable(value) for value in row] for row in rows)
    if sys.stdout.isatty():
        _rich_table(headers, texts)
    else:
        _plain_table(headers, texts)


def _blocks(rows: Iterator[list[str]]) -> Iterator[list[list[str]]]:
    while block := list(islice(rows, BLOCK)):
        yield block


def _plain_table(headers: Sequence[str], rows: Iterator[list[str]]) -> None:
    widths = [len(header) for header in headers]
    heading = [list(headers)]
    for block in _blocks(rows):
        widths = [
            max(width, *(len(row[index]) for row in block)) for index, width in enumerate(widths)
        ]
        for row in chain(heading, block):
            cells = (text.ljust(width) for text, width in zip(row, widths, strict=True))
            sys.stdout.write("  ".join(cells).rstrip() + "\n")
        heading = []


def _rich_table(headers: Sequence[str], rows: Iterator[list[str]]) -> None:
    from rich.console import Console
    from rich.measure import Measurement
    from rich.table import Table
    from rich.text import Text

    looking = Console()
    for block in _blocks(rows):
        shown = Table(*headers, box=None, pad_edge=False, header_style="bold")
        for row in block:
            shown.add_row(*(Text(text, style=COLOURS.get(text, "")) for text in row))
        # As wide as it is: the terminal wraps a long line, while a folded cell would break an
        # identifier into pieces that cannot be copied.
        natural = Measurement.get(looking, looking.options.update(max_width=100_000), shown)
        console = Console(width=max(natural.maximum, looking.width))
        console.print(shown, crop=False, soft_wrap=True)


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
            shown = [f"{printable(key)} = {printable(text)}" for key, text in value.items()] or [
                "-"
            ]
        else:
            shown = printable(value, lines=True).split("\n")
        write(f"  {name:<{width}}{shown[0]}\n")
        for more in shown[1:]:
            write(f"  {'':<{width}}{more}\n")
    write(f"  {longest}\n")
    for line in printable(values[longest], lines=True).rstrip("\n").split("\n"):
        write(f"    {line}\n".rstrip(" ") if line else "\n")
