"""What is wrong with a request, in words."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from pydantic import BaseModel, ValidationError

from receiptd.config.errors import expected
from receiptd.providers import values

MOST_ERRORS = 100
"""Findings that are named of one request."""

Place = Sequence[str | int]


def findings(error: ValidationError, model: type[BaseModel]) -> Iterator[tuple[Place, str]]:
    """What pydantic found, in our words: where, and what."""
    for item in error.errors(include_url=False):
        path = item["loc"]
        if item["type"] == "extra_forbidden":
            text = f"is unknown: {expected(str(path[-1]), list(model.model_fields))}"
        elif item["type"] == "missing":
            text = "is missing"
        elif item["type"] == "value_error":
            text = str(item["ctx"]["error"])
        elif item["type"] in ("model_type", "model_attributes_type"):
            text = "expected a JSON object"
        elif item["type"] == "too_long":
            text = f"expected at most {item['ctx']['max_length']} messages in one request"
        else:
            text = item["msg"].replace("Input should be", "expected")
            if isinstance(item["input"], str | int | float):
                text += f", not {values.shown(str(item['input']))}"
        yield path, text


def summary(wrong: Sequence[tuple[str, str]]) -> str:
    shown = [f"{where.removeprefix('#/') or 'the body'}: {text}" for where, text in wrong[:3]]
    more = [f"and {len(wrong) - 3} more"] if len(wrong) > 3 else []
    return "; ".join(shown + more)
