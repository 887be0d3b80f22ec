"""A message and its state: what the receipts about it add up to, in whatever order they come.

Everything here is a maximum over what is known, so that neither order nor repetition nor
grouping of receipts changes where a message ends up.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from typing import NamedTuple

from receiptd.receipt import State

WHOLE = 0
"""Stands for the message as a whole where receipts name no part."""

# On a tie in time: what is good news first, then what is surer.
_RANK = {
    state: rank
    for rank, state in enumerate(
        (
            State.UNKNOWN,
            State.ENROUTE,
            State.ACCEPTED,
            State.DELETED,
            State.EXPIRED,
            State.REJECTED,
            State.UNDELIVERABLE,
            State.DELIVERED,
        )
    )
}


class Message(NamedTuple):
    """What the application registered as sent, to one recipient."""

    provider: str
    message_id: str
    recipient: str | None = None
    """None where the application does not say: then any recipient matches."""
    sender: str | None = None
    reference: str | None = None
    parts: int | None = None
    """How many parts a concatenated message has."""
    sent_at: datetime | None = None
    """When the application sent it (aware), where it says so; otherwise registration counts."""


class Standing(NamedTuple):
    """A state and when it was reported."""

    state: State
    at: datetime

    def beats(self, other: Standing) -> bool:
        """Whether this is the better known of two: final beats intermediate, then the later
        one counts, then a fixed rank of states."""
        return self._key() > other._key()

    def _key(self) -> tuple[bool, datetime, int]:
        return self.state.final, self.at, _RANK[self.state]


class Price(NamedTuple):
    """An amount and when it was reported."""

    amount: Decimal
    at: datetime

    def beats(self, other: Price) -> bool:
        """Whether this is the later one, on a tie the larger."""
        return (self.at, self.amount) > (other.at, other.amount)


class Part(NamedTuple):
    """What is known of one part, or of the message as a whole."""

    standing: Standing | None = None
    price: Price | None = None

    def with_report(self, standing: Standing, amount: Decimal | None) -> Part:
        """This part after one more receipt."""
        best, price = self.standing, self.price
        if best is None or standing.beats(best):
            best = standing
        if amount is not None:
            reported = Price(amount, standing.at)
            if price is None or reported.beats(price):
                price = reported
        return Part(best, price)


NOTHING_OF_PART = Part()


class Progress(NamedTuple):
    """A message's state as people ask for it."""

    state: State
    final: bool
    state_at: datetime | None
    delivered: int
    """How many parts are delivered."""
    expected: int
    """How many parts there are, as far as is known."""
    price: Decimal | None


def progress(parts: Mapping[int, Part], registered: int | None) -> Progress:
    """What `parts` (by number, `WHOLE` for receipts that name none) add up to.

    The message is final when all its parts are, and DELIVERED only if all are.

    :param registered: how many parts the application said there are.
    """
    whole = parts.get(WHOLE, NOTHING_OF_PART)
    if len(parts) == 1 and whole.standing is not None and (registered or 1) == 1:
        # Nearly all messages: the one part is the message.
        state, state_at = whole.standing
        price = whole.price.amount if whole.price is not None else None
        return Progress(state, state.final, state_at, int(state is State.DELIVERED), 1, price)
    numbered = [number for number in parts if number != WHOLE]
    expected = max([registered or 1, *numbered])
    standings = [_better(parts[number].standing, whole.standing) for number in numbered]
    delivered = sum(each is not None and each.state is State.DELIVERED for each in standings)
    unnamed = expected - len(numbered)
    if unnamed:
        # What is known of the whole stands for each of them: looked at once, however many.
        standings.append(whole.standing)
        if whole.standing is not None and whole.standing.state is State.DELIVERED:
            delivered += unnamed
    state, final, at = together(standings)
    prices = [part.price.amount for part in parts.values() if part.price is not None]
    return Progress(
        state,
        final,
        at,
        delivered,
        expected,
        sum(prices[1:], prices[0]) if prices else None,
    )


def together(standings: Sequence[Standing | None]) -> tuple[State, bool, datetime | None]:
    """State, final or not, and since when, of things of which all count: a message's parts, an
    identifier's recipients. None stands for one of which nothing is known."""
    known = [each for each in standings if each is not None]
    if not known:
        return State.ENROUTE, False, None
    if len(known) == len(standings) and all(each.state.final for each in known):
        bad = [each for each in known if each.state is not State.DELIVERED]
        state = _best(bad).state if bad else State.DELIVERED
        return state, True, max(each.at for each in known)
    pending = [each for each in known if not each.state.final]
    state = _best(pending).state if pending else State.ENROUTE
    return state, False, max(each.at for each in known)


def _better(one: Standing | None, other: Standing | None) -> Standing | None:
    if one is None or (other is not None and other.beats(one)):
        return other
    return one


def _best(standings: Collection[Standing]) -> Standing:
    best, *others = standings
    for other in others:
        if other.beats(best):
            best = other
    return best
