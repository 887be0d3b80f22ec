"""The command `simulate destination`: an application that receipts are forwarded to."""

from __future__ import annotations

import threading
from datetime import timedelta

import click

from receiptd.cli.options import Failed, Span
from receiptd.cli.output import printable


@click.command("destination")
@click.option(
    "--listen",
    "port",
    metavar="PORT",
    type=click.IntRange(0, 65535),
    default=9000,
    show_default=True,
    help="The port to listen on, for this machine alone; 0: any free one.",
)
@click.option(
    "--secret",
    "secrets",
    metavar="SECRET",
    multiple=True,
    envvar="SIMULATE_SECRET",
    help="The secret to check signatures with; also as environment variable SIMULATE_SECRET.",
)
@click.option(
    "--fail",
    metavar="SHARE",
    type=click.FloatRange(0, 1),
    help="Answer this share of the requests with an error: 0.1 is one in ten.",
)
@click.option(
    "--status",
    metavar="N",
    type=click.IntRange(200, 599),
    help="The status of these answers, of all where --fail is not given. Default: 500",
)
@click.option("--slow", metavar="TIME", type=Span(), help="Wait this long before each answer.")
def destination(
    port: int,
    secrets: tuple[str, ...],
    fail: float | None,
    status: int | None,
    slow: timedelta | None,
) -> None:
    """Play an application that receives forwarded receipts, until Ctrl-C.

    Each request is printed: what it tells, and whether it is badly signed, a repetition, or
    out of order. In the end all is summed up.

    \b
    Examples:
      receiptd simulate destination --listen 9000
      receiptd simulate destination --listen 9000 --fail 0.1
      receiptd simulate destination --listen 9000 --status 503
      receiptd simulate destination --listen 9000 --slow 2s
    """
    from pydantic import SecretStr

    from receiptd.config.forward_values import secret_key
    from receiptd.simulate.destination import Application

    for secret in secrets:
        try:
            if not secret_key(SecretStr(secret)):
                raise ValueError
        except ValueError:
            raise click.UsageError(
                "--secret: not base64, with or without whsec_ in front"
            ) from None
    if fail is None:
        fail = 1.0 if status is not None else 0.0
    try:
        application = Application(
            port,
            secrets=secrets,
            fail=fail,
            status=status or 500,
            slow=slow.total_seconds() if slow else 0.0,
            told=lambda line: click.echo(printable(line)),
        )
    except OSError as error:
        raise Failed(f"port {port}: {error.strerror}") from None
    click.echo(f"listening on http://127.0.0.1:{application.port}/", err=True)
    thread = threading.Thread(target=application.run, daemon=True)
    thread.start()
    try:
        while thread.is_alive():
            thread.join(1.0)
    except KeyboardInterrupt:
        application.stop()
    application.close()
    click.echo(str(application.seen))
