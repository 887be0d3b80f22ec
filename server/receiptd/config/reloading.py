"""Which keys of a new configuration a running server uses, and which need a restart."""

from __future__ import annotations

from receiptd.config.settings import Config

FIXED = {
    "server": ("listen", "workers", "user", "group"),
    "store": ("url", "migrate", "queue", "spool", "spool_limit"),
}
"""The keys, by table, that only a restart changes: the start binds or opens by them."""


def taken_over(old: Config, new: Config) -> tuple[Config, list[str]]:
    """`new`, with the old values of the keys that cannot change, and the names of those keys."""
    kept: list[str] = []
    tables = {}
    for table, keys in FIXED.items():
        before, after = getattr(old, table), getattr(new, table)
        differing = [key for key in keys if getattr(before, key) != getattr(after, key)]
        kept += [f"{table}.{key}" for key in differing]
        tables[table] = after.model_copy(update={key: getattr(before, key) for key in differing})
    before_tls, after_tls = old.server.tls, new.server.tls
    if (before_tls is None) != (after_tls is None):
        kept.append("server.tls")
        after_tls = before_tls
    elif before_tls and after_tls and before_tls.listen != after_tls.listen:
        kept.append("server.tls.listen")
        after_tls = after_tls.model_copy(update={"listen": before_tls.listen})
    tables["server"] = tables["server"].model_copy(update={"tls": after_tls})
    return new.model_copy(update=tables), kept
