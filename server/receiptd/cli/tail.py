"""The command `receipts tail`: what has come last, and what comes."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from receiptd.cli.listing import RECEIPT_COLUMNS, WIDE_RECEIPT_COLUMNS, cell_of
from receiptd.cli.lists import check_receipt_names, receipt_filters
from receiptd.cli.options import config_option, database_option, load, store, wide_option
from receiptd.cli.output import COLOURS, json_text, printable, say

if TYPE_CHECKING:
    from sqlalchemy import Engine

    from receiptd.store.paging import Row
    from receiptd.store.queries import ReceiptFilter

POLL = 0.5
"""Seconds between two looks into the database."""

_WIDTHS = {
    "id": 6,
    "received": 14,
    "received (UTC)": 20,
    "endpoint": 8,
    "kind": 8,
    "message": 16,
    "state": 13,
    "code": 4,
    "recipient": 13,
    "reported (UTC)": 20,
}
"""The first width of each column. A wider cell makes its column wider from there on."""


@click.command(short_help="Print receipts as they come.")
@receipt_filters
@click.option(
    "-n",
    "--lines",
    "count",
    metavar="N",
    type=click.IntRange(min=0),
    default=10,
    show_default=True,
    help="How many stored receipts to print first.",
)
@click.option("--json", "as_json", is_flag=True, help="Print a JSON object in each line.")
@wide_option
@config_option
@database_option
def tail(
    count: int, as_json: bool, wide: bool, file: Path | None, database: str | None, **filters: Any
) -> None:
    """Print the newest receipts, and each new one as it comes, until Ctrl-C.

    If the database does not answer for a while, the command waits and then goes on without a
    gap.

    \b
    Examples:
      receiptd receipts tail
      receiptd receipts tail --state UNDELIVERABLE --state EXPIRED
      receiptd receipts tail --verdict unknown-message --verdict wrong-recipient
      receiptd receipts tail -n 0 --json | jq .message_id
    """
    config = load(file, database)
    from receiptd.daemon.rules import phone_regions
    from receiptd.store.queries import ReceiptFilter
    from receiptd.store.rows import receipt_json

    wanted = ReceiptFilter(regions=phone_regions(config), **filters)
    columns = WIDE_RECEIPT_COLUMNS if wide else RECEIPT_COLUMNS
    try:
        with store(config) as engine:
            check_receipt_names(config, engine, filters)
            show = _json_lines if as_json else _Columns(columns).show
            for rows in _newest_and_further(engine, wanted, count):
                show(map(receipt_json, rows))
                sys.stdout.flush()
    except KeyboardInterrupt:
        return


def _newest_and_further(
    engine: Engine, wanted: ReceiptFilter, count: int
) -> Iterator[Iterable[Row]]:
    """The newest `count` rows that fit, oldest first; then, without end, those that come."""
    from receiptd.store.database.errors import AWAY, unreachable
    from receiptd.store.paging import PAGE, newest_id, pieces
    from receiptd.store.queries import RECEIPTS
    from receiptd.store.schema import receipts

    # Ids are given in the order of the commits: what is committed later has a larger one.
    seen = newest_id(engine, receipts)
    newest: list[Row] = []
    if count:
        for piece in pieces(engine, RECEIPTS, wanted, size=min(count, PAGE), before_id=seen + 1):
            newest += piece.rows
            if len(newest) >= count:
                break
    yield reversed(newest[:count])
    answers = True
    while True:
        try:
            for piece in pieces(
                engine, RECEIPTS, wanted, size=PAGE, after_id=seen, oldest_first=True
            ):
                yield piece.rows
                seen = piece.reached
            if not answers:
                say("the database answers again", err=True)
            answers = True
        except AWAY as error:
            if answers:
                say(f"{unreachable(engine, error)}; trying on", err=True)
            answers = False
        time.sleep(POLL)


def _json_lines(items: Iterable[Mapping[str, Any]]) -> None:
    for item in items:
        sys.stdout.write(f"{json_text(item)}\n")


class _Columns:
    """A table whose rows are printed as they come."""

    def __init__(self, columns: Mapping[str, str]) -> None:
        self._columns = columns
        self._cell = cell_of(columns)
        self._widths = [_WIDTHS.get(header, 0) for header in columns]
        self._print(list(columns))

    def show(self, items: Iterable[Mapping[str, Any]]) -> None:
        """Print rows."""
        for item in items:
            self._print([printable(self._cell(item[key])) for key in self._columns.values()])

    def _print(self, cells: list[str]) -> None:
        self._widths = [
            max(width, len(text)) for width, text in zip(self._widths, cells, strict=True)
        ]
        aligned = [text.ljust(width) for text, width in zip(cells, self._widths, strict=True)]
        aligned[-1] = cells[-1]
        if sys.stdout.isatty():
            aligned = [click.style(text, fg=COLOURS.get(text.rstrip())) for text in aligned]
        sys.stdout.write("  ".join(aligned) + "\n")
