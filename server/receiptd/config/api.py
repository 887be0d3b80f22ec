"""The table `[api]` of the configuration, and `[[api.token]]`."""

from __future__ import annotations

import re
from typing import Literal, Self

from pydantic import Field, SecretStr, StrictInt, field_validator, model_validator

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
    requests_per_second: StrictInt = Field(
        default=0,
        ge=0,
        le=100_000,
        description="How many requests it may make, of each worker process; one more is answered "
        "429 and Retry-After. 0: as many as it will.",
        examples=[20],
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

    cors_origins: list[str] = Field(
        default=[],
        max_length=100,
        description="Web pages that may use the API from a browser (CORS), by their origin: "
        "scheme, host and port, as browsers send it. A token is asked for all the same.",
        examples=[["https://console.example.com"]],
    )

    @field_validator("token", mode="before")
    @classmethod
    def _a_table(cls, value: object) -> object:
        if isinstance(value, str | dict):
            raise ValueError(
                "expected tables: write [[api.token]], and in it token = ..., name = ..., "
                'scopes = ["read"]'
            )
        return value

    @field_validator("cors_origins")
    @classmethod
    def _origins(cls, value: list[str]) -> list[str]:
        for each in value:
            if not re.fullmatch(r"https?://(\[[0-9a-f:]+\]|[a-z0-9._-]+)(:[0-9]{1,5})?", each):
                raise ValueError(
                    f"{each!r} is no origin: expected scheme, host and port in lower case and "
                    "nothing behind them, such as https://console.example.com"
                    + (": name each, since * would let in every page" if "*" in each else "")
                )
        return value

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
