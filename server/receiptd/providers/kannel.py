"""Kannel: a GET of the `dlr-url` that the customer writes, with escapes that Kannel fills in.

Source: Kannel's own code (gw/dlr.c, urltrans.c, smsbox.c, 2014) and user guide; the values 34
and 66 are of newer versions. From memory: how ACK and NACK look in %A.

%d is one event, and no mask. In a receipt %p is the recipient and %P our sender (the user guide
words it for incoming messages, the other way round): `recipient` says otherwise where a Kannel
differs. %t is UTC. Kannel takes 200 or 202 for "received", and by default tries nothing again.
"""

from __future__ import annotations

import re
from datetime import datetime
from random import Random
from typing import Literal
from urllib.parse import urlencode

from pydantic import Field

from receiptd.providers import Code, Endpoint, Invalid, Post, Provider, ProviderOptions
from receiptd.providers.dlr_url import Template
from receiptd.providers.times import epoch_time
from receiptd.providers.values import Lenient, identifier, iso_time, phone
from receiptd.providers.values import code as numeric
from receiptd.providers.words import SMPP_WORDS
from receiptd.receipt import Receipt, State

ESCAPES = {
    "%d": "[0-9]*",
    "%p": r"\+?[0-9]*",
    "%P": None,
    "%q": r"\+?[0-9]*",
    "%Q": None,
    "%t": "(?:[0-9]{4}-[0-9]{2}-[0-9]{2}[ T][0-9]{2}:[0-9]{2}(?::[0-9]{2})?)?",
    "%T": "[0-9]*",
    "%I": None,  # Kannel's uuid of the receipt
    "%F": None,  # the SMSC's identifier
    "%i": None,  # the SMSC's name in Kannel
    "%A": None,  # the SMSC's words
    "%B": None,
    "%n": None,
    "%o": None,
    "%D": None,
    "%c": "[0-9]*",
    "%C": None,
    "%R": None,
    "{message_id}": None,
    "{reference}": None,
}
IDENTIFIERS = ("{message_id}", "%F", "%I")
CODES = {
    "1": Code(State.DELIVERED, "Delivered"),
    "2": Code(State.UNDELIVERABLE, "Failed"),
    "4": Code(State.ENROUTE, "Buffered"),
    "8": Code(State.ENROUTE, "Taken by the SMSC"),
    "16": Code(State.REJECTED, "Refused by the SMSC"),
    "32": Code(State.ENROUTE, "Intermediate notification"),
    "34": Code(State.EXPIRED, "Expired"),
    "66": Code(State.UNKNOWN, "Unknown"),
}
# Older versions say 2 of all that has failed, and 4 of all that has not: %A says more.
REFINED = {
    "2": {State.EXPIRED, State.DELETED, State.REJECTED, State.UNKNOWN},
    "4": {State.ACCEPTED},
}
_STAT = re.compile(r"\bstat:([A-Za-z]{1,16})")
LONGEST_WORDS = 1000
"""Characters of %A that are looked through."""

DLR_URL = "https://dlr.example.com/kannel?id={message_id}&d=%d&to=%p&from=%P&t=%T&fid=%F&a=%A"


class KannelOptions(ProviderOptions):
    """The configuration keys of a Kannel endpoint."""

    dlr_url: str = Field(
        default=DLR_URL,
        description="the very dlr-url that is given to Kannel, escapes and all; {message_id} and "
        "{reference} stand for what the application puts there",
    )
    recipient: Literal["%p", "%P"] = Field(
        default="%p",
        description="which of %p and %P is the recipient: %P in a Kannel that takes them the "
        "other way round",
    )


