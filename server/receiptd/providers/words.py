"""Words that say how a message stands: SMPP's, and those that aggregators and carriers send."""

from __future__ import annotations

import re

from receiptd.receipt import State

_LONGEST_WORD = 64
"""Characters; no word is longer."""

# SMPP v3.4: the words of a delivery receipt's text (appendix B) and the full names of
# `message_state` (section 5.2.28); SMPP v5.0 has two more. This is the one table of them.
SMPP_WORDS = {
    "DELIVRD": State.DELIVERED,
    "UNDELIV": State.UNDELIVERABLE,
    "REJECTD": State.REJECTED,
    "ACCEPTD": State.ACCEPTED,
    "SCHEDULED": State.ENROUTE,
    "SKIPPED": State.REJECTED,
    **{str(state): state for state in State},
}

# Words that aggregators and carriers send in the place of those, each with the nearest state; as
# `state_of_word` compares them.
_WORDS = SMPP_WORDS | {
    "ACCEPT": State.ACCEPTED,
    "BLOCKED": State.REJECTED,
    "BUFFERD": State.ENROUTE,
    "BUFFERED": State.ENROUTE,
    "BUFFRED": State.ENROUTE,
    "CANCELED": State.DELETED,
    "CANCELLED": State.DELETED,
    "CARRIERERRORUNKNOWN": State.UNDELIVERABLE,
    "DELIVERD": State.DELIVERED,
    "DELIVEREDTOCARRIER": State.ENROUTE,
    "DELIVEREDTODEVICE": State.DELIVERED,
    "DELIVEREDTOHANDSET": State.DELIVERED,
    "DELIVEREDTONETWORK": State.ENROUTE,
    "DELIVEREDTOOPERATOR": State.ENROUTE,
    "DELIVEREDTOPHONE": State.DELIVERED,
    "DELIVEREDTOSMSC": State.ENROUTE,
    "DELIVEREDTOTERMINAL": State.DELIVERED,
    "ERROR": State.UNDELIVERABLE,
    "EXPIRD": State.EXPIRED,
    "FAIL": State.UNDELIVERABLE,
    "FAILED": State.UNDELIVERABLE,
    "NOCRED": State.REJECTED,
    "NOCREDIT": State.REJECTED,
    "NOTDELIVERED": State.UNDELIVERABLE,
    "PENDING": State.ENROUTE,
    "QUEUED": State.ENROUTE,
    "REJECT": State.REJECTED,
    "RETRY": State.ENROUTE,
    "RETRYING": State.ENROUTE,
    "SENDING": State.ENROUTE,
    "SENT": State.ENROUTE,
    "SUBMITTED": State.ENROUTE,
    "SYSERR": State.UNDELIVERABLE,
    "SYSTEMERROR": State.UNDELIVERABLE,
    "UNDELIVERED": State.UNDELIVERABLE,
}
_NO_LETTER = re.compile(r"[^A-Z0-9]+")


def state_of_word(word: str | None) -> State | None:
    """The state that a word of the field stands for, whatever its case, spaces and hyphens; None
    for a word of no table, and for UNKNOWN, which says nothing."""
    if not word or len(word) > _LONGEST_WORD:
        return None
    upper = word.upper()
    state = _WORDS.get(upper) or _WORDS.get(_NO_LETTER.sub("", upper))
    return None if state is State.UNKNOWN else state
