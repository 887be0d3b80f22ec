"""Messages to register, as a request carries them."""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from itertools import islice
from urllib.parse import quote

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from receiptd.message import Message
from receiptd.providers.values import shown
from receiptd.web.api.validation_errors import MOST_ERRORS, Place, findings, summary, unknown
from receiptd.web.api.values import NumberOrIdentifier, Parts, Phone, ProviderName, SentAt, Text
from receiptd.web.problem import Problem

MOST_MESSAGES = 1000
"""Messages that one request may register."""

MOST_STRANGE = 10
"""Unknown keys that are named of one message."""

LONGEST_NUMBER = 20
"""Digits of a whole number."""

LONGEST_POINTER = 255
"""Characters of a key that a pointer repeats."""


class NewMessage(BaseModel):
    """A message that the application has sent."""

    model_config = ConfigDict(extra="forbid", frozen=True, defer_build=True)

    provider: ProviderName = Field(description="Through whom it was sent.")
    message_id: NumberOrIdentifier = Field(
        description="The provider's identifier. Case and surrounding space do not count."
    )
    recipient: Phone | None = Field(
        default=None,
        description="The phone it was sent to, in international form, or as the provider's "
        "country writes it. Without one, a receipt for any phone is about this message.",
    )
    sender: Text | None = Field(default=None, description="As whom it was sent.")
    reference: Text | None = Field(default=None, description="The application's own reference.")
    parts: Parts | None = Field(
        default=None,
        description="How many parts it has, where it is a concatenated one whose parts are "
        "reported one by one.",
    )
    sent_at: SentAt | None = Field(
        default=None,
        description="When it was sent (ISO 8601, in UTC where it has no offset). Statistics "
        "count the time to its final state from here; without it, from its registration.",
    )


class _Unreadable(ValueError):
    """JSON that the API does not take; the text says why."""


def read_messages(body: bytes, providers: Collection[str]) -> list[Message]:
    """The messages of a request: of one JSON object, or of a list of them.

    :param providers: those that an endpoint is configured for.
    :raises Problem: 400 for what is no JSON, 422 naming what is wrong in it.
    """
    try:
        # No recursion of ours, no key twice, no number without bounds.
        given = json.loads(
            body.decode(),
            object_pairs_hook=_object,
            parse_constant=_constant,
            parse_int=_integer,
        )
    except UnicodeDecodeError as error:
        raise Problem(400, f"the body is not UTF-8 at its byte {error.start + 1}") from None
    except RecursionError:
        raise Problem(400, "the body is no JSON that is taken: it is nested too deeply") from None
    except _Unreadable as error:
        raise Problem(400, f"the body is no JSON that is taken: {error}") from None
    except ValueError as error:
        raise Problem(400, f"the body is no JSON: {error}") from None
    several = isinstance(given, list)
    if several and len(given) > MOST_MESSAGES:
        raise _refused([("#", f"expected at most {MOST_MESSAGES} messages in one request")])
    messages: list[Message] = []
    wrong: list[tuple[str, str]] = []
    for number, each in enumerate(given if several else [given]):
        place = (number,) if several else ()
        try:
            messages.append(_message(each, providers))
        except _Wrong as error:
            wrong += [(_pointer((*place, *path)), text) for path, text in error.found]
            if len(wrong) >= MOST_ERRORS:
                break
    if wrong:
        raise _refused(wrong)
    return messages


class _Wrong(Exception):
    def __init__(self, found: list[tuple[Place, str]]) -> None:
        super().__init__()
        self.found = found


def _message(value: object, providers: Collection[str]) -> Message:
    """:raises _Wrong: with what is wrong, at most `MOST_ERRORS`."""
    known = list(NewMessage.model_fields)
    strange: list[tuple[Place, str]] = []
    if isinstance(value, dict):
        # Looked for here: of each key that is too much pydantic would make a record.
        others = (name for name in value if name not in NewMessage.model_fields)
        strange = [((name,), unknown(name, known)) for name in islice(others, MOST_STRANGE)]
        value = {name: value[name] for name in known if name in value}
    try:
        found = NewMessage.model_validate(value, context={"providers": providers})
    except ValidationError as error:
        raise _Wrong([*findings(error), *strange]) from None
    if strange:
        raise _Wrong(strange)
    return Message(**found.model_dump())


def _refused(wrong: list[tuple[str, str]]) -> Problem:
    return Problem(
        422,
        summary(wrong) + "; nothing was registered",
        errors=[{"pointer": at, "detail": text} for at, text in wrong[:MOST_ERRORS]],
    )


def _object(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) != len(pairs):
        seen: set[str] = set()
        for name, _ in pairs:
            if name in seen:
                raise _Unreadable(f"the key {shown(name)} is there more than once")
            seen.add(name)
    return found


def _constant(name: str) -> object:
    raise _Unreadable(f"{name} is no JSON")


def _integer(digits: str) -> int:
    if len(digits) > LONGEST_NUMBER:
        raise _Unreadable(f"a number has {len(digits)} digits: at most {LONGEST_NUMBER}")
    return int(digits)


def _pointer(path: Sequence[str | int]) -> str:
    """`path` as a JSON pointer in a URI fragment (RFC 6901, section 6)."""
    parts = (str(part)[:LONGEST_POINTER].replace("~", "~0").replace("/", "~1") for part in path)
    return "#" + "".join("/" + quote(part, safe="~", errors="replace") for part in parts)
