"""`receiptd stats`: how much came, how much arrives, and how fast."""

from __future__ import annotations

import csv
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from receiptd.cli.exporting import LineFeeds
from receiptd.cli.filters import OneOf, any_of, check_names, texts, together
from receiptd.cli.options import Moment, config_option, database_option, load, store
from receiptd.cli.output import json_text, say, table
from receiptd.errors import did_you_mean
from receiptd.receipt import Kind, State
from receiptd.registration.spreadsheet import no_formula

_DIMENSIONS = (
    *("day", "hour", "endpoint", "provider", "kind", "network", "state", "code", "verdict"),
    "reason",
)

_BAR = 8
"""Characters of the longest bar."""

_EIGHTHS = " ▏▎▍▌▋▊▉█"


class By(click.ParamType):  # type: ignore[type-arg]
    """Names with commas between them."""

    name = "by"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, ...]:
        """The names, each once."""
        if isinstance(value, tuple):
            return value
        names = tuple(dict.fromkeys(each.strip().lower() for each in str(value).split(",")))
        for name in names:
            if name not in _DIMENSIONS:
                remedy = did_you_mean(name, _DIMENSIONS)
                self.fail(f"{name!r} is nothing to add up by: {remedy}", param, ctx)
        return names


@click.command(short_help="Show how much came, how much arrives, and how fast.")
@click.option(
    "--since",
    type=Moment(),
    default="24h",
    show_default=True,
    help="From the hour of this time on: ISO 8601 (UTC unless it has an offset), or an age such "
    "as 24h, 7d, 2w.",
)
@click.option("--until", type=Moment(), help="Hours that begin before this time, given alike.")
@click.option(
    "--by",
    type=By(),
    default="provider",
    show_default=True,
    metavar="NAME[,NAME...]",
    help=f"What to add up by: {', '.join(_DIMENSIONS)}; several with commas.",
)
@together(
    texts("--provider", "Of this provider only."),
    texts("--endpoint", "Of the endpoint of this name only."),
    any_of("--kind", Kind, "Only receipts that report this"),
    texts("--network", "Only this network: MCC and MNC."),
    any_of("--state", State, "Only this state"),
    texts("--code", "Only this code of the provider."),
)
@click.option(
    "--verdict",
    multiple=True,
    type=OneOf(("accepted", "unknown-message", "wrong-recipient")),
    metavar="VERDICT",
    help="Only receipts of this verdict: accepted, unknown-message, wrong-recipient.",
)
@click.option(
    "--reason",
    multiple=True,
    type=OneOf(("invalid", "unauthorized", "unreadable")),
    metavar="REASON",
    help="Only posts rejected for this: invalid, unauthorized, unreadable.",
)
@click.option("--json", "layout", flag_value="json", help="Print one JSON object.")
@click.option("--csv", "layout", flag_value="csv", help="Print CSV.")
@config_option
@database_option
def stats(
    since: datetime,
    until: datetime | None,
    by: tuple[str, ...],
    layout: str | None,
    file: Path | None,
    database: str | None,
    **only: tuple[str, ...],
) -> None:
    """Show how much came, how much arrives, and how fast: sums of whole hours in UTC, which stay
    when receipts are deleted.

    Receipts and rejected posts are in the hour in which they came, finished messages in that of
    their registration. The delivery rate is that of finished messages; without any, that of the
    receipts with a final state. Times are from a message's `sent_at`, or its registration, to its
    delivery.

    \b
    Examples:
      receiptd stats
      receiptd stats --by provider,hour
      receiptd stats --since 7d --by day,provider
      receiptd stats --by network,code --provider csoft --state UNDELIVERABLE
      receiptd stats --by endpoint,reason
      receiptd stats --since 30d --by day,provider,code --csv
    """
    config = load(file, database)
    from receiptd.store.statistics_queries import (
        StatisticsFilter,
        TooMuch,
        fill,
        last_hours,
        statistics,
    )

    until = until or datetime.now(UTC)
    if since > until:
        raise click.UsageError("--since is later than --until")
    wanted = StatisticsFilter(
        since=since, until=until, by=by, only={name: some for name, some in only.items() if some}
    )
    with store(config) as engine:
        with engine.connect() as connection:
            try:
                found = statistics(connection, wanted)
            except TooMuch as error:
                raise click.UsageError(str(error)) from None
            left = fill(connection)
            if by == ("endpoint",):
                _add_silent(found, [each.name for each in config.endpoint], only)
                last = last_hours(connection, [item["endpoint"] for item in found["items"]])
                for item in found["items"]:
                    at = last.get(item["endpoint"])
                    item["last_hour"] = f"{at:%Y-%m-%dT%H:%M:%SZ}" if at is not None else None
        if not found["items"]:
            check_names(
                config,
                provider=only["provider"],
                endpoint=only["endpoint"],
                stored=lambda fields: iter(()),
            )
    if layout == "json":
        say(json_text(found, indent=2))
    elif layout == "csv":
        _print_csv(found)
    elif found["items"]:
        _print_table(found)
    else:
        say("nothing was counted in these hours; --since 7d shows more", err=True)
    if not left.complete:
        say(
            f"not complete yet: about {left.receipts} receipts and {left.messages} messages that "
            "an older version stored are still being counted, while the server runs",
            err=True,
        )


