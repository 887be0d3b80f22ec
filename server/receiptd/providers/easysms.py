"""EasySMS (Mexedia): a GET of a URL that the customer writes, with escapes that EasySMS fills in.

Source: the vendor's "Appendix A: Receipt notifications". Inferred, from Kannel, whose convention
it is: `%%` is a percent sign, the value 8, and that dates are local (Rome unless configured).
The documents know a GET alone; a form with the same fields is read as well.

The template is the configuration: the adapter is given the very dlr-url that EasySMS was given,
and `dlr_url.Template` says which parameter carries what. A parameter that is one escape fills a
field of the receipt. All others are kept in `extra` by their own names: the status word (where
%d is there too), the error code, the date of sending, what stands for an escape that EasySMS does
not document, constants, and, whole, a value that is more than one escape.
"""

from __future__ import annotations

from datetime import datetime
from random import Random
from urllib.parse import unquote, urlencode

from pydantic import Field, field_validator

from receiptd.providers import Endpoint, Invalid, Post, Provider, ProviderOptions
from receiptd.providers.clocks import wall
from receiptd.providers.dlr_url import Template
from receiptd.providers.easysms_values import (
    ERRORS,
    ESCAPES,
    EXAMPLE,
    IDENTIFIERS,
    REFINED,
    VALUES,
    WORDS,
)
from receiptd.providers.values import (
    Lenient,
    decimal,
    identifier,
    iso_time,
    part_and_count,
    phone,
    shown,
    word,
)
from receiptd.providers.values import code as number_or_word
from receiptd.providers.words import state_of_word
from receiptd.receipt import Kind, Receipt, State

QUERY = "id=%i&d=%d&status=%s&from=%p&to=%P&sent=%t&done=%y&cost=%c&part=%n&err=%j"


def template(public_url: str) -> str:
    """A dlr-url to give to EasySMS: every escape of the table, behind `public_url` with the
    endpoint's path (by default `/easysms`) and, where it has one, its query (a token)."""
    base, _, query = public_url.partition("?")
    base = base.rstrip("/")
    if base.count("/") == 2:
        base += EasySms.path
    return f"{base}?{query}&{QUERY}" if query else f"{base}?{QUERY}"


def _part_text(receipt: Receipt) -> str | None:
    if receipt.part is None:
        return None
    return f"{receipt.part}/{receipt.parts}" if receipt.parts else str(receipt.part)


class EasySmsOptions(ProviderOptions):
    """The configuration keys of an EasySMS endpoint."""

    dlr_url: str = Field(
        default=f"https://dlr.example.com/easysms?{QUERY}",
        description="the very dlr-url that was given to EasySMS, escapes and all",
    )

    @field_validator("dlr_url")
    @classmethod
    def _decoded(cls, dlr_url: str) -> str:
        """A dlr-url that is a parameter itself is percent-encoded, and is copied so."""
        if "://" not in dlr_url and "%3a%2f%2f" in dlr_url.lower():
            return unquote(dlr_url)
        return dlr_url


