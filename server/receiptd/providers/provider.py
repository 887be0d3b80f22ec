"""A provider's module: posts in, receipts out; verdicts in, a reply out."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from functools import partial
from random import Random
from typing import Any, ClassVar, NamedTuple, TypeAlias

from pydantic import BaseModel

from receiptd.blanking.by_name import blank_members
from receiptd.providers.endpoint import Endpoint, NoOptions
from receiptd.providers.fields import Ignored, Invalid
from receiptd.providers.json_body import written
from receiptd.providers.post import Post
from receiptd.providers.values import Lenient
from receiptd.providers.words import state_of_word
from receiptd.receipt import Kind, Outcome, Receipt, State, Verdict


class Code(NamedTuple):
    """A row of a vendor's code table."""

    state: State
    text: str


class Reply(NamedTuple):
    """What a provider is answered."""

    status: int = 200
    body: bytes = b""
    content_type: str = "text/plain; charset=utf-8"


Item: TypeAlias = Receipt | Invalid | Ignored
"""What one item of a post is."""


class Provider:
    """One provider's wire format, bound to one endpoint's configuration. Subclass it.

    A subclass names itself, says which methods the provider uses, and overrides `read`;
    `verify` where the provider signs its posts; `answer` and `refuse` where it expects other
    replies than the usual ones.
    """

    name: str
    """A class names it; only `generic` changes it, by its configuration."""
    title: ClassVar[str]
    """The provider's name for people."""
    path: ClassVar[str]
    """Where the endpoint is served unless configured otherwise."""
    methods: tuple[str, ...] = ("POST",)
    timezone: ClassVar[str] = "UTC"
    """IANA name of the zone that local times are read in unless configured otherwise."""
    region: ClassVar[str | None] = None
    """ISO 3166 code of the country by whose national forms phone numbers are read."""
    in_body_credentials: ClassVar[bool] = False
    """Whether posts carry a username and a PIN among their fields, as `credentials` reads."""
    signs_url: ClassVar[bool] = False
    """Whether a signature covers the URL: then the configuration must name it."""
    by_default: ClassVar[bool] = True
    """Whether it is served where the configuration names no endpoint."""
    secrets: frozenset[str] = frozenset()
    """Names, in lower case, of fields that hold a secret: blanked in what is stored."""
    charset: ClassVar[str] = "iso8859-1"
    """What posts are in where they are not UTF-8."""
    Options: ClassVar[type[BaseModel]] = NoOptions
    codes: ClassVar[Mapping[str, Code]] = {}
    handler: ClassVar[str | None] = None
    """`MODULE:NAME` of what takes its posts, where they are more than a query, a form or JSON."""
    reader: ClassVar[str | None] = None
    """`MODULE:NAME` of what reads a post of it that was kept, where that is more than `read`
    does: it takes the provider, and a post without headers, and returns and raises as `read`."""
    dialect: ClassVar[str | None] = None
    """`MODULE:NAME` of what `receiptd simulate` writes its posts and reads the answers with."""

    def __init__(self, endpoint: Endpoint) -> None:
        self.endpoint = endpoint

    def credentials(self, post: Post) -> tuple[str | None, str | None]:
        """Username and PIN that `post` carries in its fields."""
        return None, None

    def verify(self, post: Post) -> None:
        """Check the provider's signature, where the endpoint is configured with its secret.

        :raises Unverified: where it is missing, wrong or too old.
        """

    def sign(self, post: Post) -> Post:
        """`post` signed as the provider would sign it, where the endpoint is configured with its
        secret; for `receiptd simulate`."""
        return post

    @property
    def signed(self) -> bool:
        """Whether posts must bear a signature, as the endpoint is configured."""
        return False

    def read(self, post: Post) -> Sequence[Item]:
        """What `post` carries: for each of its items a receipt, an `Invalid` where it is
        nonsense, or an `Ignored` where it is none; at least one. The good ones are stored.

        :raises Invalid: where the post as a whole is understood but carries nonsense.
        """
        raise NotImplementedError

    def each(
        self,
        items: Iterable[Any],
        read: Callable[[Any], Item | Sequence[Item]],
        alone: Callable[[Any], Any] = lambda item: [item],
    ) -> list[Item]:
        """What `read` makes of each of the `items` of a JSON body; where it raises `Invalid`,
        that item alone is nonsense.

        :param alone: gives the body that carries this item and no other; a list of it where left
            out. It is kept of an item that is nonsense, and may be read again later.
        """

        def body(item: Any) -> bytes:
            text = written(alone(item)).encode(errors="replace")
            return blank_members(text, self.secrets) if self.secrets else text

        found: list[Item] = []
        for item in items:
            try:
                one = read(item)
            except Invalid as error:
                # Made when it is kept: a hostile post has ten thousand such items.
                error.alone = partial(body, item)
                one = error
            if isinstance(one, (Receipt, Invalid, Ignored)):
                found.append(one)
            else:
                found += one
        return found

    def receipt(
        self,
        post: Post,
        *,
        code: str | None,
        error: str | None = None,
        lenient: Lenient | None = None,
        **fields: Any,
    ) -> Receipt:
        """A receipt out of `post`: what is the same in every module is filled in.

        :param code: decides state and description, unless `fields` has them.
        :param error: a second code, that a configured `"CODE/ERROR"` refines the state by.
        :param lenient: what the others were read with: it has what could not be.
        :param fields: the others of `Receipt`.
        """
        if lenient is not None and lenient.unread:
            fields["extra"] = {**fields.get("extra", {}), **lenient.unread}
            fields["unread"] = tuple(lenient.unread)
        if "state" not in fields:
            fields["state"] = self.state(code, error)
        if fields.get("description") is None:
            fields["description"] = self.description(code)
        fields.setdefault("kind", Kind.DELIVERY)
        for name in ("message_id", "recipient", "reported_at"):
            fields.setdefault(name, None)
        return Receipt(
            endpoint=self.endpoint.name, provider=self.name, code=code, raw=post.raw, **fields
        )

    def answer(self, receipts: Sequence[Receipt], verdicts: Sequence[Verdict]) -> Reply:
        """The reply once `receipts` are stored: here 200 and nothing, also for a mismatch,
        since no retry can mend one. Of a post that was ignored there are none."""
        return Reply()

    def refuse(self, post: Post, verdict: Verdict) -> Reply:
        """The reply to a post that was not taken: invalid, unauthorized or busy."""
        return Reply(_REFUSALS[verdict.outcome], verdict.text.encode() + b"\n")

    def sample(self, random: Random, at: datetime) -> Receipt:
        """A plausible receipt, reported at `at`, such as `receiptd simulate` sends."""
        raise NotImplementedError

    def sample_of(self, kind: Kind, random: Random, at: datetime) -> Receipt:
        """As `sample`, of that kind.

        :raises LookupError: where none of that kind is ever made up.
        """
        for _ in range(_MOST_SAMPLES):
            receipt = self.sample(random, at)
            if receipt.kind is kind:
                return receipt
        raise LookupError(kind)

    def write(self, receipt: Receipt) -> Post:
        """The post in which the provider would send `receipt`: `read` gives it back."""
        raise NotImplementedError

    def warnings(self) -> list[str]:
        """What `check-config` and the start should say of this endpoint's configuration."""
        return []

    def state(self, code: str | None, error: str | None = None) -> State:
        """The state that `code` stands for: as configured, also for `"CODE/ERROR"`, else by the
        vendor's table, else as a word of the field, else UNKNOWN."""
        if code is None:
            return State.UNKNOWN
        configured = self.endpoint.codes
        if error is not None and f"{code}/{error}" in configured:
            return configured[f"{code}/{error}"]
        if code in configured:
            return configured[code]
        known = self.codes.get(f"{code}/{error}") if error is not None else None
        known = known or self.codes.get(code)
        return known.state if known else state_of_word(code) or State.UNKNOWN

    def description(self, code: str | None) -> str | None:
        """The vendor's words for `code`, None where the table has none."""
        known = self.codes.get(code) if code is not None else None
        return known.text if known else None


_MOST_SAMPLES = 300
"""How many are made up to find one of a wanted kind: the rarest is one in ten."""
_REFUSALS = {Outcome.INVALID: 400, Outcome.UNAUTHORIZED: 403, Outcome.BUSY: 503}
