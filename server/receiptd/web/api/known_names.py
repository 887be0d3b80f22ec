"""Names that a list is asked for, and whether there is anything of that name.

What is configured is known. A name that is not may still be that of an endpoint or a provider of
earlier days, so the store is asked as well; only where that has nothing of it is it a mistake.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from sqlalchemy import Engine

from receiptd import providers
from receiptd.config import Endpoint
from receiptd.errors import did_you_mean
from receiptd.providers.values import shown
from receiptd.store.paging import Source, page
from receiptd.web.api.parameters import Query, refused

MOST_LOOKED_FOR = 5
"""Names that are looked for in the store for one request: each may take as long as a page."""


class Names(NamedTuple):
    """What the configuration has names for."""

    configured: tuple[str, ...]
    """Providers with an endpoint."""
    installed: tuple[str, ...]
    """All providers that there are."""
    endpoints: tuple[str, ...]
    regions: frozenset[str | None]
    """By whose national forms a phone number may be meant."""

    @classmethod
    def of(cls, endpoints: Sequence[Endpoint]) -> Names:
        """The names of a configuration with these endpoints."""
        configured = tuple(dict.fromkeys(each.provider for each in endpoints))
        return cls(
            configured,
            tuple(dict.fromkeys([*configured, *providers.names()])),
            tuple(each.name for each in endpoints),
            frozenset({None, *(each.phone_region for each in endpoints)}),
        )

    def strange(self, query: Query) -> list[tuple[str, str]]:
        """The names in `query` that are not known, each behind its parameter."""
        return [
            (parameter, name)
            for parameter, known in self._known().items()
            for name in dict.fromkeys(getattr(query, parameter, ()))
            if name not in known
        ]

    def check(
        self, engine: Engine, source: Source, model: type[Any], strange: Sequence[tuple[str, str]]
    ) -> None:
        """See that the store has something of each of these names. In a thread.

        :param model: the filter that goes with `source`.
        :param strange: see `strange`.
        :raises Problem: 422 naming those of which there is nothing.
        """
        wrong = []
        for number, (parameter, name) in enumerate(strange):
            if number < MOST_LOOKED_FOR:
                found = page(engine, source, model(**{parameter: (name,)}), limit=1)
                if found.rows or found.next_id is not None:
                    continue
            wrong.append((parameter, self.unknown(parameter, name)))
        if wrong:
            raise refused(wrong)

    def unknown(self, parameter: str, name: str) -> str:
        """What is wrong with a name of which there is nothing."""
        remedy = did_you_mean(name, self._known()[parameter])
        return f"nothing is called {shown(name)}: {remedy}"

    def _known(self) -> dict[str, tuple[str, ...]]:
        return {"provider": self.installed, "endpoint": self.endpoints}
