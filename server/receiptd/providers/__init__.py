"""What a provider is to receiptd: posts in, receipts out; verdicts in, a reply out.

A provider's module is pure: it knows nothing of Twisted or SQL. It is found through the
entry-point group `receiptd.providers`, the built-in ones too, so that a package of somebody
else's adds one without a change here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, tzinfo
from functools import cache
from importlib.metadata import entry_points
from random import Random
from typing import Any, ClassVar, NamedTuple

from pydantic import BaseModel, ConfigDict

from receiptd.providers.post import Fields, Invalid, Post
from receiptd.providers.values import state_of_word
from receiptd.receipt import Outcome, Receipt, State, Verdict

__all__ = [
    "Code",
    "Endpoint",
    "Fields",
    "Invalid",
    "NoOptions",
    "Post",
    "Provider",
    "ProviderError",
    "Reply",
    "load",
    "names",
]

GROUP = "receiptd.providers"
"""The entry-point group that providers are found through."""


class ProviderError(Exception):
    """An installed provider that does not work; the text names its package."""


class Code(NamedTuple):
    """A row of a vendor's code table."""

    state: State
    text: str


class Reply(NamedTuple):
    """What a provider is answered."""

    status: int = 200
    body: bytes = b""
    content_type: str = "text/plain; charset=utf-8"


class NoOptions(BaseModel):
    """The configuration keys of a provider that has none of its own."""

    model_config = ConfigDict(extra="forbid", frozen=True)


@dataclass(frozen=True, slots=True)
class Endpoint:
    """What the configuration says of one endpoint, as far as its provider needs to know."""

    name: str
    timezone: tzinfo = UTC
    codes: Mapping[str, State] = field(default_factory=dict)
    """States of codes that the provider's own table lacks or that the user wants otherwise."""
    options: Any = None
    """An instance of the provider's `Options`."""


class Provider:
    """One provider's wire format, bound to one endpoint's configuration. Subclass it.

    A subclass names itself, says which methods the provider uses, and overrides `read`;
    `answer` and `refuse` where the provider expects other replies than the usual ones.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    """The provider's name for people."""
    path: ClassVar[str]
    """Where the endpoint is served unless configured otherwise."""
    methods: ClassVar[tuple[str, ...]] = ("POST",)
    timezone: ClassVar[str] = "UTC"
    """IANA name of the zone that local times are read in unless configured otherwise."""
    region: ClassVar[str | None] = None
    """ISO 3166 code of the country by whose national forms phone numbers are read."""
    in_body_credentials: ClassVar[bool] = False
    """Whether posts carry a username and a PIN among their fields, as `credentials` reads."""
    secrets: ClassVar[frozenset[str]] = frozenset()
    """Names, in lower case, of fields that hold a secret: blanked in what is stored."""
    charset: ClassVar[str] = "iso8859-1"
    """What posts are in where they are not UTF-8."""
    Options: ClassVar[type[BaseModel]] = NoOptions
    codes: ClassVar[Mapping[str, Code]] = {}

    def __init__(self, endpoint: Endpoint) -> None:
        self.endpoint = endpoint

    def credentials(self, post: Post) -> tuple[str | None, str | None]:
        """Username and PIN that `post` carries in its fields."""
        return None, None

    def read(self, post: Post) -> list[Receipt]:
        """The receipts that `post` carries, at least one.

        :raises Invalid: where the post is understood but carries nonsense.
        """
        raise NotImplementedError

    def answer(self, receipts: Sequence[Receipt], verdicts: Sequence[Verdict]) -> Reply:
        """The reply once `receipts` are stored: here 200 and nothing, also for a mismatch,
        since no retry can mend one."""
        return Reply()

    def refuse(self, post: Post, verdict: Verdict) -> Reply:
        """The reply to a post that was not taken: invalid, unauthorized or busy."""
        return Reply(_REFUSALS[verdict.outcome], verdict.text.encode() + b"\n")

    def sample(self, random: Random, at: datetime) -> Receipt:
        """A plausible receipt, reported at `at`, such as `receiptd simulate` sends."""
        raise NotImplementedError

    def write(self, receipt: Receipt) -> Post:
        """The post in which the provider would send `receipt`: `read` gives it back."""
        raise NotImplementedError

    def warnings(self) -> list[str]:
        """What `check-config` and the start should say of this endpoint's configuration."""
        return []

    def state(self, code: str | None) -> State:
        """The state that `code` stands for: as configured, else by the vendor's table, else as a
        word of the field, else UNKNOWN."""
        if code is None:
            return State.UNKNOWN
        configured = self.endpoint.codes.get(code)
        if configured is not None:
            return configured
        known = self.codes.get(code)
        return known.state if known else state_of_word(code) or State.UNKNOWN

    def description(self, code: str | None) -> str | None:
        """The vendor's words for `code`, None where the table has none."""
        known = self.codes.get(code) if code is not None else None
        return known.text if known else None


_REFUSALS = {Outcome.INVALID: 400, Outcome.UNAUTHORIZED: 403, Outcome.BUSY: 503}


@cache
def load() -> dict[str, type[Provider]]:
    """All installed providers, by name.

    :raises ProviderError: where one cannot be imported.
    """
    found = {}
    for point in entry_points(group=GROUP):
        try:
            found[point.name] = point.load()
        except Exception as error:
            package = point.dist.name if point.dist else point.value
            raise ProviderError(
                f"the provider {point.name!r} of the package {package} cannot be imported: "
                f"{error}: mend or uninstall that package"
            ) from error
    return dict(sorted(found.items()))


def names() -> list[str]:
    """The installed providers' names."""
    return list(load())
