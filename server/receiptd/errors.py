"""Errors that people are shown as they are, and the remedies that these name."""

from __future__ import annotations

from collections.abc import Iterable

LONGEST_WORD = 64
"""Characters of a word that a known one is compared with: comparing takes time that grows with
the square of the length, and nobody mistypes more than this."""

MOST_NAMED = 20
"""Known words that are named where none is near."""


class UserError(Exception):
    """Whoever starts the server is shown the text, as it is: why it does not start, and what to
    do."""


def did_you_mean(word: str, known: Iterable[str], cutoff: float = 0.6) -> str:
    """The remedy for `word`, which is not among `known`: the known word that was probably meant;
    where none is near, the list of them.

    :param cutoff: how much alike (0 to 1) two words must be to be taken for each other.
    """
    from difflib import get_close_matches

    # An enumeration's members are texts, but do not print as such.
    words = [str.__str__(each) for each in known]
    if not words:
        return "there is none of that name"
    if len(word) <= LONGEST_WORD:
        by_lower_case = {each.lower(): each for each in reversed(words)}
        near = get_close_matches(word, words, 1, cutoff) or [
            by_lower_case[each]
            for each in get_close_matches(word.lower(), list(by_lower_case), 1, cutoff)
        ]
        if near:
            return f"did you mean {near[0]!r}?"
    more = f" and {len(words) - MOST_NAMED} more" if len(words) > MOST_NAMED else ""
    return "expected one of " + ", ".join(words[:MOST_NAMED]) + more
