"""The commands `forward dead list|show|retry|discard`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from receiptd.cli.forward import json_option, known
from receiptd.cli.options import Failed, Moment, config_option, database_option, load, store
from receiptd.cli.output import fields, json_array, json_text, table

if TYPE_CHECKING:
    from sqlalchemy import Connection, Engine

    from receiptd.config import Config
    from receiptd.store.forward_orders import DeadFilter


@click.group(short_help="Show, retry and discard dead letters.")
def dead() -> None:
    """Dead letters: the events that a destination did not take. Show, retry or discard them."""


def _filters(command: Any) -> Any:
    for option in (
        click.option("--error", metavar="TEXT", help="Only those whose error contains TEXT."),
        click.option("--since", type=Moment(), help="Only those given up at this time or later."),
        click.option("--all", "every", is_flag=True, help="All of them."),
        click.argument("ids", metavar="[ID]...", type=int, nargs=-1),
        click.argument("name"),
    ):
        command = option(command)
    return command


def _wanted(
    ids: tuple[int, ...], every: bool, since: datetime | None, error: str | None
) -> DeadFilter:
    from receiptd.store.forward_orders import DeadFilter

    if not (ids or every or since or error):
        raise click.UsageError("say which dead letters: ID..., --all, --since or --error")
    return DeadFilter(ids, since, error)


@dead.command("list", short_help="List dead letters.")
@click.argument("name", required=False)
@click.option("--limit", metavar="N", type=click.IntRange(min=1), default=50, show_default=True)
@click.option("--since", type=Moment(), help="Only those given up at this time or later.")
@click.option("--error", metavar="TEXT", help="Only those whose error contains TEXT.")
@json_option
@config_option
@database_option
def list_dead(
    name: str | None,
    limit: int,
    since: datetime | None,
    error: str | None,
    as_json: bool,
    file: Path | None,
    database: str | None,
) -> None:
    """List the dead letters of the destination NAME, or of all destinations.

    \b
    Examples:
      receiptd forward dead list
      receiptd forward dead list app --error 422
    """
    config = load(file, database)
    from receiptd.store.forward_orders import DeadFilter

    with store(config) as engine:
        items = _each_dead(engine, name, DeadFilter((), since, error), limit)
        if as_json:
            json_array(items)
        else:
            table(
                ("destination", "event", "died", "attempts", "holds", "receipt", "error"),
                (
                    (
                        each["destination"],
                        each["event"],
                        each["died_at"],
                        each["attempts"],
                        "its message" if each["holds"] else "-",
                        each["receipt"],
                        each["error"],
                    )
                    for each in items
                ),
            )


def _each_dead(
    engine: Engine, name: str | None, wanted: DeadFilter, limit: int
) -> Iterator[Mapping[str, Any]]:
    from receiptd.forward.shapes import dead_json
    from receiptd.store.forward_orders import TURN
    from receiptd.store.forward_orders import dead as dead_page

    after = None
    while limit > 0:
        with engine.connect() as connection:
            rows = dead_page(connection, name, wanted, limit=min(limit, TURN), after=after)
        yield from map(dead_json, rows)
        if len(rows) < min(limit, TURN):
            return
        limit -= len(rows)
        after = rows[-1]["destination"], rows[-1]["event_id"]


@dead.command("show", short_help="Show a dead letter.")
@click.argument("name")
@click.argument("number", metavar="ID", type=int)
@json_option
@config_option
@database_option
def show_dead(
    name: str, number: int, as_json: bool, file: Path | None, database: str | None
) -> None:
    """Show a dead letter: its event, and what the destination answered.

    \b
    Example:
      receiptd forward dead show app 4711
    """
    config = load(file, database)
    from receiptd.forward.events import event_json
    from receiptd.forward.shapes import dead_json
    from receiptd.store import event_reader
    from receiptd.store.forward_orders import DeadFilter
    from receiptd.store.forward_orders import dead as dead_page

    with store(config) as engine, engine.connect() as connection:
        rows = dead_page(connection, name, DeadFilter([number]), limit=1)
        found = event_reader.by_number(connection, [number])
    if not rows:
        raise Failed(
            f"{name} has no dead letter {number}; to list them: receiptd forward dead list {name}"
        )
    event = found.get(number)
    shown = {**dead_json(rows[0]), "tells": event_json(event) if event is not None else None}
    if as_json:
        click.echo(json_text(shown, indent=2))
    else:
        shown["tells"] = json_text(shown["tells"], indent=2)
        fields(f"dead letter {number} of {name}", shown, "tells")


@dead.command(short_help="Send dead letters again.")
@_filters
@config_option
@database_option
def retry(
    name: str,
    ids: tuple[int, ...],
    every: bool,
    since: datetime | None,
    error: str | None,
    file: Path | None,
    database: str | None,
) -> None:
    """Send dead letters of the destination NAME again.

    Their messages may have gone on meanwhile: what is sent then is older than what was sent.

    \b
    Examples:
      receiptd forward dead retry app 4711 4712
      receiptd forward dead retry app --all
      receiptd forward dead retry app --error 422 --since 1d
    """
    from receiptd.store import forward_orders

    count = _each_turn(
        load(file, database), name, _wanted(ids, every, since, error), forward_orders.retry
    )
    click.echo(f"{name}: {count} dead letters will be sent again")


@dead.command(short_help="Give dead letters up.")
@_filters
@config_option
@database_option
def discard(
    name: str,
    ids: tuple[int, ...],
    every: bool,
    since: datetime | None,
    error: str | None,
    file: Path | None,
    database: str | None,
) -> None:
    """Discard dead letters of the destination NAME for good. Their receipts stay stored.

    \b
    Examples:
      receiptd forward dead discard app 4711
      receiptd forward dead discard app --all
    """
    from receiptd.store import forward_orders

    count = _each_turn(
        load(file, database), name, _wanted(ids, every, since, error), forward_orders.discard
    )
    click.echo(f"{name}: {count} dead letters discarded")


def _each_turn(
    config: Config,
    name: str,
    wanted: DeadFilter,
    change: Callable[[Connection, str, DeadFilter], int],
) -> int:
    """Change all dead letters that are meant, some at a time; how many."""
    from receiptd.store.database.write_turns import WriteTurns
    from receiptd.store.forward_orders import TURN

    total = 0
    with store(config, writes=True) as engine, known(name):
        turns = WriteTurns(engine)
        while True:
            count = turns.take(lambda connection: change(connection, name, wanted))
            total += count
            if count < TURN:
                return total