class EasySms(Provider):
    """The receipts of EasySMS."""

    name = "easysms"
    title = "EasySMS"
    path = "/easysms"
    methods = ("GET", "POST")
    timezone = "Europe/Rome"
    Options = EasySmsOptions
    codes = VALUES

    def __init__(self, endpoint: Endpoint) -> None:
        super().__init__(endpoint)
        options = endpoint.options
        if not isinstance(options, EasySmsOptions):
            options = EasySmsOptions()
        self._template = Template(options.dlr_url, ESCAPES, IDENTIFIERS)
        self._names = {escape: escape for escape in ESCAPES} | self._template.names
        self._status_name = next((e for e in ("%d", "%s") if e in self._template.names), None)
        kept = {"%t", "%j"} if self._status_name == "%s" else {"%t", "%j", "%s"}
        single = self._template.single.items()
        self._columns = {escape: name for escape, name in single if escape not in kept}
        self._known = frozenset(map(self._template.key, self._columns.values()))

    def read(self, post: Post) -> list[Receipt]:
        """The one receipt of a notification."""
        fields = self._template.fields(post)
        lenient = Lenient()
        sent = self._template.values(fields, lenient).get
        name = self._names
        message_id, linked_id = self._identifiers(sent("{message_id}"), sent("%i"), lenient)
        code, state, description = self._status(sent("%d"), sent("%s"), lenient)
        error = ERRORS.get(sent("%j") or "")
        if error:
            description = f"{description}: {error}" if description else error
        recipient = lenient(phone, name["%P"], sent("%P"))
        zone = self.endpoint.timezone
        reported_at = lenient(iso_time, name["%y"], sent("%y"), zone, EXAMPLE)
        number, parts = lenient(part_and_count, name["%n"], sent("%n")) or (None, None)
        price = lenient(decimal, name["%c"], sent("%c"))
        extra, unread = lenient.rest(fields, self._known, self._template.key)
        return [
            Receipt(
                endpoint=self.endpoint.name,
                provider=self.name,
                kind=Kind.DELIVERY,
                message_id=message_id,
                state=state,
                code=code,
                recipient=recipient,
                reported_at=reported_at,
                raw=post.raw,
                description=description,
                sender=sent("%p"),
                reference=sent("{reference}"),
                part=number,
                parts=parts,
                price=price,
                extra=extra,
                linked_id=linked_id,
                unread=unread,
            )
        ]

    def _identifiers(
        self, ours: str | None, theirs: str | None, lenient: Lenient
    ) -> tuple[str | None, str | None]:
        """`message_id` and `linked_id`: where the template has both identifiers, a message is
        found by the customer's as well as by EasySMS's."""
        found = []
        unfilled = None
        for escape, value in zip(IDENTIFIERS, (ours, theirs), strict=True):
            name = self._names[escape]
            if value == escape:
                unfilled = Invalid(name, f"{name} is {shown(value)}: nobody has filled it in")
                lenient.unread[name] = value
            elif value is not None:
                read = lenient(identifier, name, value)
                if read is not None:
                    found.append(read)
        if not found and unfilled is not None:
            raise unfilled
        for escape in IDENTIFIERS if not found else ():
            if escape in self._template.names:
                name = self._names[escape]
                value = lenient.unread.get(name)
                identifier(name, value)
                raise Invalid(name, f"{name} is {shown(value or '')}: no identifier is in it")
        return found[0] if found else None, found[1] if len(set(found)) > 1 else None

    def _status(
        self, value: str | None, status: str | None, lenient: Lenient
    ) -> tuple[str | None, State, str | None]:
        """Code, state and description: %d is the code and decides, refined by %s; without a %d
        that is in the table it is %s. Configured codes win, that of %d before that of %s. (None
        by %j: its numbers and those of %d would be taken for each other.)"""
        if self._status_name is None:
            return None, State.UNKNOWN, None
        # What nobody has filled in says nothing.
        value = None if value == "%d" else value
        status = None if status == "%s" else status
        if value is None and status is None:
            name = self._names[self._status_name]
            raise Invalid(name, f"{name} is missing: it must say what became of the message")
        configured = self.endpoint.codes
        by_word = configured.get(status) if status else None
        said = state_of_word(status) or WORDS.get((status or "").upper())
        if value is None:
            code = lenient(word, self._names["%s"], status)
            return code, by_word or said or State.UNKNOWN, None
        code = lenient(number_or_word, self._names["%d"], value)
        known = VALUES.get(code or "")
        if said is not None and (known is None or said in REFINED.get(code or "", ())):
            state = said
        else:
            state = known.state if known else state_of_word(value) or State.UNKNOWN
        by_code = configured.get(code) if code else None
        return code, by_code or by_word or state, known.text if known else None

    def sample(self, random: Random, at: datetime) -> Receipt:
        """A notification such as EasySMS sends by this template, most of a delivered message."""
        value, status = random.choice(
            (("1", "DELIVRD"),) * 6 + (("4", "ACCEPTD"), ("2", "EXPIRED"), ("16", "REJECTD"))
        )
        filled = {
            "%i": str(random.randrange(10**6, 10**12)),
            "%d": value,
            "%s": status,
            "%p": random.choice(("TEST", "34600000000")),
            "%P": f"346{random.randrange(10_000_000, 100_000_000)}",
            "%t": self._written(at) or "",
            "%y": self._written(at) or "",
            "%c": random.choice(("0.045", "0.050")),
            "%n": str(random.randrange(1, 4)),
            "%j": "89" if value == "16" else "0",
            "{message_id}": f"{random.getrandbits(48):012x}",
            "{reference}": f"r{random.randrange(10**6)}",
        }
        post = Post("GET", self._template.filled(filled))
        return self.read(post)[0]._replace(raw=b"")

    def write(self, receipt: Receipt) -> Post:
        """The notification of `receipt` by this template, its time to the minute; constants
        and values of more than one escape come from its `extra`."""
        ours, theirs = receipt.message_id, receipt.linked_id
        if "{message_id}" not in self._template.names:
            ours, theirs = None, ours
        numeric = receipt.code is not None and receipt.code.lstrip("-").isdecimal()
        filled = {
            "%i": theirs,
            "%d": receipt.code if numeric else None,
            "%s": receipt.code,
            "%p": receipt.sender,
            "%P": receipt.recipient,
            "%y": self._written(receipt.reported_at),
            "%c": None if receipt.price is None else f"{receipt.price:f}",
            "%n": _part_text(receipt),
            "{message_id}": ours,
            "{reference}": receipt.reference,
        }
        fields = [(name, filled[escape]) for escape, name in self._columns.items()]
        sent = [(name, value) for name, value in fields if value is not None]
        query = urlencode([*sent, *receipt.extra.items()], doseq=True)
        return Post("GET", query.encode())

    def _written(self, at: datetime | None) -> str | None:
        zone = self.endpoint.timezone
        return wall(at, zone).isoformat(" ", "minutes") if at else None

    def warnings(self) -> list[str]:
        """What of the template can never work, or works otherwise than it looks."""
        there = self._template.names
        doubts = list(self._template.doubts())
        if "%i" not in there and "{message_id}" not in there:
            doubts.append(
                "dlr_url has neither %i nor {message_id} in a parameter, so its receipts can "
                "never be matched with a message: add one, such as id=%i, here and at EasySMS"
            )
        if self._status_name is None:
            doubts.append(
                "dlr_url has neither %d nor %s in a parameter, so the state of every receipt is "
                "UNKNOWN: add d=%d, here and at EasySMS"
            )
        if "%P" not in there:
            doubts.append(
                "dlr_url has no %P in a parameter, so the recipients of one sending cannot be "
                "told apart: add to=%P, here and at EasySMS"
            )
        return doubts
