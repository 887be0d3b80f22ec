"""CDYNE, now Esendex US: PostBackURLs of SMS Notify!, form posts. Calls are in `cdyne_phone`.

Source: the vendor's pages "SMS Notify! PostBackURLs", "SMS Message Sent Postback", "... Response
Postback" and "... Delivery Receipt Postback" (wiki.cdyne.com, blog.cdyne.com), and the type pages
of esendex.us (MMS posts, DeliveryReceiptCode, OutgoingPostback, IncomingPostback). Inferred: that
the dates in a delivery receipt's text are UTC.

CDYNE offers auto-responses through the PostBackURL, so a body in a 200 might be sent to
somebody's phone: what is accepted is answered with an empty one. Only an error, which is no 200,
carries a line of text.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from random import Random
from typing import NamedTuple
from urllib.parse import urlencode
from uuid import UUID

from receiptd.providers import Code, Endpoint, Invalid, Post, Provider
from receiptd.providers.clocks import us_text, wall
from receiptd.providers.post import Fields
from receiptd.providers.receipt_text import in_plain, parts_of
from receiptd.providers.values import Lenient, identifier, phone, smpp_time, us_time, word
from receiptd.providers.words import state_of_word
from receiptd.receipt import Kind, Receipt, State

CODES = {
    # "No error": carriers send it with any `stat`, so it says something only where no `stat` does.
    "000": Code(State.DELIVERED, "Delivered to the phone"),
    "003": Code(State.ENROUTE, "Delivered to carrier"),
    "004": Code(State.ACCEPTED, "Accepted by carrier"),
    "005": Code(State.UNDELIVERABLE, "Deleted or undeliverable"),
    "008": Code(State.EXPIRED, "Expired at carrier"),
    "015": Code(State.REJECTED, "Invalid service type"),
    "017": Code(State.REJECTED, "Invalid criteria"),
    "021": Code(State.REJECTED, "Message too long"),
    "023": Code(State.REJECTED, "Rejected by carrier"),
    "024": Code(State.UNDELIVERABLE, "Delivery attempted and failed"),
    "028": Code(State.REJECTED, "Sender exceeded the carrier's rate"),
    "029": Code(State.REJECTED, "Recipient exceeded the carrier's rate"),
    "030": Code(State.REJECTED, "Sender and recipient exceeded the carrier's rate"),
    "032": Code(State.REJECTED, "Invalid message format, or message too large"),
    "090": Code(State.REJECTED, "Bad address"),
    "091": Code(State.REJECTED, "Invalid routing"),
    "999": Code(State.UNDELIVERABLE, "Failed for a reason that the carrier does not tell"),
}
NO_ERROR = "000"

# What says least of how a message stands, and what says more of the same.
REFINED = {
    State.UNDELIVERABLE: frozenset({State.EXPIRED, State.DELETED, State.REJECTED}),
    State.ENROUTE: frozenset({State.ACCEPTED}),
}

TRIES = 3
"""CDYNE tries a message three times in all and then cancels it without a word, so that the third
failure is final."""
SENT = {
    "1": Code(State.ENROUTE, "Handed to the aggregator"),
    "0": Code(State.ENROUTE, "Not accepted by the aggregator, most likely a landline"),
}
_FAILED = "0"


class Form(NamedTuple):
    """One of the posts: known by its marker, the first that is present and not empty."""

    marker: str
    kind: Kind
    time: str | None
    """The field that holds `reported_at`; a delivery's is in its text."""
    linked: str | None
    """The field that holds `linked_id`."""


FORMS = (
    Form("SMSSent", Kind.SENT, "SentTime", None),
    Form("SMSResponse", Kind.REPLY, "ResponseReceiveDate", "MatchedMessageID"),
    Form("DeliveryReceipt", Kind.DELIVERY, None, "BackupMessageID"),
    Form("MMSSent", Kind.SENT, "SentTime", None),
    Form("MMSResponse", Kind.REPLY, "ResponseReceiveDate", "MatchedMessageID"),
)
_SMS = {form.kind: form for form in reversed(FORMS)}

# The fields that have their place in a receipt. Everything else is kept in `extra`: linked
# identifiers and the delivery receipt's text as they came, and the marker of an MMS post.
_COMMON = {"messageid", "referenceid", "fromphonenumber", "tophonenumber"}
_KNOWN = {
    Kind.SENT: frozenset({"smssent", "senttime"} | _COMMON),
    Kind.REPLY: frozenset({"smsresponse", "responsereceivedate", "message"} | _COMMON),
    Kind.DELIVERY: frozenset({"deliveryreceipt", "code"} | _COMMON),
}

