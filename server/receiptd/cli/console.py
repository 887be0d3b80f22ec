"""The command `console`."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from receiptd.cli.options import Failed, config_option, database_option, load
from receiptd.cli.output import say

if TYPE_CHECKING:
    from receiptd.config import ApiToken, Config


@click.command()
@config_option
@database_option
@click.option(
    "--url",
    metavar="URL",
    help="What stands before /console in a browser here, in place of what the configuration says: "
    "such as http://127.0.0.1:8081 at the near end of an SSH tunnel.",
)
@click.option(
    "--token",
    "name",
    metavar="NAME",
    help="By which token of [[api.token]] to log in. Default: one that may read and write.",
)
@click.option("--no-browser", is_flag=True, help="Print the link, and open nothing.")
def console(
    file: Path | None, database: str | None, url: str | None, name: str | None, no_browser: bool
) -> None:
    """Print a link that opens the console.

    It opens it as well, where there is a browser. The link works once, for a minute. Whoever can
    read the configuration or the token file can make one; nothing is sent to the server before
    the link is opened.

    \b
    Examples:
      receiptd console
      receiptd console --config /etc/receiptd.toml
      receiptd console --url http://127.0.0.1:9000     behind: ssh -L 9000:127.0.0.1:8080 HOST
    """
    config = load(file, database)
    from receiptd.web import login_code

    if not config.console.enabled:
        raise Failed("the console is switched off: set enabled = true in [console]")
    base = url.rstrip("/") if url else _base(config)
    token = _token(config, name)
    link = f"{base}/console/login/{login_code.make(token)}"
    say(link)
    say(f"The link works once, for {login_code.SECONDS} seconds.", err=True)
    if not no_browser and _display():
        import webbrowser

        webbrowser.open(link)


def _base(config: Config) -> str:
    """What stands before the path in the console's URL."""
    if config.server.public_url:
        return config.server.public_url.rstrip("/")
    secure = list(config.server.tls.listen) if config.server.tls else []
    for description in (*secure, *config.server.listen):
        parts = description.replace("\\:", "\0").split(":")
        named = dict(part.split("=", 1) for part in parts if "=" in part)
        port = named.get("port") or next((each for each in parts[1:] if each.isdigit()), "")
        if parts[0] == "unix" or port in ("", "0"):
            continue
        host = named.get("interface", "").replace("\0", ":")
        if host in ("", "0.0.0.0", "::"):  # noqa: S104 - what is listened on, not what we listen on
            host = "127.0.0.1"
        shown = f"[{host}]" if ":" in host else host
        return f"http{'s' * (description in secure)}://{shown}:{port}"
    raise Failed(
        "the configuration does not say where a browser finds the server: name it with --url"
    )


def _token(config: Config, name: str | None) -> ApiToken:
    """The token to sign the link with."""
    from receiptd.web import login_code, token_file

    if not config.api.token:
        if name is not None and name != token_file.NAME:
            raise Failed(f"no token is called {name!r}: none is configured under [[api.token]]")
        try:
            found = token_file.read(token_file.place(config))
        except token_file.NoTokenFile:
            raise Failed(
                f"{token_file.place(config)}: there is no such file yet. The server makes it at "
                "its first start: start it with this configuration (receiptd serve), or name its "
                "own with --config or --database"
            ) from None
        except token_file.TokenFileError as error:
            raise Failed(str(error)) from None
        return token_file.api_token(found)
    tokens = [each for each in config.api.token if name is None or each.name == name]
    if not tokens:
        from receiptd.errors import did_you_mean

        known = [each.name for each in config.api.token]
        raise Failed(f"no token is called {name!r}: {did_you_mean(name or '', known)}")
    reading = [each for each in tokens if "read" in each.scopes]
    if not reading:
        raise Failed('no such token has the scope "read", which the console needs')
    token = login_code.signer(reading)
    if token is None:
        raise Failed(
            f"a link is signed with a token, and these have less than {login_code.SHORTEST_TOKEN} "
            "characters: make a longer one (openssl rand -hex 32), or type the token at /console"
        )
    return token


def _display() -> bool:
    """Whether this is a session in which somebody would see a browser."""
    if os.environ.get("SSH_CONNECTION"):
        return False
    return sys.platform == "darwin" or bool(
        os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
    )
