"""The operations that Connection Software calls, and the fields of each.

`SubmitDeliveryReceipt` is as the vendor's page has it. Of `DeliverMessage` the public pages show
the beginning: the name, the credentials, `Recipient` with `SendTo`, `Message` with `TextMessage`.
The types of both are known from code that was generated of the vendor's WSDL for sending. The
rest is inferred from the form post of the same message: `ReplyTo`, `Timestamp1` and
`MessageIdentifier`, and that the answer is like a receipt's.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple


class Operation(NamedTuple):
    """One operation."""

    name: str
    fields: tuple[str, ...]
    """The request's children, in the order of the schema and of the service method."""
    holders: Mapping[str, tuple[str, ...]] = {}
    """The fields that hold elements, each with those whose texts count; the first is what a text
    in the place of elements means."""


RECEIPT = Operation(
    "SubmitDeliveryReceipt",
    ("Username", "PIN", "Timestamp1", "SentTo", "MessageIdentifier", "Report"),
)
MESSAGE = Operation(
    "DeliverMessage",
    ("Username", "PIN", "Recipient", "Message", "ReplyTo", "Timestamp1", "MessageIdentifier"),
    {"Recipient": ("SendTo", "MCC", "MNC"), "Message": ("TextMessage", "FlashMessage")},
)
OPERATIONS = {each.name: each for each in (RECEIPT, MESSAGE)}
EXPECTED = " or ".join(OPERATIONS)
"""Their names, for errors."""
