"""Reading the configuration: the file, the environment over it, the command line over both."""

from __future__ import annotations

import difflib
import os
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from receiptd import providers
from receiptd.config.api import ApiToken
from receiptd.config.database_url import with_password
from receiptd.config.endpoint import Basic, Endpoint, endpoint_keys
from receiptd.config.environment import ENV_FILE, Environment, check_variables, is_own
from receiptd.config.errors import ConfigError, Finding, Place, expected, findings, where
from receiptd.config.forward import Forward
from receiptd.config.server import Tls
from receiptd.config.settings import ENV_DELIMITER, ENV_PREFIX, TABLES, Config

DEFAULT_FILE = Path("receiptd.toml")
"""Read from the working directory where `--config` names no other."""


def load(
    file: Path | None = None,
    *,
    listen: Sequence[str] = (),
    database: str | None = None,
    server: Mapping[str, Any] | None = None,
) -> Config:
    """Read the configuration: the file, which environment variables override, which the command
    line overrides. Without `file` it is `receiptd.toml`, if there is one.

    :param listen: the command line's `server.listen`, if it has one.
    :param database: the command line's `store.url`, if it has one.
    :param server: further keys of `[server]` on the command line.
    :raises ConfigError: if a key is unknown, has the wrong type, or clashes with another: one
        line for each finding.
    """
    path = find(file)
    options: dict[str, dict[str, Any]] = {}
    if server or listen:
        options["server"] = {**(server or {}), **({"listen": list(listen)} if listen else {})}
    if database is not None:
        options["store"] = {"url": database}
    check_variables()
    said = _beside(path, content(path)) if path else {}
    sources = _Sources(path, said, Environment(Config)(), options)
    merged = sources.merged()
    try:
        return _with_password(Config.model_validate(merged), sources)
    except ValidationError as error:
        # The validator of a whole endpoint does not run if one of its keys is wrong. So misspelt
        # keys are looked for here, and reported beside the keys that are missing.
        found = dict.fromkeys([*_misspelt(merged), *findings(error, _misplaced)])
        raise ConfigError(
            "\n".join(f"{sources.origin(at)}: {where(at)}: {text}" for at, text in found)
        ) from None
    except providers.ProviderError as error:
        raise ConfigError(str(error)) from error


def find(file: Path | None = None) -> Path | None:
    """The configuration file to read: `file`, otherwise the one that `RECEIPTD_CONFIG` names,
    otherwise `receiptd.toml` in the working directory, if there is one."""
    if file is None and (named := os.environ.get(ENV_FILE)):
        file = Path(named)
    if file is None:
        # The folder may be closed to this user (sudo, in root's home): then there is no file.
        with suppress(PermissionError):
            return DEFAULT_FILE.absolute() if DEFAULT_FILE.is_file() else None
    return file.absolute() if file is not None else None


def _beside(file: Path, said: dict[str, Any]) -> dict[str, Any]:
    """`said`, with the relative paths of `[store]` made absolute, from the file's folder. So they
    do not depend on the working directory.

    :param said: the content of `file`.
    """
    store = said.get("store")
    if not isinstance(store, dict):
        return said
    absolute = {}
    for key in ("spool", "password_file"):
        value = store.get(key)
        if not isinstance(value, str) or not value or "\0" in value:
            continue
        path = file.parent / value
        # Earlier versions took a relative spool from the working directory. If it is there, it
        # may hold posts: it stays in use until it is moved.
        if key == "spool" and not path.exists() and Path(value).is_dir():
            path = Path(value).absolute()
        absolute[key] = str(path)
    return {**said, "store": {**store, **absolute}}


def _with_password(config: Config, sources: _Sources) -> Config:
    """`config` with the password of `store.password_file` in `store.url`.

    :raises ConfigError: if the password cannot be read.
    """
    store = config.store
    if store.password_file is None:
        return config
    try:
        url = with_password(store.url, Path(store.password_file))
    except ValueError as error:
        at = ("store", "password_file")
        raise ConfigError(f"{sources.origin(at)}: {where(at)}: {error}") from None
    return config.model_copy(update={"store": store.model_copy(update={"url": url})})


