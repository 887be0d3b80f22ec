"""The commands about messages: `message add`, `show` and `delete`."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from receiptd.cli.checking import (
    checked_since,
    newly_checked,
    tell_last_messages,
    tell_newly_checked,
)
from receiptd.cli.filters import Phone
from receiptd.cli.importing import import_messages, registry_of
from receiptd.cli.listing import (
    RECIPIENT_COLUMNS,
    TIMELINE_COLUMNS,
    WIDE_TIMELINE_COLUMNS,
    print_table,
)
from receiptd.cli.message_list import list_messages
from receiptd.cli.options import (
    Failed,
    config_option,
    database_option,
    load,
    store,
    wide_option,
)
from receiptd.cli.output import json_array, json_text, printable, say
from receiptd.errors import did_you_mean
from receiptd.receipt import MOST_PARTS

if TYPE_CHECKING:
    from sqlalchemy import Engine

    from receiptd.config import Config


@click.group()
def message() -> None:
    """What was sent: register it, and read what became of it."""


message.add_command(import_messages)
message.add_command(list_messages)

_DETAILS = (
    "recipient",
    "state",
    "final",
    "state_at",
    "parts",
    "delivered",
    "price",
    "sender",
    "reference",
    "sent_at",
    "registered_at",
    "gave_up_at",
)
"""What `message show` prints of a message, in this order."""


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
    help="How many parts it was sent in. Default: what receipts say, otherwise 1.",
)
@click.option(
    "--sent-at",
    metavar="TIME",
    help="When it was sent: ISO 8601, UTC unless it has an offset. Default: now.",
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

    The first message of a provider turns checking on for it: from then on a receipt about a
    message that is not registered is answered as such (unless the endpoint's `match` says
    otherwise). So register every message, or none. `message delete` takes a test back.

    Receipts that came before their message belong to it from now on. Registering a message again
    only updates the details that differ.

    \b
    Examples:
      receiptd message add csoft 4A2E3C10 --recipient 447700912345
      receiptd message add csoft 4A2E3C10 --recipient 447700912345 --recipient 447700912346
      receiptd message add easysms 8f0e61 --recipient +393401234567 --parts 3 --reference "order 9"
    """
    config = load(file, database)
    from receiptd.providers import Invalid
    from receiptd.registration.message_values import message_of

    given = {"provider": provider, "message_id": message_id, **details}
    try:
        messages = [
            message_of(given | {"recipient": each}, config.regions)
            for each in recipients or (None,)
        ]
    except Invalid as error:
        raise click.UsageError(error.text) from None
    with store(config, writes=True) as engine:
        before = set(checked_since(engine))
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
        else:
            for each, result in zip(messages, results, strict=True):
                to = f" to {each.recipient}" if each.recipient else ""
                say(f"{result}: {each.provider} {each.message_id}{to}")
            if registry.adopted:
                say(f"receipts that had come before: {registry.adopted}")
        tell_newly_checked(newly_checked(config, before, engine), err=as_json)


@message.command("delete")
@click.argument("provider", metavar="PROVIDER")
@click.argument("message_id", metavar="MESSAGE_ID")
@click.option(
    "--recipient",
    metavar="PHONE",
    type=Phone(),
    help="Delete it for this recipient only, in any notation. Default: for all of them.",
)
@config_option
@database_option
def delete_message(
    provider: str,
    message_id: str,
    recipient: str | None,
    file: Path | None,
    database: str | None,
) -> None:
    """Delete a registered message, such as one that was a test.

    Its receipts stay. MESSAGE_ID is the provider's identifier, in any case. After the last message
    of a provider is deleted, its receipts are not checked against messages any more, unless the
    endpoint has match = "always".

    \b
    Examples:
      receiptd message delete csoft 4A2E3C10
      receiptd message delete csoft 4A2E3C10 --recipient 447700912346
    """
    config = load(file, database)
    with store(config, writes=True) as engine:
        before = set(checked_since(engine))
        deleted = registry_of(config, engine).delete(provider, message_id, recipient)
        if not deleted:
            raise _not_found(config, engine, provider, message_id, recipient)
        to = f" to {recipient}" if recipient else ""
        rows = f" ({deleted} recipients)" if deleted > 1 else ""
        say(f"deleted: {provider} {message_id}{to}{rows}")
        tell_last_messages(config, before, engine)


@message.command("show", short_help="Show what became of a message.")
@click.argument("provider", metavar="PROVIDER")
@click.argument("message_id", metavar="MESSAGE_ID")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@wide_option
@config_option
@database_option
def show_message(
    provider: str,
    message_id: str,
    as_json: bool,
    wide: bool,
    file: Path | None,
    database: str | None,
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
            raise _not_found(config, engine, provider, message_id)
    if as_json:
        say(json_text(found, indent=2))
        return
    _print_message(found, wide)


def _not_found(
    config: Config,
    engine: Engine,
    provider: str,
    message_id: str,
    recipient: str | None = None,
) -> click.ClickException:
    from receiptd import providers
    from receiptd.store.queries import ReceiptFilter, each_receipt

    if provider not in config.regions and provider not in providers.names():
        meant = did_you_mean(provider, list(config.regions))
        return click.UsageError(f"no provider is called {provider!r}: {meant}")
    to = f" to {recipient}" if recipient else ""
    text = f"no message {message_id!r}{to} is registered for {provider!r}"
    wanted = ReceiptFilter(provider=(provider,), message_id=message_id)
    if next(each_receipt(engine, wanted, limit=1), None):
        command = shlex.join(["receiptd", "receipts", "show", message_id])
        return Failed(f"{text}; there are receipts about it: {command}")
    return Failed(text)


def _print_message(found: Mapping[str, Any], wide: bool) -> None:
    say(f"message {printable(found['message_id'])} of {found['provider']}")
    shown = {name: found[name] for name in _DETAILS}
    recipients = found.get("recipients", ())
    if recipients:
        shown["recipient"] = f"{len(recipients)} of them, see below"
    width = max(map(len, shown)) + 2
    for name, value in shown.items():
        if isinstance(value, bool):
            value = "yes" if value else "no"
        say(f"  {name:<{width}}{printable(value)}")
    if recipients:
        say()
        print_table(RECIPIENT_COLUMNS, recipients)
    say()
    if not found["receipts"]:
        say("no receipts yet")
        _say_given_up(found)
        return
    columns = WIDE_TIMELINE_COLUMNS if wide else TIMELINE_COLUMNS
    print_table(columns, found["receipts"])
    _say_given_up(found)
    if not found["receipts_complete"]:
        say(f"the newest {len(found['receipts'])} receipts; more with receiptd receipts show")


def _say_given_up(found: Mapping[str, Any]) -> None:
    if found["gave_up_at"]:
        say(f"gave up at {found['gave_up_at']}: it had had no final state for too long")
