"""Files of messages to register, CSV or NDJSON: each line a message, or what is wrong with it.

Read line by line, in constant memory; a line that is wrong spoils neither the ones before it
nor the ones after it.
"""

from __future__ import annotations

import csv
import json
from collections import deque
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import BinaryIO, Literal, NamedTuple, TypeVar

from receiptd.errors import did_you_mean
from receiptd.message import Message
from receiptd.providers.post import Invalid
from receiptd.providers.values import integer, shown
from receiptd.registration import rules

Format = Literal["csv", "ndjson"]

T = TypeVar("T")

COLUMNS = Message._fields
"""The columns of a CSV file and the keys of an object in NDJSON."""

LONGEST_LINE = 65536
"""Bytes; a longer line is none of a file of messages."""

MOST_LINES = 20
"""Lines that a quoted field may reach over, before its quote counts as not closed."""

# What other systems call the columns: only so as to suggest ours.
_ALSO_CALLED = {
    "id": "message_id",
    "messageid": "message_id",
    "messageidentifier": "message_id",
    "msisdn": "recipient",
    "phone": "recipient",
    "number": "recipient",
    "to": "recipient",
    "destination": "recipient",
    "from": "sender",
    "source": "sender",
    "originator": "sender",
    "ref": "reference",
    "segments": "parts",
}


class NotReadable(Exception):
    """A file that cannot be read at all; the text says why and what to do."""


class Entry(NamedTuple):
    """What one line of the file says (a record of CSV may reach over several)."""

    line: int
    """Its number, from 1."""
    message: Message | None
    problem: str = ""
    """Why it is no message."""


class _Line(NamedTuple):
    number: int
    text: str
    problem: str = ""


class _Lines:
    """The lines of a file, counted; those that were looked at too early can be given back."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._back: deque[_Line] = deque()
        self._number = 0
        self.position = 0

    def __iter__(self) -> Iterator[_Line]:
        while (line := self.next()) is not None:
            yield line

    def next(self) -> _Line | None:
        """The next line, without what ends it; None at the end of the file."""
        if self._back:
            return self._back.popleft()
        raw = self._read()
        if not raw:
            return None
        if len(raw) > LONGEST_LINE:
            while raw and not raw.endswith(b"\n"):
                raw = self._file.readline(LONGEST_LINE)
                self.position += len(raw)
            return _Line(self._number, "", f"is longer than {LONGEST_LINE} bytes")
        if self._number == 1:
            raw = _without_mark(raw)
        try:
            return _Line(self._number, raw.decode().rstrip("\r\n"))
        except UnicodeDecodeError as error:
            return _Line(
                self._number, "", f"is not UTF-8 at its byte {error.start + 1}: save it as UTF-8"
            )

    def give_back(self, lines: Sequence[_Line]) -> None:
        """Let these be the next ones."""
        self._back.extendleft(reversed(lines))

    def skip_to(self, number: int) -> None:
        """Let the line of this number be the next one."""
        while self._number < number - 1 and self._read():
            pass

    def _read(self) -> bytes:
        raw = self._file.readline(LONGEST_LINE + 1)
        self.position += len(raw)
        self._number += bool(raw)
        return raw


def _without_mark(raw: bytes) -> bytes:
    if raw.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise NotReadable("is UTF-16: save it as UTF-8")
    return raw.removeprefix(b"\xef\xbb\xbf")


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
        self._lines = _Lines(file)
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

    def _quoted(self, first: _Line, delimiter: str) -> list[str] | None:
        """The fields of the record that `first` begins: a quoted one may hold line ends."""
        try:
            return _fields(first.text, delimiter)
        except csv.Error:
            pass
        lines: list[_Line] = []
        text = first.text
        # A record is whole where its quotes are even: one within a field is written twice.
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

    :raises csv.Error: where it is none, or not whole.
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
            + "; ".join(f"unknown column {shown(each)}: {_hint(each)}" for each in unknown)
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


def _hint(name: str) -> str:
    plain = "".join(filter(str.isalnum, name.lower()))
    meant = _ALSO_CALLED.get(plain)
    return f"did you mean {meant!r}?" if meant else did_you_mean(name, COLUMNS)


def message_of(
    values: Mapping[str, object], providers: Collection[str], provider: str | None = None
) -> Message:
    """The message that `values`, by the names in `COLUMNS`, describe; an empty text and None
    are no value.

    :param providers: those that there are.
    :param provider: whose the message is where `values` do not say.
    :raises Invalid: where a value is missing, unknown or makes no sense; the text says which.
    """
    for name in values:
        if name not in COLUMNS:
            raise Invalid(name, f"unknown key {shown(name)}: {_hint(name)}")
    texts = {name: _text(name, value) for name, value in values.items()}
    of = texts.get("provider") or provider
    if of is None:
        raise Invalid("provider", "provider is missing: it must say whose the message is")
    _by_rule("provider", of, lambda value: rules.provider(value, providers))
    message_id = _by_rule("message_id", texts.get("message_id"), rules.identifier)
    if message_id is None:
        raise Invalid("message_id", "message_id is missing: it must name the message")
    recipient = texts.get("recipient")
    try:
        _by_rule("recipient", recipient, rules.phone)
    except Invalid as error:
        if "e+" in (recipient or "").lower():
            hint = "; spreadsheets write long numbers so: format the column as text"
            raise Invalid(error.field, error.text + hint) from None
        raise
    return Message(
        of,
        message_id,
        recipient,
        _by_rule("sender", texts.get("sender"), rules.text),
        _by_rule("reference", texts.get("reference"), rules.text),
        _by_rule("parts", integer("parts", texts.get("parts")), rules.parts),
    )


def _by_rule(name: str, value: T | None, rule: Callable[[T], T]) -> T | None:
    """What `rule` makes of `value`; None stays None.

    :raises Invalid: naming the value, where it is against the rule.
    """
    try:
        return None if value is None else rule(value)
    except ValueError as error:
        raise Invalid(name, f"{name} {error}") from None


def _text(name: str, value: object) -> str | None:
    """`value` without surrounding space; None for none."""
    if value is None:
        return None
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    if not isinstance(value, str):
        raise Invalid(name, f"{name} is {shown(json.dumps(value))}: a text was expected")
    return value.strip() or None
