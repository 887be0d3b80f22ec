"""The command `prune`: delete what is old, now."""

from __future__ import annotations

import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import click

from receiptd.cli.options import Failed, Span, config_option, database_option, load, store
from receiptd.cli.output import json_text, say
from receiptd.cli.progress import progress_bar

if TYPE_CHECKING:
    from receiptd.store.retention import Pruning


@click.command(short_help="Delete what is old.")
@click.option(
    "--older-than",
    "age",
    metavar="AGE",
    type=Span(),
    help="Such as 180d. Default: the configuration's store.keep.",
)
@click.option("--dry-run", is_flag=True, help="Delete nothing; say what would be deleted.")
@click.option(
    "--unfinished", is_flag=True, help="Delete messages that have no final state as well."
)
@click.option("--yes", is_flag=True, help="Delete without asking, as a script must.")
@click.option("--json", "as_json", is_flag=True, help="Print the counts as one JSON object.")
@config_option
@database_option
def prune(
    age: timedelta | None,
    dry_run: bool,
    unfinished: bool,
    yes: bool,
    as_json: bool,
    file: Path | None,
    database: str | None,
) -> None:
    """Delete old receipts, old rejected posts and old finished messages.

    A receipt or a rejected post is old by the time at which it was received. A message is
    deleted if it was registered that long ago, has a final state and has no receipt left. With
    --unfinished, messages without a final state are deleted as well. If store.keep is
    configured, the server does this by itself every hour, but never --unfinished.

    It asks before it deletes, unless you give --yes. It deletes a few rows at a time, and
    servers may run meanwhile. Ctrl-C stops it; what is deleted by then stays deleted. SQLite's
    file does not shrink: new receipts take the space.

    \b
    Examples:
      receiptd prune --older-than 180d --dry-run
      receiptd prune --older-than 180d
      receiptd prune --older-than 30d --unfinished --yes
    """
    config = load(file, database)
    if age is None:
        age = config.store.keep
    if age is None:
        raise click.UsageError(
            "--older-than AGE, such as --older-than 180d: store.keep in the configuration says "
            "nothing"
        )
    if not age:
        raise click.UsageError("--older-than: that would be everything")
    from receiptd.store.retention import Pruning

    before = datetime.now(UTC) - age
    if not dry_run and not yes:
        _ask(before, unfinished)
    interrupted = False
    with store(config, writes=True) as engine:
        pruning = Pruning(engine, before, dry_run=dry_run, unfinished=unfinished)
        try:
            _watch(pruning)
        except KeyboardInterrupt:
            interrupted = True
    pruned = pruning.pruned
    if as_json:
        counts = {
            "before": before.isoformat().replace("+00:00", "Z"),
            "receipts": pruned.receipts,
            "rejected_posts": pruned.rejected_posts,
            "messages": pruned.messages,
        }
        say(json_text(counts, indent=2))
    else:
        say(
            f"{'would delete' if dry_run else 'deleted'} what is from before "
            f"{before:%Y-%m-%dT%H:%M:%SZ}: {pruned}"
        )
    if interrupted:
        say("interrupted", err=True)
        sys.exit(1)


def _ask(before: datetime, unfinished: bool) -> None:
    """Ask whether to go on.

    :raises Failed: if nobody can be asked, or the answer is no.
    """
    if not sys.stdin.isatty():
        raise click.UsageError(
            "this deletes, and it cannot ask first: standard input is not a terminal. Give --yes, "
            "or --dry-run to see what would be deleted"
        )
    messages = "messages, also those without a final state," if unfinished else "finished messages"
    question = (
        f"Delete all receipts, rejected posts and {messages} from before "
        f"{before:%Y-%m-%dT%H:%M:%SZ}? This cannot be undone"
    )
    if not click.confirm(question, err=True):
        raise Failed("nothing was deleted")


def _watch(pruning: Pruning) -> None:
    """Run, with a progress bar on a terminal."""
    bar = progress_bar("{task.description}")
    if bar is None:
        pruning.run()
        return
    with bar as progress:
        tasks = {}

        def watch(table: str, done: int, ids: int) -> None:
            if table not in tasks:
                tasks[table] = progress.add_task(table.replace("_", " "))
            progress.update(tasks[table], completed=done, total=ids)

        pruning.run(watch)
