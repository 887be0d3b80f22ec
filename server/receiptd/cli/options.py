"""What several commands take, and how a command fails: one clear line, exit code 1."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, TypeVar

import click

from receiptd.cli.output import printable
from receiptd.duration import EXAMPLES, duration

if TYPE_CHECKING:
    from sqlalchemy import Engine

    from receiptd.config import Config

Command = TypeVar("Command", bound=Callable[..., Any])


class Failed(click.ClickException):
    """The thing asked for failed; shown as it is, on standard error."""

    def show(self, file: IO[Any] | None = None) -> None:
        """Print the lines."""
        click.echo(printable(self.message, lines=True), file=file, err=file is None)


class Moment(click.ParamType):  # type: ignore[type-arg]
    """A time, or an age, which is counted back from now."""

    name = "time"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> datetime:
        """The time (aware, UTC)."""
        if isinstance(value, datetime):
            return value
        try:
            return datetime.now(UTC) - duration(value)
        except ValueError:
            pass
        try:
            at = datetime.fromisoformat(value.strip())
            return (at if at.tzinfo else at.replace(tzinfo=UTC)).astimezone(UTC)
        except (ValueError, OverflowError):
            self.fail(
                f"{value!r} is no time such as 2026-01-31T18:00 (UTC unless it has an offset) "
                f"and no age such as {EXAMPLES}",
                param,
                ctx,
            )


class Span(click.ParamType):  # type: ignore[type-arg]
    """A duration."""

    name = "duration"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> timedelta:
        """The duration."""
        if isinstance(value, timedelta):
            return value
        try:
            return duration(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)


def config_option(command: Command) -> Command:
    """`--config FILE`."""
    return click.option(
        "--config",
        "file",
        metavar="FILE",
        # Whether it can be read is for config.load to say, with what to do.
        type=click.Path(path_type=Path, readable=False),
        help="The configuration. Default: what RECEIPTD_CONFIG names, otherwise receiptd.toml "
        "here if there is one, otherwise the built-in defaults.",
    )(command)


def database_option(command: Command) -> Command:
    """`--database URL`."""
    return click.option(
        "--database",
        metavar="URL",
        help="The database, in place of the configuration's store.url; such as "
        "sqlite:////var/lib/receiptd/receipts.db",
    )(command)


wide_option = click.option("--wide", is_flag=True, help="Show all columns, however wide.")


def load(file: Path | None, database: str | None = None) -> Config:
    """The configuration.

    :raises Failed: with the lines of what is wrong in it.
    """
    from receiptd import config

    try:
        return config.load(file, database=database)
    except config.ConfigError as error:
        raise Failed(str(error)) from None


@contextmanager
def store(config: Config, *, writes: bool = False) -> Iterator[Engine]:
    """The database, which must be there; servers go on meanwhile.

    :param writes: whether it is to be written to, or only read.
    :raises Failed: where it is not there, is of another version, or does not answer.
    """
    from sqlalchemy.exc import SQLAlchemyError

    from receiptd.store.database.engine import check_file, open_engine
    from receiptd.store.database.errors import StoreError, unreachable
    from receiptd.store.database.migrating import require

    try:
        check_file(config.store.url, create=False, writes=writes)
        # Looked at as a reader, whom nobody's transaction keeps waiting.
        engine = open_engine(config.store.url, writes=False)
        try:
            require(engine)
            if writes:
                engine.dispose()
                engine = open_engine(config.store.url)
            yield engine
        except SQLAlchemyError as error:
            raise Failed(unreachable(engine, error)) from None
        finally:
            engine.dispose()
    except StoreError as error:
        raise Failed(str(error)) from None
