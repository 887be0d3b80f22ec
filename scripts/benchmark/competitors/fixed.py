"""A bare Twisted resource that answers every request with the same bytes and does nothing else.

    python -m benchmark.competitors.fixed stock|tuned

*Stock* is a plain `Site`. *Tuned* neither parses what is posted nor writes an access log: no
server on Twisted's HTTP can be faster.
"""

from __future__ import annotations

import sys
from typing import Any

from twisted.internet import reactor as twisted_reactor
from twisted.web.http import Request
from twisted.web.resource import Resource
from twisted.web.server import Site

# As many bytes as receiptd answers with.
REPLY = (
    b'<?xml version="1.0" encoding="UTF-8"?>\n'
    b'<SOAP-ENV:Envelope xmlns:SOAP-ENV="http://schemas.xmlsoap.org/soap/envelope/">'
    b"<SOAP-ENV:Body><ns1:SubmitDeliveryReceiptResponse "
    b'xmlns:ns1="http://www.csoft.co.uk/dtd/sendsms5.xsd">'
    b"<MessageIdentifier>4A2E3C10</MessageIdentifier><Report>0</Report>"
    b"</ns1:SubmitDeliveryReceiptResponse></SOAP-ENV:Body></SOAP-ENV:Envelope>"
)


class Fixed(Resource):
    """Answers POST as the SOAP endpoint would, GET with an empty body."""

    isLeaf = True  # noqa: N815 Twisted's name

    def render_POST(self, request: Request) -> bytes:  # noqa: N802 Twisted's name
        """The same envelope every time."""
        request.setHeader(b"Content-Type", b"text/xml; charset=utf-8")
        return REPLY

    def render_GET(self, request: Request) -> bytes:  # noqa: N802 Twisted's name
        """Nothing, as text."""
        request.setHeader(b"Content-Type", b"text/plain; charset=utf-8")
        return b""


class Tuned(Site):
    """A site that does no more than it must."""

    def log(self, request: Request) -> None:
        """No access log."""


def main(kind: str) -> None:
    """Serve on a port of the system's choice, and say which."""
    reactor: Any = twisted_reactor
    site = Site(Fixed()) if kind == "stock" else Tuned(Fixed(), parsePOSTFormSubmission=False)
    port = reactor.listenTCP(0, site, interface="127.0.0.1")
    print(f"listening on http://127.0.0.1:{port.getHost().port}", flush=True)
    reactor.run()


if __name__ == "__main__":
    main(sys.argv[1])