def _add_silent(
    found: Mapping[str, Any], endpoints: Sequence[str], only: Mapping[str, Sequence[str]]
) -> None:
    """Add the configured endpoints to which nothing came, where all endpoints are asked for."""
    there = {item["endpoint"] for item in found["items"]}
    if any(only.values()) or not (there or endpoints):
        return
    nothing = {name: 0 if value == 0 else None for name, value in found["total"].items()}
    nothing |= dict.fromkeys(("receipts", "rejected"), 0)
    for name in endpoints:
        if name not in there:
            found["items"].append({"endpoint": name, **nothing})


def _print_csv(found: Mapping[str, Any]) -> None:
    names = [*_label_names(found["by"]), *found["total"]]
    if any("last_hour" in item for item in found["items"]):
        names.append("last_hour")
    writer = csv.DictWriter(LineFeeds(sys.stdout), names, lineterminator="\r\n")
    writer.writeheader()
    for item in found["items"]:
        writer.writerow({name: no_formula(item[name]) for name in names})


def _label_names(by: Sequence[str]) -> list[str]:
    names = []
    for name in by:
        names += ["network", "country", "operator"] if name == "network" else [name]
    return names


def _print_table(found: Mapping[str, Any]) -> None:
    """A row for each group, and one for the sum where there are several."""
    by = found["by"]
    items = found["items"]
    rows = [([_label(item, name) for name in by], item) for item in items]
    if len(items) > 1:
        rows.append((["all", *[""] * (len(by) - 1)] if by else [], found["total"]))
    counts = [name for name in ("receipts", "messages", "rejected") if name in _counted(found)]
    main = next((name for name in counts if found["total"][name]), counts[0])
    longest = max(item[main] or 0 for item in items)
    headers = [*by]
    cells = [labels for labels, _ in rows]
    for header, cell in _COLUMNS.items():
        shown = [cell(item) for _, item in rows]
        if header == main or any(each not in (None, 0) for each in shown):
            headers.append(header)
            for row, value in zip(cells, shown, strict=True):
                row.append(value)
        if header == main:
            headers.append("")
            for row, (_, item) in zip(cells, rows, strict=True):
                row.append("" if item is found["total"] else _bar(item[main] or 0, longest))
    table(headers, cells)
    if any(item.get("country") for item in items):
        say("* derived from the phone numbers, which may have been ported", err=True)


def _counted(found: Mapping[str, Any]) -> set[str]:
    """What the groups can be of."""
    return {name for name, value in found["total"].items() if value is not None}


def _label(item: Mapping[str, Any], name: str) -> object:
    if name == "hour":
        return _hour(item[name])
    if name == "network" and item["country"]:
        return " ".join(filter(None, (item["country"], item["operator"]))) + " *"
    return item[name]


def _hour(text: str | None) -> str | None:
    return text[:16].replace("T", " ") if text else None


def _rate(item: Mapping[str, Any]) -> str | None:
    rate = item["delivery_rate"]
    return None if rate is None else f"{rate * 100:.1f} %"


def _time(name: str) -> Any:
    def cell(item: Mapping[str, Any]) -> str | None:
        seconds = item[name]
        if seconds is None:
            return None
        for unit, length in (("d", 86400), ("h", 3600), ("min", 60)):
            if seconds >= 2 * length:
                return f"{seconds / length:.1f} {unit}"
        return f"{seconds:.1f} s"

    return cell


_COLUMNS = {
    "receipts": lambda item: item["receipts"],
    "failed": lambda item: item["receipts_failed"],
    "mismatched": lambda item: item["receipts_mismatched"],
    "messages": lambda item: item["messages"],
    "given up": lambda item: item["messages_given_up"],
    "delivered": _rate,
    "p50": _time("p50_seconds"),
    "p95": _time("p95_seconds"),
    "rejected": lambda item: item["rejected"],
    "last receipt": lambda item: _hour(item.get("last_hour")),
}
"""Headers and what is beneath them; a column in which there is nothing is left out."""


def _bar(number: int, longest: int) -> str:
    """A bar of so many characters that the longest is full."""
    if not longest or number <= 0:
        return ""
    if (sys.stdout.encoding or "").lower().replace("-", "") != "utf8":
        return "#" * max(1, round(number * _BAR / longest))
    eighths = max(1, round(number * _BAR * 8 / longest))
    return "█" * (eighths // 8) + _EIGHTHS[eighths % 8].strip()
