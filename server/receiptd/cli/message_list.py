"""The command `message list`."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import click

from receiptd.cli.checking import tell_checked
from receiptd.cli.filters import any_of, check_names, recipient_option, texts, together
from receiptd.cli.listing import MESSAGE_COLUMNS, WIDE_MESSAGE_COLUMNS, print_list, read_ahead
from receiptd.cli.lists import page_options
from receiptd.cli.options import Moment, Span, load, store
from receiptd.receipt import State


@click.command("list")
@texts("--provider", "Of this provider. May, as --state, be given several times.")
@any_of("--state", State, "The message's state")
@click.option(
    "--final/--pending",
    default=None,
    help="Only those with a final state, or only those that still wait for one.",
)
@click.option(
    "--pending-for",
    metavar="AGE",
    type=Span(),
    help="Only those that have no final state so long after they were registered, such as 6h.",
)
@recipient_option
@click.option("--reference", metavar="TEXT", help="The application's own reference.")
@click.option("--message-id", metavar="ID", help="The provider's identifier, in any case.")
@together(
    click.option(
        "--since",
        type=Moment(),
        help="Registered at this time or later: ISO 8601 (UTC unless it has an offset), or an "
        "age such as 90s, 30m, 24h, 7d, 2w.",
    ),
    click.option("--until", type=Moment(), help="Registered before this time, given alike."),
    page_options,
)
def list_messages(
    as_json: bool,
    wide: bool,
    limit: int | None,
    pending_for: timedelta | None,
    file: Path | None,
    database: str | None,
    **filters: Any,
) -> None:
    """List registered messages, newest first, a line for each recipient.

    \b
    Examples:
      receiptd message list
      receiptd message list --state UNDELIVERABLE --state EXPIRED --since 24h
      receiptd message list --pending-for 6h
      receiptd message list --recipient "+44 7700 912345" --json
    """
    if pending_for is not None:
        if filters["final"]:
            raise click.UsageError("--final and --pending-for exclude each other")
        filters["final"] = False
        registered_before = datetime.now(UTC) - pending_for
        filters["until"] = min(filters["until"] or registered_before, registered_before)
    config = load(file, database)
    from receiptd.daemon.rules import phone_regions
    from receiptd.store.messages import MessageFilter, each_message, message_json

    wanted = MessageFilter(regions=phone_regions(config), **filters)
    with store(config) as engine:
        check_names(
            config,
            provider=filters["provider"],
            stored=lambda fields: each_message(engine, MessageFilter(**fields), limit=1),
        )
        rows = each_message(engine, wanted, limit=read_ahead(limit, as_json))
        print_list(
            (message_json(row) for row in rows),
            as_json,
            limit,
            WIDE_MESSAGE_COLUMNS if wide else MESSAGE_COLUMNS,
            "no messages match; fewer filters show more"
            if wanted.narrow
            else "no messages yet; they are here once they are registered, such as with "
            "receiptd message add",
        )
        if not as_json:
            tell_checked(config, engine)
