"""The command `receipts export`: all receipts, or those that fit, into a file or a pipe."""

from __future__ import annotations

import csv
import errno
import json
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from io import TextIOWrapper
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import click

from receiptd.cli.filters import OneOf
from receiptd.cli.lists import check_receipt_names, receipt_filters, received_options
from receiptd.cli.options import Failed, config_option, database_option, load, store
from receiptd.cli.output import json_text, printable, say
from receiptd.cli.progress import LEFT, progress_bar
from receiptd.receipt import RECEIPT_KEYS
from receiptd.registration.spreadsheet import no_formula

if TYPE_CHECKING:
    from sqlalchemy import Engine

    from receiptd.store.queries import ReceiptFilter

FORMATS = ("csv", "ndjson", "json")

_SUFFIXES = {".csv": "csv", ".ndjson": "ndjson", ".jsonl": "ndjson", ".json": "json"}

FILE_MODE = 0o640
"""Of an exported file, which holds people's phone numbers; a stricter umask makes it less."""

COLUMNS = RECEIPT_KEYS
"""The columns of CSV, which are the keys of a receipt as JSON."""

Write = Callable[[Mapping[str, Any]], object]
"""Writes one receipt."""


@click.command()
@receipt_filters
@received_options
@click.option(
    "--format",
    "layout",
    type=OneOf(FORMATS),
    metavar="FORMAT",
    help="The format: csv, ndjson (an object in each line) or json (one array). Default: by the "
    "ending of --output; csv on standard output.",
)
@click.option(
    "--output",
    metavar="FILE",
    type=click.Path(path_type=Path, allow_dash=True, dir_okay=False),
    default=Path("-"),
    help="The file to write; - is standard output, and the default. A file of that name is "
    "replaced once the new one is complete.",
)
@click.option("--raw", is_flag=True, help="Include the posts as they came. They are long.")
@click.option(
    "--raw-csv",
    is_flag=True,
    help="Leave CSV cells as they are, even if a spreadsheet would take one for a formula.",
)
@config_option
@database_option
def export(
    layout: str | None,
    output: Path,
    raw: bool,
    raw_csv: bool,
    file: Path | None,
    database: str | None,
    **filters: Any,
) -> None:
    """Write receipts as CSV, JSON or NDJSON, oldest first.

    It writes every receipt that is stored when it begins, however many. Servers may run
    meanwhile. The columns of CSV and the keys of JSON are those of receipts list --json; `raw`
    is there with --raw alone. In CSV, `extra` and `unread` are JSON texts. The encoding is UTF-8.

    A CSV cell that a spreadsheet would take for a formula gets an apostrophe in front, because
    anybody who can post a receipt could write a formula. For programs that read CSV, use
    --raw-csv. The owner and the group of the file can read it.

    \b
    Examples:
      receiptd receipts export --output receipts.csv
      receiptd receipts export --output receipts.json
      receiptd receipts export --format ndjson --since 24h | gzip >yesterday.ndjson.gz
      receiptd receipts export --provider csoft --state UNDELIVERABLE --output failed.csv
    """
    layout = layout or _layout(output)
    if raw_csv and layout != "csv":
        raise click.UsageError(f"--raw-csv is for CSV, and this writes {layout}")
    config = load(file, database)
    from receiptd.daemon.rules import phone_regions
    from receiptd.store.queries import ReceiptFilter

    wanted = ReceiptFilter(regions=phone_regions(config), **filters)
    with store(config) as engine:
        check_receipt_names(config, engine, filters)
        with _written(output) as target:
            write, end = _writer(layout, target, raw=raw, raw_csv=raw_csv)
            count = _export(engine, wanted, write, raw=raw, bar=_bar(output))
            end()
    if str(output) != "-":
        say(f"{count} receipts in {output.absolute()}", err=True)


def _layout(output: Path) -> str:
    """The format that a file's name says.

    :raises click.UsageError: where it says none that there is.
    """
    if str(output) == "-" or not _is_new_or_ordinary(output):
        return "csv"
    layout = _SUFFIXES.get(output.suffix.lower())
    if layout is None:
        raise click.UsageError(
            f"--output: the name of {str(output)!r} says no format: expected it to end in "
            f"{', '.join(_SUFFIXES)}, or --format with one of {', '.join(FORMATS)}"
        )
    return layout


