"""What becomes of a row: it is about the person, or mentions them, or neither."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from receiptd.forget.person import Person
from receiptd.forget.pseudonyms import Pseudonyms
from receiptd.receipt import Kind, Receipt

_TEXTS = ("message_id", "message_key", "linked_key", "code", "description", "sender", "reference")
_MORE_TEXTS = ("network", "text")
_UNKEYED = 64
"""Characters of a `variant` that is a digest; the others are random, or a time."""


@dataclass(frozen=True, slots=True)
class Whom:
    """Whom to forget, in which role, and how."""

    person: Person
    recipient: bool = True
    """Whether what has them as its recipient is about them."""
    sender: bool = False
    """Whether what has them as its sender is about them."""
    pseudonyms: Pseudonyms | None = None
    """What stands in place of the number; None: what is about them is deleted."""

    def about(self, row: Mapping[str, Any], of_messages: Collection[int] = ()) -> bool:
        """Whether a receipt or a message is about them.

        :param of_messages: the messages that are. A receipt that names no phone is about whom
            its message is.
        """
        replies = row.get("kind") == Kind.REPLY
        if self.recipient:
            key = row.get("recipient_key")
            if key in self.person.keys or self.person.named(row["recipient"]):
                return True
            phone = row["sender" if replies else "recipient"]
            if not phone and row.get("message_ref") in of_messages:
                return True
        # A reply is its sender's, of whom messages go to.
        return (self.sender or replies) and self.person.named(row["sender"])

    def blanked(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """The columns of a row about somebody else that mention the person, without them. Where
        only a sender is to be forgotten, `recipient` stays: another row's identity rests on it."""
        person = self.person
        changes: dict[str, Any] = {
            name: person.blanked_text(row[name])
            for name in (*_TEXTS, *_MORE_TEXTS)
            if row.get(name) and person.within(row[name])
        }
        if person.named(row["sender"]):
            changes["sender"] = "***"
        if row.get("extra") and person.within(row["extra"]):
            extra = json.dumps(person.blanked_json(json.loads(row["extra"])), ensure_ascii=False)
            changes["extra"] = "{}" if person.within(extra) else extra
        if row.get("raw") and (raw := person.blanked(row["raw"])) is not row["raw"]:
            changes["raw"] = raw
        return changes

    def pseudonymised(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """The columns of a row about the person that change: the pseudonym in place of the number,
        and nothing that they wrote or the provider posted."""
        assert self.pseudonyms is not None
        person, pseudonyms = self.person, self.pseudonyms
        changes: dict[str, Any] = {}
        one = pseudonyms.of(min(person.keys))
        for name in _TEXTS:
            if row.get(name) and person.within(row[name]):
                changes[name] = person.blanked_text(row[name], lambda found: one)
        if person.named(row["recipient"]) or row.get("recipient_key") in person.keys:
            key = row.get("recipient_key") or min(person.keys)
            changes["recipient"] = pseudonyms.of(key)
            if "recipient_key" in row:
                changes["recipient_key"] = changes["recipient"]
        if person.named(row["sender"]):
            changes["sender"] = one
        if "raw" in row:
            changes |= {"text": None, "raw": b"", "extra": "{}"}
        if "post_id" in row:
            changes["post_id"] = None
        if len(row.get("variant") or "") == _UNKEYED:
            changes["variant"] = pseudonyms.digest(row["variant"])
        return changes

    def receipts(self, some: Collection[Receipt]) -> tuple[list[Receipt], int]:
        """What stays of the receipts of a post that waits in the spool, and how many of them were
        about the person or mention them."""
        kept: list[Receipt] = []
        count = 0
        for receipt in some:
            row = receipt._asdict()
            row["extra"] = json.dumps(receipt.extra, ensure_ascii=False)
            changes: dict[str, Any]
            if self.about(row):
                count += 1
                if self.pseudonyms is None:
                    continue
                changes = self.pseudonymised(row) | {"extra": {}, "linked_id": receipt.linked_id}
            else:
                changes = self.blanked(row)
                count += bool(changes)
                if "extra" in changes:
                    changes["extra"] = json.loads(changes["extra"])
            linked = receipt.linked_id
            if linked and self.person.within(linked):
                changes["linked_id"] = self.person.blanked_text(linked)
            kept.append(receipt._replace(**changes))
        return kept, count
