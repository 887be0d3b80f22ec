"""The command `receipts export`: all receipts, or those that fit, into a file or a pipe."""

from __future__ import annotations

import csv
import errno
import json
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from io import TextIOWrapper
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import click

from receiptd.cli.lists import receipt_filters, received_options, regions
from receiptd.cli.options import Failed, config_option, database_option, load, store
from receiptd.cli.output import json_text
from receiptd.receipt import RECEIPT_KEYS

if TYPE_CHECKING:
    from sqlalchemy import Engine

    from receiptd.store.queries import ReceiptFilter

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
    type=click.Choice(["csv", "ndjson"]),
    help="What to write. Default: what the name in --output ends in, else csv.",
)
@click.option(
    "--output",
    metavar="FILE",
    type=click.Path(path_type=Path, allow_dash=True, dir_okay=False),
    default=Path("-"),
    help="Where to; - is standard output, and the default. A file of that name is replaced, "
    "once the new one is whole.",
)
@click.option("--raw", is_flag=True, help="With the posts as they came, which are long.")
@config_option
@database_option
def export(
    layout: str | None,
    output: Path,
    raw: bool,
    file: Path | None,
    database: str | None,
    **filters: Any,
) -> None:
    """Write receipts as CSV or NDJSON, oldest first.

    All that are there when it begins are written, however many, while servers run. The columns
    of CSV and the keys of NDJSON are those of receipts list --json, but without `raw` unless it
    is asked for; in CSV, `extra` and
    `unread` are JSON texts. The encoding is UTF-8.

    \b
    Examples:
      receiptd receipts export --output receipts.csv
      receiptd receipts export --format ndjson --since 24h | gzip >yesterday.ndjson.gz
      receiptd receipts export --provider csoft --state UNDELIVERABLE --output failed.csv
    """
    if layout is None:
        layout = "ndjson" if output.suffix.lower() in (".ndjson", ".jsonl", ".json") else "csv"
    config = load(file, database)
    from receiptd.store.queries import ReceiptFilter

    wanted = ReceiptFilter(regions=regions(config), **filters)
    with store(config) as engine, _written(output) as target:
        write = _csv(target, raw) if layout == "csv" else _ndjson(target)
        count = _export(engine, wanted, write, raw=raw, bar=_bar(output))
    if str(output) != "-":
        click.echo(f"{count} receipts in {output}", err=True)


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


def _csv(target: IO[str], raw: bool) -> Write:
    columns = [name for name in COLUMNS if raw or name != "raw"]
    writer = csv.DictWriter(target, columns, lineterminator="\n")
    writer.writeheader()

    def write(item: Mapping[str, Any]) -> None:
        texts = {name: json.dumps(item[name], ensure_ascii=False) for name in ("extra", "unread")}
        writer.writerow({**item, **texts})

    return write


def _ndjson(target: IO[str]) -> Write:
    return lambda item: target.write(f"{json_text(item, unicode=True)}\n")


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
    # What is no ordinary file, such as /dev/stdout or a named pipe, must not be replaced by one.
    ordinary = output.is_file() or not output.exists()
    final = Path(os.path.realpath(output)) if ordinary else output
    part = final.with_name(f".{final.name}.{os.getpid()}.part") if ordinary else final
    try:
        with part.open("x" if ordinary else "w", encoding="utf-8", newline="") as target:
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
        raise Failed(f"{output}: cannot be written: {error.strerror}") from None
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


def _bar(output: Path) -> Any:
    """A progress bar on a terminal, where it does not run into the receipts themselves."""
    if not sys.stderr.isatty() or (str(output) == "-" and sys.stdout.isatty()):
        return nullcontext()
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        Progress,
        TaskProgressColumn,
        TextColumn,
        TimeRemainingColumn,
    )

    return Progress(
        TextColumn("exporting"),
        BarColumn(),
        TaskProgressColumn(),
        TextColumn("{task.fields[count]} receipts"),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        transient=True,
    )
