"""The commands about messages: `message add`, `message show`, `message list`."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from receiptd.cli.importing import import_messages, registry_of
from receiptd.cli.lists import (
    any_of,
    cell,
    page_options,
    print_list,
    read_ahead,
    regions,
    texts,
    together,
)
from receiptd.cli.options import (
    Failed,
    Moment,
    Span,
    config_option,
    database_option,
    load,
    store,
)
from receiptd.cli.output import json_array, json_text, printable, table
from receiptd.message import MOST_PARTS
from receiptd.receipt import State

if TYPE_CHECKING:
    from sqlalchemy import Engine

    from receiptd.config import Config


@click.group()
def message() -> None:
    """What was sent: register it, and read what became of it."""


message.add_command(import_messages)


@message.command("add")
@click.argument("provider", metavar="PROVIDER")
@click.argument("message_id", metavar="MESSAGE_ID")
@click.option(
    "--recipient",
    "recipients",
    metavar="PHONE",
    multiple=True,
    help="The phone that it was sent to. May be given several times. Without one, a receipt "
    "about any phone belongs to the message.",
)
@click.option("--sender", metavar="TEXT", help="What the recipient sees as its sender.")
@click.option("--reference", metavar="TEXT", help="The application's own reference.")
@click.option(
    "--parts",
    metavar="N",
    type=click.IntRange(1, MOST_PARTS),
    help="How many parts it was sent in. Default: what receipts say, else 1.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON array.")
@config_option
@database_option
def add_message(
    provider: str,
    message_id: str,
    recipients: tuple[str, ...],
    as_json: bool,
    file: Path | None,
    database: str | None,
    **details: Any,
) -> None:
    """Register a message as sent.

    Once any message of a provider is registered, the receipts of that provider are checked:
    one about a message that is not registered is answered as such (unless the endpoint's
    `match` says otherwise). Receipts that came before their message belong to it from now on.
    To register a message again changes nothing but what is told otherwise this time.

    \b
    Examples:
      receiptd message add csoft 4A2E3C10 --recipient 447700912345
      receiptd message add csoft 4A2E3C10 --recipient 447700912345 --recipient 447700912346
      receiptd message add easysms 8f0e61 --recipient +393401234567 --parts 3 --reference "order 9"
    """
    config = load(file, database)
    from receiptd.providers import Invalid
    from receiptd.registration.message_file import message_of

    given = {"provider": provider, "message_id": message_id, **details}
    try:
        messages = [
            message_of(given | {"recipient": each}, config.regions)
            for each in recipients or (None,)
        ]
    except Invalid as error:
        raise click.UsageError(error.text) from None
    with store(config, writes=True) as engine:
        registry = registry_of(config, engine)
        results = registry.register(messages)
    if as_json:
        json_array(
            {
                "provider": each.provider,
                "message_id": each.message_id,
                "recipient": each.recipient,
                "result": result,
            }
            for each, result in zip(messages, results, strict=True)
        )
        return
    for each, result in zip(messages, results, strict=True):
        to = f" to {each.recipient}" if each.recipient else ""
        click.echo(f"{result}: {each.provider} {printable(each.message_id)}{to}")
    if registry.adopted:
        click.echo(f"receipts that had come before: {registry.adopted}")


@message.command("show", short_help="Show what became of a message.")
@click.argument("provider", metavar="PROVIDER")
@click.argument("message_id", metavar="MESSAGE_ID")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@config_option
@database_option
def show_message(
    provider: str, message_id: str, as_json: bool, file: Path | None, database: str | None
) -> None:
    """Show what became of a message: its state, and its receipts, oldest first.

    MESSAGE_ID is the provider's identifier, in any case.

    \b
    Examples:
      receiptd message show csoft 4A2E3C10
      receiptd message show csoft 4A2E3C10 --json
    """
    config = load(file, database)
    from receiptd.store.messages import message_with_receipts

    with store(config) as engine:
        with engine.connect() as connection:
            found = message_with_receipts(connection, provider, message_id)
        if found is None:
            raise Failed(_not_found(config, engine, provider, message_id))
    if as_json:
        click.echo(json_text(found, indent=2))
        return
    _print_message(found)


def _not_found(config: Config, engine: Engine, provider: str, message_id: str) -> str:
    from receiptd.store.queries import ReceiptFilter, each_receipt

    text = f"no message {message_id!r} is registered for {provider!r}"
    if provider not in config.regions:
        return f"{text}; the providers here are {', '.join(config.regions)}"
    wanted = ReceiptFilter(provider=(provider,), message_id=message_id)
    if next(each_receipt(engine, wanted, limit=1), None):
        command = shlex.join(["receiptd", "receipts", "show", message_id])
        return f"{text}; there are receipts about it: {command}"
    return text


def _print_message(found: Mapping[str, Any]) -> None:
    click.echo(f"message {printable(found['message_id'])} of {found['provider']}")
    shown = {name: found[name] for name in _SHOWN}
    recipients = found.get("recipients", ())
    if recipients:
        shown["recipient"] = f"{len(recipients)} of them, see below"
    width = max(map(len, shown)) + 2
    for name, value in shown.items():
        if isinstance(value, bool):
            value = "yes" if value else "no"
        click.echo(f"  {name:<{width}}{printable(value)}")
    if recipients:
        click.echo()
        _print_table(_RECIPIENT_COLUMNS, recipients)
    click.echo()
    if not found["receipts"]:
        click.echo("no receipts yet")
        return
    _print_table(_TIMELINE_COLUMNS, found["receipts"])
    if not found["receipts_complete"]:
        click.echo(
            f"the newest {len(found['receipts'])} receipts; more with receiptd receipts show"
        )


def _print_table(columns: Mapping[str, str], items: Any) -> None:
    table(tuple(columns), ([cell(item[key]) for key in columns.values()] for item in items))


@message.command("list")
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
@click.option("--recipient", metavar="PHONE", help="The phone, in any notation.")
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
    from receiptd.store.messages import MessageFilter, each_message, message_json

    wanted = MessageFilter(regions=regions(config), **filters)
    with store(config) as engine:
        rows = each_message(engine, wanted, limit=read_ahead(limit, as_json))
        print_list(
            (message_json(row) for row in rows),
            as_json,
            limit,
            _MESSAGE_COLUMNS,
            "no messages match; fewer filters show more"
            if wanted.narrow
            else "no messages yet; they are here once they are registered, such as with "
            "receiptd message add",
        )


_SHOWN = (
    "recipient",
    "state",
    "final",
    "state_at",
    "parts",
    "delivered",
    "price",
    "sender",
    "reference",
    "registered_at",
)
_RECIPIENT_COLUMNS = {
    "recipient": "recipient",
    "state": "state",
    "since": "state_at",
    "parts": "parts",
    "delivered": "delivered",
    "price": "price",
}
_TIMELINE_COLUMNS = {
    "receipt": "id",
    "received": "received_at",
    "kind": "kind",
    "state": "state",
    "code": "code",
    "description": "description",
    "recipient": "recipient",
    "part": "part",
    "reported": "reported_at",
    "verdict": "verdict",
}
_MESSAGE_COLUMNS = {
    "registered": "registered_at",
    "provider": "provider",
    "message": "message_id",
    "recipient": "recipient",
    "state": "state",
    "since": "state_at",
    "parts": "parts",
    "delivered": "delivered",
    "reference": "reference",
}
"""Headers of the tables, with the keys beneath them."""