def _export(engine: Engine, wanted: ReceiptFilter, write: Write, *, raw: bool, bar: Any) -> int:
    """Write the receipts that fit; returns how many those are."""
    from receiptd.store.paging import PAGE, newest_id, pieces
    from receiptd.store.queries import RECEIPTS
    from receiptd.store.rows import receipt_json
    from receiptd.store.schema import receipts

    count = 0
    last = newest_id(engine, receipts)
    with bar as progress:
        task = progress.add_task("exporting", total=None, count=0) if progress else None
        first = None
        for piece in pieces(
            engine, RECEIPTS, wanted, size=PAGE, before_id=last + 1, oldest_first=True
        ):
            for row in piece.rows:
                item = receipt_json(row)
                if not raw:
                    del item["raw"]
                write(item)
            count += len(piece.rows)
            if progress and piece.reached:
                # The bar counts ids: how many of them fit is known in the end alone.
                first = first if first is not None else piece.reached
                progress.update(
                    task, completed=piece.reached - first, total=last - first, count=count
                )
    return count


def _writer(
    layout: str, target: IO[str], *, raw: bool, raw_csv: bool
) -> tuple[Write, Callable[[], object]]:
    """What writes a receipt, and what writes the end."""
    if layout == "csv":
        return _csv(target, raw, raw_csv), lambda: None
    if layout == "ndjson":
        return lambda item: target.write(f"{json_text(item, unicode=True)}\n"), lambda: None
    return _json(target)


class LineFeeds:
    """Ends each row of a `csv.writer` with a line feed alone. Before Python 3.13 the writer quotes
    only what is in its line terminator, so that must have the carriage return in it."""

    def __init__(self, target: IO[str]) -> None:
        self._target = target

    def write(self, row: str) -> int:
        """Write one row, which ends with CR LF."""
        return self._target.write(row.removesuffix("\r\n") + "\n")


def _csv(target: IO[str], raw: bool, raw_csv: bool) -> Write:
    columns = [name for name in COLUMNS if raw or name != "raw"]
    writer = csv.DictWriter(LineFeeds(target), columns, lineterminator="\r\n")
    writer.writeheader()
    to_terminal = target.isatty()

    def write(item: Mapping[str, Any]) -> None:
        texts = {name: json.dumps(item[name], ensure_ascii=False) for name in ("extra", "unread")}
        cells = {**item, **texts}
        if not raw_csv:
            cells = {name: no_formula(value) for name, value in cells.items()}
        if to_terminal:
            cells = {
                name: printable(value, lines=True) if isinstance(value, str) else value
                for name, value in cells.items()
            }
        writer.writerow(cells)

    return write


def _json(target: IO[str]) -> tuple[Write, Callable[[], object]]:
    separator = "["

    def write(item: Mapping[str, Any]) -> None:
        nonlocal separator
        target.write(f"{separator}\n{json_text(item, unicode=True)}")
        separator = ","

    return write, lambda: target.write("[]\n" if separator == "[" else "\n]\n")


def _is_new_or_ordinary(output: Path) -> bool:
    """Whether `output` is a file or nothing yet, and not a device or a named pipe."""
    return output.is_file() or not output.exists()


@contextmanager
def _written(output: Path) -> Iterator[IO[str]]:
    """What is to be written to; a file appears under its name once it is whole and on disk.

    :raises Failed: where it cannot be written.
    """
    if str(output) == "-":
        if isinstance(sys.stdout, TextIOWrapper):
            sys.stdout.reconfigure(encoding="utf-8", newline="")
        yield sys.stdout
        sys.stdout.flush()
        return
    # /dev/stdout, or a named pipe, must not be replaced by an ordinary file.
    ordinary = _is_new_or_ordinary(output)
    final = Path(os.path.realpath(output)) if ordinary else output
    part = final.with_name(f".{final.name}.{os.getpid()}.part") if ordinary else final
    try:
        flags = os.O_WRONLY | (os.O_CREAT | os.O_EXCL if ordinary else os.O_TRUNC)
        opened = os.open(part, flags, FILE_MODE)
        with os.fdopen(opened, "w", encoding="utf-8", newline="") as target:
            yield target
            target.flush()
            if ordinary:
                os.fsync(target.fileno())
        if ordinary:
            part.replace(final)
            _sync_folder(final.parent)
    except OSError as error:
        if error.errno == errno.EPIPE:
            raise
        raise Failed(f"{output.absolute()}: cannot be written: {error.strerror}") from None
    finally:
        if ordinary:
            part.unlink(missing_ok=True)


def _sync_folder(folder: Path) -> None:
    """Let the new name survive a crash of the machine too."""
    opened = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)


def _bar(output: Path) -> AbstractContextManager[Any]:
    """A progress bar, where it does not run into the receipts themselves."""
    to_terminal = str(output) == "-"
    return (
        progress_bar("exporting", "{task.fields[count]} receipts", LEFT, beside_output=to_terminal)
        or nullcontext()
    )
