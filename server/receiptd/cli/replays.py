"""The commands `forward replay` and `forward replays list|cancel`."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from receiptd.cli.forward import json_option, order
from receiptd.cli.options import Failed, Moment, config_option, database_option, load, store
from receiptd.cli.output import json_array, table

if TYPE_CHECKING:
    from sqlalchemy import Connection, Engine


@click.command("replay", short_help="Send past events again.")
@click.argument("name")
@click.option("--since", type=Moment(), required=True, help="Only events of this time or later.")
@click.option("--until", type=Moment(), help="Only events before this time.")
@click.option("--provider", "providers", multiple=True, help="Of this provider.")
@click.option("--state", "states", multiple=True, help="Of this state.")
@click.option("--types", "types", multiple=True, help="Of this event type.")
@click.option("--message", help="Only events about the message with this identifier.")
@click.option(
    "--rate",
    metavar="N",
    type=click.FloatRange(min=0),
    default=0.0,
    help="The most events per second. Default: no limit.",
)
@click.option("--dry-run", is_flag=True, help="Send nothing; count the events.")
@config_option
@database_option
def replay(
    name: str,
    since: datetime,
    until: datetime | None,
    rate: float,
    dry_run: bool,
    file: Path | None,
    database: str | None,
    **wanted: Any,
) -> None:
    """Send past events to the destination NAME again, under the same ids.

    What the destination's own filters leave out stays out. It goes on after a restart, and
    until it is done or cancelled.

    \b
    Examples:
      receiptd forward replay app --since 2026-11-25T18:00 --until 2026-11-25T19:00
      receiptd forward replay app --since 1d --state UNDELIVERABLE --rate 50
    """
    config = load(file, database)
    from receiptd.forward.filters import Filter, check_words
    from receiptd.store import forward_orders

    try:
        chosen = check_words(Filter(**wanted))
    except ValueError as error:
        raise click.UsageError(str(error)) from None
    if dry_run:
        own = next((Filter.of(each) for each in config.forward if each.name == name), Filter())
        with store(config) as engine:
            count = _count(engine, since, until, [chosen, own])
        click.echo(f"{name}: {count} events would be sent again")
        return

    def begin(connection: Connection) -> int:
        start, end = forward_orders.span(connection, since, until)
        return forward_orders.begin_replay(connection, name, chosen.json(), start, end, rate)

    number = order(config, name, begin)
    click.echo(
        f"{name}: replay {number} has begun; to follow it: receiptd forward replays list {name}"
    )


def _count(engine: Engine, since: datetime, until: datetime | None, filters: list[Any]) -> int:
    from receiptd.store import event_reader, forward_orders

    count = 0
    with engine.connect() as connection:
        at, end = forward_orders.span(connection, since, until)
    while at < end:
        with engine.connect() as connection:
            page = event_reader.page(connection, at, 500)
        if not page:
            break
        count += sum(
            each.id <= end and all(wanted.fits(each) for wanted in filters) for each in page
        )
        at = page[-1].id
    return count


@click.group()
def replays() -> None:
    """Replays: list them, cancel one."""


@replays.command("list", short_help="List replays.")
@click.argument("name")
@json_option
@config_option
@database_option
def list_replays(name: str, as_json: bool, file: Path | None, database: str | None) -> None:
    """List the replays of the destination NAME.

    \b
    Example:
      receiptd forward replays list app
    """
    config = load(file, database)
    from receiptd.forward.shapes import replay_json
    from receiptd.store import forward_state

    with store(config) as engine, engine.connect() as connection:
        items = [replay_json(each) for each in forward_state.replays(connection, name)]
    if as_json:
        json_array(items)
    else:
        table(
            ("replay", "begun", "status", "event", "of", "sent", "failed"),
            (
                (
                    *(each["id"], each["created_at"], each["status"], each["position"]),
                    *(each["until"], each["sent"], each["failed"]),
                )
                for each in items
            ),
        )


@replays.command("cancel", short_help="End a replay.")
@click.argument("name")
@click.argument("number", metavar="ID", type=int)
@config_option
@database_option
def cancel_replay(name: str, number: int, file: Path | None, database: str | None) -> None:
    """Cancel a replay of the destination NAME. What it has sent stays sent.

    \b
    Example:
      receiptd forward replays cancel app 3
    """
    config = load(file, database)
    from receiptd.store import forward_orders

    if not order(config, name, lambda c: forward_orders.cancel_replay(c, name, number)):
        raise Failed(
            f"{name} has no running replay {number}; to list them: "
            f"receiptd forward replays list {name}"
        )
    click.echo(f"{name}: replay {number} cancelled")
