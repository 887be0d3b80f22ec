"""The configuration: a TOML file, environment variables over it, and errors that say what to do.

Each key can be set by an environment variable: `RECEIPTD_STORE__URL` is `url` in `[store]`; a
list or a table is written there as JSON.
"""

from receiptd.config.api import Api, ApiToken
from receiptd.config.console import ConsoleTable
from receiptd.config.endpoint import Basic, Endpoint
from receiptd.config.errors import ConfigError
from receiptd.config.forward import Forward
from receiptd.config.log import Logging
from receiptd.config.secrets_check import exposed, refuse_exposed
from receiptd.config.server import Server, Tls
from receiptd.config.settings import Config
from receiptd.config.sources import DEFAULT_FILE, describe, find, load
from receiptd.config.store import Store

__all__ = [
    "DEFAULT_FILE",
    "Api",
    "ApiToken",
    "Basic",
    "Config",
    "ConfigError",
    "ConsoleTable",
    "Endpoint",
    "Forward",
    "Logging",
    "Server",
    "Store",
    "Tls",
    "describe",
    "exposed",
    "find",
    "load",
    "refuse_exposed",
]
