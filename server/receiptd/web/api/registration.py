"""Messages to register, as a request carries them."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Annotated, Any
from urllib.parse import quote

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from receiptd.message import Message
from receiptd.web.api.validation_errors import MOST_ERRORS, findings, summary
from receiptd.web.api.values import NumberOrIdentifier, Parts, Phone, ProviderName, Text
from receiptd.web.problem import Problem

MOST_MESSAGES = 1000
"""Messages that one request may register."""


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


@cache
def _adapter(several: bool) -> TypeAdapter[Any]:
    if several:
        return TypeAdapter(Annotated[list[NewMessage], Field(max_length=MOST_MESSAGES)])
    return TypeAdapter(NewMessage)


def read_messages(body: bytes) -> list[Message]:
    """The messages of a request: of one JSON object, or of a list of them.

    :raises Problem: 400 for what is no JSON, 422 naming what is wrong in it.
    """
    try:
        found = _adapter(body.lstrip()[:1] == b"[").validate_json(body)
    except ValidationError as error:
        if error.errors()[0]["type"] == "json_invalid":
            raise Problem(400, f"the body is no JSON: {error.errors()[0]['msg']}") from None
        wrong = [(_pointer(path), text) for path, text in findings(error, NewMessage)]
        raise Problem(
            422,
            summary(wrong) + "; nothing was registered",
            errors=[{"pointer": at, "detail": text} for at, text in wrong[:MOST_ERRORS]],
        ) from None
    return [
        Message(**each.model_dump()) for each in (found if isinstance(found, list) else [found])
    ]


def _pointer(path: Sequence[str | int]) -> str:
    """`path` as a JSON pointer in a URI fragment (RFC 6901, section 6)."""
    parts = (str(part).replace("~", "~0").replace("/", "~1") for part in path)
    return "#" + "".join("/" + quote(part, safe="~", errors="replace") for part in parts)
