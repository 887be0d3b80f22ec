"""The Spyne service: its operations, declared as the published contract declares them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

from spyne import Application, ComplexModel, DateTime, Fault, Integer32, Service, Unicode, rpc

from receiptd.providers.csoft import Csoft, report_of
from receiptd.receipt import Kind, Outcome, Verdict
from receiptd.soap.dialect import Sendsms
from receiptd.soap.envelope import NO_CALL, Call
from receiptd.soap.operations import MESSAGE, OPERATIONS, RECEIPT
from receiptd.web.receiving.intake import Intake, Origin, Taken

ELEMENTS = "http://www.csoft.co.uk/dtd/sendsms5.xsd"
"""Namespace of the elements in the published contract."""
DEFINITIONS = "http://www.csoft.co.uk/dtd/sendsms5.wsdl"
"""Target namespace of the published WSDL."""
PORT_TYPE = "CSoftSmsServicePortType"

_Credential = Unicode(min_occurs=0, nillable=True)
_Required = Unicode(min_occurs=1, nillable=False)
_Optional = Unicode(min_occurs=0, nillable=True)
_OptionalInt = Integer32(min_occurs=0, nillable=True)


def _shape(operation: str) -> dict[str, object]:
    """What both operations have in common: names, and the answer."""
    return {
        "_in_message_name": f"{{{ELEMENTS}}}{operation}",
        "_out_message_name": f"{{{ELEMENTS}}}{operation}Response",
        "_returns": (_Required, Integer32(min_occurs=1, nillable=False), _Credential),
        "_out_variable_names": ("MessageIdentifier", "Report", "Text"),
        "_port_type": PORT_TYPE,
        "_wsdl_part_name": "parameters",
    }


class Recipient(ComplexModel):  # type: ignore[misc]
    """Whom a message was for: of the vendor's type, what a message from a phone can have."""

    __namespace__ = ELEMENTS
    _type_info = (
        ("SendTo", _Optional),
        ("PhoneMake", _Optional),
        ("PhoneModel", _Optional),
        ("MCC", _OptionalInt),
        ("MNC", _OptionalInt),
    )


class Message(ComplexModel):  # type: ignore[misc]
    """What was written: of the vendor's type, the texts."""

    __namespace__ = ELEMENTS
    _type_info = (("TextMessage", _Optional), ("FlashMessage", _Optional))


@dataclass(slots=True)
class SoapPost:
    """A request on its way through Spyne: its contexts' `udc`.

    Spyne's steps hand each other nothing but the context, so what they find is noted here: the
    endpoint makes it, the dialect fills in `call` and `raw`, the service method `taken`, and the
    endpoint reads that for the answer.
    """

    intake: Intake
    origin: Origin
    denied: Verdict | None
    """Why the request itself may not pass, where it may not."""
    started: float
    """The reactor's clock when the request was whole."""
    call: Call = NO_CALL
    raw: bytes = b""
    """The body, the PIN blanked."""
    taken: Taken | None = None
    before: bytes = b""
    """What the body has before the envelope: of multipart/related, other parts and headers."""
    behind: bytes = b""

    def whole(self, envelope: bytes) -> bytes:
        """The body around `envelope`."""
        return self.before + envelope + self.behind if self.before or self.behind else envelope


class CSoftSmsService(Service):  # type: ignore[misc]
    """The operations that Connection Software calls."""

    __port_types__ = (PORT_TYPE,)

    @rpc(
        _Credential,
        _Credential,
        DateTime(min_occurs=1, nillable=False),
        _Required,
        _Required,
        Integer32(min_occurs=1, nillable=False),
        **_shape(RECEIPT.name),
    )
    def SubmitDeliveryReceipt(  # type: ignore[no-untyped-def]
        ctx,
        Username,
        PIN,
        Timestamp1,
        SentTo,
        MessageIdentifier,
        Report,
    ):
        """Store one receipt. The dialect passes the texts as they came.

        Gives a Deferred of MessageIdentifier, Report and Text; it fails with a `Server` fault
        where the receipt could not be stored.
        """
        post: SoapPost = ctx.udc
        csoft = cast(Csoft, post.intake.provider)
        taken = post.intake.take(
            post.origin,
            lambda: (Username, PIN),
            post.raw,
            lambda: [
                csoft.reported(
                    MessageIdentifier,
                    Report,
                    SentTo,
                    Timestamp1,
                    extra=post.call.extra,
                    raw=post.raw,
                )
            ],
            post.denied,
        )
        return taken.addCallback(_response, post, MessageIdentifier)

    @rpc(
        _Credential,
        _Credential,
        Recipient.customize(min_occurs=0, nillable=True),
        Message.customize(min_occurs=0, nillable=True),
        _Optional,
        DateTime(min_occurs=0, nillable=True),
        _Optional,
        **_shape(MESSAGE.name),
    )
    def DeliverMessage(  # type: ignore[no-untyped-def]
        ctx,
        Username,
        PIN,
        Recipient,
        Message,
        ReplyTo,
        Timestamp1,
        MessageIdentifier,
    ):
        """Store one message that a phone has sent. The dialect passes the texts as they came;
        of `Recipient` and `Message` it passes the texts in them, by name.

        Gives what `SubmitDeliveryReceipt` gives, which is inferred.
        """
        post: SoapPost = ctx.udc
        csoft = cast(Csoft, post.intake.provider)
        taken = post.intake.take(
            post.origin,
            lambda: (Username, PIN),
            post.raw,
            lambda: [
                csoft.delivered(
                    Recipient or {},
                    Message or {},
                    ReplyTo,
                    Timestamp1,
                    MessageIdentifier,
                    extra=post.call.extra,
                    raw=post.raw,
                )
            ],
            post.denied,
        )
        return taken.addCallback(_response, post, MessageIdentifier, Kind.REPLY)


def _response(
    taken: Taken, post: SoapPost, message_id: str | None, kind: Kind = Kind.DELIVERY
) -> tuple[str, int, str]:
    post.taken = taken
    verdict = taken.verdicts[0]
    if verdict.outcome is Outcome.BUSY:
        raise Fault("Server", verdict.text)
    return (message_id or "", *report_of(verdict, kind))


class SmsApplication(Application):  # type: ignore[misc]
    """The application with its operations at hand."""

    def __init__(self) -> None:
        super().__init__(
            [CSoftSmsService],
            tns=DEFINITIONS,
            name="CSoftSmsService",
            in_protocol=Sendsms(),
            out_protocol=Sendsms(),
        )
        methods = self.interface.service_method_map
        self.operations = {name: methods[f"{{{DEFINITIONS}}}{name}"][0] for name in OPERATIONS}

    @property
    def has_listeners(self) -> bool:
        """Whether anything listens to Spyne's events, of which a call has four."""
        return bool(self.event_manager.handlers or CSoftSmsService.event_manager.handlers)


def application() -> SmsApplication:
    """The Spyne application that every SOAP post runs through."""
    return SmsApplication()
