"""The commands `rejected retry` and `rejected delete`."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from receiptd.cli.filters import any_of, check_names, texts, together
from receiptd.cli.lists import REASONS, json_option, received_options
from receiptd.cli.options import Failed, config_option, database_option, load, store
from receiptd.cli.output import json_array, say, table

if TYPE_CHECKING:
    from sqlalchemy import Engine

    from receiptd.config import Config
    from receiptd.rejected.retry import Became
    from receiptd.store.queries import RejectionFilter

_which = together(
    click.argument("ids", metavar="[ID]...", type=click.IntRange(min=1), nargs=-1),
    texts("--provider", "Of this provider. May, as the next two, be given several times."),
    texts("--endpoint", "Sent to the endpoint of this name."),
    any_of("--reason", REASONS, "Why it was not taken"),
    received_options,
    click.option("--all", "every", is_flag=True, help="All of them."),
)


@click.command(short_help="Try rejected posts again.")
@_which
@click.option("--dry-run", is_flag=True, help="Store nothing, and say what would become of each.")
@json_option
@config_option
@database_option
def retry(
    ids: tuple[int, ...],
    every: bool,
    dry_run: bool,
    as_json: bool,
    file: Path | None,
    database: str | None,
    **filters: Any,
) -> None:
    """Read rejected posts again, under today's configuration, and store what is a receipt now.

    A PIN, a token or a signature is not asked for again: you let the posts in. What becomes a
    receipt keeps its time of receiving and leaves the list, in one transaction, oldest first;
    a repetition of a stored receipt is stored no second time. What is still no receipt stays;
    then the exit code is 1. Servers may run meanwhile.

    \b
    Examples:
      receiptd rejected retry 17
      receiptd rejected retry --endpoint csoft --reason unauthorized --since 2h --dry-run
      receiptd rejected retry --all
    """
    config = load(file, database)
    with store(config, writes=not dry_run) as engine:
        wanted = _wanted(config, engine, ids, every, filters)
        counts: Counter[str] = Counter()
        became = _counted(_each(config, engine, wanted, ids, dry_run), counts)
        if as_json:
            json_array(each.json() for each in became)
        else:
            _print(became)
    if not counts and not as_json:
        say("no rejected posts match" if wanted.narrow else "no rejected posts", err=True)
    if not as_json and counts:
        words = [f"{counts[word]} {text}" for word, text in _WORDS.items() if counts[word]]
        say(("this would be: " if dry_run else "") + ", ".join(words))
    if counts.keys() - {"stored"}:
        sys.exit(1)


_WORDS = {
    "stored": "stored",
    "partly": "stored in part",
    "ignored": "are no receipt and need to be none",
    "rejected": "still rejected",
    "gone": "not there",
}


@click.command(short_help="Delete rejected posts.")
@_which
@click.option("--dry-run", is_flag=True, help="Delete nothing, and say how many would go.")
@click.option("--yes", is_flag=True, help="Delete without asking, as a script must.")
@config_option
@database_option
def delete(
    ids: tuple[int, ...],
    every: bool,
    dry_run: bool,
    yes: bool,
    file: Path | None,
    database: str | None,
    **filters: Any,
) -> None:
    """Delete rejected posts for good.

    It asks before it deletes, unless --yes is given. It is done a few rows at a time, while
    servers run; what comes meanwhile stays.

    \b
    Examples:
      receiptd rejected delete 17 18
      receiptd rejected delete --reason unreadable --until 7d --dry-run
      receiptd rejected delete --all --yes
    """
    config = load(file, database)
    from receiptd.store.database.write_turns import WriteTurns
    from receiptd.store.rejections import count_rejected, delete_rejected

    with store(config) as engine:
        wanted = _wanted(config, engine, ids, every, filters)
        with engine.connect() as connection:
            count, last = count_rejected(connection, wanted)
    if dry_run or not count:
        say(f"would delete {_posts(count)}" if dry_run else "no rejected posts match")
        if not count and ids:
            sys.exit(1)
        return
    if not yes:
        _ask(count)
    deleted = 0
    with store(config, writes=True) as engine:
        turns = WriteTurns(engine)
        while gone := turns.take(
            lambda connection: delete_rejected(connection, wanted, last=last, limit=turns.batch)
        ):
            deleted += gone
    say(f"deleted {_posts(deleted)}")


def _posts(count: int) -> str:
    return f"{count} rejected post" + "s" * (count != 1)


def _ask(count: int) -> None:
    """Go on only where somebody says so.

    :raises Failed: where the answer is no.
    """
    if not sys.stdin.isatty():
        raise click.UsageError(
            "this deletes, and standard input is no terminal on which to ask first: give --yes, "
            "or --dry-run to see how many would go"
        )
    if not click.confirm(f"Delete {_posts(count)}? This cannot be undone", err=True):
        raise Failed("nothing was deleted")


def _wanted(
    config: Config,
    engine: Engine,
    ids: tuple[int, ...],
    every: bool,
    filters: dict[str, Any],
) -> RejectionFilter:
    """Which posts are meant.

    :raises click.UsageError: where nothing says so, or a name is none.
    """
    from receiptd.store.queries import RejectionFilter, each_rejection

    given: list[object] = [value for value in filters.values() if value]
    if not (ids or every or given):
        raise click.UsageError(
            "say which: ID..., --endpoint, --provider, --reason, --since, --until or --all"
        )
    check_names(
        config,
        provider=filters["provider"],
        endpoint=filters["endpoint"],
        stored=lambda wanted: each_rejection(engine, RejectionFilter(**wanted), limit=1),
    )
    return RejectionFilter(ids=ids, **filters)


def _each(
    config: Config,
    engine: Engine,
    wanted: RejectionFilter,
    ids: Sequence[int],
    dry_run: bool,
) -> Iterator[Became]:
    """What becomes of each post, oldest first; last the numbers that no post has."""
    from receiptd.daemon.rules import retry_rules
    from receiptd.rejected.retry import TOGETHER, Became, Retry, would_be
    from receiptd.store.queries import each_rejection

    rules = retry_rules(config)
    tries = None if dry_run else Retry(engine, rules)
    rows = each_rejection(engine, wanted, oldest_first=True)
    missing = dict.fromkeys(ids)
    while some := [rules.posts.read(row) for row in islice(rows, TOGETHER)]:
        for each in some:
            missing.pop(each.row["id"], None)
        yield from map(would_be, some) if tries is None else tries.store(some)
    for number in missing:
        yield Became(number, "gone", f"there is no rejected post {number}, or it does not match")


def _counted(became: Iterator[Became], counts: Counter[str]) -> Iterator[Became]:
    for each in became:
        counts[each.result] += 1
        yield each


def _print(became: Iterator[Became]) -> None:
    first = next(became, None)
    if first is not None:
        table(("id", "result", "message", "text"), _rows(first, became), text="text")


def _rows(first: Became, rest: Iterator[Became]) -> Iterator[tuple[object, ...]]:
    for each in chain((first,), rest):
        for receipt, verdict in each.receipts:
            text = "it was stored already" if verdict.outcome == "duplicate" else verdict.text
            yield each.id, verdict.outcome, receipt.message_id, text or "-"
        if each.result != "stored":
            yield each.id, each.result, None, each.text
