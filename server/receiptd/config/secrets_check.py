"""Whether a configuration file shows its secrets to every user of the machine."""

from __future__ import annotations

import shlex
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from pydantic import BaseModel, SecretStr

from receiptd.config.database_url import password_of
from receiptd.config.endpoint import Endpoint
from receiptd.config.errors import ConfigError
from receiptd.config.forward import Forward
from receiptd.config.settings import Config
from receiptd.config.sources import content


def exposed(file: Path | None, config: Config) -> str | None:
    """Why `file` should not be as it is: every user can read it and it holds secrets of
    `config`, which may have others from elsewhere. None where all is well."""
    password = config.store.password_file
    if password is not None and _readable_by_all(Path(password)):
        return f"{password} holds a password and every user can read it: {_remedy(password)}"
    if file is None or not _readable_by_all(file):
        return None
    secrets = {each.strip() for each in _secrets(config)}
    if secrets.isdisjoint(each.strip() for each in _texts(content(file))):
        return None
    return f"{file} holds secrets and every user can read it: {_remedy(file)}"


def _readable_by_all(file: Path) -> bool:
    return bool(stat.S_IMODE(file.stat().st_mode) & stat.S_IROTH)


def _remedy(file: object) -> str:
    return f"chmod o= {shlex.quote(str(file))}"


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
            if name == "url" and isinstance(each, str) and _has_secret(value, each):
                yield each
            yield from _secrets(each)
        if isinstance(value, Endpoint):
            yield from _secrets(value.options)
    elif isinstance(value, list | dict):
        for each in value.values() if isinstance(value, dict) else value:
            yield from _secrets(each)


def _has_secret(table: BaseModel, url: str) -> bool:
    # Before a broker's host stands a password, or a token alone.
    return password_of(url) or (isinstance(table, Forward) and "@" in urlsplit(url).netloc)


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
