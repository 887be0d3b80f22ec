"""Which sockets have something to read just now: asked when the server stops, not to lose it."""

from __future__ import annotations

import select
from collections.abc import Iterable
from typing import Any


def readable(sockets: Iterable[Any]) -> set[int]:
    """The descriptors of those that have bytes, connections or an end to read.

    :param sockets: anything with a `fileno()`.
    """
    poll = select.poll()  # not select(), which takes no descriptor above 1023
    for each in sockets:
        poll.register(each.fileno(), select.POLLIN)
    return {descriptor for descriptor, _ in poll.poll(0)}
