"""What people are told to do."""

from __future__ import annotations

import pytest

from receiptd.errors import LONGEST_WORD, MOST_NAMED, did_you_mean
from receiptd.receipt import State


@pytest.mark.parametrize(
    ("word", "known", "remedy"),
    [
        ("cosft", ["csoft", "cdyne"], "did you mean 'csoft'?"),
        ("delivered", State, "did you mean 'DELIVERED'?"),
        ("nope", ["csoft", "cdyne"], "expected one of csoft, cdyne"),
        ("nope", [], "there is none of that name"),
        ("csoft" * LONGEST_WORD, ["csoft"], "expected one of csoft"),
    ],
)
def test_a_word_that_is_not_known_is_answered_with_the_one_that_was_meant(word, known, remedy):
    assert did_you_mean(word, known) == remedy


def test_a_long_list_of_known_words_is_cut():
    remedy = did_you_mean("?", [f"word{number}" for number in range(MOST_NAMED + 5)])
    assert remedy.endswith(f"word{MOST_NAMED - 1} and 5 more")
