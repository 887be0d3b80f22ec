"""The command `receipts import`: what `receipts export` has written, into a database again."""

from __future__ import annotations

import sys
from functools import partial
from itertools import islice
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import click

from receiptd.cli.options import Failed, config_option, database_option, load, store
from receiptd.cli.output import say

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from receiptd.registration.receipt_file import Entry
    from receiptd.store.recorder import Recorder

BATCH = 200
"""Receipts stored in a transaction."""


@click.command("import", short_help="Store what receipts export has written.")
@click.argument("path", metavar="FILE", type=click.Path(path_type=Path, allow_dash=True))
@click.option(
    "--format",
    "layout",
    type=click.Choice(["csv", "json", "ndjson"]),
    help="The format of the file. Default: by the ending of its name.",
)
@config_option
@database_option
def import_receipts(path: Path, layout: Any, file: Path | None, database: str | None) -> None:
    """Store the receipts in FILE, which `receiptd receipts export` has written.

    Use it after a backup was restored, to bring back the receipts that came between the backup
    and the restore, from the database that was replaced. A receipt that is stored already is left
    alone, so the command may be repeated. Each receipt keeps its time of receiving, and is
    checked against the registered messages. Export with --raw: otherwise the posts themselves are
    not in the file. Servers may run meanwhile. Destinations are told of the receipts that are
    stored.

    \b
    Examples:
      receiptd receipts export --database sqlite:///old.db --raw --since 2d --output gap.ndjson
      receiptd receipts import gap.ndjson
    """
    layout = layout or path.suffix.lower().removeprefix(".")
    if layout not in ("csv", "json", "ndjson"):
        raise click.UsageError("--format csv, json or ndjson: the file's name does not say it")
    config = load(file, database)
    from receiptd.daemon.rules import policies, quota
    from receiptd.registration.receipt_file import BadLine, read
    from receiptd.store.database.write_turns import WriteTurns
    from receiptd.store.recorder import Recorder

    stored = known = 0
    with store(config, writes=True) as engine, _opened(path) as source:
        recorder = Recorder(engine, policies=policies(config), quota=quota(config))
        turns = WriteTurns(engine)
        entries = read(source, layout)
        try:
            while batch := list(islice(entries, BATCH)):
                new = turns.take(partial(_store, recorder, batch))
                stored += new
                known += len(batch) - new
        except BadLine as error:
            raise Failed(
                f"{path}: {error}. {stored} receipts stored before it; mend the file and run the "
                "command again"
            ) from None
        except (OSError, UnicodeDecodeError) as error:
            raise Failed(f"{path}: cannot be read: {error}") from None
    say(f"{stored} receipts stored, {known} were there already")


def _opened(path: Path) -> IO[str]:
    if str(path) == "-":
        return sys.stdin
    try:
        return path.open(encoding="utf-8-sig", newline="")
    except OSError as error:
        raise Failed(f"{path}: cannot be read: {error.strerror}") from None


def _store(recorder: Recorder, batch: list[Entry], connection: Connection) -> int:
    """Store those that are not there yet; how many those are."""
    from sqlalchemy import select

    from receiptd.receipt import Outcome, Verdict
    from receiptd.store.recorder import Submission
    from receiptd.store.schema import receipts

    found = connection.execute(
        select(receipts.c.id, receipts.c.received_at).where(
            receipts.c.id.in_([each.id for each in batch])
        )
    )
    # As a backup has them: under the number that they had.
    same = {(row.id, row.received_at) for row in found}
    some = [each for each in batch if (each.id, each.received_at) not in same]
    if not some:
        return 0
    results = recorder.record(
        connection,
        [Submission(None, (each.receipt,)) for each in some],
        [each.received_at for each in some],
        again=True,
    )
    return sum(
        isinstance(each, Verdict) and each.outcome is not Outcome.DUPLICATE for (each,) in results
    )
