"""The first page: whether everything works, what comes, and what needs somebody."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

from sqlalchemy import Connection, Engine, Select, func, literal_column, select

from receiptd.store.rows import time
from receiptd.store.schema import messages, receipts, rejected_posts
from receiptd.web.console import destinations, figures
from receiptd.web.console.csv_file import csv_answer
from receiptd.web.console.desk import Answer, Desk, Visit
from receiptd.web.console.lists import wants_csv
from receiptd.web.console.providers import base_url
from receiptd.web.reader import Unavailable

MOST_COUNTED = 1000
"""Rows that are counted one by one: beyond them a page says `1,000+`."""

STUCK = timedelta(hours=4)
"""After this a message without a final state is worth a look."""

RECENT = 5000
"""The newest receipts, among which each endpoint's last one is looked for."""


class Line(NamedTuple):
    """How one part of the server is, in a line."""

    name: str
    tone: str
    """`good`, `wait` or `bad`."""
    words: str
    remedy: str = ""
    href: str = ""


class Counts(NamedTuple):
    """What needs somebody; each of them counted up to `MOST_COUNTED`."""

    stuck: str
    mismatched: str
    rejected: str
    empty: bool
    """Whether nothing has ever come."""


def counts(connection: Connection, now: datetime) -> Counts:
    """Count it, each by an index. In a thread."""
    pending = (
        select(messages.c.id)
        .where(literal_column("NOT final"), messages.c.registered_at < now - STUCK)
        .limit(MOST_COUNTED)
    )
    mismatched = (
        select(receipts.c.id)
        .where(receipts.c.verdict != literal_column("'accepted'"))
        .order_by(receipts.c.id.desc())
        .limit(MOST_COUNTED)
    )
    rejected = select(rejected_posts.c.id).limit(MOST_COUNTED)
    return Counts(
        _counted(connection, pending),
        _counted(connection, mismatched),
        _counted(connection, rejected),
        is_empty(connection),
    )


def _counted(connection: Connection, statement: Select[Any]) -> str:
    """How many rows there are, `1,000+` where they are no less than the statement's limit."""
    counting = select(func.count()).select_from(statement.subquery())
    count = connection.execute(counting).scalar_one()
    return f"{count:,}" + "+" * (count == MOST_COUNTED)


def is_empty(connection: Connection) -> bool:
    """Whether nothing is stored at all. In a thread."""
    return not any(
        connection.execute(select(table.c.id).limit(1)).first()
        for table in (receipts, messages, rejected_posts)
    )


def last_of_endpoints(connection: Connection) -> dict[str, datetime]:
    """When each endpoint's last receipt came, of those that are among the newest. In a thread."""
    newest = (
        select(receipts.c.endpoint, receipts.c.received_at)
        .order_by(receipts.c.id.desc())
        .limit(RECENT)
        .subquery()
    )
    rows = connection.execute(
        select(newest.c.endpoint, func.max(newest.c.received_at)).group_by(newest.c.endpoint)
    )
    return {row[0]: row[1] for row in rows}


def server_lines(desk: Desk, ready: bool, reasons: Sequence[str]) -> list[Line]:
    """How spool, queue and database are."""
    backlog = desk.writer.backlog
    found = []
    if ready and not reasons:
        found.append(Line("Receiving", "good", "every receipt is stored as it comes"))
    elif ready:
        found.append(
            Line("Receiving", "wait", "receipts are kept safely, but not all is well", reasons[0])
        )
    else:
        found.append(
            Line(
                "Receiving",
                "bad",
                "receipts cannot be stored: providers are told to try later",
                "; ".join(reasons),
            )
        )
    if backlog.since is not None:
        found.append(
            Line(
                "Database",
                "bad" if backlog.remedy else "wait",
                "does not take receipts now; they wait in the spool",
                backlog.remedy or "receiptd tries again by itself",
            )
        )
    else:
        found.append(Line("Database", "good", f"answers ({desk.reader.database})"))
    if backlog.full:
        found.append(
            Line("Spool", "bad", "is full", "mend the database, or give the spool's disk room")
        )
    elif backlog.records or backlog.set_aside:
        words = f"{backlog.records:,} posts wait ({backlog.bytes:,} bytes)"
        remedy = ""
        if backlog.set_aside:
            words += f", {backlog.set_aside:,} are set aside"
            remedy = "receiptd spool status says which and why"
        found.append(Line("Spool", "wait", words, remedy))
    else:
        found.append(Line("Spool", "good", "empty"))
    waiting, stalled = desk.pipeline.waiting, desk.pipeline.stalled
    found.append(
        Line(
            "Queue",
            "bad" if stalled > 10 else "good",
            f"{waiting:,} posts wait to be stored"
            + (f", nothing was stored for {stalled:.0f} s" if stalled > 10 else ""),
        )
    )
    return found


