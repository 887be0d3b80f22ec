"""The reactor: Twisted's, by a clock that nobody sets, and with less ado about each event."""

from __future__ import annotations

from functools import partial
from time import monotonic
from typing import Any

from twisted.logger import Logger

_log = Logger(namespace="receiptd")


def prepared_reactor() -> Any:
    """Twisted's reactor as the server uses it; to be asked for before anything is timed.

    - It goes by a clock that is never set. Its own is the time of day. Where that is put forward,
      as behind a pause of the virtual machine or with the first NTP packet, every connection has
      been idle for too long at once, and every worker silent; where it is put back, all that is
      timed waits for as long.
    - That of Linux hands events on without more ado. Its own way makes a context for messages of
      Twisted's former log around each, which nothing here reads: a tenth of a receipt's CPU time.
    """
    from twisted.internet import reactor as installed

    reactor: Any = installed
    reactor.seconds = monotonic
    if type(reactor).__module__ == "twisted.internet.epollreactor":
        reactor.doPoll = reactor.doIteration = partial(_poll, reactor)
    return reactor


def _poll(reactor: Any, timeout: float | None) -> None:
    """Wait for events and hand them on, as `EPollReactor.doPoll` does.

    :param timeout: in seconds; None: for as long as it takes.
    """
    selectables = reactor._selectables
    for number, event in reactor._poller.poll(timeout, len(selectables)):
        selectable = selectables.get(number)
        if selectable is None:
            continue  # it has gone with an event before
        try:
            reactor._doReadOrWrite(selectable, number, event)
        except Exception:
            _log.failure("ending a connection")
