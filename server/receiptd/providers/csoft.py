"""Connection Software (formerly It's Arrived): delivery receipts, and the messages that phones
send, by SOAP and by form post.

SOAP posts reach `Csoft.reported` and `Csoft.delivered` through the Spyne service; the form posts,
which the vendor offers with the same fields, are read here whole. Source: the vendor's page
"Real-Time Delivery Receipts via SOAP over HTTP(S)", its CDR page for the report codes, and its
pages on the two-way service.

Of messages from phones much is inferred: `csoft_messages` says what.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from random import Random
from urllib.parse import urlencode

from receiptd.providers import Code, Invalid, Post, Provider, Reply, csoft_messages
from receiptd.providers.csoft_messages import TIME
from receiptd.providers.post import Fields
from receiptd.providers.values import Lenient, code, identifier, iso_time, phone
from receiptd.receipt import Kind, Outcome, Receipt, State, Verdict

LONGEST_TEXT = 255
"""Characters in the reply's Text, by the vendor's page."""

REPORT_RECEIVED = 0
REPORT_ERROR = -1
"""The catch-all: the vendor wants its own codes or this one, never one of ours."""
REPORT_INVALID_LOGIN = 2

CODES = {
    "0": Code(State.DELIVERED, "Accepted by phone"),
    "-1": Code(State.UNKNOWN, "Catch-all"),
    "-3": Code(State.ENROUTE, "Delayed by It's Arrived"),
    "-4": Code(State.ENROUTE, "Accepted by SMSC"),
    "2": Code(State.REJECTED, "Invalid login"),
    "3": Code(State.REJECTED, "Invalid number"),
    "4": Code(State.REJECTED, "Inactive number"),
    "5": Code(State.REJECTED, "Invalid number"),
    "7": Code(State.REJECTED, "Invalid number"),
    "8": Code(State.REJECTED, "Blacklisted number"),
    "11": Code(State.ENROUTE, "Invalid characters"),
    "19": Code(State.ENROUTE, "Invalid characters"),
    "25": Code(State.DELETED, "Deleted by SMSC"),
    "27": Code(State.EXPIRED, "Expired by SMSC"),
    "28": Code(State.UNDELIVERABLE, "Abandoned by SMSC"),
}

_FORM_FIELDS = frozenset(
    {"username", "pin", "sendto", "sentto", "timestamp1", "messageidentifier", "report"}
)
_MESSAGE_FIELDS = frozenset(
    {"username", "pin", "sendto", "message", "replyto", "timestamp1", "messageidentifier"}
)
_NO_CREDENTIAL = "NULL"
"""What the form post sends where no username or PIN is configured."""


class Csoft(Provider):
    """The receipts of Connection Software, and the messages that phones send."""

    name = "csoft"
    title = "Connection Software"
    path = "/soap"
    in_body_credentials = True
    secrets = frozenset({"pin"})
    codes = CODES
    handler = "receiptd.soap.endpoint:SoapEndpoint"
    reader = "receiptd.soap.kept:read_kept"
    dialect = "receiptd.simulate.dialects:csoft"

    def credentials(self, post: Post) -> tuple[str | None, str | None]:
        """Username and PIN of the form post; the literal `NULL` means there is none."""
        username, pin = post.fields.verbatim("Username"), post.fields.verbatim("PIN")
        return (
            None if username == _NO_CREDENTIAL else username,
            None if pin == _NO_CREDENTIAL else pin,
        )

    def read(self, post: Post) -> list[Receipt]:
        """The one receipt of a form post, or the message: that has a `Message` or a `ReplyTo`,
        and no `Report`."""
        fields = post.fields
        if not fields.get("Report") and (fields.verbatim("Message") or fields.get("ReplyTo")):
            return [
                self.delivered(
                    {"SendTo": fields.get("SendTo") or ""},
                    {"TextMessage": fields.verbatim("Message") or ""},
                    fields.get("ReplyTo"),
                    fields.get("Timestamp1"),
                    fields.get("MessageIdentifier"),
                    extra=fields.rest(_MESSAGE_FIELDS),
                    raw=post.raw,
                )
            ]
        send_to, sent_to = fields.get("SendTo"), fields.get("SentTo")
        extra = fields.rest(_FORM_FIELDS)
        if send_to and sent_to and sent_to != send_to:
            extra["SentTo"] = sent_to
        return [
            self.reported(
                fields.get("MessageIdentifier"),
                fields.get("Report"),
                send_to or sent_to,
                fields.get("Timestamp1"),
                extra=extra,
                raw=post.raw,
            )
        ]

    def reported(
        self,
        message_id: str | None,
        report: str | None,
        sent_to: str | None,
        timestamp: str | None,
        *,
        extra: Mapping[str, object],
        raw: bytes,
    ) -> Receipt:
        """The receipt of the texts that a post carries, by SOAP or as a form.

        :raises Invalid: where the identifier or the report code is missing.
        """
        message_id = identifier("MessageIdentifier", message_id)
        if report is None:
            raise Invalid("Report", "Report is missing: it must be the vendor's report code")
        if sent_to is None and isinstance(extra.get("SendTo"), str):
            # The form's name of the field, in SOAP.
            sent_to = str(extra["SendTo"]) or None
            extra = {name: value for name, value in extra.items() if name != "SendTo"}
        lenient = Lenient()
        number = lenient(code, "Report", report)
        recipient = lenient(phone, "SentTo", sent_to)
        reported_at = lenient(iso_time, "Timestamp1", timestamp, self.endpoint.timezone, TIME)
        unread = lenient.unread
        return Receipt(
            endpoint=self.endpoint.name,
            provider=self.name,
            kind=Kind.DELIVERY,
            message_id=message_id,
            state=self.state(number),
            code=number,
            recipient=recipient,
            reported_at=reported_at,
            raw=raw,
            description=self.description(number),
            extra={**extra, **unread} if unread else extra,
            unread=tuple(unread),
        )

    def delivered(
        self,
        recipient: Mapping[str, str],
        message: Mapping[str, str],
        reply_to: str | None,
        timestamp: str | None,
        message_id: str | None,
        *,
        extra: Mapping[str, object],
        raw: bytes,
    ) -> Receipt:
        """The message that a phone has sent, as `csoft_messages.message` has it."""
        return csoft_messages.message(
            self, recipient, message, (reply_to, timestamp, message_id), extra, raw
        )

    def sample_of(self, kind: Kind, random: Random, at: datetime) -> Receipt:
        """A receipt, or a message that a phone has sent."""
        if kind is not Kind.REPLY:
            return super().sample_of(kind, random, at)
        return csoft_messages.sample(self, random, at)

    def sample(self, random: Random, at: datetime) -> Receipt:
        """A receipt such as the vendor sends, most of them of a delivered message."""
        report = random.choice(("0", "0", "0", "0", "0", "0", "-4", "27", "28", "3"))
        return Receipt(
            endpoint=self.endpoint.name,
            provider=self.name,
            kind=Kind.DELIVERY,
            message_id=f"{random.getrandbits(48):012X}",
            state=self.state(report),
            code=report,
            recipient=f"447700{random.randrange(900000, 901000)}",
            reported_at=at.replace(microsecond=0),
            raw=b"",
            description=self.description(report),
        )

    def write(self, receipt: Receipt) -> Post:
        """The form post of `receipt`, without credentials."""
        fields = {
            "Username": _NO_CREDENTIAL,
            "PIN": _NO_CREDENTIAL,
            "SendTo": receipt.recipient or "",
            "Timestamp1": timestamp(receipt.reported_at),
            "MessageIdentifier": receipt.message_id or "",
        }
        if receipt.kind is Kind.REPLY:
            fields |= {"Message": receipt.text or "", "ReplyTo": receipt.sender or ""}
        else:
            fields["Report"] = receipt.code or ""
        body = urlencode(fields | dict(receipt.extra), doseq=True).encode()
        return Post("POST", b"", body, "application/x-www-form-urlencoded", secrets=self.secrets)

    def answer(self, receipts: Sequence[Receipt], verdicts: Sequence[Verdict]) -> Reply:
        """The vendor's HTTP family answers in one form-encoded line (inferred for receipts)."""
        receipt = receipts[0]
        return _form_reply(receipt.message_id, *report_of(verdicts[0], receipt.kind))

    def refuse(self, post: Post, verdict: Verdict) -> Reply:
        """An error is a report code too, in HTTP's terms a success; only a busy server is not."""
        status = 503 if verdict.outcome is Outcome.BUSY else 200
        return _form_reply(_echo(post.fields), *report_of(verdict), status=status)


