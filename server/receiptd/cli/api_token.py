"""The command `api-token`."""

from __future__ import annotations

from pathlib import Path

import click

from receiptd.cli.options import Failed, config_option, database_option, load


@click.command("api-token")
@config_option
@database_option
def api_token(file: Path | None, database: str | None) -> None:
    """Print the token of the HTTP API and of /metrics.

    The server makes it at its first start where the configuration names none. It is in a file
    that only its owner can read: beside SQLite's, with another database in the spool's folder.
    To get another token, delete that file and restart or reload the server.

    \b
    Examples:
      receiptd api-token
      receiptd api-token --config /etc/receiptd.toml
      curl -H "Authorization: Bearer $(receiptd api-token)" \\
          http://127.0.0.1:8080/api/v1/receipts
    """
    config = load(file, database)
    from receiptd.config import describe
    from receiptd.web import token_file

    if config.api.token:
        named = ", ".join(each.name for each in config.api.token)
        raise Failed(
            f"the tokens are those configured under [[api.token]] ({named}; configuration: "
            f"{describe(file)}), and no token file is used"
        )
    path = token_file.place(config)
    try:
        found = token_file.read(path)
    except token_file.NoTokenFile:
        raise Failed(
            f"{path}: there is no such file yet. The server makes it at its first start: start "
            "it with this configuration (receiptd serve), or name its own with --config or "
            "--database"
        ) from None
    except token_file.TokenFileError as error:
        raise Failed(str(error)) from None
    if found.warning:
        click.echo(f"warning: {found.warning}", err=True)
    click.echo(found.token)
