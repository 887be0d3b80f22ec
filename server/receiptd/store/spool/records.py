"""The spool: what the database does not take for now, on disk in the order in which it came.

A spool is a folder of files, its segments. `00000007-web1-4711-9f2c0a.spool` was the 7th, begun
on host web1 by process 4711; the random end keeps names apart. A segment is text, a header and a
record a line:

    receiptd spool 2, drained to 000000000040
    0000013f 5f1d9a2c {"received_at": "2026-01-31T18:00:00.000001+00:00", "receipts": [{…}]}

- The header's digits are the format's version (2) and the offset up to which the records are in
  the database: written in place, after the database's commit.
- A record is one submission: the length of its payload in bytes and the CRC-32 (`zlib.crc32`) of
  it, 8 hexadecimal digits each, and the payload, which is JSON in ASCII: `received_at`, and
  either `receipts` or `rejection`, with the fields of `Receipt` or `Rejection` that are not empty;
  bytes (`raw`) in base64, times in ISO 8601, prices as strings. The post of several receipts is
  `raw` of the record, once; only a receipt whose post is another has its own (in version 1 each
  had). JSON has no line feed in it, so a reader that comes upon damage goes on behind the next.

Each append is on disk (fsync) before it returns. A segment belongs to the process that holds its
lock (flock): it alone appends to it and drains it. The lock is gone with the process, and any
other may then adopt the segment. A segment that is drained is deleted; one in which anything was
damaged is renamed to `….damaged` instead. What the database refuses to take goes to `….refused`,
which is in the same format.
"""

from __future__ import annotations

import json
import zlib
from base64 import b64decode, b64encode
from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal
from typing import Any, NamedTuple

from receiptd.receipt import Kind, Receipt, Rejection, State
from receiptd.store.recorder import Submission

VERSION = 2

READABLE = (1, VERSION)
"""The versions that can be read. A record's fields say which it is, whatever its file says."""

MOST_PARTS = 255
"""Of a concatenated message (3GPP TS 23.040, 9.2.3.24.1)."""


class Entry(NamedTuple):
    """What one record holds."""

    received_at: datetime
    submission: Submission


def encode(submission: Submission, received_at: datetime) -> bytes:
    """The record of receipts or of a rejected post, its line feed included.

    :raises TypeError: where a receipt's `extra` holds what JSON cannot say.
    """
    content: dict[str, Any] = {"received_at": received_at.isoformat()}
    if submission.rejection is not None:
        content["rejection"] = _plain(submission.rejection._asdict())
    else:
        shared = submission.receipts[0].raw if len(submission.receipts) > 1 else None
        if shared is not None:
            content["raw"] = b64encode(shared).decode()
        content["receipts"] = [
            _plain(each._asdict(), but="raw" if each.raw == shared else None)
            for each in submission.receipts
        ]
    payload = json.dumps(content, separators=(",", ":")).encode()
    return b"%08x %08x %b\n" % (len(payload), zlib.crc32(payload), payload)


def _plain(fields: Mapping[str, Any], *, but: str | None = None) -> dict[str, Any]:
    defaults = Receipt._field_defaults
    plain = {
        name: value
        for name, value in fields.items()
        if value is not None and name != but and not (name in defaults and value == defaults[name])
    }
    for name, value in plain.items():
        if isinstance(value, bytes):
            plain[name] = b64encode(value).decode()
        elif isinstance(value, datetime):
            plain[name] = value.isoformat()
        elif isinstance(value, Decimal):
            plain[name] = str(value)
    return plain


def payload_of(line: bytes) -> bytes | None:
    """The payload of a record's line, None where it is damaged."""
    payload = line[18:-1]
    framed = b"%08x %08x %b\n" % (len(payload), zlib.crc32(payload), payload)
    return payload if line == framed else None


def decode(payload: bytes) -> Entry:
    """What a record's payload says.

    :raises Exception: of any kind, where it is no payload that `encode` made.
    """
    content = json.loads(payload)
    received_at = datetime.fromisoformat(content["received_at"])
    if "rejection" in content:
        fields = dict.fromkeys(Rejection._fields) | content["rejection"]
        fields["received_at"] = datetime.fromisoformat(fields["received_at"])
        fields["raw"] = b64decode(fields["raw"])
        return Entry(received_at, Submission(None, rejection=Rejection(**fields)))
    shared = b64decode(content["raw"]) if "raw" in content else None
    some = tuple(_receipt(each, shared) for each in content["receipts"])
    return Entry(received_at, Submission(None, some))


def _receipt(plain: Mapping[str, Any], shared: bytes | None) -> Receipt:
    """
    :param shared: the post of those that have none of their own.
    """
    fields: dict[str, Any] = dict.fromkeys(("message_id", "code", "recipient", "reported_at"))
    fields |= plain
    fields["kind"] = Kind(fields["kind"])
    fields["state"] = State(fields["state"])
    own = shared is None or "raw" in plain
    fields["raw"] = b64decode(plain["raw"]) if own else shared
    if fields["reported_at"] is not None:
        fields["reported_at"] = datetime.fromisoformat(fields["reported_at"])
    if "price" in fields:
        fields["price"] = Decimal(fields["price"])
    fields["unread"] = tuple(fields.get("unread", ()))
    for name in ("part", "parts"):
        # Older versions took any number.
        if not 0 <= (fields.get(name) or 0) <= MOST_PARTS:
            fields["extra"] = {**(fields.get("extra") or {}), name: str(fields.pop(name))}
            fields["unread"] += (name,)
    return Receipt(**fields)
