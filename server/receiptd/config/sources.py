"""Reading the configuration: the file, the environment over it, the command line over both."""

from __future__ import annotations

import difflib
import json
import os
import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from pydantic import TypeAdapter, ValidationError
from pydantic.fields import FieldInfo
from pydantic_settings import EnvSettingsSource

from receiptd import providers
from receiptd.config.api import ApiToken
from receiptd.config.database_url import with_password
from receiptd.config.endpoint import Basic, Endpoint, endpoint_keys
from receiptd.config.errors import Finding, Place, expected, findings, where
from receiptd.config.forward import Forward
from receiptd.config.server import Tls
from receiptd.config.settings import ENV_DELIMITER, ENV_PREFIX, TABLES, Config
from receiptd.errors import UserError

DEFAULT_FILE = Path("receiptd.toml")
"""Read from the working directory where `--config` names no other."""

_ENV_FILE = "RECEIPTD_CONFIG"
# Kubernetes sets these in every pod beside a Service that is called "receiptd".
_ENV_OF_KUBERNETES = re.compile(
    r"RECEIPTD_(SERVICE_(HOST|PORT)(_\w+)?|PORT(_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)?)"
)


class ConfigError(UserError):
    """A configuration that cannot be used; each line of its text names file, key and remedy."""


def load(
    file: Path | None = None,
    *,
    listen: Sequence[str] = (),
    database: str | None = None,
    server: Mapping[str, Any] | None = None,
) -> Config:
    """The configuration of `file`, or of `receiptd.toml` where that is there, under the
    environment's variables, under what the command line says.

    :param listen: the command line's `server.listen`, if it has one.
    :param database: its `store.url`.
    :param server: its further keys of `[server]`.
    :raises ConfigError: where anything in it is unknown, of another type, or clashes: a line
        for each finding.
    """
    path = find(file)
    options: dict[str, dict[str, Any]] = {}
    if server or listen:
        options["server"] = {**(server or {}), **({"listen": list(listen)} if listen else {})}
    if database is not None:
        options["store"] = {"url": database}
    _check_variables()
    said = _beside(path, content(path)) if path else {}
    sources = _Sources(path, said, _Environment(Config)(), options)
    merged = sources.merged()
    try:
        return _with_password(Config.model_validate(merged), sources)
    except ValidationError as error:
        # A validator of an endpoint as a whole does not run where one of its keys is amiss, so
        # what is misspelt is looked for here, beside what is then missing.
        found = dict.fromkeys([*_misspelt(merged), *findings(error, _misplaced)])
        raise ConfigError(
            "\n".join(f"{sources.origin(at)}: {where(at)}: {text}" for at, text in found)
        ) from None
    except providers.ProviderError as error:
        raise ConfigError(str(error)) from error


def find(file: Path | None = None) -> Path | None:
    """The configuration file that is read: `file`, else the one that `RECEIPTD_CONFIG` names,
    else `receiptd.toml` of the working directory if there is one."""
    if file is None and (named := os.environ.get(_ENV_FILE)):
        file = Path(named)
    if file is None:
        # In a folder that is closed to this user (sudo, in root's home) there is none for them.
        with suppress(PermissionError):
            return DEFAULT_FILE.absolute() if DEFAULT_FILE.is_file() else None
    return file.absolute() if file is not None else None


def _beside(file: Path, said: dict[str, Any]) -> dict[str, Any]:
    """What `file` says, with the relative paths of `[store]` as absolute ones, beneath the file's
    folder: whoever reads the same file from another folder means the same."""
    store = said.get("store")
    if not isinstance(store, dict):
        return said
    absolute = {}
    for key in ("spool", "password_file"):
        value = store.get(key)
        if not isinstance(value, str) or not value or "\0" in value:
            continue
        path = file.parent / value
        # Earlier versions had a relative spool beneath the working directory. One that is there
        # may hold posts: it stays in use until somebody moves it.
        if key == "spool" and not path.exists() and Path(value).is_dir():
            path = Path(value).absolute()
        absolute[key] = str(path)
    return {**said, "store": {**store, **absolute}}


def _with_password(config: Config, sources: _Sources) -> Config:
    """`config` with the password of `store.password_file` in `store.url`.

    :raises ConfigError: where it cannot be had.
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
    """What `load` reads, for people: the file, and the environment variables that override it."""
    path = find(file)
    text = str(path) if path else f"built-in defaults (there is no {DEFAULT_FILE} here)"
    variables = sorted(name for name in os.environ if _is_own(name) and name.upper() != _ENV_FILE)
    return f"{text}, overridden by {', '.join(variables)}" if variables else text


@dataclass(frozen=True, slots=True)
class _Sources:
    """What the configuration is read from, and of each key from which."""

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
        """Where the value at `path` was set, or should be."""
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


class _Environment(EnvSettingsSource):
    """The keys that environment variables set."""

    def __call__(self) -> dict[str, Any]:
        """As the file would say it: a number or a boolean, which comes as text, as what it is.
        A text that is neither stays one, to be complained of later."""
        found = super().__call__()
        for name, table in TABLES.items():
            values = found.get(name)
            if isinstance(values, dict):
                for key, field in table.model_fields.items():
                    if isinstance(values.get(key), str):
                        values[key] = _of_text(field, values[key])
        return found

    def decode_complex_value(self, field_name: str, field: FieldInfo, value: Any) -> Any:
        """JSON, or a plain text, which suffices where a list may be one thing alone."""
        try:
            return json.loads(value)
        except ValueError as error:
            if not value.lstrip().startswith(("[", "{")):
                return value
            variable = next(name for name, text in os.environ.items() if text == value)
            raise ConfigError(
                f"environment variable {variable}: expected JSON, which this is not: {error}"
            ) from None


def _of_text(field: FieldInfo, text: str) -> Any:
    meant: Any = field.annotation
    if not {meant, *get_args(meant)} & {int, float, bool}:
        return text
    try:
        return TypeAdapter(meant).validate_python(text)
    except ValidationError:
        return text


def content(path: Path) -> dict[str, Any]:
    """What a file says.

    :raises ConfigError: where it cannot be read, or is no TOML.
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


def _is_own(variable: str) -> bool:
    name = variable.upper()
    return name.startswith(ENV_PREFIX) and not _ENV_OF_KUBERNETES.fullmatch(name)


def _check_variables() -> None:
    """An unknown variable is an error too: a typing mistake would else go unnoticed."""
    known = [_ENV_FILE, *(ENV_PREFIX + name.upper() for name in Config.model_fields)]
    for name, table in TABLES.items():
        start = ENV_PREFIX + name.upper() + ENV_DELIMITER
        known += [start + key.upper() for key in table.model_fields]
    start = f"{ENV_PREFIX}SERVER{ENV_DELIMITER}TLS{ENV_DELIMITER}"
    known += [start + key.upper() for key in Tls.model_fields]
    lines = []
    for variable in sorted(filter(_is_own, os.environ)):
        if variable.upper() in known:
            continue
        if variable.upper().startswith(ENV_PREFIX + "ENDPOINT" + ENV_DELIMITER):
            remedy = f"expected {ENV_PREFIX}ENDPOINT with the whole list of endpoints as JSON"
        else:
            remedy = expected(variable.upper(), known, cutoff=0.75)
        lines.append(f"environment variable {variable}: unknown: {remedy}")
    if lines:
        raise ConfigError("\n".join(lines))


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
