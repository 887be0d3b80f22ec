"""CDYNE Phone Notify! (now Esendex US): a form post for each stage of a call.

Source: the vendor's page "StatusChangePostURL" (wiki.cdyne.com). Inferred: what state a call is
in. What is accepted is answered with an empty 200, as `cdyne` says.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from random import Random

from receiptd.providers import Code, Invalid, Post, Provider
from receiptd.providers.cdyne import in_form
from receiptd.providers.clocks import us_text
from receiptd.providers.values import Lenient, identifier, phone, us_time
from receiptd.providers.values import code as number_or_word
from receiptd.receipt import Kind, Receipt, State

# Phone Notify!. The vendor's page says "1 answered, 2 or more not answered".
ANSWERED = Code(State.DELIVERED, "Answered")
UNANSWERED = Code(State.UNDELIVERABLE, "Not answered")
UNDER_WAY = Code(State.ENROUTE, "Not answered so far")
# The last stage of a call is its end, whatever that was.
UNTOLD = Code(State.UNDELIVERABLE, "Ended; nothing says that it was answered")

_CALL = frozenset({"queueid", "responsecode"})


class CdynePhone(Provider):
    """The calls of Phone Notify!: each stage of a call is a receipt of its own.

    Everything but QueueID and ResponseCode is in `extra` as it came, the variables that the
    call's script collected too: it tells the stages of one call apart.
    """

    name = "cdyne-phone"
    title = "CDYNE Phone Notify!"
    path = "/cdyne/phone"
    region = "US"

    def read(self, post: Post) -> list[Receipt]:
        """The one stage of a call. It is reported at its EndTime, before it has one at its
        StartTime. The phone and the caller's number are there where Esendex sends them."""
        fields = post.fields
        get = fields.get
        zone = self.endpoint.timezone
        lenient = Lenient()
        message_id = identifier("QueueID", get("QueueID"))
        code = lenient(number_or_word, "ResponseCode", get("ResponseCode"))
        started = lenient(us_time, "StartTime", get("StartTime"), zone)
        ended = lenient(us_time, "EndTime", get("EndTime"), zone)
        over = ended is not None or "EndTime" in lenient.unread or _lasted(get("Duration"))
        status = _call_status(code, ended=over)
        extra, unread = lenient.rest(fields, _CALL)
        return [
            Receipt(
                endpoint=self.endpoint.name,
                provider=self.name,
                kind=Kind.CALL,
                message_id=message_id,
                state=self.endpoint.codes.get(code or "", status.state),
                code=code,
                recipient=_phone_or_none(get("phonenumber")),
                reported_at=ended or started,
                raw=post.raw,
                description=status.text,
                sender=get("callerid"),
                extra=extra,
                unread=unread,
            )
        ]

    def sample(self, random: Random, at: datetime) -> Receipt:
        """The last stage of a call, most of them answered."""
        zone = self.endpoint.timezone
        seconds = random.randrange(2, 120)
        code = random.choice(("1", "1", "1", "1", "2", "3"))
        fields = {
            "QueueID": str(random.randrange(10**6, 10**12)),
            "ResponseCode": code,
            "StartTime": us_text(at - timedelta(seconds=seconds), zone),
            "EndTime": us_text(at, zone),
            "Duration": str(seconds),
            "machinedetection": random.choice(("HUMAN", "MACHINE", "FAX")),
            "AC": "0",
            "digitsdialed": str(random.randrange(10)) if code == "1" else "",
            "incoming": "false",
            "confirm": "1",
        }
        return self.read(in_form(fields))[0]._replace(raw=b"")

    def write(self, receipt: Receipt) -> Post:
        """The post of `receipt`; the times are in its `extra`."""
        return in_form(
            {"QueueID": receipt.message_id, "ResponseCode": receipt.code}, receipt.extra
        )


def _call_status(code: str | None, *, ended: bool) -> Code:
    """What a ResponseCode means. A call that is not answered is given up only once it has ended;
    of 0 and negative codes, which the vendor's page does not explain, nothing is known."""
    if code == "1":
        return ANSWERED
    if not ended:
        return UNDER_WAY
    return UNANSWERED if code is not None and code.isdecimal() and code != "0" else UNTOLD


def _lasted(duration: str | None) -> bool:
    """Whether a call has a duration, in whatever notation: only its last stage has."""
    return duration is not None and any(digit in duration for digit in "123456789")


def _phone_or_none(value: str | None) -> str | None:
    """`value` where it is a phone number: a call's script may use the name for anything."""
    try:
        return phone("phonenumber", value)
    except Invalid:
        return None
