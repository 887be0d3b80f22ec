"""Answers with some of their fields: `fields=` and `raw=false`."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from copy import deepcopy
from typing import Any

Shape = Callable[[Mapping[str, Any]], dict[str, Any]]

PREFIX = "Some"
"""How the schema of an answer with some of its fields is called: this, and what it is of."""

_LISTS = ("items", "receipts")


def selecting(shape: Shape, fields: Collection[str], raw: bool) -> Shape:
    """`shape`, with these of its fields alone; with all where there are none.

    :param raw: whether the post is among them, where nothing else says so.
    """
    if not fields and raw:
        return shape
    wanted = frozenset(fields)

    def some(row: Mapping[str, Any]) -> dict[str, Any]:
        found = shape(row)
        if wanted:
            return {name: value for name, value in found.items() if name in wanted}
        return {name: value for name, value in found.items() if name != "raw"}

    return some


def partial_schema(schemas: dict[str, Any], answer: str, reference: str) -> str:
    """Add the schema of an answer whose items have some of their fields; its name.

    :param answer: the name of the whole one's.
    :param reference: how one schema names another, with `{model}`.
    """
    found = deepcopy(schemas[answer])
    lists = [found["properties"][name] for name in _LISTS if name in found["properties"]]
    for each in lists:
        item = each["items"]["$ref"].rpartition("/")[2]
        each["items"] = {"$ref": reference.format(model=partial_schema(schemas, item, reference))}
    if not lists:
        found["required"] = []
    schemas[PREFIX + answer] = found
    return PREFIX + answer
