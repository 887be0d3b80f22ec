"""Tables as CSV (RFC 4180), for spreadsheets."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Sequence

from receiptd.registration.spreadsheet import no_formula
from receiptd.web.console.desk import Answer

CSV = b"text/csv; charset=utf-8; header=present"

MOST_ROWS = 1000
"""Rows of one file; `receiptd receipts export` has no limit."""

# As people write phone numbers; no_formula leaves those alone that are plain numbers.
_PHONE = re.compile(r"[+-][0-9 ().-]*")


def cell(value: object) -> str:
    """A value as a spreadsheet may have it: anybody who can post a receipt could write a
    formula."""
    if value is None:
        return ""
    text = str(value)
    return text if _PHONE.fullmatch(text) else str(no_formula(text))


def csv_answer(name: str, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> Answer:
    """The table as a file of this name.

    :param name: one of ours, without the suffix.
    """
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(columns)
    writer.writerows([cell(value) for value in row] for row in rows)
    return Answer(
        text.getvalue().encode("utf-8", "backslashreplace"),
        CSV,
        (f'Content-Disposition: attachment; filename="{name}.csv"\r\n'.encode(),),
    )
