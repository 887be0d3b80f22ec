"""The reactor's clock: one that nobody sets."""

from __future__ import annotations

from time import monotonic
from typing import Any


def steady() -> Any:
    """Twisted's reactor, going by a clock that is never set; to be called before anything is
    timed.

    Its own is the time of day. Where that is put forward, as behind a pause of the virtual machine
    or with the first NTP packet, every connection has been idle for too long at once, and every
    worker silent; where it is put back, all that is timed waits for as long.
    """
    from twisted.internet import reactor as twisted_reactor

    reactor: Any = twisted_reactor
    reactor.seconds = monotonic
    return reactor
