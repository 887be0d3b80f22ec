"""Finds the installed providers, and says what is wrong with one that cannot work."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from importlib import import_module
from importlib.metadata import entry_points
from typing import Any

from pydantic import BaseModel

from receiptd.providers.provider import Provider

GROUP = "receiptd.providers"
"""The entry-point group that providers are found through."""

_PATH = re.compile(r"(/[A-Za-z0-9._~-]{1,64}){1,16}")
_METHODS = ("DELETE", "GET", "PATCH", "POST", "PUT")


class ProviderError(Exception):
    """An installed provider that does not work; the text names its package."""


@cache
def load() -> dict[str, type[Provider]]:
    """All installed providers, by name.

    :raises ProviderError: where one cannot be imported, or is none.
    """
    found = {}
    for point in entry_points(group=GROUP):
        package = point.dist.name if point.dist else point.value
        try:
            kind = point.load()
        except Exception as error:
            raise ProviderError(
                f"the provider {point.name!r} of the package {package} cannot be imported: "
                f"{error}: mend or uninstall that package"
            ) from error
        faults = "; ".join(faults_of(point.name, kind))
        if faults:
            raise ProviderError(
                f"the provider {point.name!r} of the package {package} cannot be used: "
                f"{faults}: mend or uninstall that package"
            )
        found[point.name] = kind
    return dict(sorted(found.items()))


def faults_of(name: str, kind: Any) -> Iterator[str]:
    """What is wrong with the class `kind` that the entry point `name` leads to."""
    if not (isinstance(kind, type) and issubclass(kind, Provider)):
        yield f"{kind!r} is no subclass of receiptd.providers.Provider"
        return
    if getattr(kind, "name", None) != name:
        yield (
            f"its `name` is {getattr(kind, 'name', None)!r}, and must be that of its entry "
            f"point, {name!r}"
        )
    if not isinstance(getattr(kind, "title", None), str):
        yield "it has no `title`, its name for people"
    path = getattr(kind, "path", None)
    if not isinstance(path, str) or not _PATH.fullmatch(path):
        yield f"its `path` is {path!r}, and must be one such as '/acme'"
    methods: object = kind.methods
    if not isinstance(methods, tuple) or not methods or not set(methods) <= {*_METHODS}:
        yield f"its `methods` are {methods!r}, and must be a tuple such as ('POST',)"
    options: object = kind.Options
    if not (isinstance(options, type) and issubclass(options, BaseModel)):
        yield "its `Options` are no subclass of pydantic.BaseModel"
    if kind.read is Provider.read:
        yield "it has no method `read`"
    if not all(isinstance(each, str) and each == each.casefold() for each in kind.secrets):
        yield "its `secrets` must be texts in lower case"


def names() -> list[str]:
    """The installed providers' names."""
    return list(load())


def named(reference: str) -> Any:
    """What a `MODULE:NAME` of a provider (`handler`, `dialect`) names.

    :raises ProviderError: where there is no such thing.
    """
    module, _, name = reference.partition(":")
    try:
        return getattr(import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise ProviderError(f"{reference!r}, which a provider names, is not there: {error}") from (
            error
        )
