"""The commands that read: `receipts list`, `receipts show`, `rejected list`, `rejected show`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from receiptd.cli.filters import any_of, check_names, recipient_option, texts, together
from receiptd.cli.listing import (
    RECEIPT_COLUMNS,
    REJECTION_COLUMNS,
    TABLE_LIMIT,
    WIDE_RECEIPT_COLUMNS,
    WIDE_REJECTION_COLUMNS,
    print_list,
    read_ahead,
    with_first,
)
from receiptd.cli.options import (
    Failed,
    Moment,
    config_option,
    database_option,
    load,
    store,
    wide_option,
)
from receiptd.cli.output import fields, json_array, say
from receiptd.receipt import Kind, Outcome, State

if TYPE_CHECKING:
    from sqlalchemy import Engine

    from receiptd.config import Config

_STORED = (Outcome.ACCEPTED, Outcome.UNKNOWN_MESSAGE, Outcome.WRONG_RECIPIENT)
REASONS = ("invalid", "unauthorized", "unreadable")


json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON array.")

page_options = together(
    click.option(
        "--limit",
        metavar="N",
        type=click.IntRange(min=1),
        help=f"At most N, without a ceiling. Default: {TABLE_LIMIT} in a table, all in JSON.",
    ),
    json_option,
    wide_option,
    config_option,
    database_option,
)

received_options = together(
    click.option(
        "--since",
        type=Moment(),
        help="Received at this time or later: ISO 8601 (UTC unless it has an offset), or an age "
        "such as 90s, 30m, 24h, 7d, 2w.",
    ),
    click.option("--until", type=Moment(), help="Received before this time, given alike."),
)

list_options = together(received_options, page_options)

receipt_filters = together(
    texts("--provider", "Of this provider. May, as the next four, be given several times."),
    texts("--endpoint", "Taken by the endpoint of this name."),
    any_of("--kind", Kind, "What is reported"),
    any_of("--state", State, "The message's state"),
    any_of("--verdict", _STORED, "Whether a registered message explains it"),
    recipient_option,
    click.option("--reference", metavar="TEXT", help="The application's own reference."),
    click.option("--message-id", metavar="ID", help="The provider's identifier, in any case."),
)


@click.group()
def receipts() -> None:
    """What providers have reported."""


@receipts.command("list")
@receipt_filters
@list_options
def list_receipts(
    as_json: bool,
    wide: bool,
    limit: int | None,
    file: Path | None,
    database: str | None,
    **filters: Any,
) -> None:
    """List receipts, newest first.

    \b
    Examples:
      receiptd receipts list
      receiptd receipts list --state UNDELIVERABLE --state EXPIRED --since 24h
      receiptd receipts list --recipient "+44 7700 912345" --limit 100
      receiptd receipts list --verdict unknown-message --json
    """
    config = load(file, database)
    from receiptd.daemon.rules import phone_regions
    from receiptd.store.queries import ReceiptFilter, each_receipt
    from receiptd.store.rows import receipt_json

    wanted = ReceiptFilter(regions=phone_regions(config), **filters)
    with store(config) as engine:
        check_receipt_names(config, engine, filters)
        rows = each_receipt(engine, wanted, limit=read_ahead(limit, as_json))
        print_list(
            (receipt_json(row) for row in rows),
            as_json,
            limit,
            WIDE_RECEIPT_COLUMNS if wide else RECEIPT_COLUMNS,
            "no receipts match; fewer filters show more"
            if wanted.narrow
            else "no receipts yet; one is here as soon as a provider has posted it. To try: "
            "receiptd simulate csoft --url http://127.0.0.1:8080/soap",
        )


@receipts.command("show", short_help="Show receipts with all that is known of them.")
@click.argument("name", metavar="ID")
@texts("--provider", "Only receipts of this provider.")
@json_option
@config_option
@database_option
def show_receipts(
    name: str,
    provider: tuple[str, ...],
    as_json: bool,
    file: Path | None,
    database: str | None,
) -> None:
    """Show receipts with all that is known of them, oldest first.

    ID is a receipt's number, as `receipts list` shows it, or a message's identifier, in any
    case. All receipts that fit are shown.

    \b
    Examples:
      receiptd receipts show 17
      receiptd receipts show 4A2E3C10
      receiptd receipts show 4A2E3C10 --json
    """
    config = load(file, database)
    from receiptd.store.queries import ReceiptFilter, each_receipt
    from receiptd.store.rows import receipt_json

    wanted = ReceiptFilter(name=name, provider=provider)
    with store(config) as engine:
        rows = each_receipt(engine, wanted, oldest_first=True)
        _print_each(
            map(receipt_json, rows),
            as_json,
            "receipt",
            f"no receipt has the number or the message identifier {name!r}",
        )


@click.group(short_help="Posts that were not taken as receipts.")
def rejected() -> None:
    """Posts that were not taken as receipts, kept so that an integration can be debugged."""


@rejected.command("list")
@texts("--provider", "Of this provider. May, as the next two, be given several times.")
@texts("--endpoint", "Sent to the endpoint of this name.")
@any_of("--reason", REASONS, "Why it was not taken")
@list_options
def list_rejected(
    as_json: bool,
    wide: bool,
    limit: int | None,
    file: Path | None,
    database: str | None,
    **filters: Any,
) -> None:
    """List rejected posts, newest first.

    \b
    Examples:
      receiptd rejected list
      receiptd rejected list --reason unauthorized --since 1h
      receiptd rejected list --json --limit 1000
    """
    config = load(file, database)
    from receiptd.store.queries import RejectionFilter, each_rejection
    from receiptd.store.rows import rejection_json

    wanted = RejectionFilter(**filters)
    with store(config) as engine:
        check_names(
            config,
            provider=filters["provider"],
            endpoint=filters["endpoint"],
            stored=lambda wanted: each_rejection(engine, RejectionFilter(**wanted), limit=1),
        )
        rows = each_rejection(engine, wanted, limit=read_ahead(limit, as_json))
        print_list(
            (rejection_json(row) for row in rows),
            as_json,
            limit,
            WIDE_REJECTION_COLUMNS if wide else REJECTION_COLUMNS,
            "no rejected posts match; fewer filters show more"
            if wanted.narrow
            else "no rejected posts: whatever has come was a receipt",
        )


@rejected.command("show")
@click.argument("number", metavar="ID", type=click.IntRange(min=1))
@json_option
@config_option
@database_option
def show_rejected(number: int, as_json: bool, file: Path | None, database: str | None) -> None:
    """Show a rejected post, as it came but for its secrets.

    ID is its number, as `rejected list` shows it.

    \b
    Example:
      receiptd rejected show 3
    """
    config = load(file, database)
    from receiptd.store.queries import RejectionFilter, each_rejection
    from receiptd.store.rows import rejection_json

    with store(config) as engine:
        rows = each_rejection(engine, RejectionFilter(number=number))
        _print_each(
            map(rejection_json, rows),
            as_json,
            "rejected post",
            f"no rejected post has the number {number}; those kept longest make room for new ones",
        )


def check_receipt_names(config: Config, engine: Engine, filters: Mapping[str, Any]) -> None:
    """See that the names among the `filters` are names of something.

    :raises click.UsageError: with the name that was probably meant.
    """
    from receiptd.store.queries import ReceiptFilter, each_receipt

    check_names(
        config,
        provider=filters["provider"],
        endpoint=filters["endpoint"],
        stored=lambda wanted: each_receipt(engine, ReceiptFilter(**wanted), limit=1),
    )


def _print_each(
    items: Iterator[Mapping[str, Any]], as_json: bool, what: str, missing: str
) -> None:
    first = next(items, None)
    if first is None:
        raise Failed(missing)
    found = with_first(first, items)
    if as_json:
        json_array(found)
        return
    for number, item in enumerate(found):
        if number:
            say()
        values = {key: value for key, value in item.items() if key != "id"}
        fields(f"{what} {item['id']}", values, "raw")
