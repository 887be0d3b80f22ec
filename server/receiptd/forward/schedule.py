"""When an event that was refused is tried again, and when no more."""

from __future__ import annotations

import random
from collections.abc import Callable
from datetime import datetime, timedelta

SCHEDULE = (5.0, 30.0, 120.0, 600.0, 1800.0, 3600.0)
"""Seconds from a refusal to the next attempt; the last one repeats."""

JITTER = 0.2
"""Each is so much shorter or longer, so that what failed together does not return together."""


def delay(failures: int, chance: Callable[[], float] = random.random) -> float:
    """Seconds to wait.

    :param failures: how often the event was refused, this time included.
    :param chance: gives numbers from 0 to 1.
    """
    return jittered(SCHEDULE[min(failures, len(SCHEDULE)) - 1], chance)


def jittered(seconds: float, chance: Callable[[], float] = random.random) -> float:
    """`seconds`, somewhat shorter or longer."""
    return seconds * (1 + JITTER * (2 * chance() - 1))


def is_over(first_failed: datetime, now: datetime, give_up: timedelta) -> bool:
    """Whether an event that was first refused then is given up."""
    return now - first_failed >= give_up
