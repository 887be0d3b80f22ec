"""What is wrong with a request, in words."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from pydantic import ValidationError

from receiptd.errors import did_you_mean
from receiptd.providers import values

MOST_ERRORS = 100
"""Findings that are named of one request."""

Place = Sequence[str | int]

_CHOICE = re.compile(r"'([^']*)'")


def unknown(name: str, known: Sequence[str]) -> str:
    """What is wrong with a name that is not among `known`."""
    return f"is unknown: {did_you_mean(name, known)}"


def findings(error: ValidationError) -> Iterator[tuple[Place, str]]:
    """What pydantic found, in our words: where, and what. The caller has seen to it that there
    are not many: pydantic makes a record of each."""
    for item in error.errors(include_url=False):
        path = item["loc"]
        if item["type"] == "missing":
            text = "is missing"
        elif item["type"] == "value_error":
            text = str(item["ctx"]["error"])
        elif item["type"] in ("model_type", "model_attributes_type"):
            text = "expected a JSON object"
        elif item["type"] in ("enum", "literal_error"):
            known = _CHOICE.findall(item["ctx"]["expected"])
            given = str(item["input"])
            text = f"is {values.shown(given)}: {did_you_mean(given, known)}"
        else:
            text = item["msg"].replace("Input should be", "expected")
            if isinstance(item["input"], str | int | float):
                text += f", not {values.shown(str(item['input']))}"
        yield path, text


def summary(wrong: Sequence[tuple[str, str]]) -> str:
    """All that is wrong, in a line: the first of it in words."""
    shown = [f"{where.removeprefix('#/') or 'the body'}: {text}" for where, text in wrong[:3]]
    more = [f"and {len(wrong) - 3} more"] if len(wrong) > 3 else []
    return "; ".join(shown + more)
