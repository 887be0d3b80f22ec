"""The command `message import`: its options, its progress, and how to go on after a bad line."""

from __future__ import annotations

import os
import shlex
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import click
from click.core import ParameterSource

from receiptd.cli.checking import checked_since, newly_checked, tell_newly_checked
from receiptd.cli.options import Failed, config_option, database_option, load, store
from receiptd.cli.output import json_text, say
from receiptd.cli.progress import LEFT, progress_bar
from receiptd.cli.tally import Shown, Tally
from receiptd.errors import did_you_mean

if TYPE_CHECKING:
    from rich.progress import Progress
    from sqlalchemy import Engine

    from receiptd.config import Config
    from receiptd.registration.message_file import Format
    from receiptd.store.registry import Registry

_FORMATS: dict[str, Format] = {
    ".csv": "csv",
    ".tsv": "csv",
    ".txt": "csv",
    ".ndjson": "ndjson",
    ".jsonl": "ndjson",
    ".json": "ndjson",
}


@click.command("import")
@click.argument("path", metavar="FILE", type=click.Path(path_type=Path, allow_dash=True))
@click.option("--provider", metavar="NAME", help="The provider of messages that name none.")
@click.option(
    "--format",
    "layout",
    type=click.Choice(["csv", "ndjson"]),
    help="The format of the file. Default: by the ending of its name.",
)
@click.option(
    "--on-error",
    type=click.Choice(["stop", "skip"]),
    default="stop",
    show_default=True,
    help="At a line that is not a message: stop there, or skip it.",
)
@click.option(
    "--from-line",
    metavar="N",
    type=click.IntRange(min=1),
    default=1,
    help="Begin at this line of the file, counted from 1: go on where an import has stopped.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the summary as one JSON object.")
@config_option
@database_option
def import_messages(
    path: Path,
    provider: str | None,
    layout: Format | None,
    on_error: str,
    from_line: int,
    as_json: bool,
    file: Path | None,
    database: str | None,
) -> None:
    """Register the messages in FILE (- is standard input) as sent.

    CSV: the first line names the columns, which are message_id, provider, recipient, sender,
    reference and parts, in any order; only message_id must be there, and provider unless
    --provider says it. NDJSON: an object in each line, with these keys. Both in UTF-8. A
    message to several recipients has a line for each.

    A line that is not a message is reported on standard error, with its number. The import
    stops there, so that a file of the wrong kind is noticed at once; --on-error skip goes on.
    Either way the exit code is then 1. What was registered before stays registered.

    An import can be repeated at any time: for a message that is registered already, only the
    details that differ are updated. An import that ends early prints the command that goes on
    from there. Servers may run meanwhile: the import gives the database up between batches.

    \b
    Examples:
      receiptd message import sent.csv
      receiptd message import sent.csv --provider csoft --on-error skip 2>bad-lines.txt
      receiptd message import sent.csv --from-line 70001
      mysql … | receiptd message import - --format csv --provider easysms
    """
    layout = layout or _FORMATS.get(path.suffix.lower())
    if layout is None:
        raise click.UsageError("--format csv or --format ndjson: the file's name does not say it")
    config = load(file, database)
    if provider is not None and provider not in config.regions:
        raise click.UsageError(
            f"--provider: no endpoint is configured for provider {provider!r}: "
            f"{did_you_mean(provider, list(config.regions))}"
        )
    from receiptd.registration.lines import NotReadable
    from receiptd.registration.message_file import MessageFile

    tally = Tally()
    with _opened(path) as source:
        try:
            messages = MessageFile(
                source,
                layout,
                providers=config.regions,
                provider=provider,
                from_line=from_line,
            )
        except NotReadable as error:
            raise Failed(f"{path}: {error}") from None
        try:
            with store(config, writes=True) as engine:
                before = set(checked_since(engine))
                registry = registry_of(config, engine)
                try:
                    with _shown(source) as shown:
                        tally.run(messages, registry, shown, stops=on_error == "stop")
                finally:
                    tally.newly_checked = newly_checked(config, before, engine)
        except Failed as error:
            if tally.next_line is None:
                raise
            tally.ended = error.message
        except KeyboardInterrupt:
            tally.ended = "interrupted"
    _tell(tally, as_json)
    tell_newly_checked(tally.newly_checked, err=as_json)
    if tally.ended is not None:
        line = tally.next_line or from_line
        raise Failed(
            f"{tally.ended}: line {line} and what follows it are not imported. To go on there:\n"
            f"  {_command(line)}"
        )
    if tally.bad:
        sys.exit(1)


def registry_of(config: Config, engine: Engine) -> Registry:
    """A registry that matches messages by the same rules as the configured server."""
    from receiptd.daemon.rules import policies
    from receiptd.store.registry import Registry

    return Registry(engine, policies(config), config.regions)


@contextmanager
def _opened(path: Path) -> Iterator[BinaryIO]:
    if str(path) == "-":
        yield sys.stdin.buffer
        return
    try:
        with path.open("rb") as file:
            yield file
    except OSError as error:
        if error.filename != str(path):
            raise
        raise Failed(f"{path}: cannot be read: {error.strerror}") from None


class _InPipe:
    """Without a terminal: prints the bad lines only."""

    def problem(self, text: str) -> None:
        say(text, err=True)

    def reached(self, position: int, lines: int) -> None:
        pass


class _OnTerminal:
    """A progress bar, and the bad lines above it."""

    def __init__(self, progress: Progress, total: int | None) -> None:
        self._progress = progress
        self._task = progress.add_task("importing", total=total, lines=0)

    def problem(self, text: str) -> None:
        self._progress.console.print(text, markup=False, highlight=False, soft_wrap=True)

    def reached(self, position: int, lines: int) -> None:
        self._progress.update(self._task, completed=position, lines=lines)


@contextmanager
def _shown(source: BinaryIO) -> Iterator[Shown]:
    bar = progress_bar("importing", "{task.fields[lines]} lines", LEFT)
    if bar is None:
        yield _InPipe()
        return
    status = os.fstat(source.fileno())
    with bar as progress:
        yield _OnTerminal(progress, status.st_size if stat.S_ISREG(status.st_mode) else None)


def _tell(tally: Tally, as_json: bool) -> None:
    counts = {name: getattr(tally, name) for name in ("registered", "updated", "unchanged", "bad")}
    rate = tally.lines / tally.seconds if tally.seconds else 0.0
    if as_json:
        summary = {
            **counts,
            "adopted": tally.adopted,
            "next_line": tally.next_line if tally.ended else None,
            "seconds": round(tally.seconds, 3),
            "rate": round(rate, 1),
        }
        say(json_text(summary, indent=2))
        return
    texts = ", ".join(f"{name} {count}" for name, count in counts.items())
    say(f"{texts}; {tally.seconds:.2f} s, {rate:.0f}/s")
    if tally.adopted:
        say(f"receipts that had come before: {tally.adopted}")


def _command(line: int) -> str:
    """The running command, to be repeated from this line on."""
    context = click.get_current_context()
    words = context.command_path.split()
    for parameter in context.command.params:
        name = str(parameter.name)
        given = context.get_parameter_source(name) is ParameterSource.COMMANDLINE
        if not given or name == "from_line":
            continue
        value = context.params[name]
        if isinstance(parameter, click.Option):
            words.append(parameter.opts[0])
            if parameter.is_flag:
                continue
        words.append(str(value))
    return shlex.join([*words, "--from-line", str(line)])