_TEXT = "DeliveryReceiptMessage"


class Cdyne(Provider):
    """The receipts and replies of SMS Notify!."""

    name = "cdyne"
    title = "CDYNE SMS Notify!"
    path = "/cdyne"
    region = "US"
    codes = CODES

    def __init__(self, endpoint: Endpoint) -> None:
        super().__init__(endpoint)
        self._configured = {_three_digits(code): state for code, state in endpoint.codes.items()}

    def read(self, post: Post) -> list[Receipt]:
        """The one receipt of a post: sent, reply or delivery."""
        fields = post.fields
        for form in FORMS:
            marker = fields.get(form.marker)
            if marker is not None:
                return [_READ[form.kind](self, form, marker, fields, post.raw)]
        markers = ", ".join(form.marker for form in FORMS)
        raise Invalid(
            FORMS[0].marker,
            f"none of {markers} has a value: one of them must say what is posted",
        )

    def _sent(self, form: Form, marker: str, fields: Fields, raw: bytes) -> Receipt:
        lenient = Lenient()
        code = lenient(word, form.marker, marker)
        known = SENT.get(marker)
        return self._receipt(form, fields, raw, lenient)._replace(
            state=known.state if known else State.ENROUTE,
            code=code,
            description=known.text if known else None,
            last_try=TRIES if marker == _FAILED else None,
        )

    def _reply(self, form: Form, _marker: str, fields: Fields, raw: bytes) -> Receipt:
        """What a subscriber wrote. It has no state of its own, so UNKNOWN; the identifier that
        it answers (none where that is all zeros) is `linked_id`."""
        receipt = self._receipt(form, fields, raw, Lenient())
        return receipt._replace(text=fields.verbatim("Message"))

    def _delivery(self, form: Form, _marker: str, fields: Fields, raw: bytes) -> Receipt:
        """A delivery receipt. The parts of its text are kept in `extra` as
        `DeliveryReceiptMessage.stat` and so on; where the text has none of them, as that of an
        MMS, it is the `stat` itself. `Code` repeats `err`: where they differ `Code` counts,
        and the description tells."""
        lenient = Lenient()
        text = in_plain(fields.get(_TEXT))
        parts = parts_of(text)
        error = parts.get("err")
        code = _three_digits(lenient(word, "Code", fields.get("Code") or error))
        state, description = self._status(code, parts.get("stat") if parts else text)
        if error is not None and _three_digits(error) != code:
            description = f"{description or 'Code ' + str(code)} (the receipt's text: err {error})"
        zone = self.endpoint.timezone
        done, submitted = parts.get("done date"), parts.get("submit date")
        since = None
        if done is not None and done[-1:] in "Rr":  # a relative time
            since = Lenient()(smpp_time, "submit date", submitted, zone, None)
        reported_at = lenient(smpp_time, f"{_TEXT}.done date", done, zone, since)
        receipt = self._receipt(form, fields, raw, lenient)
        return receipt._replace(
            state=state,
            code=code,
            description=description,
            reported_at=reported_at,
            extra={**receipt.extra, **_named(parts)},
            backup=receipt.linked_id is not None,
        )

    def _receipt(self, form: Form, fields: Fields, raw: bytes, lenient: Lenient) -> Receipt:
        """What the posts have in common.

        :param lenient: has what of the post could not be read until now.
        """
        get = fields.get
        message_id = identifier("MessageID", get("MessageID"))
        recipient = lenient(phone, "ToPhoneNumber", get("ToPhoneNumber"))
        reported_at = None
        if form.time:
            reported_at = lenient(us_time, form.time, get(form.time), self.endpoint.timezone)
        linked_id = None
        if form.linked and (linked := get(form.linked)) and linked.strip("{}0-"):
            linked_id = lenient(identifier, form.linked, linked)
        extra, unread = lenient.rest(fields, _KNOWN[form.kind])
        return Receipt(
            endpoint=self.endpoint.name,
            provider=self.name,
            kind=form.kind,
            message_id=message_id,
            state=State.UNKNOWN,
            code=None,
            recipient=recipient,
            reported_at=reported_at,
            raw=raw,
            sender=get("FromPhoneNumber"),
            reference=get("ReferenceID"),
            extra=extra,
            linked_id=linked_id,
            unread=unread,
        )

    def _status(self, code: str | None, stat: str | None) -> tuple[State, str | None]:
        """State and description: as configured, else by the word in the receipt's text, of which
        `Code` may say more, else by `Code`."""
        known = CODES.get(code) if code else None
        configured = self._configured.get(code) if code else None
        said = state_of_word(stat)
        if configured is not None:
            return configured, known.text if known else stat
        if said is None:
            return (known.state, known.text) if known else (State.UNKNOWN, stat)
        if known is None:
            return said, stat
        if code != NO_ERROR and known.state in REFINED.get(said, ()):
            return known.state, known.text
        return said, known.text if known.state is said else stat

    def sample(self, random: Random, at: datetime) -> Receipt:
        """A post such as CDYNE sends: mostly deliveries, some sent, a few replies."""
        kind = random.choice((Kind.DELIVERY,) * 7 + (Kind.SENT,) * 2 + (Kind.REPLY,))
        form = _SMS[kind]
        zone = self.endpoint.timezone
        fields = {
            form.marker: "1",
            "MessageID": guid(random),
            "ReferenceID": random.choice(("", "12345")),
            "FromPhoneNumber": "17575449510",
            "ToPhoneNumber": f"1757237{random.randrange(10_000):04}",
        }
        if form.time:
            fields[form.time] = us_text(at, zone) or ""
        if kind is Kind.REPLY:
            fields["MatchedMessageID"] = random.choice((guid(random), str(UUID(int=0))))
            fields["Message"] = random.choice(("Test", "STOP", "See you at 5 & bring Zoë"))
        elif kind is Kind.DELIVERY:
            code = random.choice(("000", "000", "000", "000", "003", "004", "005", "008", "023"))
            date = wall(at, zone).strftime("%y%m%d%H%M")
            fields[_TEXT] = (
                f"sm: msg: id:{random.getrandbits(56)} sub:001 dlvrd:001 submit date:{date} "
                f"done date:{date} stat:{CODES[code].state} err:{code} text:"
            )
            fields["Code"] = code
        return self.read(in_form(fields))[0]._replace(raw=b"")

    def write(self, receipt: Receipt) -> Post:
        """The post of `receipt`, its time to the second (a delivery's is in its text)."""
        form = _SMS[receipt.kind]
        extra = dict(receipt.extra)
        for part in _named(parts_of(in_plain(_text_of(extra)))):
            extra.pop(part, None)
        fields = {
            form.marker: receipt.code if receipt.kind is Kind.SENT else "1",
            "MessageID": receipt.message_id,
            "ReferenceID": receipt.reference,
            "FromPhoneNumber": receipt.sender,
            "ToPhoneNumber": receipt.recipient,
            "Message": receipt.text,
        }
        if form.time:
            fields[form.time] = us_text(receipt.reported_at, self.endpoint.timezone)
        else:
            fields["Code"] = receipt.code
        if form.linked and form.linked.casefold() not in {name.casefold() for name in extra}:
            fields[form.linked] = receipt.linked_id
        return in_form(fields, extra)


_READ = {Kind.SENT: Cdyne._sent, Kind.REPLY: Cdyne._reply, Kind.DELIVERY: Cdyne._delivery}


def _named(parts: Mapping[str, str]) -> dict[str, object]:
    return {f"{_TEXT}.{name}": value for name, value in parts.items()}


def _text_of(extra: Mapping[str, object]) -> str | None:
    for name, value in extra.items():
        if name.casefold() == _TEXT.casefold():
            return str(value[0] if isinstance(value, list) else value).strip()
    return None


def _three_digits(code: str | None) -> str | None:
    """`code` as the vendor's table has it, whatever zeros it came with."""
    return code.zfill(3) if code and code.isdecimal() else code


def guid(random: Random) -> str:
    return str(UUID(int=random.getrandbits(128), version=4))


def in_form(fields: Mapping[str, str | None], extra: Mapping[str, object] = {}) -> Post:
    """A form post of what is not None of `fields`, and `extra`."""
    sent = [(name, value) for name, value in fields.items() if value is not None]
    body = urlencode([*sent, *extra.items()], doseq=True)
    return Post("POST", b"", body.encode(), "application/x-www-form-urlencoded")
