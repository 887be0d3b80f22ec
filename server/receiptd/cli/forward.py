"""The commands about forwarding: `forward status`, `forward dead`, `forward replay` and so on."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from receiptd.cli.options import Failed, Moment, config_option, database_option, load, store
from receiptd.cli.output import json_array, table

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from receiptd.config import Config


@click.group(short_help="Forward receipts to applications.")
def forward() -> None:
    """Forward receipts to applications: see how it goes, and mend what does not go.

    Configure each destination as [[forward]]. The server then sends to it by itself.
    """


def json_option(command: Any) -> Any:
    return click.option("--json", "as_json", is_flag=True, help="Print JSON.")(command)


@forward.command(short_help="Show the state of each destination.")
@json_option
@config_option
@database_option
def status(as_json: bool, file: Path | None, database: str | None) -> None:
    """Show the state of each destination, a line each.

    WAITING counts the events that are not sent yet. Until the server has looked at an event,
    it counts even if the destination's filters will leave it out.

    \b
    States:
      sending   all is well
      failing   it does not answer, or answers with errors; it is tried now and then, and
                nothing is skipped
      paused    by `forward pause`, or because it answered 410
      stopped   no running server forwards to it

    \b
    Examples:
      receiptd forward status
      receiptd forward status --json
    """
    config = load(file, database)
    from receiptd.forward.shapes import status_json
    from receiptd.store.forward_status import statuses

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
def known(name: str) -> Iterator[None]:
    """Fail clearly if no destination has that name."""
    from receiptd.store.forward_orders import NoDestination

    try:
        yield
    except NoDestination:
        raise Failed(
            f"no destination is called {name!r}; receiptd forward status lists them"
        ) from None


def order(config: Config, name: str, work: Callable[[Connection], Any]) -> Any:
    """Write an order into the database; running servers follow it within seconds."""
    from receiptd.store.database.write_turns import WriteTurns

    with store(config, writes=True) as engine, known(name):
        return WriteTurns(engine).take(work)


@forward.command(short_help="Stop sending for now.")
@click.argument("name")
@config_option
@database_option
def pause(name: str, file: Path | None, database: str | None) -> None:
    """Stop sending to the destination NAME until you resume it. New events wait.

    \b
    Example:
      receiptd forward pause app
    """
    config = load(file, database)
    from receiptd.store import forward_orders

    order(config, name, lambda c: forward_orders.pause(c, name, "paused by command"))
    click.echo(f"{name}: paused; new events wait until you run: receiptd forward resume {name}")


@forward.command(short_help="Send again after a pause.")
@click.argument("name")
@config_option
@database_option
def resume(name: str, file: Path | None, database: str | None) -> None:
    """Send to the destination NAME again. The events that have waited go first.

    \b
    Example:
      receiptd forward resume app
    """
    config = load(file, database)
    from receiptd.store import forward_orders

    order(config, name, lambda c: forward_orders.resume(c, name))
    click.echo(f"{name}: resumed")


@forward.command(short_help="Move a destination's place in the events.")
@click.argument("name")
@click.argument("when", metavar="TIME|latest")
@config_option
@database_option
def seek(name: str, when: str, file: Path | None, database: str | None) -> None:
    """Move the destination NAME to the events of a TIME, or to those that come from now on.

    Backwards, all that has happened since is sent again (under the same ids). Forwards, and
    with latest, what waits is skipped. Dead letters stay.

    \b
    Examples:
      receiptd forward seek app 2026-11-25T18:00
      receiptd forward seek app 2h
      receiptd forward seek app latest
    """
    config = load(file, database)
    from receiptd.store import forward_orders

    since = None if when == "latest" else Moment().convert(when, None, None)
    position = order(config, name, lambda c: forward_orders.seek(c, name, since))
    click.echo(f"{name}: goes on after event {position}")


@forward.command(short_help="Forget a destination that is not configured.")
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
    from receiptd.store import forward_orders

    if name in {each.name for each in config.forward}:
        raise Failed(
            f"{name}: is still configured; remove its [[forward]] and reload the server first"
        )
    order(config, name, lambda c: forward_orders.forget(c, name))
    click.echo(f"{name}: forgotten")


@forward.command("test", short_help="Send a test event.")
@click.argument("name")
@config_option
@database_option
def try_out(name: str, file: Path | None, database: str | None) -> None:
    """Send a test event to the destination NAME, and show its answer.

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
        click.echo(f"{name}: {chosen.shown_url} took it")
        return
    text = f"{name}: {chosen.shown_url}: {outcome.text}"
    if outcome.answer:
        text += f"\nit answered: {outcome.answer[:500]}"
    raise Failed(text)
