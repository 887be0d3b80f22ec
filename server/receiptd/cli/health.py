"""`health`: asks the server of this configuration whether it is well, for a container's health
check, a probe or a person."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterator
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from receiptd.cli.options import Failed, config_option, load
from receiptd.cli.output import say

if TYPE_CHECKING:
    from receiptd.config import Config

_MOST = 64 * 1024
"""Bytes of an answer that are read; the pages have a few lines."""

_HERE = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - nothing is bound
"""Where a socket that is bound to all addresses is asked."""


class Address(NamedTuple):
    """A socket that the server listens on."""

    host: str
    """An address, or a Unix socket's path."""
    port: int | None
    """None for a Unix socket."""
    tls: bool


@click.command(short_help="Ask the running server whether it is well.")
@config_option
@click.option(
    "--ready",
    is_flag=True,
    help="Ask whether it can store receipts (/readyz), not only whether it answers (/healthz).",
)
@click.option(
    "--timeout",
    metavar="SECONDS",
    type=click.FloatRange(min=0, min_open=True, max=3600),
    default=5.0,
    help="How long to wait for an answer. Default: 5",
)
def health(file: Path | None, ready: bool, timeout: float) -> None:
    """Ask the running server whether it is well, where this configuration has it listen on this
    machine; print its answer. The exit code is 1 where it does not answer, or is not well.

    The first socket that can be asked is: with sockets of systemd's (--listen systemd:...) or
    options of `receiptd serve` in place of the configuration, ask with curl.

    \b
    Examples:
      receiptd health
      receiptd health --ready --config /etc/receiptd.toml
    """
    config = load(file)
    page = "/readyz" if ready else "/healthz"
    address = next(_addresses(config), None)
    if address is None:
        raise Failed("the configuration has the server listen nowhere that could be asked")
    where = address.host if address.port is None else f"{address.host} port {address.port}"
    try:
        status, text = _ask(address, page, timeout)
    except (OSError, HTTPException) as error:
        raise Failed(
            f"no server answers at {where}: {getattr(error, 'strerror', None) or error}"
        ) from None
    if status != 200:
        raise Failed(f"{where} answers {status} for {page}: {text.strip()}")
    say(text.strip())


def _addresses(config: Config) -> Iterator[Address]:
    from twisted.internet.endpoints import serverFromString
    from twisted.internet.protocol import Factory

    recorder = _Recorder()
    tls = config.server.tls.listen if config.server.tls else []
    for description, recorder.tls in [
        *((each, False) for each in config.server.listen),
        *((each, True) for each in tls),
    ]:
        try:
            serverFromString(recorder, description).listen(Factory())  # type: ignore[no-untyped-call]
        except (ValueError, TypeError, LookupError, AttributeError, OSError):
            continue  # check-config says what is wrong with it
    yield from recorder.found


class _Recorder:
    """A reactor that notes where it is to listen."""

    def __init__(self) -> None:
        self.found: list[Address] = []
        self.tls = False

    def listenTCP(  # noqa: N802 - Twisted's
        self, port: int, factory: Any, backlog: int = 0, interface: str = ""
    ) -> None:
        if port:
            self.found.append(Address(_HERE.get(interface, interface), port, self.tls))

    def listenUNIX(self, address: str, factory: Any, *_: Any, **others: Any) -> None:  # noqa: N802
        self.found.append(Address(address, None, self.tls))

    def listenSSL(  # noqa: N802
        self, port: int, factory: Any, context: Any, backlog: int = 0, interface: str = ""
    ) -> None:
        self.found.append(Address(_HERE.get(interface, interface), port, True))


def _ask(address: Address, page: str, timeout: float) -> tuple[int, str]:
    """The answer's status and text.

    :raises OSError: where there is none.
    :raises HTTPException: where it is none of HTTP's.
    """
    if address.port is None:
        plain = socket.socket(socket.AF_UNIX)
        plain.settimeout(timeout)
        plain.connect(address.host)
    else:
        plain = socket.create_connection((address.host, address.port), timeout)
    with plain:
        connection = HTTPConnection("localhost", timeout=timeout)
        connection.sock = plain
        if address.tls:
            # Nothing secret is sent, and the certificate is of another name than this address.
            context = ssl.create_default_context()
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
            connection.sock = context.wrap_socket(plain)
        connection.request("GET", page, headers={"Connection": "close"})
        answer = connection.getresponse()
        return answer.status, answer.read(_MOST).decode(errors="replace")
