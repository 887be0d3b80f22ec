"""The commands about forwarding: `forward status`, `forward dead`, `forward replay` and so on."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from receiptd.cli.options import Failed, Moment, config_option, database_option, load, store
from receiptd.cli.output import fields, json_array, json_text, table

if TYPE_CHECKING:
    from sqlalchemy import Connection, Engine

    from receiptd.config import Config
    from receiptd.store.forward_state import DeadFilter


@click.group()
def forward() -> None:
    """Handing receipts on to applications: how it goes, and what to do where it does not.

    Destinations are configured as [[forward]]; the server sends to them by itself.
    """


def _json_option(command: Any) -> Any:
    return click.option("--json", "as_json", is_flag=True, help="Print JSON.")(command)


@forward.command()
@_json_option
@config_option
@database_option
def status(as_json: bool, file: Path | None, database: str | None) -> None:
    """Say how each destination is: one line each.

    Waiting is what is not dealt with yet; of what was not looked at, events that the
    destination's filters leave out count as well.

    \b
    States:
      sending   all is well
      failing   it does not answer or answers with errors: tried now and then, nothing is skipped
      paused    by `forward pause`, or since it answered 410
      stopped   no server forwards to it now

    \b
    Examples:
      receiptd forward status
      receiptd forward status --json
    """
    config = load(file, database)
    from receiptd.forward.shapes import status_json
    from receiptd.store.forward_state import statuses

    configured = {each.name for each in config.forward}
    with store(config) as engine, engine.connect() as connection:
        found = statuses(connection)
    items = [status_json(each, configured=each.name in configured) for each in found]
    if as_json:
        json_array(items)
        return
    if not items:
        click.echo("nothing is forwarded: no [[forward]] is configured, or no server has started")
        return
    table(
        ("destination", "state", "waiting", "oldest", "lag", "sent", "dead", "last error"),
        (
            (
                item["name"],
                item["state"] if item["configured"] else f"{item['state']}, not configured",
                item["waiting"],
                item["oldest_at"],
                _age(item["lag_seconds"]),
                item["sent"],
                item["dead"],
                item["last_error"],
            )
            for item in items
        ),
    )


def _age(seconds: float) -> str:
    for name, size in (("d", 86400), ("h", 3600), ("m", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f}{name}"
    return f"{seconds:.0f}s"


@contextmanager
def _known(name: str) -> Iterator[None]:
    """Fails clearly where there is no destination of that name."""
    from receiptd.store.forward_state import NoDestination

    try:
        yield
    except NoDestination:
        raise Failed(
            f"no destination is called {name!r}; receiptd forward status lists them"
        ) from None


def _order(config: Config, name: str, work: Callable[[Connection], Any]) -> Any:
    """Give an order, beside running servers, which follow it within seconds."""
    from receiptd.store.database.write_turns import WriteTurns

    with store(config, writes=True) as engine, _known(name):
        return WriteTurns(engine).take(work)


@forward.command()
@click.argument("name")
@config_option
@database_option
def pause(name: str, file: Path | None, database: str | None) -> None:
    """Send nothing more to the destination NAME until it is resumed. What comes waits.

    \b
    Example:
      receiptd forward pause app
    """
    config = load(file, database)
    from receiptd.store import forward_state

    _order(config, name, lambda c: forward_state.pause(c, name, "paused by command"))
    click.echo(f"{name}: paused; what comes waits until: receiptd forward resume {name}")


@forward.command()
@click.argument("name")
@config_option
@database_option
def resume(name: str, file: Path | None, database: str | None) -> None:
    """Send to the destination NAME again, beginning with what has waited.

    \b
    Example:
      receiptd forward resume app
    """
    config = load(file, database)
    from receiptd.store import forward_state

    _order(config, name, lambda c: forward_state.resume(c, name))
    click.echo(f"{name}: goes on")


@forward.command()
@click.argument("name")
@click.argument("when", metavar="TIME|latest")
@config_option
@database_option
def seek(name: str, when: str, file: Path | None, database: str | None) -> None:
    """Have the destination NAME go on with what happened at a TIME, or with what comes now.

    Backwards, all that has happened since is sent again (under the same ids). Forwards, and
    with latest, what waits is skipped. Dead letters stay.

    \b
    Examples:
      receiptd forward seek app 2026-11-25T18:00
      receiptd forward seek app 2h
      receiptd forward seek app latest
    """
    config = load(file, database)
    from receiptd.store import forward_state

    since = None if when == "latest" else Moment().convert(when, None, None)
    position = _order(config, name, lambda c: forward_state.seek(c, name, since))
    click.echo(f"{name}: goes on behind event {position}")


@forward.command()
@click.argument("name")
@config_option
@database_option
def forget(name: str, file: Path | None, database: str | None) -> None:
    """Forget the destination NAME: its place, its dead letters and its replays.

    It must not be configured any more.

    \b
    Example:
      receiptd forward forget old-app
    """
    config = load(file, database)
    from receiptd.store import forward_state

    if name in {each.name for each in config.forward}:
        raise Failed(
            f"{name}: is configured; take its [[forward]] out and reload the server first"
        )
    _order(config, name, lambda c: forward_state.forget(c, name))
    click.echo(f"{name}: forgotten")


@forward.command("test")
@click.argument("name")
@config_option
@database_option
def try_out(name: str, file: Path | None, database: str | None) -> None:
    """Send a made-up event to the destination NAME, and say what became of it.

    Its type is "test", its receipt has the number 0. It is sent from here, as it is
    configured; the exit code is 1 where it was not taken.

    \b
    Example:
      receiptd forward test app
    """
    config = load(file, database)
    chosen = next((each for each in config.forward if each.name == name), None)
    if chosen is None:
        known = ", ".join(each.name for each in config.forward) or "there is none"
        raise Failed(f"no [[forward]] is called {name!r}: {known}")
    from twisted.internet import reactor
    from twisted.internet.defer import Deferred

    from receiptd.forward.trial import trial
    from receiptd.store.event_reader import log

    running: Any = reactor
    with store(config) as engine, engine.connect() as connection:
        database_name = log(connection).store
    results: list[Any] = []

    def begin() -> None:
        done = Deferred.fromCoroutine(trial(chosen, database_name, running))
        done.addBoth(results.append).addBoth(lambda _: running.stop())

    running.callWhenRunning(begin)
    running.run()
    outcome = results[0]
    if hasattr(outcome, "raiseException"):
        outcome.raiseException()
    from receiptd.forward.destinations import Fault

    if outcome.fault is Fault.NONE:
        click.echo(f"{name}: {chosen.shown_url} has taken it")
        return
    text = f"{name}: {chosen.shown_url}: {outcome.text}"
    if outcome.answer:
        text += f"\nit answered: {outcome.answer[:500]}"
    raise Failed(text)


# --- Dead letters


@forward.group()
def dead() -> None:
    """What a destination has not taken, and what becomes of it."""


def _filters(command: Any) -> Any:
    for option in (
        click.option("--error", metavar="TEXT", help="Those in whose error TEXT occurs."),
        click.option("--since", type=Moment(), help="Those that died at this time or later."),
        click.option("--all", "every", is_flag=True, help="All of them."),
        click.argument("ids", metavar="[ID]...", type=int, nargs=-1),
        click.argument("name"),
    ):
        command = option(command)
    return command


def _wanted(
    ids: tuple[int, ...], every: bool, since: datetime | None, error: str | None
) -> DeadFilter:
    from receiptd.store.forward_state import DeadFilter

    if not (ids or every or since or error):
        raise click.UsageError("say which: ID..., --all, --since or --error")
    return DeadFilter(ids, since, error)


@dead.command("list")
@click.argument("name", required=False)
@click.option("--limit", metavar="N", type=click.IntRange(min=1), default=50, show_default=True)
@click.option("--since", type=Moment(), help="Those that died at this time or later.")
@click.option("--error", metavar="TEXT", help="Those in whose error TEXT occurs.")
@_json_option
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
    """List dead letters, of the destination NAME or of all.

    \b
    Examples:
      receiptd forward dead list
      receiptd forward dead list app --error 422
    """
    config = load(file, database)
    from receiptd.store.forward_state import DeadFilter

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
    from receiptd.store.forward_state import TURN
    from receiptd.store.forward_state import dead as dead_page

    after = None
    while limit > 0:
        with engine.connect() as connection:
            rows = dead_page(connection, name, wanted, limit=min(limit, TURN), after=after)
        yield from map(dead_json, rows)
        if len(rows) < min(limit, TURN):
            return
        limit -= len(rows)
        after = rows[-1]["destination"], rows[-1]["event_id"]


@dead.command("show")
@click.argument("name")
@click.argument("number", metavar="ID", type=int)
@_json_option
@config_option
@database_option
def show_dead(
    name: str, number: int, as_json: bool, file: Path | None, database: str | None
) -> None:
    """Show a dead letter: what was to be told, and what the destination answered.

    \b
    Example:
      receiptd forward dead show app 4711
    """
    config = load(file, database)
    from receiptd.forward.events import event_json
    from receiptd.forward.shapes import dead_json
    from receiptd.store import event_reader
    from receiptd.store.forward_state import DeadFilter
    from receiptd.store.forward_state import dead as dead_page

    with store(config) as engine, engine.connect() as connection:
        rows = dead_page(connection, name, DeadFilter([number]), limit=1)
        found = event_reader.by_number(connection, [number])
    if not rows:
        raise Failed(f"{name} has no dead letter {number}; receiptd forward dead list {name}")
    event = found.get(number)
    shown = {**dead_json(rows[0]), "tells": event_json(event) if event is not None else None}
    if as_json:
        click.echo(json_text(shown, indent=2))
    else:
        shown["tells"] = json_text(shown["tells"], indent=2)
        fields(f"dead letter {number} of {name}", shown, "tells")


@dead.command()
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
    from receiptd.store import forward_state

    count = _each_turn(
        load(file, database), name, _wanted(ids, every, since, error), forward_state.retry
    )
    click.echo(f"{name}: {count} dead letters are sent again")


@dead.command()
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
    """Give dead letters of the destination NAME up for good. Their receipts stay stored.

    \b
    Examples:
      receiptd forward dead discard app 4711
      receiptd forward dead discard app --all
    """
    from receiptd.store import forward_state

    count = _each_turn(
        load(file, database), name, _wanted(ids, every, since, error), forward_state.discard
    )
    click.echo(f"{name}: {count} dead letters are discarded")


def _each_turn(
    config: Config,
    name: str,
    wanted: DeadFilter,
    change: Callable[[Connection, str, DeadFilter], int],
) -> int:
    """Change all dead letters that are meant, some at a time; how many."""
    from receiptd.store.database.write_turns import WriteTurns
    from receiptd.store.forward_state import TURN

    total = 0
    with store(config, writes=True) as engine, _known(name):
        turns = WriteTurns(engine)
        while True:
            count = turns.take(lambda connection: change(connection, name, wanted))
            total += count
            if count < TURN:
                return total


# --- Replays


@forward.command("replay")
@click.argument("name")
@click.option("--since", type=Moment(), required=True, help="What happened at this time or later.")
@click.option("--until", type=Moment(), help="What happened before this time.")
@click.option("--provider", "providers", multiple=True, help="Of this provider.")
@click.option("--state", "states", multiple=True, help="Of this state.")
@click.option("--types", "types", multiple=True, help="Of this event type.")
@click.option("--message", help="About the message of this identifier.")
@click.option(
    "--rate",
    metavar="N",
    type=click.FloatRange(min=0),
    default=0.0,
    help="Events per second. Default: as many as are taken.",
)
@click.option("--dry-run", is_flag=True, help="Send nothing; say how many events it is about.")
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
    """Tell the destination NAME again what has happened, under the same ids.

    What the destination's own filters leave out stays out. It goes on after a restart, and
    until it is done or cancelled.

    \b
    Examples:
      receiptd forward replay app --since 2026-11-25T18:00 --until 2026-11-25T19:00
      receiptd forward replay app --since 1d --state UNDELIVERABLE --rate 50
    """
    config = load(file, database)
    from receiptd.forward.filters import Filter, check_words
    from receiptd.store import forward_state

    try:
        chosen = check_words(Filter(**wanted))
    except ValueError as error:
        raise click.UsageError(str(error)) from None
    if dry_run:
        own = next((Filter.of(each) for each in config.forward if each.name == name), Filter())
        with store(config) as engine:
            count = _count(engine, since, until, [chosen, own])
        click.echo(f"{name}: {count} events would be told again")
        return

    def begin(connection: Connection) -> int:
        start, end = forward_state.span(connection, since, until)
        return forward_state.begin_replay(connection, name, chosen.json(), start, end, rate)

    number = _order(config, name, begin)
    click.echo(f"{name}: replay {number} has begun; receiptd forward replays list {name}")


def _count(engine: Engine, since: datetime, until: datetime | None, filters: list[Any]) -> int:
    from receiptd.store import event_reader, forward_state

    count = 0
    with engine.connect() as connection:
        at, end = forward_state.span(connection, since, until)
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


@forward.group()
def replays() -> None:
    """The replays that were begun."""


@replays.command("list")
@click.argument("name")
@_json_option
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


@replays.command("cancel")
@click.argument("name")
@click.argument("number", metavar="ID", type=int)
@config_option
@database_option
def cancel_replay(name: str, number: int, file: Path | None, database: str | None) -> None:
    """End a replay of the destination NAME; what was sent is sent.

    \b
    Example:
      receiptd forward replays cancel app 3
    """
    config = load(file, database)
    from receiptd.store import forward_state

    if not _order(config, name, lambda c: forward_state.cancel_replay(c, name, number)):
        raise Failed(
            f"{name} has no running replay {number}; receiptd forward replays list {name}"
        )
    click.echo(f"{name}: replay {number} is cancelled")
