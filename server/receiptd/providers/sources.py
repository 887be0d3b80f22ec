"""Where in a post a value is to be found: the small language of `[endpoint.fields]`.

- A text is a name of a form (taken whole) or a path into JSON: `status.id`, `to[0].status`; `$.`
  before it starts from the root instead of the item.
- A text with `{...}` in it is a template of such names: `"{MCC}{MNC}"`.
- A list has alternatives: the first that is not empty counts.
- `{ from = "a", match = 'stat:([A-Z]+)' }` takes the first group of a regular expression.
- `{ first_known = [...] }` takes the first value that the endpoint's `codes` have.

Nothing here takes more time than the post is long: a regular expression may repeat once, no
group, and sees no more than `LONGEST_MATCHED` characters.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Container, Sequence
from functools import lru_cache
from typing import Any, TypeAlias

from receiptd.providers.json_body import as_text

LONGEST_MATCHED = 1000
"""Characters that a regular expression looks at."""
MOST_STEPS = 16
"""Names and numbers in a path."""

Look: TypeAlias = Callable[[str], str | None]
"""Gives the text at a name or a path, None where there is none."""
Source: TypeAlias = Callable[[Look], str | None]
"""Gives a value out of a post."""

_STEP = re.compile(r"\.?([^.\[\]{}]{1,100})|\[([0-9]{1,4})\]")
_PLACE = re.compile(r"\{([^{}]{1,200})\}")
_REPEATS = re.compile(r"\\.|\[\^?\]?[^\]]*(?:\]|\Z)|([*+?]|\{[0-9,]*\})", re.S)


def path(text: str) -> tuple[str | int, ...]:
    """The steps of a path.

    :raises ValueError: where it is none.
    """
    steps: list[str | int] = []
    position = 0
    while position < len(text):
        found = _STEP.match(text, position)
        if found is None or (text[position] == "." and not position) or len(steps) == MOST_STEPS:
            raise ValueError(f"{text!r} is no path such as status.id or to[0].status")
        if not steps or found[1] is None or text[position] == ".":
            steps.append(found[1] if found[1] is not None else int(found[2]))
        else:
            raise ValueError(f"{text!r} is no path such as status.id or to[0].status")
        position = found.end()
    return tuple(steps)


@lru_cache(1024)
def _steps(text: str) -> tuple[str | int, ...]:
    """As `path`; what is none, such as a form's `price[amount]`, is one name."""
    try:
        return path(text)
    except ValueError:
        return (text,)


def at(value: Any, text: str) -> Any:
    """What stands at a path in JSON, None where there is nothing."""
    for step in _steps(text):
        if isinstance(step, int):
            if not isinstance(value, list) or step >= len(value):
                return None
            value = value[step]
        else:
            if not isinstance(value, dict):
                return None
            value = value.get(step)
    return value


def replaced(value: Any, text: str, by: Any) -> Any:
    """`value` with what stands at a path replaced; the path leads somewhere, and the empty one to
    all of it."""
    return _replaced(value, _steps(text) if text else (), by)


def _replaced(value: Any, steps: Sequence[str | int], by: Any) -> Any:
    if not steps:
        return by
    inner = _replaced(value[steps[0]], steps[1:], by)
    if isinstance(value, dict):
        return {**value, steps[0]: inner}
    return [inner if index == steps[0] else each for index, each in enumerate(value)]


def in_json(item: Any, root: Any = None) -> Look:
    """Looks in an item of a JSON body, and behind `$.` in all of it."""

    def look(text: str) -> str | None:
        if text.startswith("$."):
            return as_text(at(root, text[2:]))
        return as_text(at(item, text))

    return look


def compiled(source: Any, known: Container[str] = ()) -> Source:
    """A source as the configuration writes it.

    :param known: the codes that `first_known` knows.
    :raises ValueError: where it is none, with what is wrong.
    """
    if isinstance(source, str):
        return _text(source)
    if isinstance(source, list) and source:
        alternatives = [compiled(each, known) for each in source]
        return lambda look: _first(alternatives, look)
    if isinstance(source, dict):
        if set(source) == {"from", "match"}:
            return _matched(compiled(source["from"], known), source["match"])
        if set(source) == {"first_known"} and isinstance(source["first_known"], list):
            return _first_known([compiled(each, known) for each in source["first_known"]], known)
    raise ValueError(
        f"{source!r} is no source of a value: expected a name, a path such as status.id, a "
        "template such as '{MCC}{MNC}', a list of them, { from, match } or { first_known }"
    )


def names_in(source: Any) -> list[str]:
    """The names and paths that a source looks at."""
    if isinstance(source, str):
        return _PLACE.findall(source) or [source]
    if isinstance(source, list):
        return [name for each in source for name in names_in(each)]
    if isinstance(source, dict):
        return names_in(source.get("from", source.get("first_known", [])))
    return []


def _text(source: str) -> Source:
    if not source or len(source) > 200:
        raise ValueError("a source of a value must have 1 to 200 characters")
    if not _PLACE.search(source):
        return lambda look: look(source)
    pieces = _PLACE.split(source)

    def filled(look: Look) -> str | None:
        values = [look(name) for name in pieces[1::2]]
        if not any(values):
            return None
        texts = [*pieces]
        texts[1::2] = [value or "" for value in values]
        return "".join(texts).strip() or None

    return filled


def _first(alternatives: list[Source], look: Look) -> str | None:
    return next((value for each in alternatives if (value := each(look))), None)


def _first_known(alternatives: list[Source], known: Container[str]) -> Source:
    def first(look: Look) -> str | None:
        values = [value for each in alternatives if (value := each(look))]
        return next((value for value in values if value.casefold() in known), None) or next(
            iter(values), None
        )

    return first


def _matched(source: Source, expression: object) -> Source:
    pattern = pattern_of(expression)

    def matched(look: Look) -> str | None:
        value = source(look)
        found = pattern.search(value[:LONGEST_MATCHED]) if value else None
        return (found[1] or None) if found else None

    return matched


def pattern_of(expression: object) -> re.Pattern[str]:
    """A regular expression that cannot take long.

    :raises ValueError: where it is none, or could.
    """
    if not isinstance(expression, str) or len(expression) > 200:
        raise ValueError("`match` must be a regular expression of at most 200 characters")
    try:
        pattern = re.compile(expression)
    except (re.error, OverflowError, RecursionError) as error:
        raise ValueError(f"{expression!r} is no regular expression: {error}") from None
    repeats = [found for found in _REPEATS.finditer(expression) if found[1]]
    if (
        len(repeats) > 1
        or "(?" in expression
        or re.search(r"\)[*+?{]|\\[0-9]", expression)
        or pattern.groups != 1
    ):
        raise ValueError(
            f"{expression!r} is not simple enough: expected one group, and in all one of * + ? or "
            "{...}, not behind the group, such as 'stat:([A-Z]+)'"
        )
    return pattern
