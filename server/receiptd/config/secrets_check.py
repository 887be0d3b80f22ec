"""Whether a configuration file shows its secrets to every user of the machine."""

from __future__ import annotations

import shlex
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from pydantic import BaseModel, SecretStr

from receiptd.config.settings import Config
from receiptd.config.sources import ConfigError, content


def exposed(file: Path | None, config: Config) -> str | None:
    """Why `file` should not be as it is: every user can read it and it holds secrets of
    `config`, which may have others from elsewhere. None where all is well."""
    if file is None or not stat.S_IMODE(file.stat().st_mode) & stat.S_IROTH:
        return None
    secrets = {each.strip() for each in _secrets(config)}
    if secrets.isdisjoint(each.strip() for each in _texts(content(file))):
        return None
    return f"{file} holds secrets and every user can read it: chmod o= {shlex.quote(str(file))}"


def refuse_exposed(file: Path | None, config: Config) -> None:
    """:raises ConfigError: where `file` is `exposed`, unless `config` allows it."""
    if not config.server.allow_readable_config and (reason := exposed(file, config)):
        raise ConfigError(
            f"{reason}\n(or allow it: server.allow_readable_config, --allow-readable-config)"
        )


def _secrets(value: Any) -> Iterator[str]:
    """The secrets in a configuration, or in a part of it."""
    if isinstance(value, SecretStr):
        yield value.get_secret_value()
    elif isinstance(value, BaseModel):
        for name, each in value:
            if name == "url" and isinstance(each, str) and _password(each):
                yield each
            yield from _secrets(each)
    elif isinstance(value, list | dict):
        for each in value.values() if isinstance(value, dict) else value:
            yield from _secrets(each)


def _password(url: str) -> bool:
    """Whether there is one in `url`, in front of the host or among the parameters."""
    try:
        parts = urlsplit(url)
        return bool(parts.password or parse_qs(parts.query).keys() & {"password", "sslpassword"})
    except ValueError:
        return False


def _texts(value: Any) -> Iterator[str]:
    """All texts in what a file says."""
    if isinstance(value, dict):
        for each in value.values():
            yield from _texts(each)
    elif isinstance(value, list):
        for each in value:
            yield from _texts(each)
    else:
        yield str(value)
