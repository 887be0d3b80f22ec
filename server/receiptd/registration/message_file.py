"""Files of messages to register, CSV or NDJSON: each line a message, or what is wrong with it.

Read line by line, in constant memory; a line that is wrong spoils neither the ones before it
nor the ones after it.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import BinaryIO, Literal, NamedTuple

from receiptd.message import Message
from receiptd.providers.post import Invalid
from receiptd.providers.values import shown
from receiptd.registration.lines import Line, Lines, NotReadable
from receiptd.registration.message_values import COLUMNS, column_hint, message_of

Format = Literal["csv", "ndjson"]

MOST_LINES = 20
"""Lines that a quoted field may span, before its quote counts as not closed."""


class Entry(NamedTuple):
    """What one line of the file says (a record of CSV may reach over several)."""

    line: int
    """Its number, from 1."""
    message: Message | None
    problem: str = ""
    """Why it is not a message."""


class MessageFile:
    """A file of messages, read once from its beginning to its end."""

    def __init__(
        self,
        file: BinaryIO,
        layout: Format,
        *,
        providers: Collection[str],
        provider: str | None = None,
        from_line: int = 1,
    ) -> None:
        """
        :param providers: those that there are.
        :param provider: whose the messages are that name none.
        :param from_line: the number of the first line that is wanted, from 1; a CSV file's
            header is read anyway.
        :raises NotReadable: where the file has no header that can be understood.
        """
        self._lines = Lines(file)
        self._providers = providers
        self._provider = provider
        self._entries = self._csv(from_line) if layout == "csv" else self._ndjson(from_line)

    @property
    def position(self) -> int:
        """How many bytes have been read."""
        return self._lines.position

    def __iter__(self) -> Iterator[Entry]:
        return self._entries

    def _entry(self, line: int, values: Mapping[str, object]) -> Entry:
        try:
            return Entry(line, message_of(values, self._providers, self._provider))
        except Invalid as problem:
            return Entry(line, None, problem.text)

    def _csv(self, from_line: int) -> Iterator[Entry]:
        first = self._lines.next()
        if first is None:
            return iter(())
        if first.problem:
            raise NotReadable(f"line 1 {first.problem}")
        delimiter = max(",;\t", key=first.text.count)
        columns = _header(first.text, delimiter, self._provider)
        self._lines.skip_to(from_line)
        return self._csv_entries(columns, delimiter)

    def _csv_entries(self, columns: Sequence[str], delimiter: str) -> Iterator[Entry]:
        for line in self._lines:
            if line.problem:
                yield Entry(line.number, None, line.problem)
                continue
            if '"' in line.text:
                fields = self._quoted(line, delimiter)
            else:
                fields = line.text.split(delimiter)
            if fields is None:
                problem = (
                    'has a " that opens a field and none that closes it, or text after that: '
                    'write a " within quotes twice'
                )
                yield Entry(line.number, None, problem)
            elif not any(map(str.strip, fields)):
                continue
            elif len(fields) != len(columns):
                problem = f"has {len(fields)} fields, the header has {len(columns)}"
                yield Entry(line.number, None, problem)
            else:
                yield self._entry(line.number, dict(zip(columns, fields, strict=True)))

    def _quoted(self, first: Line, delimiter: str) -> list[str] | None:
        """The fields of the record that `first` begins: a quoted one may hold line ends."""
        try:
            return _fields(first.text, delimiter)
        except csv.Error:
            pass
        lines: list[Line] = []
        text = first.text
        # A record is complete when its quotes are even: a quote within a field is doubled.
        while text.count('"') % 2 and len(lines) < MOST_LINES:
            more = self._lines.next()
            if more is None or more.problem:
                lines += [more] if more else []
                break
            lines.append(more)
            text += f"\n{more.text}"
        try:
            return _fields(text, delimiter)
        except csv.Error:
            self._lines.give_back(lines)
            return None

    def _ndjson(self, from_line: int) -> Iterator[Entry]:
        self._lines.skip_to(from_line)
        for line in self._lines:
            if line.problem:
                yield Entry(line.number, None, line.problem)
                continue
            if not line.text.strip():
                continue
            try:
                values = json.loads(line.text)
            except (ValueError, RecursionError) as error:
                values = error
            if isinstance(values, dict):
                yield self._entry(line.number, values)
            elif isinstance(values, list) or line.text.strip() == "[":
                problem = (
                    "is an array: expected an object in each line, which jq -c '.[]' makes of it"
                )
                yield Entry(line.number, None, problem)
            else:
                yield Entry(line.number, None, "is no JSON object in one line")


def _fields(text: str, delimiter: str) -> list[str]:
    """The fields of one record.

    :raises csv.Error: if it is not exactly one complete record.
    """
    lines = (f"{line}\n" for line in text.split("\n"))
    records = list(csv.reader(lines, delimiter=delimiter, strict=True))
    if len(records) != 1:
        raise csv.Error("several records")
    return records[0]


def _header(text: str, delimiter: str, provider: str | None) -> list[str]:
    """The columns that a CSV file's first line names."""
    try:
        columns = [name.strip().lower() for name in _fields(text, delimiter)]
    except csv.Error as error:
        raise NotReadable(f"line 1, which must name the columns, is no CSV: {error}") from None
    unknown = [name for name in columns if name not in COLUMNS]
    if unknown:
        if len(unknown) == len(columns):
            raise NotReadable(
                f"line 1 must name the columns: {','.join(COLUMNS)}, as many of them as there "
                f"are, in any order; it is {shown(text)}"
            )
        raise NotReadable(
            "line 1: "
            + "; ".join(f"unknown column {shown(each)}: {column_hint(each)}" for each in unknown)
        )
    twice = sorted({name for name in columns if columns.count(name) > 1})
    if twice:
        raise NotReadable(f"line 1 names the column {twice[0]} twice")
    if "message_id" not in columns:
        raise NotReadable("line 1 names no column message_id, and without it there is no message")
    if "provider" not in columns and provider is None:
        raise NotReadable(
            "line 1 names no column provider: say with --provider whose the messages are"
        )
    return columns
