"""Jasmin: its delivery receipts, thrown at the `dlr-url` of a message by GET or POST.

Source: Jasmin's own thrower and its page "HTTP API". At level 1 the SMSC's answer is told, at
level 2 its receipt. `donedate` is the SMSC's local time: the endpoint's `timezone` says which.
Jasmin takes an answer for "received" where it is `ACK/Jasmin`; anything else comes again
thrice, 30 seconds apart, and what is answered 404 never.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from random import Random
from urllib.parse import urlencode
from uuid import UUID

from receiptd.providers import Code, Invalid, Post, Provider, Reply
from receiptd.providers.clocks import wall
from receiptd.providers.values import Lenient, identifier, smpp_time, word
from receiptd.providers.words import SMPP_WORDS
from receiptd.receipt import Receipt, State, Verdict

TAKEN = "ESME_ROK"
CODES = {
    TAKEN: Code(State.ENROUTE, "Taken by the SMSC"),
    **{name: Code(state, str(state)) for name, state in SMPP_WORDS.items()},
}
_KNOWN = frozenset({"id", "message_status", "donedate", "id_smsc"})


class Jasmin(Provider):
    """The receipts of Jasmin."""

    name = "jasmin"
    title = "Jasmin SMS Gateway"
    path = "/jasmin"
    methods = ("POST", "GET")
    codes = CODES

    def read(self, post: Post) -> list[Receipt]:
        """The one receipt of a throw."""
        fields = post.fields
        get = fields.get
        lenient = Lenient()
        code = word("message_status", get("message_status"))
        if code is None:
            raise Invalid(
                "message_status", "message_status is missing: it must be the message's state"
            )
        done, smsc = _there(get("donedate")), _there(get("id_smsc"))
        extra = {name: value for name, value in fields.rest(_KNOWN).items() if value != "ND"}
        return [
            self.receipt(
                post,
                code=code.upper(),
                lenient=lenient,
                message_id=identifier("id", get("id")),
                reported_at=lenient(smpp_time, "donedate", done, self.endpoint.timezone),
                linked_id=identifier("id_smsc", smsc) if smsc else None,
                extra=extra,
            )
        ]

    def state(self, code: str | None, error: str | None = None) -> State:
        """As configured, else by the word; an error of the SMSC at level 1 is final."""
        if code is None or code in self.endpoint.codes or code in self.codes:
            return super().state(code, error)
        return State.REJECTED if code.startswith("ESME_") else State.UNKNOWN

    def answer(self, receipts: Sequence[Receipt], verdicts: Sequence[Verdict]) -> Reply:
        """What Jasmin takes for "received"."""
        return Reply(200, b"ACK/Jasmin")

    def sample(self, random: Random, at: datetime) -> Receipt:
        """A receipt such as Jasmin throws, most of them of a delivered message."""
        code = random.choice(("DELIVRD",) * 6 + ("ESME_ROK", "UNDELIV", "EXPIRED", "REJECTD"))
        fields = {
            "id": str(UUID(int=random.getrandbits(128))),
            "message_status": code,
            "level": "1" if code == TAKEN else "2",
            "connector": "main_smpp",
        }
        if code != TAKEN:
            fields |= {
                "id_smsc": str(random.randrange(10**6, 10**9)),
                "sub": "001",
                "dlvrd": "001" if code == "DELIVRD" else "000",
                "donedate": wall(at, self.endpoint.timezone).strftime("%y%m%d%H%M"),
                "err": "000" if code == "DELIVRD" else "011",
            }
        return self.read(_form(fields))[0]._replace(raw=b"")

    def write(self, receipt: Receipt) -> Post:
        """The throw of `receipt`."""
        at = receipt.reported_at
        fields = {
            "id": receipt.message_id,
            "message_status": receipt.code,
            "id_smsc": receipt.linked_id,
            "donedate": (wall(at, self.endpoint.timezone).strftime("%y%m%d%H%M") if at else None),
            **receipt.extra,
        }
        return _form({name: str(value) for name, value in fields.items() if value is not None})


def _there(value: str | None) -> str | None:
    """`value`, unless it says that there is none."""
    return None if value == "ND" else value


def _form(fields: dict[str, str]) -> Post:
    body = urlencode(fields).encode()
    return Post("POST", b"", body, "application/x-www-form-urlencoded")
