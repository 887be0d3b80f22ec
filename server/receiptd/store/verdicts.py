"""What a provider is told of a receipt that is new, by what matching made of it."""

from __future__ import annotations

from receiptd.receipt import Outcome, Verdict


def mismatch_text(outcome: Outcome, message_id: str | None, recipient: str | None) -> str:
    """What a provider reads about a receipt that no registered message explains."""
    if outcome is Outcome.UNKNOWN_MESSAGE:
        return f"Unknown MessageIdentifier {message_id}: no such message is registered as sent"
    return f"Wrong recipient {recipient}: the message {message_id} was not sent to it"


def verdict_of(outcome: Outcome, message_id: str | None, recipient: str | None) -> Verdict:
    """The verdict for a receipt that is new."""
    if outcome is Outcome.ACCEPTED:
        return Verdict(Outcome.ACCEPTED)
    return Verdict(outcome, mismatch_text(outcome, message_id, recipient), outcome)