def describe(file: Path | None = None) -> str:
    """The sources that `load` reads, for people: the file, and the variables that override it."""
    path = find(file)
    text = str(path) if path else f"built-in defaults (there is no {DEFAULT_FILE} here)"
    variables = sorted(name for name in os.environ if is_own(name) and name.upper() != ENV_FILE)
    return f"{text}, overridden by {', '.join(variables)}" if variables else text


@dataclass(frozen=True, slots=True)
class _Sources:
    """The sources of the configuration: they tell where each key was set."""

    file: Path | None
    content: dict[str, Any]
    environment: dict[str, Any]
    options: dict[str, dict[str, Any]]
    """What the command line says, by table and key."""

    def merged(self) -> dict[str, Any]:
        """The command line over the environment over the file."""
        merged = dict(self.content)
        for layer in (self.environment, self.options):
            for table, values in layer.items():
                below = merged.get(table)
                if isinstance(values, dict) and isinstance(below, dict):
                    merged[table] = {
                        **below,
                        **{
                            key: {**below[key], **value}
                            if isinstance(value, dict) and isinstance(below.get(key), dict)
                            else value
                            for key, value in values.items()
                        },
                    }
                else:
                    merged[table] = values
        return merged

    def origin(self, path: Place) -> str:
        """Where the value at `path` was set, or should be set."""
        if path[:1] == ("server",) and set(path[1:2]) & set(self.options.get("server", {})):
            return f"--{str(path[1]).replace('_', '-')}"
        if path[:2] == ("store", "url") and "store" in self.options:
            return "--database"
        names = [str(part).upper() for part in path if not isinstance(part, int)]
        if path and _holds(self.environment, path[:2]):
            for end in (3, 2, 1):
                variable = ENV_PREFIX + ENV_DELIMITER.join(names[:end])
                for each in os.environ:
                    if each.upper() == variable:
                        return f"environment variable {each}"
        return str(self.file) if self.file else "configuration"


def _holds(content: Any, path: Place) -> bool:
    for part in path:
        if isinstance(part, int):
            return True
        if not isinstance(content, dict) or part not in content:
            return False
        content = content[part]
    return True


def content(path: Path) -> dict[str, Any]:
    """What a file says.

    :raises ConfigError: if it cannot be read, or is not TOML.
    """
    try:
        return tomllib.loads(path.read_text("utf-8-sig"))
    except FileNotFoundError:
        raise ConfigError(
            f"{path}: no such file. Write a new one with: receiptd init --output {path}"
        ) from None
    except PermissionError:
        raise ConfigError(
            f"{path}: cannot be read by user {os.geteuid()}. To let its group read it: "
            f"chgrp GROUP {path}; chmod g+r {path}"
        ) from None
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: this is no TOML: {error}") from None


def _misspelt(merged: Mapping[str, Any]) -> Iterator[Finding]:
    """Unknown keys of endpoints."""
    endpoints = merged.get("endpoint")
    for number, given in enumerate(endpoints if isinstance(endpoints, list) else []):
        if not isinstance(given, dict):
            continue
        kind = providers.load().get(str(given.get("provider")))
        known = endpoint_keys(kind)
        for key in given:
            # Without a provider its keys are not known: only what is nearly one of ours counts.
            if key not in known and (kind or difflib.get_close_matches(key, known, 1, 0.8)):
                yield ("endpoint", number, key), f"unknown key: {expected(key, known)}"


def _misplaced(path: Place) -> str:
    """The remedy for a key that its table does not have."""
    key = str(path[-1])
    if len(path) > 1:
        model = TABLES.get(str(path[0]))
        if path[0] == "endpoint":
            model = Basic
        elif path[0] == "forward":
            model = Forward
        elif path[:2] == ("api", "token"):
            model = ApiToken
        elif path[:2] == ("server", "tls") and len(path) > 2:
            model = Tls
        return f"unknown key: {expected(key, list(model.model_fields) if model else [])}"
    for name, table in TABLES.items():
        if key in table.model_fields:
            return f"unknown key here: it belongs in [{name}]"
    if key in Forward.model_fields and key not in Endpoint.model_fields:
        return "unknown key here: it belongs in [[forward]]"
    if key in Endpoint.model_fields:
        return "unknown key here: it belongs in [[endpoint]]"
    return f"unknown key: {expected(key, list(Config.model_fields))}"
