"""Reload, as one process and as a supervisor do it: check everything first, then use it or keep
the old configuration."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

from twisted.logger import Logger

from receiptd.config import Config
from receiptd.config.reloading import taken_over
from receiptd.errors import UserError

if TYPE_CHECKING:
    from receiptd.web.server.certificates import Files, Material

_log = Logger(namespace="receiptd")


class Checked(NamedTuple):
    """A new configuration without a fault that could stop its use."""

    config: Config
    """With the old values of the keys that only a restart changes."""
    fixed: list[str]
    """The keys whose new values need a restart."""
    material: Material | None
    """The certificates that it names; None without TLS."""


def checked(old: Config, new: Config, certificates: Files | None) -> Checked:
    """`new`, checked as far as a running server can use it. Changes nothing.

    :param certificates: the files that the server uses now.
    :raises UserError: if the configuration or its certificates cannot be used.
    """
    config, fixed = taken_over(old, new)
    for endpoint in config.endpoint:
        endpoint.bind()
    material = None
    if certificates is not None and config.server.tls is not None:
        material = certificates.check(config.server.tls)
    return Checked(config, fixed, material)


def reload(load: Callable[[], Config], use: Callable[[Config], object]) -> bool:
    """Read the configuration and use it. If either fails, the log says why, and the old
    configuration stays in force.

    :return: whether the new configuration is in use.
    """
    try:
        use(load())
    except UserError as error:
        for line in str(error).splitlines():
            _log.error("{line}", line=line)
        _log.error("the new configuration is not used: the old one stays in force")
    except Exception:
        _log.failure("the new configuration is not used: the old one stays in force")
    else:
        return True
    return False


def warn_of_fixed(keys: list[str]) -> None:
    """Log which keys of a new configuration need a restart."""
    if keys:
        _log.warn(
            "{keys} cannot change while the server runs: restart it to use the new values",
            keys=", ".join(keys),
        )
