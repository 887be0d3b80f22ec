"""The dialect of SOAP 1.1 in which Connection Software posts receipts, as a Spyne protocol.

Spyne's own `Soap11` knows one namespace and one form of child elements; the vendor's documents
use several of both. This one takes the operation in any namespace, its children qualified or
not and in any order, ignores what it does not know, `xsi:type` included (the documents bind the
prefix to the 1999 schema namespace), and answers in the request's namespace with unqualified
children. It is also ten times as fast, since it knows the operations' shapes.

What an envelope says is read in `envelope`; its PIN is blanked in `pin`.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any
from xml.sax.saxutils import escape, quoteattr

from spyne.protocol.soap import Soap11

from receiptd.soap.document import parse
from receiptd.soap.envelope import SOAP_ENV, operation_of, read_call
from receiptd.soap.pin import blanked

_OPEN = (
    '<?xml version="1.0" encoding="UTF-8"?>\n'
    f'<SOAP-ENV:Envelope xmlns:SOAP-ENV="{SOAP_ENV}"><SOAP-ENV:Body>'
)
_CLOSE = "</SOAP-ENV:Body></SOAP-ENV:Envelope>\n"


class Sendsms(Soap11):  # type: ignore[misc]
    """Connection Software's SOAP, in and out.

    Between in and out the context's `udc` carries the request (see `soap.service`), on which the
    operation's namespace is noted for the reply.
    """

    def create_in_document(self, ctx: Any, in_string_encoding: str | None = None) -> None:
        """:raises Fault: where the body is no plain XML document."""
        ctx.in_document = parse(ctx.in_string[0], in_string_encoding)

    def decompose_incoming_envelope(self, ctx: Any, message: Any = Soap11.REQUEST) -> None:
        """Read the operation, too: of a fault in `deserialize` Spyne would log a traceback.

        :raises Fault: where the document is no SOAP 1.1 envelope with one operation, or a field
            came twice or holds elements that should hold a text.
        """
        ctx.in_body_doc = operation_of(ctx.in_document)
        ctx.udc.call = read_call(ctx.in_body_doc)
        ctx.method_request_string = ctx.udc.call.operation.name

    def generate_method_contexts(self, ctx: Any) -> tuple[Any, ...]:
        """The context itself: nothing is bound to an operation beside."""
        ctx.descriptor = self.app.operations[ctx.method_request_string]
        return (ctx,)

    def deserialize(self, ctx: Any, message: Any) -> None:
        """The service method gets the texts: what is wrong with one is a matter of the receipt,
        answered with a report code, not of SOAP."""
        post = ctx.udc
        post.raw = post.whole(blanked(ctx.in_string[0], ctx.in_document))
        ctx.in_object = post.call.values
        # Many times as large as the receipt, which will wait for its commit.
        ctx.in_document = ctx.in_body_doc = None

    def serialize(self, ctx: Any, message: Any) -> None:
        """The response element, or the fault."""
        if ctx.out_error is not None:
            ctx.out_document = fault_text(ctx.out_error)
        else:
            call = ctx.udc.call
            ctx.out_document = response_text(call.operation.name, call.namespace, *ctx.out_object)

    def create_out_string(self, ctx: Any, out_string_encoding: str | None = None) -> None:
        """The envelope around it, in UTF-8."""
        ctx.out_string = (f"{_OPEN}{ctx.out_document}{_CLOSE}".encode(),)


def response_text(operation: str, namespace: str, message_id: str, report: int, text: str) -> str:
    """The response element, in the request's namespace, its children unqualified."""
    children = (
        f"<MessageIdentifier>{escape(message_id)}</MessageIdentifier><Report>{report}</Report>"
    )
    if text:
        children += f"<Text>{escape(text)}</Text>"
    opening, closing = _response_tags(operation, namespace)
    return f"{opening}{children}{closing}"


@lru_cache(64)
def _response_tags(operation: str, namespace: str) -> tuple[str, str]:
    if not namespace:
        return f"<{operation}Response>", f"</{operation}Response>"
    return (
        f"<ns1:{operation}Response xmlns:ns1={quoteattr(namespace)}>",
        f"</ns1:{operation}Response>",
    )


def fault_text(fault: Any) -> str:
    """The fault element (SOAP 1.1, section 4.4)."""
    return (
        f"<SOAP-ENV:Fault><faultcode>SOAP-ENV:{escape(fault.faultcode)}</faultcode>"
        f"<faultstring>{escape(fault.faultstring)}</faultstring></SOAP-ENV:Fault>"
    )
