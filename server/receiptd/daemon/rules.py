"""What a configuration means for the store: the same rules for the server and the command line."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from receiptd.store.matching import Policy
from receiptd.store.recorder import Quota
from receiptd.store.spool.folder import default_folder

if TYPE_CHECKING:
    from receiptd.blanking.by_value import KnownSecrets
    from receiptd.config import Config
    from receiptd.rejected.retry import Rules


def policies(config: Config) -> dict[str, Policy]:
    """How each endpoint's receipts are matched, by its name."""
    return {each.name: Policy(each.match, each.phone_region) for each in config.endpoint}


def quota(config: Config) -> Quota:
    """How many rejected posts are kept."""
    store = config.store
    return Quota(
        store.rejected_count, store.unreadable_count, store.rejected_days, store.rejected_size
    )


def spool_folder(config: Config) -> Path:
    """Where posts wait for the database; an absolute path."""
    return Path(config.store.spool or default_folder(config.store.url)).absolute()


def phone_regions(config: Config) -> frozenset[str | None]:
    """The countries by whose national forms a phone number may be meant: those of all endpoints,
    and None, which reads it as an international number."""
    return frozenset({None, *(endpoint.phone_region for endpoint in config.endpoint)})


def retry_rules(config: Config, secrets: KnownSecrets | None = None) -> Rules:
    """By what rejected posts are tried again.

    :param secrets: those that are blanked; those of `config` where left out.
    """
    from receiptd.blanking.by_value import KnownSecrets
    from receiptd.daemon.credentials import all_secrets
    from receiptd.rejected.reading import KeptPosts
    from receiptd.rejected.retry import Rules

    if secrets is None:
        secrets = KnownSecrets(all_secrets(config))
    return Rules(
        KeptPosts(config.endpoint, config.server.public_url, secrets),
        policies(config),
        quota(config),
        config.regions,
    )
