"""Deferreds beside code that cannot await them: at the start, and for a thread with a deadline."""

from __future__ import annotations

from collections.abc import Callable
from threading import Thread
from typing import Any

from twisted.internet import defer


def at_once(done: defer.Deferred[Any]) -> None:
    """Raise the exception that `done` has failed with, if it has failed already."""
    failures: list[Any] = []
    done.addErrback(failures.append)
    if failures:
        failures[0].raiseException()


async def in_thread(reactor: Any, function: Callable[[], object], seconds: float) -> bool:
    """Call `function` in a thread of its own.

    :return: whether it ended within `seconds`.
    """
    done: defer.Deferred[bool] = defer.Deferred()

    def ended() -> None:
        if not done.called:
            done.callback(True)

    def run() -> None:
        try:
            function()
        finally:
            reactor.callFromThread(ended)

    # Not in the reactor's pool: the process waits for the threads of that pool when it ends.
    Thread(target=run, daemon=True).start()
    return await done.addTimeout(seconds, reactor, lambda *_: False)
