"""What `simulate` tells in the end: how the posts were answered, and how quickly."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from receiptd.cli.output import printable, say

if TYPE_CHECKING:
    from receiptd.simulate.dialects import Target
    from receiptd.simulate.run import Outcome

FEW = 20
"""So many posts that were not answered "received" are listed one by one, more in groups."""


def _milliseconds(outcome: Outcome) -> dict[str, float]:
    from receiptd.simulate.run import percentile

    latencies = outcome.latencies
    return {
        name: round(1000 * seconds, 2)
        for name, seconds in (
            ("mean", sum(latencies) / len(latencies) if latencies else 0.0),
            ("p50", percentile(latencies, 0.5)),
            ("p99", percentile(latencies, 0.99)),
            ("max", max(latencies, default=0.0)),
        )
    }


def _rate(outcome: Outcome) -> float:
    return outcome.sent / outcome.seconds if outcome.seconds else 0.0


def summary(provider: str, to: Target, outcome: Outcome) -> dict[str, Any]:
    """The result as JSON has it."""
    return {
        "provider": provider,
        "url": to.shown,
        "sent": outcome.sent,
        "received": outcome.received,
        "refused": outcome.refused,
        "failed": outcome.failed,
        "seconds": round(outcome.seconds, 3),
        "rate": round(_rate(outcome), 1),
        "latency_ms": _milliseconds(outcome),
        "failures": [
            {"message_id": each.message_id, "recipient": each.recipient, "answer": each.text}
            for each in outcome.failures
        ],
        "stopped": outcome.stopped,
    }


def tell(outcome: Outcome, verbose: bool) -> None:
    """Print the result for people.

    :param verbose: whether each post that was not received is listed, however many there are.
    """
    from receiptd.simulate.run import groups

    failed = len(outcome.failures)
    times = _milliseconds(outcome)
    say(
        f'sent {outcome.sent}, answered "received" {outcome.received}, '
        f"refused {outcome.refused}, failed {outcome.failed}; "
        f"{outcome.seconds:.2f} s, {_rate(outcome):.0f}/s"
    )
    say(
        f"latency in ms: mean {times['mean']:.1f}, p50 {times['p50']:.1f}, "
        f"p99 {times['p99']:.1f}, max {times['max']:.1f}"
    )
    if not failed:
        return
    say("answered otherwise:")
    if verbose or failed <= FEW:
        for each in outcome.failures:
            say(f"  {printable(each.message_id)}: {printable(each.text)}")
    else:
        for text, members in groups(outcome.failures):
            example = printable(members[0].message_id)
            say(f"  {len(members)} times, such as {example}: {printable(text)}")
        say("  (--verbose or --json lists each)")
    if any(each.text.startswith("HTTP 404") for each in outcome.failures):
        say("hint: --url must end in the endpoint's path; receiptd check-config lists them")
