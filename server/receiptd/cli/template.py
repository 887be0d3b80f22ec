"""The configuration file that `receiptd init` writes: every key, from the models themselves."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Iterator, Mapping
from datetime import timedelta
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from receiptd import providers
from receiptd.config import (
    Api,
    ApiToken,
    ConsoleTable,
    Endpoint,
    Forward,
    Logging,
    Server,
    Store,
    Tls,
)

WIDTH = 95

_HEAD = """\
receiptd's configuration. Each key is shown with an example behind a # of its own: take that #
away and set what you want. Whatever is left out is as its default says.

Environment variables override this file: RECEIPTD_STORE__URL is `url` in [store],
RECEIPTD_ENDPOINT is the whole list of endpoints, as JSON.

receiptd check-config says what comes of it, and what is wrong with it."""

_ENDPOINTS = """\
Endpoints: each is a path that takes one provider's posts. As long as there is none in this
file, every provider is served at its usual path, without authentication. `provider` and `path`
must be there; the rest is as you need it, and whatever is asked for must all be met. The usual
paths:"""


_FORWARD = """\
Destinations: applications that are told of receipts, by signed webhooks, and brokers, whose own
keys are in docs/forwarding.md."""


def template() -> str:
    """The file's text."""
    return "\n".join(_lines()) + "\n"


def _lines() -> Iterator[str]:
    yield from _comment(_HEAD)
    for name, model in (("server", Server), ("store", Store), ("log", Logging)):
        yield ""
        yield f"[{name}]"
        below = {"tls": Tls} if model is Server else {}
        fields = model.model_fields.items()
        yield from _keys({key: field for key, field in fields if key not in below})
        for key, table in below.items():
            yield ""
            yield from _comment(model.model_fields[key].description or "")
            yield f"#[{name}.{key}]"
            yield from _keys(table.model_fields)
    yield ""
    yield "[api]"
    yield from _keys({key: each for key, each in Api.model_fields.items() if key != "token"})
    yield ""
    yield from _comment(Api.model_fields["token"].description or "")
    yield "#[[api.token]]"
    yield from _keys(ApiToken.model_fields)
    yield ""
    yield "[console]"
    yield from _keys(ConsoleTable.model_fields)
    yield ""
    yield from _comment(_FORWARD)
    yield "#[[forward]]"
    yield from _keys(Forward.model_fields)
    yield ""
    yield from _comment(_ENDPOINTS)
    yield "#"
    for name, kind in providers.load().items():
        yield f"#   {name:<14}{kind.path:<16}{kind.title}"
    yield ""
    yield "#[[endpoint]]"
    yield from _keys(Endpoint.model_fields)
    for name, kind in providers.load().items():
        own = kind.Options.model_fields
        if own or not kind.in_body_credentials:
            yield ""
            yield from _comment(kind.title + (": keys of its own." if own else ""))
            yield "#[[endpoint]]"
            yield f"#provider = {_toml(name)}"
            yield f"#path = {_toml(kind.path)}"
            if own:
                yield from _keys(own)
            else:
                yield '#token = "a-long-random-text"'


def _keys(fields: Mapping[str, FieldInfo]) -> Iterator[str]:
    for name, field in fields.items():
        yield ""
        yield from _comment(_sentence(field.description or name))
        if not field.is_required():
            yield f"# Default: {_default(name, field)}"
        yield f"#{field.alias or name} = {_toml(_example(field))}"


def _sentence(text: str) -> str:
    """`text` as a sentence, however a provider's own key is described."""
    return text[:1].upper() + text[1:] + ("" if text.endswith(".") else ".")


def _comment(text: str) -> Iterator[str]:
    for number, paragraph in enumerate(text.split("\n\n")):
        if number:
            yield "#"
        for line in textwrap.wrap(" ".join(paragraph.split()), WIDTH, break_on_hyphens=False):
            yield f"# {line}"


def _default(name: str, field: FieldInfo) -> str:
    value = field.get_default(call_default_factory=True)
    if name == "name":
        return "the path without its first slash"
    if name in ("requests_per_second", "max_body") and value is None:
        return "that of [server]"
    if name in ("timezone", "region"):
        return "the provider's usual one"
    return "none" if value in (None, [], {}, "") else _toml(value)


def _example(field: FieldInfo) -> Any:
    if field.examples:
        return field.examples[0]
    return field.get_default(call_default_factory=True)


def _toml(value: Any) -> str:
    """`value` as TOML writes it."""
    if isinstance(value, BaseModel):
        value = value.model_dump()
    if isinstance(value, Mapping):
        pairs = (f"{_toml_key(key)} = {_toml(each)}" for key, each in value.items())
        return "{ " + ", ".join(pairs) + " }"
    if isinstance(value, timedelta):
        seconds = int(value.total_seconds())
        return _toml(f"{seconds // 86400}d" if seconds % 86400 == 0 else f"{seconds}s")
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_toml, value)) + "]"
    # TOML's basic strings, whole numbers and booleans are those of JSON.
    return json.dumps(value, ensure_ascii=False)


def _toml_key(key: str) -> str:
    return key if key.isidentifier() and key.isascii() else json.dumps(key)
