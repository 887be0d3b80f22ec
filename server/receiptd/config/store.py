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
        description="The database. sqlite:///FILE is a file beneath the working directory, "
        "sqlite:////FOLDER/FILE one at an absolute path; for PostgreSQL it is "
        "postgresql+psycopg://USER:PASSWORD@HOST/DATABASE. Characters of the password that "
        "mean something in a URL must be percent-encoded there: @ is %40, : is %3A, / is %2F.",
        examples=["sqlite:////var/lib/receiptd/receipts.db"],
    )
    password_file: str | None = Field(
        default=None,
        description="A file whose first line is the password of the PostgreSQL database, as it "
        "is, when the URL has none. Only its owner should be able to read it. A relative name is "
        "looked for beside this file. Without it, libpq looks where PGPASSFILE says, or in "
        "~/.pgpass.",
        examples=["/etc/receiptd/database-password"],
    )
    migrate: StrictBool = Field(
        default=True,
        description="Whether the server brings the database up to date when it starts. "
        "With false that is left to `receiptd db upgrade`.",
        examples=[False],
    )
    queue: StrictInt = Field(
        default=10_000,
        ge=1,
        description="How many posts may wait for the database. Further ones are answered 503 "
        "and Retry-After.",
        examples=[20_000],
    )
    spool: str | None = Field(
        default=None,
        description="The folder where posts are kept, on disk and acknowledged, while the "
        "database does not answer; they are stored when it does again. A relative name stands "
        "beside this file. Without it that is a folder beside SQLite's file, such as "
        "receiptd.db-spool, and for PostgreSQL receiptd-spool in the working directory. Each "
        "database needs one of its own; on another disk than the database's it also helps when "
        "that is full.",
        examples=["/var/lib/receiptd/spool"],
    )
    spool_limit: StrictInt = Field(
        default=1024 * 1024 * 1024,
        ge=1024 * 1024,
        description="How many bytes the files in that folder may have together. Posts beyond "
        "it are answered 503 and Retry-After.",
        examples=[4 * 1024 * 1024 * 1024],
    )
    rejected_count: StrictInt = Field(
        default=1000,
        ge=0,
        description="How many posts of each endpoint that were understood but carried nonsense "
        "are kept, to be read with `receiptd rejected list`.",
        examples=[5000],
    )
    rejected_days: StrictInt = Field(
        default=30,
        ge=1,
        description="For how many days a rejected post is kept.",
        examples=[90],
    )
    unreadable_count: StrictInt = Field(
        default=100,
        ge=0,
        description="How many posts of each endpoint are kept that could not be read, and as "
        "many that could not be authenticated.",
        examples=[50],
    )
    keep: Annotated[timedelta | None, BeforeValidator(span)] = Field(
        default=None,
        description="For how long receipts are kept, such as 90d or 26w, in s, m, h, d or w. "
        "The server deletes older ones, every hour and a few at a time, and with them the "
        "messages that are final and have no receipt left. What is said above of rejected posts "
        "holds as well.",
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