def report_of(verdict: Verdict, kind: Kind = Kind.DELIVERY) -> tuple[int, str]:
    """The reply's Report and Text: 0 for a receipt that is stored and explained, 2 for wrong
    credentials, else the catch-all. A message from a phone gets no text where it is stored."""
    if verdict.outcome is Outcome.UNAUTHORIZED:
        return REPORT_INVALID_LOGIN, "Invalid login"
    if verdict.outcome in (Outcome.ACCEPTED, Outcome.DUPLICATE) and not verdict.mismatch:
        text = "" if kind is Kind.REPLY else verdict.text[:LONGEST_TEXT]
        return REPORT_RECEIVED, text
    return REPORT_ERROR, verdict.text[:LONGEST_TEXT]


def timestamp(at: datetime | None) -> str:
    """`at` as the vendor writes times, empty for None."""
    return at.strftime("%Y-%m-%dT%H:%M:%SZ") if at else ""


def _form_reply(message_id: str | None, report: int, text: str, status: int = 200) -> Reply:
    line = urlencode({"MessageIdentifier": message_id or "", "Report": report, "Text": text})
    return Reply(status, line.encode(), "application/x-www-form-urlencoded; charset=utf-8")


def _echo(fields: Fields) -> str:
    return (fields.get("MessageIdentifier") or "")[:LONGEST_TEXT]
