"""The table `[console]` of the configuration."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated

from pydantic import BeforeValidator, Field, StrictBool, field_validator

from receiptd.config.kinds import Table, span

LONGEST_SESSION = timedelta(hours=12)
"""A working day: after it everybody logs in again, however busy they were."""


class ConsoleTable(Table):
    """`[console]`: the operator's pages at /console."""

    enabled: StrictBool = Field(
        default=True,
        description="Whether the console is served at /console, and a page for people at /. It "
        "asks for a login: receiptd console prints a link, and a token of the API opens it too.",
        examples=[False],
    )
    session: Annotated[timedelta, BeforeValidator(span)] = Field(
        default=timedelta(hours=1),
        description="How long a login lasts while nobody uses it, at most 12h. After 12 hours it "
        "ends however much it is used.",
        examples=["30m"],
    )

    @field_validator("session")
    @classmethod
    def _short(cls, value: timedelta) -> timedelta:
        if not timedelta(minutes=1) <= value <= LONGEST_SESSION:
            raise ValueError("expected 1m to 12h")
        return value
