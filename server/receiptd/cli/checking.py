"""For which providers receipts are checked against registered messages, in words."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING

from receiptd.cli.output import WIDTH, say

if TYPE_CHECKING:
    from datetime import datetime

    from sqlalchemy import Engine

    from receiptd.config import Config


def checking(config: Config, engine: Engine | None) -> dict[str, str]:
    """Whether receipts are checked, in words, by provider.

    :param engine: None where the database cannot be looked into.
    """
    since = checked_since(engine) if engine is not None else {}
    found: dict[str, str] = {}
    for provider in config.regions:
        modes = dict.fromkeys(each.match for each in config.endpoint if each.provider == provider)
        found[provider] = "; ".join(_words(mode, since.get(provider), engine) for mode in modes)
    return found


def _words(mode: str, since: datetime | None, engine: Engine | None) -> str:
    if mode == "always":
        return 'yes (match = "always")'
    if mode == "never":
        return 'no (match = "never")'
    if engine is None:
        return "not known: there is no database yet, or it does not answer"
    if since is None:
        return "no, until a message is registered"
    return f"yes, since {since:%Y-%m-%dT%H:%M:%SZ} (its first message)"


def checked_since(engine: Engine) -> dict[str, datetime]:
    """The providers for which messages were registered, and when the first one was."""
    from sqlalchemy import select

    from receiptd.store.schema import matching

    with engine.execution_options(reads=True).connect() as connection:
        rows = connection.execute(select(matching.c.provider, matching.c.since)).all()
    return {row.provider: row.since for row in rows}


def newly_checked(config: Config, before: set[str], engine: Engine) -> list[str]:
    """The providers whose receipts are checked now and were not when it was on for `before`."""
    modes: dict[str, set[str]] = {}
    for each in config.endpoint:
        modes.setdefault(each.provider, set()).add(each.match)
    added = sorted(checked_since(engine).keys() - before)
    return [provider for provider in added if "auto" in modes.get(provider, {"auto"})]


def tell_newly_checked(providers: list[str], *, err: bool) -> None:
    """Say what it means that receipts of these providers are checked from now on.

    :param err: whether to say it on standard error, since standard output is for a program.
    """
    for provider in providers:
        answer = "answered Report -1 and " if provider == "csoft" else ""
        for paragraph in (
            f"This is the first message of {provider}. From now on its receipts are checked: a "
            "receipt about a message that is not registered, or about another recipient, is "
            f"{answer}stored with the verdict unknown-message or wrong-recipient. So register "
            f"each message that you send by {provider}.",
            f"If this was a test, delete it: receiptd message delete {provider} MESSAGE_ID. "
            "When a provider has no message left, its receipts are no longer checked. To turn "
            'checking off for good, set match = "never" in the endpoint.',
        ):
            say(textwrap.fill(paragraph, WIDTH, break_on_hyphens=False), err=err)


def tell_checked(config: Config, engine: Engine) -> None:
    """Say for which providers receipts are checked, and since when."""
    since = checked_since(engine)
    on = []
    for provider in config.regions:
        modes = {each.match for each in config.endpoint if each.provider == provider}
        if "always" in modes:
            on.append(f"{provider} (always)")
        elif "auto" in modes and provider in since:
            on.append(f"{provider} (since {since[provider]:%Y-%m-%dT%H:%M:%SZ})")
    text = "receipts are checked against messages for: " + (", ".join(on) or "no provider yet")
    say(textwrap.fill(text, WIDTH, break_on_hyphens=False), err=True)


def tell_last_messages(config: Config, before: set[str], engine: Engine) -> None:
    """Say so if checking was on for one of the providers in `before` and is off now."""
    for provider in sorted(before - checked_since(engine).keys()):
        if any(each.match == "auto" for each in config.endpoint if each.provider == provider):
            say(
                f"This was the last message of {provider}: its receipts are no longer checked,\n"
                "until another message is registered.",
                err=True,
            )
