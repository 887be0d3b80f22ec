"""The command `check-config`: what would be served, and what is wrong or doubtful."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from receiptd.cli.checking import checking
from receiptd.cli.options import Failed, config_option, database_option, load, wide_option
from receiptd.cli.output import say

if TYPE_CHECKING:
    from receiptd.config import Config


@click.command("check-config")
@config_option
@database_option
@wide_option
def check_config(file: Path | None, database: str | None, wide: bool) -> None:
    """Show what would be served, and what is wrong or doubtful.

    It changes nothing and shows no secret. It asks the database, if there is one, for which
    providers receipts are checked against registered messages. The exit code is 1 if the server
    would not start with this configuration.

    \b
    Examples:
      receiptd check-config
      receiptd check-config --config /etc/receiptd.toml
    """
    config = load(file, database)
    from receiptd import providers
    from receiptd.cli.output import say, table
    from receiptd.config import describe, exposed, find
    from receiptd.daemon.rules import spool_folder
    from receiptd.daemon.start_lines import endpoint_warnings
    from receiptd.store.database.engine import parse
    from receiptd.store.database.errors import shown

    for label, text in (
        ("configuration", describe(file)),
        ("listens on", ", ".join(config.server.listen)),
        ("TLS on", ", ".join(config.server.tls.listen) if config.server.tls else "nothing"),
        (
            "public URL",
            config.server.public_url or "not set: the WSDL names the Host of the request",
        ),
        ("store", shown(parse(config.store.url))),
        ("spool", spool_folder(config)),
        ("API", _api_asks_for(config)),
        ("console", "/console" if config.console.enabled else "switched off"),
        ("log", f"{config.log.file or 'standard error'}, {config.log.format}"),
    ):
        say(f"{label + ':':<15}{text}")
    say()
    if wide:
        base = config.server.public_url or ""
        table(
            ("endpoint", "posts go to", "provider", "asks for"),
            (
                (
                    endpoint.name,
                    f"{base}{endpoint.path}",
                    f"{endpoint.provider} ({providers.load()[endpoint.provider].title})",
                    endpoint.asks_for,
                )
                for endpoint in config.endpoint
            ),
        )
    else:
        table(
            ("endpoint", "path", "provider", "asks for"),
            ((each.name, each.path, each.provider, each.asks_for) for each in config.endpoint),
            text="asks for",
        )
    if config.forward:
        say()
        table(
            ("destination", "is told at", "of"),
            ((each.name, each.shown_url, ", ".join(each.types)) for each in config.forward),
        )
    _tell_checking(config)
    listen = [*config.server.listen, *(config.server.tls.listen if config.server.tls else ())]
    doubts = [text for endpoint in config.endpoint for text in endpoint_warnings(endpoint, listen)]
    doubts += [text for each in config.forward for text in each.warnings()]
    unusable_tls, tls_doubts = _tls(config)
    doubts += [*tls_doubts, *_token_file_doubts(config)]
    errors = [
        *_unusable_listen(config),
        *unusable_tls,
        *_unusable_store(config),
        *_unusable_user(config),
        *_unusable_log(config),
    ]
    if reason := exposed(find(file), config):
        (doubts if config.server.allow_readable_config else errors).append(reason)
    if doubts or errors:
        say()
    for text in doubts:
        say(f"warning: {text}")
    if errors:
        raise Failed("\n".join(f"error: {text}" for text in errors))


def _api_asks_for(config: Config) -> str:
    """Who may use the HTTP API, without the secrets."""
    from receiptd.web.token_file import described

    return described(config)


def _token_file_doubts(config: Config) -> list[str]:
    """What is wrong with the token file, where it is used and is there."""
    from receiptd.web import token_file

    if config.api.token:
        return []
    try:
        found = token_file.read(token_file.place(config))
    except token_file.NoTokenFile:
        return []
    except token_file.TokenFileError as error:
        return [str(error)]
    return [found.warning] if found.warning else []


def _unusable_user(config: Config) -> list[str]:
    from receiptd.daemon.privileges import PrivilegeError, look_up

    try:
        look_up(config.server.user, config.server.group)
    except PrivilegeError as error:
        return [str(error)]
    return []


def _unusable_log(config: Config) -> list[str]:
    from receiptd.log import LogError, check_log

    try:
        check_log(config.log)
    except LogError as error:
        return [str(error)]
    return []


def _unusable_listen(config: Config) -> list[str]:
    """What Twisted would not understand. (Whether an address is free shows only at the start.)"""
    from twisted.internet import reactor
    from twisted.internet.endpoints import serverFromString

    found = []
    tls = config.server.tls
    for description in (*config.server.listen, *(tls.listen if tls else ())):
        try:
            serverFromString(reactor, description)  # type: ignore[no-untyped-call]
        except Exception as error:  # plugins and certificates raise whatever they like
            found.append(
                f"server.listen: {description!r} does not work: {error}. An example that works: "
                "tcp:8080:interface=127.0.0.1"
            )
    return found


def _tls(config: Config) -> tuple[list[str], list[str]]:
    """What is wrong with the certificates, and what is doubtful."""
    if config.server.tls is None:
        return [], []
    from receiptd.web.server.certificates import TlsError, cautions, load

    try:
        load(config.server.tls)
    except TlsError as error:
        return [f"server.tls: {error}"], []
    return [], cautions(config.server.tls)


def _unusable_store(config: Config) -> list[str]:
    from receiptd.store.database.engine import check_file, open_engine
    from receiptd.store.database.errors import StoreError

    try:
        check_file(config.store.url, create=config.store.migrate)
        open_engine(config.store.url).dispose()
    except StoreError as error:
        return [str(error)]
    return []


def _tell_checking(config: Config) -> None:
    """For which providers receipts are checked against registered messages, and since when."""
    from sqlalchemy.exc import SQLAlchemyError

    from receiptd.store.database.engine import check_file, open_engine
    from receiptd.store.database.errors import StoreError
    from receiptd.store.database.migrating import require

    say()
    try:
        check_file(config.store.url, create=False, writes=False)
        engine = open_engine(config.store.url, writes=False)
        try:
            require(engine)
            lines = checking(config, engine)
        finally:
            engine.dispose()
    except (StoreError, SQLAlchemyError):
        # Whether that keeps the server from starting is said elsewhere.
        lines = checking(config, None)
    say("Receipts are checked against registered messages:")
    width = max(map(len, lines)) + 2
    for provider, text in lines.items():
        say(f"  {provider:<{width}}{text}")
