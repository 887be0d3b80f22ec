"""Twilio: status callbacks of messages, and inbound messages that come to the same URL.

Source: Twilio's pages "Track the Message Status of Outbound Messages" and "Security", its
Python library, and the open-source gateway courier. From memory, and read liberally: the states
`sending`, `canceled` and `partially_delivered`, the answer to an inbound message, and that
`RawDlrDoneDate` is UTC (the endpoint's `timezone` may say otherwise). SignalWire and TextGrid
send the same.

Twilio repeats nothing after an answer, and by default nothing at all: see docs/providers.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from random import Random
from urllib.parse import urlencode

from receiptd.providers import Code, Post, ProviderOptions, Reply, Secrets, SignedProvider
from receiptd.providers.signatures import (
    check,
    form_pairs,
    require,
    twilio,
    twilio_body_is_hashed,
    with_and_without_port,
)
from receiptd.providers.signed import signing_option
from receiptd.providers.values import Lenient, identifier, phone, smpp_time, word
from receiptd.receipt import Kind, Receipt, State, Verdict

CODES = {
    "accepted": Code(State.ENROUTE, "Accepted"),
    "scheduled": Code(State.ENROUTE, "Scheduled"),
    "queued": Code(State.ENROUTE, "Queued"),
    "sending": Code(State.ENROUTE, "Sending"),
    "sent": Code(State.ACCEPTED, "Taken by the upstream carrier"),
    "delivered": Code(State.DELIVERED, "Delivered"),
    "read": Code(State.DELIVERED, "Read"),
    "undelivered": Code(State.UNDELIVERABLE, "Undelivered"),
    "undelivered/30004": Code(State.REJECTED, "Blocked"),
    "undelivered/30007": Code(State.REJECTED, "Filtered"),
    "undelivered/21610": Code(State.REJECTED, "The recipient has unsubscribed"),
    "failed": Code(State.REJECTED, "Could not be sent"),
    "canceled": Code(State.DELETED, "Canceled"),
    "partially_delivered": Code(State.UNKNOWN, "Delivered in part"),
}
ERRORS = {
    "21610": "the recipient has unsubscribed",
    "21612": "not reachable by this sender",
    "21614": "no mobile number",
    "30001": "queue overflow",
    "30002": "account suspended",
    "30003": "unreachable handset",
    "30004": "message blocked",
    "30005": "unknown handset",
    "30006": "landline or unreachable carrier",
    "30007": "filtered as spam",
    "30008": "unknown error",
    "30009": "a segment is missing",
    "30010": "over the maximum price",
    "30410": "the provider timed out",
}
HEADER = "x-twilio-signature"
_INBOUND = "received"
_KNOWN = frozenset(
    {
        *("messagesid", "smssid", "smsmessagesid", "messagestatus", "smsstatus"),
        *("to", "from", "rawdlrdonedate"),
    }
)


class TwilioOptions(ProviderOptions):
    """The configuration keys of a Twilio endpoint."""

    auth_token: Secrets = signing_option(
        "The account's auth token", "their X-Twilio-Signature", "00112233445566778899aabbccddeeff"
    )


class Twilio(SignedProvider):
    """The status callbacks of Twilio."""

    name = "twilio"
    title = "Twilio"
    path = "/twilio"
    methods = ("POST", "GET")
    signs_url = True
    signed_by = "auth_token"
    Options = TwilioOptions
    codes = CODES

    def check_signature(self, post: Post, secrets: Sequence[bytes]) -> None:
        """Check `X-Twilio-Signature`."""
        given = require(post.headers.get(HEADER, ""), "X-Twilio-Signature")
        pairs = form_pairs(post.body) if _is_form(post) else []
        urls = [url for known in post.urls for url in with_and_without_port(known)]
        if post.body and not _is_form(post):
            urls = [url for url in urls if twilio_body_is_hashed(url, post.body)]
        check([given], [twilio(token, url, pairs) for token in secrets for url in urls])

    def with_signature(self, post: Post, secret: bytes) -> Post:
        """With `X-Twilio-Signature`."""
        made = twilio(secret, post.urls[0], form_pairs(post.body))
        return post.changed(headers={"X-Twilio-Signature": made})

    def read(self, post: Post) -> list[Receipt]:
        """The one receipt, or inbound message, of a callback."""
        fields = post.fields
        get = fields.get
        message_id = identifier(
            "MessageSid", get("MessageSid") or get("SmsSid") or get("SmsMessageSid")
        )
        status = word("MessageStatus", get("MessageStatus") or get("SmsStatus"))
        status = status.lower() if status else None
        inbound = status == _INBOUND or (status is None and get("Body") is not None)
        lenient = Lenient()
        error = word("ErrorCode", get("ErrorCode"))
        extra = fields.rest(_KNOWN | {"body"} if inbound else _KNOWN)
        return [
            self.receipt(
                post,
                kind=Kind.REPLY if inbound else Kind.DELIVERY,
                code=status,
                error=error,
                lenient=lenient,
                message_id=message_id,
                description=get("ErrorMessage") or (ERRORS.get(error) if error else None),
                recipient=lenient(phone, "To", _without_channel(get("To"))),
                sender=get("From"),
                reported_at=lenient(
                    smpp_time, "RawDlrDoneDate", get("RawDlrDoneDate"), self.endpoint.timezone
                ),
                text=get("Body") if inbound else None,
                extra=extra,
            )
        ]

    def answer(self, receipts: Sequence[Receipt], verdicts: Sequence[Verdict]) -> Reply:
        """Nothing; to an inbound message an empty TwiML document, since Twilio would send any
        text back to the phone."""
        if any(receipt.kind is Kind.REPLY for receipt in receipts):
            return Reply(200, b"<Response/>", "text/xml; charset=utf-8")
        return Reply()

    def sample(self, random: Random, at: datetime) -> Receipt:
        """A callback such as Twilio sends, most of them of a delivered message."""
        status = random.choice(("delivered",) * 6 + ("sent", "undelivered", "failed", "queued"))
        sid = f"SM{random.getrandbits(128):032x}"
        fields = {
            "SmsSid": sid,
            "SmsStatus": status,
            "MessageStatus": status,
            "To": f"+4477009{random.randrange(100_000):05}",
            "MessageSid": sid,
            "AccountSid": "AC00000000000000000000000000000000",
            "From": "+12025550143",
            "ApiVersion": "2010-04-01",
        }
        if status == "undelivered":
            fields["ErrorCode"] = random.choice(("30003", "30005", "30007"))
        if status == "delivered":
            fields["RawDlrDoneDate"] = at.strftime("%y%m%d%H%M")
        return self.read(_form(fields))[0]._replace(raw=b"")

    def write(self, receipt: Receipt) -> Post:
        """The callback of `receipt`; what it has no field for comes from its `extra`."""
        at = receipt.reported_at
        fields = {
            "MessageSid": receipt.message_id,
            "MessageStatus": receipt.code,
            "To": receipt.recipient,
            "From": receipt.sender,
            "RawDlrDoneDate": at.strftime("%y%m%d%H%M") if at else None,
            **{name: str(value) for name, value in receipt.extra.items()},
        }
        return _form({name: value for name, value in fields.items() if value is not None})


def _form(fields: dict[str, str]) -> Post:
    body = urlencode(fields).encode()
    return Post("POST", b"", body, "application/x-www-form-urlencoded")


def _is_form(post: Post) -> bool:
    return post.method != "GET" and not post.is_json


def _without_channel(value: str | None) -> str | None:
    """`whatsapp:+15551234567` as `+15551234567`."""
    if value is None:
        return None
    channel, colon, rest = value.partition(":")
    return rest if colon and channel.isalpha() else value
