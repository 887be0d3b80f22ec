"""The tokens, PINs and passwords of a configuration: what opens what, and what no log may show."""

from __future__ import annotations

from collections.abc import Sequence

from twisted.logger import Logger

from receiptd.config import ApiToken, Config
from receiptd.web import token_file

_log = Logger(namespace="receiptd")


def api_tokens(config: Config) -> list[ApiToken]:
    """The tokens that open the API and /metrics: the configured ones, otherwise the one in the
    token file. A missing file is made. If it cannot be used, the log says why, and no token is
    returned."""
    if config.api.token:
        return config.api.token
    try:
        found = token_file.read_or_make(token_file.place(config))
    except token_file.TokenFileError as error:
        _log.error(
            "{error}. Until then the API and /metrics answer nobody; receipts are still received",
            error=error,
        )
        return []
    if found.warning:
        _log.warn("{warning}. Now only its owner can", warning=found.warning)
    if found.made:
        _log.info(
            "made a token for the API and /metrics: {path}", path=str(token_file.place(config))
        )
    return [token_file.api_token(found)]


def all_tokens(config: Config, accepted: Sequence[ApiToken]) -> list[bytes]:
    """Every token that opens an endpoint or the API.

    :param accepted: the tokens of the API.
    """
    secrets = [token for endpoint in config.endpoint for token in endpoint.token]
    secrets += [each.token for each in accepted]
    return [secret.get_secret_value().encode() for secret in secrets]


def all_secrets(config: Config) -> list[str]:
    """Every PIN, token and password that posts and requests may carry."""
    found = [each.token for each in config.api.token]
    for endpoint in config.endpoint:
        found += [*endpoint.pin, *endpoint.token]
        if endpoint.basic:
            found += endpoint.basic.password
    return [secret.get_secret_value() for secret in found]
