"""URLs with Kannel's escapes in them, as its dlr-url has them: what is told takes their place.

`%%` is a percent sign; `%` and two hexadecimal digits is an encoded byte, such as `%20`, unless
the first of them is an escape (`%d`, `%a`, `%A`, `%F`, ...), which it then is.
(Kannel 1.4.5 User's Guide, "URL markers" of delivery reports.)
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any
from urllib.parse import quote

from receiptd.forward.events import Event, event_name
from receiptd.receipt import State

_KANNEL = {
    State.DELIVERED: "1",
    State.UNDELIVERABLE: "2",
    State.EXPIRED: "2",
    State.DELETED: "2",
    State.REJECTED: "16",
}
"""What `%d` says; of a state that is not final, 4 (buffered), or 8 for one that says that the
message was handed on (kind `sent`)."""

_SHORT = {
    State.ENROUTE: "ENROUTE",
    State.DELIVERED: "DELIVRD",
    State.EXPIRED: "EXPIRED",
    State.DELETED: "DELETED",
    State.UNDELIVERABLE: "UNDELIV",
    State.ACCEPTED: "ACCEPTD",
    State.UNKNOWN: "UNKNOWN",
    State.REJECTED: "REJECTD",
}
"""SMPP v3.4, appendix B: the states as a delivery receipt's `stat` has them."""


def _about(event: Event) -> Mapping[str, Any]:
    about = event.receipt if event.receipt is not None else event.message
    return about or {}


def _status(event: Event) -> str:
    about = _about(event)
    state = State(about["state"])
    if about.get("kind") == "sent" and not state.final:
        return "8"
    return _KANNEL.get(state, "4")


def _time(event: Event) -> datetime:
    text = _about(event).get("reported_at") or _about(event).get("state_at")
    return datetime.fromisoformat(text) if text else event.at


def _answer(event: Event) -> str:
    about = _about(event)
    return " ".join(filter(None, (about.get("code"), about.get("description"))))


ESCAPES: Mapping[str, Callable[[Event, str], str]] = {
    "d": lambda event, _: _status(event),
    "A": lambda event, _: _answer(event),
    "a": lambda event, _: _about(event).get("text") or _about(event).get("description") or "",
    "P": lambda event, _: _about(event).get("recipient") or "",
    "p": lambda event, _: _about(event).get("sender") or "",
    "t": lambda event, _: f"{_time(event):%Y-%m-%d %H:%M}",
    "T": lambda event, _: str(int(_time(event).timestamp())),
    "I": lambda event, _: _about(event).get("message_id") or "",
    "F": lambda event, _: _about(event).get("message_id") or "",
    "i": lambda event, _: _about(event).get("endpoint") or "",
    "n": lambda event, _: _about(event).get("provider") or "",
    "s": lambda event, _: _SHORT[State(_about(event)["state"])],
    "r": lambda event, _: _about(event).get("reference") or "",
    "e": lambda event, store: event_name(store, event.id),
}
"""What each escape is replaced by, of an event and its store. `%s`, `%r` and `%e` are ours."""


def check(template: str) -> None:
    """
    :raises ValueError: where there is a percent sign in `template` that means nothing, or an
        escape where the host stands.
    """
    authority = template.partition("://")[2].partition("/")[0].partition("?")[0]
    if "%" in authority:
        raise ValueError("expected escapes in the path or the query alone, not in the host")
    for found in re.finditer(r"%(.{0,2})", template.replace("%%", "")):
        if found[1][:1] in ESCAPES or re.fullmatch("[0-9A-Fa-f]{2}", found[1]):
            continue
        raise ValueError(
            f"%{found[1][:1]} is no escape: expected one of "
            + ", ".join(f"%{each}" for each in ESCAPES)
            + ", or %% for a percent sign"
        )


def fill(template: str, event: Event, store: str) -> str:
    """`template` with what `event` says in place of its escapes."""

    def replace(found: re.Match[str]) -> str:
        letter = found[1]
        if letter == "%":
            return "%25"
        if letter in ESCAPES:
            return quote(ESCAPES[letter](event, store), safe="", errors="replace")
        return found[0]

    return re.sub(r"%(.)", replace, template, flags=re.DOTALL)
