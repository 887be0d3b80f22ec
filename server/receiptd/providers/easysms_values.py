"""What EasySMS fills into a dlr-url, and what the values mean: its own tables, and Kannel's, whose
convention it is."""

from __future__ import annotations

from receiptd.providers import Code
from receiptd.receipt import State

_DATE = "(?:[0-9]{4}-[0-9]{2}-[0-9]{2}[ T][0-9]{2}:[0-9]{2}(?::[0-9]{2})?)?"

# What can be filled in, and how it looks where one value holds several (None: anything).
ESCAPES = {
    "%i": None,  # the identifier given at sending
    "%d": "[0-9]*",  # VALUES
    "%s": None,  # WORDS
    "%p": None,  # the sender
    "%P": r"\+?[0-9]*",  # the recipient
    "%t": _DATE,  # of sending
    "%y": _DATE,  # of the receipt
    "%c": "[0-9]*(?:[.,][0-9]+)?",  # cost
    "%n": "[0-9]*(?:/[0-9]+)?",  # the part's number, or 2/3
    "%j": None,  # ERRORS
    "{message_id}": None,  # the customer's own identifier of the sending
    "{reference}": None,
}
IDENTIFIERS = ("{message_id}", "%i")

VALUES = {
    "1": Code(State.DELIVERED, "Delivered"),
    "2": Code(State.UNDELIVERABLE, "Could not be delivered to the recipient"),
    "4": Code(State.ENROUTE, "Delivered to the SMSC"),
    "8": Code(State.ENROUTE, "Submitted to the SMSC"),
    "16": Code(State.REJECTED, "Could not be delivered to the operator"),
    # Kannel's, whose bits these are: its own values for what it knows more of ...
    "34": Code(State.EXPIRED, "Expired before it could be delivered"),
    "66": Code(State.UNDELIVERABLE, "Given up for a reason that is not known"),
    # ... and what comes of two of them.
    "9": Code(State.DELIVERED, "Submitted to the SMSC and delivered"),
    "12": Code(State.ENROUTE, "Submitted to the SMSC and delivered to it"),
    "18": Code(State.REJECTED, "Could not be delivered, neither to the operator"),
}
# Where %d is not there or not in the table, %s decides alone ...
WORDS = {"RECEIVED": State.ENROUTE}
# ... and where it is, it says more about these.
REFINED = {
    "2": {State.EXPIRED, State.DELETED, State.REJECTED},
    "66": {State.EXPIRED, State.DELETED, State.REJECTED},
    "4": {State.ACCEPTED},
    "8": {State.ACCEPTED},
    "12": {State.ACCEPTED},
}
ERRORS = {"89": "balance too low"}

EXAMPLE = "2020-01-31 14:18"
"""Of a time as EasySMS writes it."""
