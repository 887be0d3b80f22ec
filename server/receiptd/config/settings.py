"""The whole configuration, made of its tables: each key with its type, its default, its use.

The descriptions and examples are the documentation: `receiptd init` writes them into a file.
"""

from __future__ import annotations

from typing import Self

from pydantic import BaseModel, Field, model_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from receiptd.config.api import Api
from receiptd.config.console import ConsoleTable
from receiptd.config.endpoint import Endpoint, default_endpoints
from receiptd.config.errors import Finding, Misfit
from receiptd.config.forward import Forward, misfits
from receiptd.config.log import Logging
from receiptd.config.server import Server
from receiptd.config.store import Store

ENV_PREFIX = "RECEIPTD_"
ENV_DELIMITER = "__"
"""What environment variables begin with, and what stands between a table and its key."""


class Config(BaseSettings):
    """The whole configuration. Made directly it is what the arguments say; `load` reads the
    file and the environment."""

    model_config = SettingsConfigDict(
        env_prefix=ENV_PREFIX,
        env_nested_delimiter=ENV_DELIMITER,
        extra="forbid",
        frozen=True,
        hide_input_in_errors=True,
    )

    server: Server = Server()
    store: Store = Store()
    log: Logging = Logging()
    api: Api = Api()
    console: ConsoleTable = ConsoleTable()
    endpoint: list[Endpoint] = Field(default_factory=default_endpoints, min_length=1)
    forward: list[Forward] = []

    @property
    def regions(self) -> dict[str, str | None]:
        """By whose national forms each provider's recipients are read: as at its first
        endpoint."""
        found: dict[str, str | None] = {}
        for endpoint in self.endpoint:
            found.setdefault(endpoint.called, endpoint.phone_region)
        return found

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """The arguments alone: `load` merges what they are made of, so as to know of each key
        where it came from."""
        return (init_settings,)

    @model_validator(mode="after")
    def _no_clash(self) -> Self:
        found: list[Finding] = []
        for what in ("path", "name"):
            seen: dict[str, int] = {}
            for number, endpoint in enumerate(self.endpoint):
                value = getattr(endpoint, what)
                if value in seen:
                    text = (
                        f"endpoint {seen[value] + 1} has the {what} {value!r} already: "
                        f"each needs its own"
                    )
                    found.append((("endpoint", number, what), text))
                seen.setdefault(value, number)
        for number, endpoint in enumerate(self.endpoint):
            bound = endpoint.bind(self.server.public_url)
            if bound.signs_url and bound.signed and not bound.endpoint.public_urls:
                text = (
                    f"{endpoint.provider} signs the URL, and nothing says which: set public_url "
                    "here or in [server] to what stands before the path in the registered URL"
                )
                found.append((("endpoint", number, "public_url"), text))
            if (endpoint.max_body or 0) > self.server.max_bodies:
                text = (
                    f"{endpoint.max_body} is more than server.max_bodies, which is "
                    f"{self.server.max_bodies}: a body of that size could never come; raise that"
                )
                found.append((("endpoint", number, "max_body"), text))
        found += misfits(self.forward, [each.name for each in self.endpoint])
        if found:
            raise Misfit(found)
        return self


TABLES: dict[str, type[BaseModel]] = {
    name: field.annotation
    for name, field in Config.model_fields.items()
    if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel)
}
"""The tables of the file, by name, without the list of endpoints."""
