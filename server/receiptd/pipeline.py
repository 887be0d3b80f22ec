"""The way of a receipt between the providers and the store: accepted means on disk.

What is called in which thread: providers, `web` and this pipeline run in the reactor's. `put`
hands submissions to the writer's thread, which stores them. The writer calls the pipeline back
there, once for each commit. The pipeline goes over to the reactor's thread with
`callFromThread`, and only there its Deferreds fire.
The spool is drained in a third thread, which calls nothing here.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Sequence
from itertools import chain
from time import monotonic
from typing import Any, Protocol

from twisted.internet.defer import Deferred

from receiptd.message import Message
from receiptd.receipt import Receipt, Rejection, Verdict
from receiptd.store.writer import LARGEST_BATCH, Result, Submission


class Reactor(Protocol):
    """What the pipeline needs of Twisted's reactor."""

    def callLater(self, delay: float, function: Callable[..., object], *args: Any) -> Any:
        """Call `function` in the reactor's thread, `delay` seconds from now."""

    def callFromThread(self, function: Callable[..., object], *args: Any) -> Any:
        """Call `function` in the reactor's thread, from another one."""


class Busy(Exception):
    """The store cannot take more now; the post is not stored and should be sent again."""


MOST_BYTES = 64 * 1024 * 1024
"""How many bytes of posts may wait for a commit, whatever their number."""

AT_THE_WRITER = LARGEST_BATCH
"""While this many submissions are at the writer, more wait here, where each endpoint has its
turn: the writer is never without work, and no endpoint's flood stands before another's posts."""


class Pipeline:
    """Hands what requests bring to the writer, and its verdicts back to them.

    All submissions of one reactor iteration go to the writer as one: handing each over alone
    would spend more on waking threads than on storing. What may wait is bounded, and one
    endpoint may fill no more than half of it.
    """

    def __init__(
        self, reactor: Reactor, put: Callable[[list[Submission]], None], limit: int
    ) -> None:
        """
        :param put: the writer's.
        :param limit: how many submissions may wait for a commit before others are turned away.
        """
        self._reactor = reactor
        self._put = put
        self._limit = limit
        self._share = max(1, limit // 2)
        self._gathering: dict[str, deque[Submission]] = {}
        self._gathered = 0
        self._at_writer = 0
        # When the writer last gave something back, or was given something while it had nothing.
        self._moved_at = 0.0
        self._bytes = 0
        self._of_endpoint: Counter[str] = Counter()
        self._idle: list[Deferred[None]] = []

    @property
    def waiting(self) -> int:
        """How many submissions wait for a commit."""
        return self._gathered + self._at_writer

    @property
    def stalled(self) -> float:
        """For how many seconds the writer has given nothing back of what it has; 0 while it has
        nothing."""
        return monotonic() - self._moved_at if self._at_writer else 0.0

    def accept(self, receipts: Sequence[Receipt]) -> Deferred[list[Verdict]]:
        """Store `receipts`, together or not at all. Fires once they are on disk, with a verdict
        each; fails with `Busy` where they cannot be stored."""
        return self._submit(Submission(Deferred(), receipts))

    def reject(self, rejection: Rejection) -> Deferred[list[Verdict]]:
        """Keep a post that is no receipt. Fires once it is on disk, with no verdict."""
        return self._submit(Submission(Deferred(), rejection=rejection))

    def register(self, messages: Sequence[Message]) -> Deferred[list[str]]:
        """Register messages as sent. Fires once they are on disk, with what became of each."""
        return self._submit(Submission(Deferred(), messages=messages))

    def idle(self) -> Deferred[None]:
        """Fires as soon as nothing waits for a commit."""
        done: Deferred[None] = Deferred()
        if self.waiting:
            self._idle.append(done)
        else:
            done.callback(None)
        return done

    def deliver(self, results: list[Result]) -> None:
        """The writer's results of one transaction; called in the writer's thread."""
        self._reactor.callFromThread(self._delivered, results)

    def _submit(self, submission: Submission) -> Deferred[Any]:
        done: Deferred[Any] = submission.ticket
        endpoint = submission.endpoint
        if (
            self.waiting >= self._limit
            or self._of_endpoint[endpoint] >= self._share
            or self._bytes >= MOST_BYTES
        ):
            done.errback(Busy("too many receipts wait to be stored"))
            return done
        if not self._gathered and self._at_writer < AT_THE_WRITER:
            self._reactor.callLater(0, self._hand_over)
        self._gathered += 1
        self._bytes += submission.size
        self._of_endpoint[endpoint] += 1
        queue = self._gathering.get(endpoint)
        if queue is None:
            queue = self._gathering[endpoint] = deque()
        queue.append(submission)
        return done

    def _hand_over(self) -> None:
        """Give the writer what it may have, each endpoint in turn."""
        if not self._gathered or self._at_writer >= AT_THE_WRITER:
            return
        if self._gathered <= LARGEST_BATCH:
            batch = list(chain.from_iterable(self._gathering.values()))
            self._gathering.clear()
        else:
            batch = []
            while len(batch) < LARGEST_BATCH:
                for endpoint, queue in list(self._gathering.items()):
                    batch.append(queue.popleft())
                    if not queue:
                        del self._gathering[endpoint]
        self._gathered -= len(batch)
        if not self._at_writer:
            self._moved_at = monotonic()
        self._at_writer += len(batch)
        self._put(batch)

    def _delivered(self, results: list[Result]) -> None:
        self._at_writer -= len(results)
        self._moved_at = monotonic()
        for submission, _ in results:
            self._bytes -= submission.size
            self._of_endpoint[submission.endpoint] -= 1
        self._hand_over()
        for submission, result in results:
            if isinstance(result, Exception):
                submission.ticket.errback(Busy("the receipt could not be stored"))
            else:
                submission.ticket.callback(result)
        if not self.waiting:
            idle, self._idle = self._idle, []
            for done in idle:
                done.callback(None)