class Kannel(Provider):
    """The receipts of Kannel, and of what copies it."""

    name = "kannel"
    title = "Kannel"
    path = "/kannel"
    methods = ("GET",)
    Options = KannelOptions
    codes = CODES

    def __init__(self, endpoint: Endpoint) -> None:
        super().__init__(endpoint)
        options = endpoint.options
        if not isinstance(options, KannelOptions):
            options = KannelOptions()
        self._template = Template(options.dlr_url, ESCAPES, IDENTIFIERS)
        there = self._template.names
        self._names = {escape: escape for escape in ESCAPES} | there
        to, sender = ("%p", "%P") if options.recipient == "%p" else ("%P", "%p")
        self._to = _one_of(there, to, "%q" if to == "%p" else "%Q")
        self._sender = _one_of(there, sender, "%Q" if sender == "%P" else "%q")
        self._identifiers = [escape for escape in IDENTIFIERS if escape in there]
        used = {"%d", self._to, self._sender, "%T", "%t", "{reference}", *self._identifiers[:2]}
        single = self._template.single
        self._columns = {escape: name for escape, name in single.items() if escape in used}
        self._known = frozenset(map(self._template.key, self._columns.values()))

    def read(self, post: Post) -> list[Receipt]:
        """The one receipt of a notification."""
        fields = self._template.fields(post)
        lenient = Lenient()
        sent = self._template.values(fields, lenient).get
        name = self._names
        code = self._code(sent("%d"))
        found = [
            identifier(name[escape], value)
            for escape in self._identifiers
            if (value := sent(escape)) is not None
        ]
        if not found and self._identifiers:
            identifier(name[self._identifiers[0]], None)
        at = lenient(epoch_time, name["%T"], sent("%T"))
        if at is None:
            at = lenient(iso_time, name["%t"], sent("%t"), self.endpoint.timezone)
        said = _STAT.search((sent("%A") or "")[:LONGEST_WORDS])
        error = said[1].upper() if said else None
        return [
            self.receipt(
                post,
                code=code,
                error=error,
                lenient=lenient,
                message_id=found[0] if found else None,
                linked_id=found[1] if len(set(found)) > 1 else None,
                recipient=lenient(phone, name[self._to], sent(self._to)),
                sender=sent(self._sender),
                reference=sent("{reference}"),
                reported_at=at,
                extra=fields.rest(self._known),
            )
        ]

    def _code(self, value: str | None) -> str | None:
        if "%d" not in self._template.names:
            return None
        found = numeric(self._names["%d"], value)
        if found is None:
            name = self._names["%d"]
            raise Invalid(name, f"{name} is missing: it must say what became of the message")
        return found

    def state(self, code: str | None, error: str | None = None) -> State:
        """As configured, else by the event, refined by the SMSC's word; of an event that is not
        known, by its lowest bit that is."""
        if code is None or code in self.endpoint.codes or f"{code}/{error}" in self.endpoint.codes:
            return super().state(code, error)
        if code not in CODES:
            number = int(code) if code.isdecimal() else 0
            bits = (str(1 << bit) for bit in range(6) if number > 0 and number & 1 << bit)
            code = next(bits, "66")
        said = SMPP_WORDS.get(error or "")
        if said is not None and said in REFINED.get(code, ()):
            return said
        return CODES[code].state

    def sample(self, random: Random, at: datetime) -> Receipt:
        """A notification such as Kannel sends by this template."""
        event, stat = random.choice(
            (("1", "DELIVRD"),) * 6 + (("8", ""), ("2", "UNDELIV"), ("2", "EXPIRED"), ("16", ""))
        )
        number = f"4477009{random.randrange(100_000):05}"
        filled = {
            "%d": event,
            **{each: number if each == self._to else "Acme" for each in ("%p", "%P")},
            **{each: number if each == self._to else "Acme" for each in ("%q", "%Q")},
            "%t": at.strftime("%Y-%m-%d %H:%M:%S"),
            "%T": str(int(at.timestamp())),
            "%I": f"{random.getrandbits(128):032x}",
            "%F": f"{random.getrandbits(32):X}",
            "%i": "main",
            "%A": f"id:1 stat:{stat} err:000" if stat else "ACK/",
            "{message_id}": f"{random.getrandbits(48):012x}",
            "{reference}": f"r{random.randrange(10**6)}",
        }
        return self.read(Post("GET", self._template.filled(filled)))[0]._replace(raw=b"")

    def write(self, receipt: Receipt) -> Post:
        """The notification of `receipt` by this template; what it has no column for comes from
        its `extra`."""
        at = receipt.reported_at
        filled = {
            "%d": receipt.code,
            self._to: receipt.recipient,
            self._sender: receipt.sender,
            "%t": at.strftime("%Y-%m-%d %H:%M:%S") if at else None,
            "%T": str(int(at.timestamp())) if at else None,
            "{reference}": receipt.reference,
            **dict(zip(self._identifiers, (receipt.message_id, receipt.linked_id), strict=False)),
        }
        fields = [(name, filled.get(escape)) for escape, name in self._columns.items()]
        sent = [(name, value) for name, value in fields if value is not None]
        return Post("GET", urlencode([*sent, *receipt.extra.items()], doseq=True).encode())

    def warnings(self) -> list[str]:
        """What of the template can never work, or works otherwise than it looks."""
        doubts = list(self._template.doubts())
        if not self._identifiers:
            doubts.append(
                "dlr_url has none of {message_id}, %F and %I in a parameter, so its receipts can "
                "never be matched with a message: add id={message_id}, and fill it in at sending"
            )
        if "%d" not in self._template.names:
            doubts.append(
                "dlr_url has no %d in a parameter, so the state of every receipt is UNKNOWN: add "
                "d=%d, here and at Kannel"
            )
        return doubts


def _one_of(there: dict[str, str], *escapes: str) -> str:
    """The first escape that a template has, else the first."""
    return next((escape for escape in escapes if escape in there), escapes[0])
