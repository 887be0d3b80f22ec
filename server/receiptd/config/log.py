"""The table `[log]` of the configuration."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, StrictBool

from receiptd.config.kinds import Table


class Logging(Table):
    """`[log]`: where the log goes and what it looks like."""

    format: Literal["plain", "json"] = Field(
        default="plain",
        description='"plain" lines are for people. "json" lines are for programs: one object '
        "each. The object of a receipt has time, level, request_id, endpoint, provider, kind, "
        "message_id, state, verdict, milliseconds, recipient and peer.",
        examples=["json"],
    )
    level: Literal["debug", "info", "warn", "error"] = Field(
        default="info",
        description="The least important lines that are written. Each receipt is info, a post "
        "that was not taken is warn, one that could not be stored is error.",
        examples=["warn"],
    )
    file: str | None = Field(
        default=None,
        description="The file that the server appends its log to. If logrotate or somebody "
        "else moves the file away, the server makes it anew within a second. Without it, the "
        "log goes to standard error.",
        examples=["/var/log/receiptd.log"],
    )
    mask_recipients: StrictBool = Field(
        default=False,
        description="Whether lines show only the last four digits of a receipt's recipient.",
        examples=[True],
    )
