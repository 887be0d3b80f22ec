"""The table `[api]` of the configuration, and `[[api.token]]`."""

from __future__ import annotations

import re
from typing import Literal, Self

from pydantic import Field, SecretStr, field_validator, model_validator

from receiptd.config.errors import Finding, Misfit
from receiptd.config.kinds import Table


class ApiToken(Table):
    """`[[api.token]]`: a bearer token of the HTTP API and of /metrics."""

    token: SecretStr = Field(
        description="The token, as a request carries it: Authorization: Bearer TOKEN. "
        "To make one: openssl rand -hex 32",
        examples=["a-long-random-text"],
    )
    name: str = Field(
        min_length=1,
        max_length=100,
        description="Whose token it is, for the log.",
        examples=["billing"],
    )
    scopes: list[Literal["read", "write"]] = Field(
        default=["read"],
        min_length=1,
        description='What it is good for: "read" for what is stored and for /metrics, "write" '
        "for registering messages. Neither includes the other.",
        examples=[["read", "write"]],
    )

    @field_validator("token")
    @classmethod
    def _sendable(cls, value: SecretStr) -> SecretStr:
        # RFC 6750, section 2.1: what a header can carry as a bearer token
        if not re.fullmatch(r"[A-Za-z0-9._~+/-]+=*", value.get_secret_value()):
            raise ValueError("expected letters, digits and . _ ~ + / - only, and at least one")
        return value


class Api(Table):
    """`[api]`: who may use the HTTP API."""

    token: list[ApiToken] = Field(
        default=[],
        description="Who may use the HTTP API and /metrics: whoever has one of these tokens. As "
        "long as there is none, the server makes a token at its first start, in a file that only "
        "its owner can read: receiptd api-token prints it.",
    )

    @model_validator(mode="after")
    def _each_once(self) -> Self:
        misfits: list[Finding] = []
        for what, secret in (("name", False), ("token", True)):
            seen: dict[object, int] = {}
            for number, token in enumerate(self.token):
                value = getattr(token, what)
                if value in seen:
                    shown = "" if secret else f" {value!r}"
                    text = (
                        f"token {seen[value] + 1} has the {what}{shown} already: "
                        f"each needs its own"
                    )
                    misfits.append((("token", number, what), text))
                seen.setdefault(value, number)
        if misfits:
            raise Misfit(misfits)
        return self
