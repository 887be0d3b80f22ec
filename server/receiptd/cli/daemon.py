"""The commands around the server: `serve`, `init`, `db upgrade`."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from receiptd.cli.options import Failed, config_option, database_option, load
from receiptd.cli.output import say

if TYPE_CHECKING:
    from receiptd.config import Config


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
        from receiptd.daemon.run import run

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
        sys.stdout.write(text)
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
    say(f"wrote {output.absolute()}", err=True)
    default = "" if output == Path("receiptd.toml") else f" --config {output}"
    say(f"Edit it, then: receiptd check-config{default}", err=True)


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
    from receiptd.store.database.engine import check_file, open_engine
    from receiptd.store.database.errors import StoreError, shown
    from receiptd.store.database.migrating import revision
    from receiptd.store.database.migrating import upgrade as migrate

    try:
        check_file(config.store.url, create=True)
        engine = open_engine(config.store.url)
        before = migrate(engine)
        after = revision(engine)
    except StoreError as error:
        raise Failed(str(error)) from None
    where = shown(engine.url)
    engine.dispose()
    if before == after:
        say(f"{where}: at revision {after} already, nothing to do")
    elif before is None:
        say(f"{where}: made, at revision {after}")
    else:
        say(f"{where}: brought from revision {before} to {after}")
