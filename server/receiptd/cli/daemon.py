"""The commands around the server: `serve`, `init`, `check-config`, `db upgrade`."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from receiptd.cli.options import Failed, config_option, database_option, load

if TYPE_CHECKING:
    from receiptd.config import Config, Endpoint


@click.command()
@config_option
@click.option(
    "--listen",
    metavar="ENDPOINT",
    multiple=True,
    help="Where to listen, in place of the configuration's server.listen: a Twisted endpoint "
    "description. May be given several times.",
)
@database_option
@click.option(
    "--workers",
    metavar="N",
    type=int,
    help="How many processes serve, in place of the configuration's server.workers.",
)
@click.option(
    "--allow-readable-config",
    is_flag=True,
    help="Start although the configuration holds secrets and every user can read it.",
)
def serve(
    file: Path | None,
    listen: tuple[str, ...],
    database: str | None,
    workers: int | None,
    allow_readable_config: bool,
) -> None:
    """Receive receipts until told to stop (Ctrl-C or SIGTERM).

    Without a configuration file every provider is served on 127.0.0.1:8080, without
    authentication, into receiptd.db in the working directory.

    \b
    Examples:
      receiptd serve
      receiptd serve --config /etc/receiptd.toml
      receiptd serve --listen tcp:8081:interface=127.0.0.1 --database sqlite:///try.db
      receiptd serve --config /etc/receiptd.toml --workers 4
      RECEIPTD_STORE__URL=sqlite:////var/lib/receiptd/receipts.db receiptd serve
    """
    from receiptd.daemon import signals

    signals.hold()
    _open_standard_streams()
    server: dict[str, Any] = {"workers": workers} if workers is not None else {}
    if allow_readable_config:
        server["allow_readable_config"] = True
    from receiptd.config import describe, find, refuse_exposed
    from receiptd.config import load as load_config
    from receiptd.daemon.systemd import passed_sockets
    from receiptd.errors import UserError

    def read() -> Config:
        """The configuration as it is now; it may be read again."""
        config = load_config(file, listen=listen, database=database, server=server)
        refuse_exposed(find(file), config)
        return config

    try:
        passed = passed_sockets()
        config = read()
        if config.server.workers > 1:
            from receiptd.daemon.supervisor import run
        else:
            from receiptd.daemon.process import run
        sys.exit(run(config, describe(file), read, passed))
    except UserError as error:
        raise Failed(str(error)) from None


def _open_standard_streams() -> None:
    """See that descriptors 0 to 2 are taken. Where one is closed, a database or a pipe would get
    its number, and whatever is written to standard output, or passed on to workers, go there."""
    for descriptor in (0, 1, 2):
        try:
            os.fstat(descriptor)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)


@click.command(hidden=True)
@click.argument("number", type=int)
def worker(number: int) -> None:
    """Serve as one of several: started by `serve --workers`, and of no use otherwise."""
    from receiptd.daemon.worker import main

    sys.exit(main())


@click.command(hidden=True)
def forwarder() -> None:
    """Forward: started by `serve` where [[forward]] is set, and of no use otherwise."""
    from receiptd.daemon.sender_process import main

    sys.exit(main())


@click.command()
@click.option(
    "--output",
    metavar="FILE",
    type=click.Path(path_type=Path, allow_dash=True),
    default=Path("receiptd.toml"),
    show_default=True,
    help="Where to write it; - is standard output.",
)
@click.option("--force", is_flag=True, help="Replace the file if it is there.")
def init(output: Path, force: bool) -> None:
    """Write a configuration file to start from.

    It documents every key. What is set in it is what receiptd does without it, so change only
    what should be otherwise. It can be read by you alone, since it will hold secrets.

    \b
    Examples:
      receiptd init
      receiptd init --output /etc/receiptd.toml
      receiptd init --output - | less
    """
    from receiptd.cli.template import template

    text = template()
    if str(output) == "-":
        click.echo(text, nl=False)
        return
    try:
        flags = os.O_WRONLY | os.O_CREAT | (os.O_TRUNC if force else os.O_EXCL)
        with os.fdopen(os.open(output, flags, 0o600), "w", encoding="utf-8") as file:
            os.fchmod(file.fileno(), 0o600)
            file.write(text)
    except FileExistsError:
        raise Failed(
            f"{output}: is there already and was left as it is. Replace it with --force, or "
            "write another with --output"
        ) from None
    except OSError as error:
        raise Failed(f"{output}: cannot be written: {error.strerror}") from None
    click.echo(f"wrote {output}", err=True)
    default = "" if output == Path("receiptd.toml") else f" --config {output}"
    click.echo(f"Edit it, then: receiptd check-config{default}", err=True)


@click.command("check-config")
@config_option
@database_option
def check_config(file: Path | None, database: str | None) -> None:
    """Say what would be served, and what is wrong or doubtful.

    Nothing is opened and nothing is changed. Secrets are not shown. The exit code is 1 where
    the server would not start with this configuration.

    \b
    Examples:
      receiptd check-config
      receiptd check-config --config /etc/receiptd.toml
    """
    config = load(file, database)
    from receiptd import providers
    from receiptd.cli.output import table
    from receiptd.config import describe, exposed, find
    from receiptd.daemon.service import warnings
    from receiptd.store.database.engine import parse, shown
    from receiptd.store.spool.spool import default_folder

    for label, text in (
        ("configuration", describe(file)),
        ("listens on", ", ".join(config.server.listen)),
        ("TLS on", ", ".join(config.server.tls.listen) if config.server.tls else "nothing"),
        ("public URL", config.server.public_url or "none set: the WSDL names the Host asked for"),
        ("store", shown(parse(config.store.url))),
        ("spool", config.store.spool or default_folder(config.store.url)),
        ("API", _api_asks_for(config)),
        ("log", f"{config.log.file or 'standard error'}, {config.log.format}"),
    ):
        click.echo(f"{label + ':':<15}{text}")
    click.echo()
    base = config.server.public_url or ""
    table(
        ("endpoint", "posts go to", "provider", "asks for"),
        (
            (
                endpoint.name,
                f"{base}{endpoint.path}",
                f"{endpoint.provider} ({providers.load()[endpoint.provider].title})",
                _asks_for(endpoint),
            )
            for endpoint in config.endpoint
        ),
    )
    if config.forward:
        click.echo()
        table(
            ("destination", "is told at", "of"),
            ((each.name, each.shown_url, ", ".join(each.types)) for each in config.forward),
        )
    listen = [*config.server.listen, *(config.server.tls.listen if config.server.tls else ())]
    doubts = [text for endpoint in config.endpoint for text in warnings(endpoint, listen)]
    doubts += [text for each in config.forward for text in each.warnings()]
    unusable_tls, tls_doubts = _tls(config)
    doubts += tls_doubts
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
        click.echo()
    for text in doubts:
        click.echo(f"warning: {text}")
    if errors:
        raise Failed("\n".join(f"error: {text}" for text in errors))


def _asks_for(endpoint: Endpoint) -> str:
    """What a post must prove, without the secrets."""
    asked = []
    if endpoint.username or endpoint.pin:
        parts = (("username", endpoint.username), ("PIN", endpoint.pin))
        asked.append(" and ".join(name for name, value in parts if value))
    if endpoint.token:
        asked.append("token in the URL")
    if endpoint.basic:
        asked.append("HTTP Basic credentials")
    if endpoint.networks:
        asked.append("an address in " + ", ".join(map(str, endpoint.networks)))
    return "; ".join(asked) or "nothing"


def _api_asks_for(config: Config) -> str:
    """Who may use the HTTP API, without the secrets."""
    tokens = [f"{each.name} ({', '.join(each.scopes)})" for each in config.api.token]
    return "token of " + ", ".join(tokens) if tokens else "this machine only: no token is set"


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
                f"server.listen: {description!r} does not work: {error}. One that does is "
                "tcp:8080:interface=127.0.0.1"
            )
    return found


def _tls(config: Config) -> tuple[list[str], list[str]]:
    """What is wrong with the certificates, and what is doubtful."""
    if config.server.tls is None:
        return [], []
    from receiptd.web.server.tls import TlsError, cautions, load

    try:
        load(config.server.tls)
    except TlsError as error:
        return [f"server.tls: {error}"], []
    return [], cautions(config.server.tls)


def _unusable_store(config: Config) -> list[str]:
    from receiptd.store.database.engine import StoreError, check_file, open_engine

    try:
        check_file(config.store.url, create=config.store.migrate)
        open_engine(config.store.url).dispose()
    except StoreError as error:
        return [str(error)]
    return []


@click.command("upgrade")
@config_option
@database_option
def upgrade(file: Path | None, database: str | None) -> None:
    """Make the database, or bring it to what this receiptd needs.

    The server does this at its start unless store.migrate is false. It changes nothing in a
    database that is up to date.

    \b
    Examples:
      receiptd db upgrade
      receiptd db upgrade --database sqlite:////var/lib/receiptd/receipts.db
    """
    config = load(file, database)
    from receiptd.store.database import engine as stores

    try:
        stores.check_file(config.store.url, create=True)
        engine = stores.open_engine(config.store.url)
        before = stores.upgrade(engine)
        after = stores.revision(engine)
    except stores.StoreError as error:
        raise Failed(str(error)) from None
    where = stores.shown(engine.url)
    engine.dispose()
    if before == after:
        click.echo(f"{where}: at revision {after} already, nothing to do")
    elif before is None:
        click.echo(f"{where}: made, at revision {after}")
    else:
        click.echo(f"{where}: brought from revision {before} to {after}")
