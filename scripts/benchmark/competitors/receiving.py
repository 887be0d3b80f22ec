"""What the Flask and the FastAPI server do alike: read the SOAP, insert a row, commit, answer.

Written as one would by hand without receiptd, on the same tables as receiptd's. It refuses wrong
credentials and recognizes what it has already; it does not match receipts with messages, and
leaves the rest of receiptd's rules out too.
"""

from __future__ import annotations

import os
import re
from datetime import UTC, datetime
from hmac import compare_digest
from typing import Any
from xml.sax.saxutils import escape

from lxml import etree
from sqlalchemy import Engine, create_engine, event
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import DeclarativeBase, Session

from receiptd.store import schema

DATABASE = "BENCH_DATABASE"
"""The environment variable that names the SQLite file."""

CONTENT_TYPE = "text/xml; charset=utf-8"

STATES = {
    "0": ("DELIVERED", "Accepted by phone"),
    "-4": ("ENROUTE", "Accepted by SMSC"),
    "27": ("EXPIRED", "Expired by SMSC"),
    "28": ("UNDELIVERABLE", "Abandoned by SMSC"),
}

_PARSER = etree.XMLParser(resolve_entities=False, no_network=True)
_PIN = re.compile(rb"(<PIN>)[^<]*")
_ENVELOPE = (
    '<?xml version="1.0" encoding="UTF-8"?>\n'
    '<SOAP-ENV:Envelope xmlns:SOAP-ENV="http://schemas.xmlsoap.org/soap/envelope/">'
    "<SOAP-ENV:Body><ns1:SubmitDeliveryReceiptResponse "
    'xmlns:ns1="http://www.csoft.co.uk/dtd/sendsms5.xsd">'
    "<MessageIdentifier>{}</MessageIdentifier><Report>{}</Report>"
    "</ns1:SubmitDeliveryReceiptResponse></SOAP-ENV:Body></SOAP-ENV:Envelope>"
)


class Base(DeclarativeBase):
    """The root of the mapped classes, on receiptd's tables."""

    metadata = schema.metadata


class StoredReceipt(Base):
    """A row of `receipts`."""

    __table__ = schema.receipts


def open_database() -> Engine:
    """An engine as SQLAlchemy makes it, with a write-ahead log and every commit on disk."""
    engine = create_engine(
        f"sqlite:///{os.environ[DATABASE]}",
        connect_args={"timeout": 30, "check_same_thread": False},
    )
    event.listen(engine, "connect", _prepare)
    return engine


def _prepare(connection: Any, _record: object) -> None:
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=FULL")


def receive(body: bytes, session: Session) -> str:
    """Store the receipt in a SOAP envelope and commit; returns the envelope to answer with."""
    root = etree.fromstring(body, _PARSER)
    operation = root.find(".//{*}SubmitDeliveryReceipt")
    assert operation is not None
    fields = {etree.QName(child).localname: child.text or "" for child in operation}
    message_id, code = fields["MessageIdentifier"], fields["Report"]
    if not (
        compare_digest(fields["Username"].encode(), b"ANOther.61234")
        and compare_digest(fields["PIN"].encode(), b"BLUE.music")
    ):
        return _ENVELOPE.format(escape(message_id), 2)
    state, description = STATES.get(code, ("UNKNOWN", None))
    session.add(
        StoredReceipt(
            received_at=datetime.now(UTC),
            endpoint="soap",
            provider="csoft",
            kind="delivery",
            message_id=message_id,
            message_key=message_id.strip().casefold(),
            state=state,
            code=code,
            description=description,
            recipient=fields["SentTo"],
            recipient_key=fields["SentTo"].lstrip("+"),
            reported_at=datetime.fromisoformat(fields["Timestamp1"]),
            extra="{}",
            raw=_PIN.sub(rb"\1***", body),
            verdict="accepted",
            variant="",
        )
    )
    try:
        session.commit()
    except IntegrityError:
        session.rollback()  # the same receipt again: it is stored
    return _ENVELOPE.format(escape(message_id), 0)
