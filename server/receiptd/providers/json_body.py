"""JSON bodies: read within bounds.

- A number is a `Decimal`, its digits kept as sent; `null` is absent, in an object as in a list.
- What no receipt needs and a hostile post may bring is nonsense, and the sender's: nesting deeper
  than `DEEPEST`, a number of more than `MOST_DIGITS` characters, a name that stands twice in an
  object (parsers differ in which one counts), NaN and Infinity (no JSON: RFC 8259, section 6).
- NUL and lone surrogates, which no database keeps as text, become U+FFFD.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from decimal import Decimal
from typing import Any, NoReturn

from receiptd.providers.fields import Invalid

DEEPEST = 32
"""Levels of objects and lists in one another."""
MOST_DIGITS = 64
"""Characters of a number."""
MOST_EXPONENT = 64

_UNSTORABLE = re.compile("[\0\ud800-\udfff]")


def read_json(text: str) -> Any:
    """What `text` holds: objects as dictionaries, lists, texts, `Decimal`s and booleans; None
    where all it holds is `null`.

    :raises Invalid: where it is no JSON, or more than the bounds allow.
    """
    try:
        value = _DECODER.decode(text.lstrip("\ufeff \t\r\n"))
    except json.JSONDecodeError as error:
        raise Invalid(
            "body", f"the body is not JSON: {error.msg} at character {error.pos}"
        ) from None
    except RecursionError:
        raise Invalid("body", _TOO_DEEP) from None
    return _cleaned(value, 1)


_TOO_DEEP = f"the body is JSON nested more than {DEEPEST} levels deep"


def _number(text: str) -> Decimal:
    if len(text) > MOST_DIGITS:
        raise Invalid("body", f"the body has a number of {len(text)} characters")
    exponent = text.lower().partition("e")[2].lstrip("+-").lstrip("0")
    if len(exponent) > 3 or (exponent and int(exponent) > MOST_EXPONENT):
        raise Invalid("body", f"the body has a number with the exponent {exponent}")
    return Decimal(text)


def _constant(text: str) -> NoReturn:
    raise Invalid("body", f"the body is not JSON: {text} is no number of it")


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        seen: set[str] = set()
        for name, _ in pairs:
            if name in seen:
                shown = _UNSTORABLE.sub("\ufffd", name[:60])
                raise Invalid("body", f"the body has {shown!r} twice in one object")
            seen.add(name)
    return found


_DECODER = json.JSONDecoder(
    parse_int=_number,
    parse_float=_number,
    parse_constant=_constant,
    object_pairs_hook=_object,
)


def _cleaned(value: Any, depth: int) -> Any:
    if isinstance(value, str):
        return _UNSTORABLE.sub("\ufffd", value)
    if isinstance(value, (dict, list)) and depth > DEEPEST:
        raise Invalid("body", _TOO_DEEP)
    if isinstance(value, dict):
        return {
            _UNSTORABLE.sub("\ufffd", name): _cleaned(each, depth + 1)
            for name, each in value.items()
            if each is not None
        }
    if isinstance(value, list):
        return [_cleaned(each, depth + 1) for each in value if each is not None]
    return value


def as_text(value: object) -> str | None:
    """A text, a number or a boolean as text; None for anything else, and for an empty text."""
    if isinstance(value, str):
        return value.strip() or None
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (Decimal, int)):
        return f"{value:f}" if isinstance(value, Decimal) else str(value)
    return None


def flattened(value: Any, path: str = "") -> dict[str, str]:
    """The texts, numbers and booleans in `value`, by path: `status.id`, `to[0].status`."""
    if isinstance(value, Mapping):
        found: dict[str, str] = {}
        for name, each in value.items():
            found |= flattened(each, f"{path}.{name}" if path else name)
        return found
    if isinstance(value, list):
        found = {}
        for index, each in enumerate(value):
            found |= flattened(each, f"{path}[{index}]")
        return found
    text = as_text(value)
    return {} if text is None else {path: text}


def written(value: Any) -> str:
    """What `read_json` gave as JSON again, each number with its digits."""
    if isinstance(value, Mapping):
        members = (
            f"{json.dumps(str(k), ensure_ascii=False)}: {written(v)}" for k, v in value.items()
        )
        return "{" + ", ".join(members) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(written, value)) + "]"
    if isinstance(value, Decimal):
        return str(value)
    return json.dumps(value, ensure_ascii=False)
