"""The keys of the configuration that environment variables set."""

from __future__ import annotations

import json
import os
import re
from typing import Any, get_args

from pydantic import TypeAdapter, ValidationError
from pydantic.fields import FieldInfo
from pydantic_settings import EnvSettingsSource

from receiptd.config.errors import ConfigError, expected
from receiptd.config.server import Tls
from receiptd.config.settings import ENV_DELIMITER, ENV_PREFIX, TABLES, Config

ENV_FILE = "RECEIPTD_CONFIG"
"""The variable that names the configuration file."""

# Kubernetes sets these in every pod beside a Service that is called "receiptd".
_ENV_OF_KUBERNETES = re.compile(
    r"RECEIPTD_(SERVICE_(HOST|PORT)(_\w+)?|PORT(_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)?)"
)


class Environment(EnvSettingsSource):
    """The keys that environment variables set."""

    def __call__(self) -> dict[str, Any]:
        """The keys and values, as a file would have them: texts of numbers and booleans are
        converted. A text that is neither stays a text; validation reports it later."""
        found = super().__call__()
        for name, table in TABLES.items():
            values = found.get(name)
            if isinstance(values, dict):
                for key, field in table.model_fields.items():
                    if isinstance(values.get(key), str):
                        values[key] = _of_text(field, values[key])
        return found

    def decode_complex_value(self, field_name: str, field: FieldInfo, value: Any) -> Any:
        """Take JSON, or a plain text, which is enough for a list of one item."""
        try:
            return json.loads(value)
        except ValueError as error:
            if not value.lstrip().startswith(("[", "{")):
                return value
            variable = next(name for name, text in os.environ.items() if text == value)
            raise ConfigError(
                f"environment variable {variable}: expected JSON, and this is not: {error}"
            ) from None


def _of_text(field: FieldInfo, text: str) -> Any:
    meant: Any = field.annotation
    if not {meant, *get_args(meant)} & {int, float, bool}:
        return text
    try:
        return TypeAdapter(meant).validate_python(text)
    except ValidationError:
        return text


def is_own(variable: str) -> bool:
    """Whether an environment variable is one of the configuration."""
    name = variable.upper()
    return name.startswith(ENV_PREFIX) and not _ENV_OF_KUBERNETES.fullmatch(name)


def check_variables() -> None:
    """Refuse unknown variables, otherwise a typing mistake would go unnoticed.

    :raises ConfigError: a line for each unknown variable.
    """
    known = [ENV_FILE, *(ENV_PREFIX + name.upper() for name in Config.model_fields)]
    for name, table in TABLES.items():
        start = ENV_PREFIX + name.upper() + ENV_DELIMITER
        known += [start + key.upper() for key in table.model_fields]
    start = f"{ENV_PREFIX}SERVER{ENV_DELIMITER}TLS{ENV_DELIMITER}"
    known += [start + key.upper() for key in Tls.model_fields]
    lines = []
    for variable in sorted(filter(is_own, os.environ)):
        if variable.upper() in known:
            continue
        if variable.upper().startswith(ENV_PREFIX + "ENDPOINT" + ENV_DELIMITER):
            remedy = f"expected {ENV_PREFIX}ENDPOINT with the whole list of endpoints as JSON"
        else:
            remedy = expected(variable.upper(), known, cutoff=0.75)
        lines.append(f"environment variable {variable}: unknown: {remedy}")
    if lines:
        raise ConfigError("\n".join(lines))