def forwarding_lines(statuses: Sequence[Mapping[str, Any]]) -> list[Line]:
    """How forwarding is."""
    if not statuses:
        return [Line("Forwarding", "good", "no destination is configured")]
    return [
        Line(
            f"Forwarding to {each['name']}",
            each["tone"],
            f"{each['words']}; {each['waiting']:,} wait"
            + (f", dead letters: {each['dead']:,}" if each["dead"] else ""),
            each["remedy"],
            each["href"],
        )
        for each in statuses
    ]


class _Seen(NamedTuple):
    """What the database says for the page."""

    counted: Counts
    last: dict[str, datetime]
    hours: dict[str, datetime]
    endpoints: dict[str, Mapping[str, Any]]
    traffic: figures.Traffic
    statuses: list[dict[str, Any]]


async def show(desk: Desk, visit: Visit) -> Answer:
    """The page."""
    now = datetime.now(UTC)
    state = await desk.readiness.find_out()
    remembered = desk.remembered

    def read(engine: Engine) -> _Seen:
        with engine.connect() as connection:
            return _Seen(
                counts(connection, now),
                last_of_endpoints(connection),
                remembered.get("hours", 60, lambda: figures.last_hours(connection, now)),
                remembered.get("endpoints", 10, lambda: figures.by_endpoint(connection, now)),
                figures.traffic(connection, now, remembered),
                destinations.statuses(connection, desk),
            )

    server = server_lines(desk, state.ready, state.lines)
    try:
        seen = await desk.read(read)
    except Unavailable as error:
        # What somebody opens this page for is here all the same.
        away = Line(
            "This console",
            "bad",
            str(error),
            "the other pages need the database: see the log for why it is away",
        )
        return Answer(desk.views.page("away.html", lines=[*server, away], **visit.values()))
    endpoints = [
        {
            "name": each.name,
            "provider": each.called,
            "last": seen.last.get(each.name),
            "hour": seen.hours.get(each.name),
            "numbers": seen.endpoints.get(each.name),
        }
        for each in desk.config.endpoint
    ]
    if wants_csv(visit):
        return _as_csv(visit.query.one("table"), endpoints, seen.traffic)
    # Those that have nothing to say come last.
    endpoints.sort(key=lambda each: each["last"] is None and each["hour"] is None)
    first = desk.config.endpoint[0]
    body = desk.views.page(
        "overview.html",
        lines=[*server, *forwarding_lines(seen.statuses)],
        counted=seen.counted,
        endpoints=endpoints,
        traffic=seen.traffic,
        command=f"receiptd simulate {first.provider} --url "
        f"{base_url(desk, visit.request)}{first.path}",
        **visit.values(),
    )
    return Answer(body)


_NUMBERS = ("receipts", "delivery_rate", "p50_seconds", "p95_seconds", "rejected")


def _as_csv(table: str, endpoints: Sequence[Mapping[str, Any]], of: figures.Traffic) -> Answer:
    """A table of the page as a file."""
    if table == "endpoints":
        columns = ("endpoint", "provider", "last_receipt", "last_hour", "receipts", "mismatched")
        return csv_answer(
            "endpoints",
            (*columns, "rejected"),
            (
                (
                    each["name"],
                    each["provider"],
                    time(each["last"]),
                    time(each["hour"]),
                    *(
                        (each["numbers"] or {}).get(name, 0)
                        for name in ("receipts", "receipts_mismatched", "rejected")
                    ),
                )
                for each in endpoints
            ),
        )
    rows = ([hour["hour"], *(hour.get(name) for name in _NUMBERS)] for hour in of.hours)
    return csv_answer("hours", ("hour", *_NUMBERS), rows)
