"""The lines that the log begins with: version, configuration, warnings, addresses and paths."""

from __future__ import annotations

import os
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

from twisted.logger import Logger

from receiptd import __version__
from receiptd.config import Config, Endpoint
from receiptd.daemon.rules import spool_folder
from receiptd.store.database.engine import parse
from receiptd.store.database.errors import shown
from receiptd.web import token_file
from receiptd.web.server.request import local_address

_LOOPBACK = ("127.0.0.1", "::1", "localhost")

_log = Logger(namespace="receiptd")


def introduce(config: Config, source: str, listen: Sequence[str]) -> None:
    """Log the version, the configuration and the warnings about it, before the first receipt.

    :param listen: descriptions of the sockets that the server listens on.
    """
    _log.info("receiptd {version}, configuration: {source}", version=__version__, source=source)
    _log.info(
        "database: {url}, spool: {folder}",
        url=shown(parse(config.store.url)),
        folder=str(spool_folder(config)),
    )
    for endpoint in config.endpoint:
        for warning in endpoint_warnings(endpoint, listen):
            _log.warn("{warning}", warning=warning)
    for destination in config.forward:
        for warning in destination.warnings():
            _log.warn("{warning}", warning=warning)


def announce(config: Config, addresses: list[str]) -> None:
    """Log the addresses and paths that the server now serves."""
    for each in addresses:
        _log.info("listening on {address}", address=each)
    for endpoint in config.endpoint:
        _log.info(
            "{provider} posts to {address}{path}",
            provider=endpoint.provider,
            address=config.server.public_url or addresses[0],
            path=endpoint.path,
        )
    _log.info("the API and /metrics ask for a {token}", token=token_file.described(config))
    if config.console.enabled:
        _log.info(
            "the console is at {address}/console: receiptd console prints a link that opens it",
            address=config.server.public_url or addresses[0],
        )


def url_of(bound: Any, secure: bool = False) -> str:
    """The URL of a bound address, without a path. For a wildcard address it names the loopback
    address, which works on this machine.

    :param secure: whether TLS is spoken there.
    """
    if getattr(bound, "host", None) is None:
        return f"unix:{os.fsdecode(getattr(bound, 'name', b''))}"
    here = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(bound.host, bound.host)  # noqa: S104
    return f"http{'s' * secure}://{local_address(SimpleNamespace(host=here, port=bound.port))}"


def endpoint_warnings(endpoint: Endpoint, listen: Sequence[str]) -> list[str]:
    """What the operator should know about `endpoint` before its first receipt comes.

    :param listen: descriptions of the sockets that the server listens on.
    """
    found = [f"endpoint {endpoint.name}: {text}" for text in endpoint.bind().warnings()]
    if not endpoint.authenticated:
        exposed = [each for each in listen if not is_local(each)]
        if exposed:
            found.append(
                f"endpoint {endpoint.name} ({endpoint.path}) asks for no authentication and is "
                f"reachable from other machines at {', '.join(exposed)}: anybody can post "
                f"receipts to it"
            )
    return found


def is_local(description: str) -> bool:
    """Whether only this machine can reach what a Twisted endpoint description describes."""
    if description.startswith("unix:"):
        return True
    parts = dict(
        part.split("=", 1) for part in description.replace("\\:", ":").split(":") if "=" in part
    )
    interface = parts.get("interface", "")
    return interface in _LOOPBACK or interface.startswith("127.") or "interface=::1" in description
