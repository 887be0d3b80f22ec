"""The table `[store]` of the configuration."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Annotated

from pydantic import BeforeValidator, Field, StrictBool, StrictInt, field_validator

from receiptd.config.database_url import mistake
from receiptd.config.kinds import Table, span


class Store(Table):
    """`[store]`: where receipts are kept."""

    url: str = Field(
        default="sqlite:///receiptd.db",
        description="The database. sqlite:///FILE is a file in the working directory, "
        "sqlite:////FOLDER/FILE has an absolute path. PostgreSQL: "
        "postgresql+psycopg://USER:PASSWORD@HOST/DATABASE. Percent-encode the characters of "
        "the password that mean something in a URL: @ is %40, : is %3A, / is %2F.",
        examples=["sqlite:////var/lib/receiptd/receipts.db"],
    )
    password_file: str | None = Field(
        default=None,
        description="A file whose first line is the password of the PostgreSQL database, not "
        "encoded. Use it when the URL has no password. Only its owner should be able to read "
        "it. A relative path starts at the folder of this file. Without it, libpq reads "
        "PGPASSFILE or ~/.pgpass.",
        examples=["/etc/receiptd/database-password"],
    )
    migrate: StrictBool = Field(
        default=True,
        description="Whether the server upgrades the database when it starts. With false, run "
        "`receiptd db upgrade` yourself.",
        examples=[False],
    )
    queue: StrictInt = Field(
        default=10_000,
        ge=1,
        description="How many posts may wait for the database. The server answers further ones "
        "with 503 and Retry-After.",
        examples=[20_000],
    )
    spool: str | None = Field(
        default=None,
        description="The folder that keeps posts while the database does not answer. They are "
        "on disk and acknowledged, and the server stores them when the database answers again. "
        "A relative path starts at the folder of this file. Without it, that is a folder "
        "beside SQLite's file, such as receiptd.db-spool; for PostgreSQL, receiptd-spool in "
        "the working directory. Each database needs its own spool. On another disk than the "
        "database's it also helps when that disk is full.",
        examples=["/var/lib/receiptd/spool"],
    )
    spool_limit: StrictInt = Field(
        default=1024 * 1024 * 1024,
        ge=1024 * 1024,
        description="The most bytes that the files in the spool may have together. The server "
        "answers posts beyond it with 503 and Retry-After.",
        examples=[4 * 1024 * 1024 * 1024],
    )
    rejected_count: StrictInt = Field(
        default=50_000,
        ge=0,
        description="How many posts of each endpoint that were understood but carried nonsense "
        "are kept, for `receiptd rejected list` and `receiptd rejected retry`. The oldest make "
        "room for new ones.",
        examples=[5000],
    )
    rejected_days: StrictInt = Field(
        default=30,
        ge=1,
        description="How many days the server keeps a rejected post.",
        examples=[90],
    )
    unreadable_count: StrictInt = Field(
        default=50_000,
        ge=0,
        description="How many posts of each endpoint are kept that could not be read, and as "
        "many that could not be authenticated. An hour of a mistyped PIN at ten posts a second "
        "is 36,000.",
        examples=[5000],
    )
    rejected_size: StrictInt = Field(
        default=64 * 1024 * 1024,
        ge=1024 * 1024,
        description="How many bytes the rejected posts of each endpoint may have together: so "
        "many those that carried nonsense, those that could not be read, and those that could "
        "not be authenticated. The oldest make room for new ones.",
        examples=[256 * 1024 * 1024],
    )
    keep: Annotated[timedelta | None, BeforeValidator(span)] = Field(
        default=None,
        description="How long the server keeps receipts, such as 90d or 26w (s, m, h, d or w). "
        "Every hour it deletes older ones, a few at a time, and with them each message that is "
        "final and has no receipt left. The limits on rejected posts above still apply.",
        examples=["180d"],
    )
    unfinished_after: Annotated[timedelta | None, BeforeValidator(span)] = Field(
        default=None,
        description="How long after its registration a message without a final state is given "
        "up, such as 72h or 7d. It keeps its state and counts as finished, so that no alert "
        "waits for it for ever; a receipt that comes later still counts. Without it, never.",
        examples=["7d"],
    )

    @field_validator("url")
    @classmethod
    def _durable(cls, value: str) -> str:
        if wrong := mistake(value):
            raise ValueError(wrong)
        if value and ":" not in value:
            raise ValueError(f"{value!r} is no URL: did you mean 'sqlite:///{value}'?")
        if not re.match(r"(sqlite|postgresql)(\+psycopg|\+pysqlite)?://", value):
            raise ValueError(
                "expected sqlite:///FILE or postgresql+psycopg://USER:PASSWORD@HOST/DATABASE"
            )
        if re.fullmatch(r"sqlite(\+pysqlite)?://(/(:memory:)?)?(\?.*)?", value):
            raise ValueError(
                "a database in memory would lose receipts: name a file, "
                "such as sqlite:///receiptd.db"
            )
        if re.match(r"sqlite(\+pysqlite)?://[^/]", value):
            raise ValueError(
                "expected three slashes before a file, as in sqlite:///receiptd.db, and four "
                "before an absolute path, as in sqlite:////var/lib/receiptd/receipts.db"
            )
        return value
