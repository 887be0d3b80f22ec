"""What the configuration says of an endpoint, as far as its provider needs to know."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, tzinfo
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, SecretStr

from receiptd.receipt import State


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One endpoint."""

    name: str
    timezone: tzinfo = UTC
    codes: Mapping[str, State] = field(default_factory=dict)
    """States of codes that the provider's own table lacks or that the user wants otherwise."""
    options: Any = None
    """An instance of the provider's `Options`."""
    public_urls: Sequence[str] = ()
    """What the provider may call this server: what stands before the path in its URL."""


class ProviderOptions(BaseModel):
    """A provider's own configuration keys: subclass it. An unknown key is an error, and no error
    shows a value, which may be a secret."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


class NoOptions(ProviderOptions):
    """The configuration keys of a provider that has none of its own."""


def _one_or_many(value: object) -> object:
    return value if isinstance(value, list) else [value]


def _given(secrets: list[SecretStr]) -> list[SecretStr]:
    return [secret for secret in secrets if secret.get_secret_value().strip()]


Secrets = Annotated[list[SecretStr], BeforeValidator(_one_or_many), AfterValidator(_given)]
"""For `Options`: one secret, or several that are valid at once, so that one can be changed
without a gap."""


def revealed(secrets: Sequence[SecretStr]) -> list[bytes]:
    """The secrets as the bytes that a signature is made with."""
    return [secret.get_secret_value().strip().encode() for secret in secrets]
