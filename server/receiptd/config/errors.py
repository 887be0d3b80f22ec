"""What is wrong with a configuration, in words: where it stands, and what was expected there."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from pydantic import ValidationError

from receiptd.errors import UserError, did_you_mean

Place = tuple[str | int, ...]
"""Where in the configuration something is: keys, and numbers (from 0) in lists."""

Finding = tuple[Place, str]
"""A place, and what is wrong there."""


class ConfigError(UserError):
    """A configuration that cannot be used; each line of its text names file, key and remedy."""


class Misfit(ValueError):
    """What is wrong with keys beneath the table that a validator looks at."""

    def __init__(self, found: Sequence[Finding]) -> None:
        super().__init__("; ".join(f"{where(path)}: {text}" for path, text in found))
        self.found = found


def findings(
    error: ValidationError, unknown: Callable[[Place], str] = lambda _: "unknown key"
) -> Iterator[Finding]:
    """What pydantic found, in our words. Values are shown only of kinds that are no secret.

    :param unknown: gives the words for a key that its table does not have.
    """
    for item in error.errors(include_url=False):
        path: Place = item["loc"]
        cause = item.get("ctx", {}).get("error")
        if isinstance(cause, Misfit):
            for below, text in cause.found:
                yield (*path, *below), text
        elif item["type"] == "extra_forbidden":
            yield path, unknown(path)
        else:
            yield path, _worded(path, item["type"], item.get("ctx", {}), item)


_TYPES = {
    "string": "text in quotes",
    "int": "a whole number",
    "bool": "true or false",
    "list": "a list, in brackets",
    "dict": "a table",
    "model": "a table",
}


def _worded(path: Place, kind: str, context: Mapping[str, Any], item: Any) -> str:
    if kind == "missing":
        return "is missing"
    if kind == "value_error":
        return str(context["error"])
    if path == ("endpoint",):
        return "expected at least one table [[endpoint]], in double brackets"
    given = item["input"]
    if kind == "greater_than_equal":
        return f"expected at least {context['ge']}, not {given}"
    if kind == "less_than_equal":
        return f"expected at most {context['le']}, not {given}"
    if kind == "too_short":
        return f"expected at least {context['min_length']}, not {context['actual_length']}"
    if kind == "literal_error":
        return f"expected {context['expected']}, not {json.dumps(given, default=str)[:60]}"
    base, _, rest = kind.partition("_")
    if rest not in ("type", "parsing", "from_float", "attributes_type") or base not in _TYPES:
        return str(item["msg"]).replace("Input should be", "expected")
    # Shown only where no secret can be meant: a PIN of digits whose quotes were forgotten is a
    # number where a text is expected.
    shown = base in ("int", "bool") and isinstance(given, str | int | float)
    return f"expected {_TYPES[base]}" + (f", not {json.dumps(given)[:60]}" if shown else "")


def where(path: Place) -> str:
    """`path` for people: `store.url`, `endpoint 2.pin`; counting from 1."""
    text = ""
    for part in path:
        if isinstance(part, int):
            text += f" {part + 1}"
        else:
            text += f".{part}" if text else part
    return text


def expected(given: str, known: Sequence[str], cutoff: float = 0.6) -> str:
    """See `did_you_mean`."""
    return did_you_mean(given, known, cutoff)
