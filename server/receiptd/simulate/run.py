"""Posts what a provider would post, to see that a server takes it, and how fast.

A few threads with a connection each, kept alive, send receipts that the provider's own module
makes up (`Provider.sample`) in the form that it reads (`Provider.write`). Nothing is sent to
anywhere but the given URL: redirections are an answer like any other.
"""

from __future__ import annotations

import http.client
import socket
import ssl
import time
from array import array
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from random import Random
from threading import Event, Lock, Thread
from typing import NamedTuple

from receiptd.providers import Provider
from receiptd.receipt import Kind, Receipt
from receiptd.simulate.dialects import Answer, Dialect, Outgoing, Target

FIRST = datetime(2026, 1, 1, tzinfo=UTC)
"""When the first receipt of a seeded run was reported: the same seed makes the same receipts."""

LARGEST_ANSWER = 1024 * 1024
"""Bytes of an answer that are read; none of a server that takes receipts is longer."""

_STALE = (
    http.client.RemoteDisconnected,
    ConnectionResetError,
    BrokenPipeError,
    ConnectionAbortedError,
)
"""How a kept connection shows, at its next use, that the server closed it meanwhile."""


class Failure(NamedTuple):
    """A post that was not answered "received"."""

    message_id: str | None
    recipient: str | None
    text: str


@dataclass(slots=True)
class Outcome:
    """What became of a run."""

    sent: int = 0
    received: int = 0
    refused: int = 0
    """Answered, and not taken as a receipt: `Report` -1 or 2, or a 4xx."""
    failed: int = 0
    """Not answered, or by a fault or a 5xx."""
    seconds: float = 0.0
    latencies: array[float] = field(default_factory=lambda: array("d"))
    """Seconds from the first byte sent to the last one read, of each post that was answered."""
    failures: list[Failure] = field(default_factory=list)
    stopped: str | None = None
    """Why the run ended early."""


class CannotConnect(Exception):
    """No connection to the target; the text says why and what to do."""


def samples(
    provider: Provider, count: int, seed: int | None, kind: Kind | None = None
) -> Iterator[Receipt]:
    """`count` receipts: others in each run, or with a `seed` the same, times included.

    :param kind: of which all are; None: of those that the provider sends.
    :raises LookupError: where none of that kind is ever made up.
    """
    random = Random(seed)  # noqa: S311 - made up, not secret
    for number in range(count):
        at = datetime.now(UTC) if seed is None else FIRST + timedelta(seconds=number)
        yield provider.sample_of(kind, random, at) if kind else provider.sample(random, at)


class Run:
    """One run of `simulate`. `start` it, then `wait`; `outcome` grows meanwhile."""

    def __init__(
        self,
        to: Target,
        dialect: Dialect,
        receipts: Iterator[Receipt],
        *,
        rate: float | None = None,
        connections: int = 8,
        timeout: float = 30.0,
    ) -> None:
        """
        :param rate: posts per second; None: as fast as the connections allow.
        :param timeout: seconds to wait for the server at each step.
        """
        self.outcome = Outcome()
        self._target = to
        self._dialect = dialect
        self._receipts = receipts
        self._interval = 1 / rate if rate else 0.0
        self._timeout = timeout
        self._lock = Lock()
        self._stop = Event()
        self._taken = 0
        self._started = time.perf_counter()
        self._threads = [
            Thread(target=self._work, name=f"simulate-{number}", daemon=True)
            for number in range(connections)
        ]

    def start(self) -> None:
        """Begin to send.

        :raises CannotConnect: where nothing answers at the target; nothing was sent then.
        """
        self._connect().close()
        self._started = time.perf_counter()
        for thread in self._threads:
            thread.start()

    def wait(self, seconds: float | None = None) -> bool:
        """Wait for the end, or for so many seconds; whether it is the end."""
        deadline = None if seconds is None else time.monotonic() + seconds
        for thread in self._threads:
            if thread.ident is not None:  # an interrupted start leaves some that never began
                thread.join(None if deadline is None else max(0.0, deadline - time.monotonic()))
        ended = not any(thread.is_alive() for thread in self._threads)
        self.outcome.seconds = time.perf_counter() - self._started
        return ended

    def stop(self) -> None:
        """Send no more; what is under way is still awaited."""
        self._stop.set()

    def _connect(self) -> http.client.HTTPConnection:
        to = self._target
        connection: http.client.HTTPConnection
        if to.secure:
            connection = http.client.HTTPSConnection(to.host, to.port, timeout=self._timeout)
        else:
            connection = http.client.HTTPConnection(to.host, to.port, timeout=self._timeout)
        try:
            connection.connect()
        except ssl.SSLCertVerificationError as error:
            raise CannotConnect(
                f"{to.shown}: the certificate is not trusted: {error.verify_message}. "
                "SSL_CERT_FILE can name a file with the authority's"
            ) from None
        except (TimeoutError, socket.gaierror, OSError) as error:
            why = getattr(error, "strerror", None) or str(error) or type(error).__name__
            hint = ". Is a server running there? Start one with: receiptd serve"
            if not isinstance(error, ConnectionRefusedError):
                hint = ""
            raise CannotConnect(f"{to.shown}: cannot connect: {why.lower()}{hint}") from None
        return connection

    def _take(self) -> tuple[Outgoing, float] | None:
        """The next post, and when it is due (by `perf_counter`)."""
        with self._lock:
            if self._stop.is_set():
                return None
            receipt = next(self._receipts, None)
            if receipt is None:
                return None
            due = self._started + self._taken * self._interval
            self._taken += 1
        return self._dialect.write(receipt, self._target), due

    def _work(self) -> None:
        connection: http.client.HTTPConnection | None = None
        while (taken := self._take()) is not None:
            post, due = taken
            if self._interval and self._stop.wait(due - time.perf_counter()):
                break
            try:
                connection = self._exchange(connection, post)
            except CannotConnect as error:
                # The server went in mid-run; every further post would meet the same.
                self._end(post, None, Answer("failed", str(error)))
                self.outcome.stopped = str(error)
                self._stop.set()
        if connection is not None:
            connection.close()

    def _exchange(
        self, kept: http.client.HTTPConnection | None, post: Outgoing
    ) -> http.client.HTTPConnection | None:
        """Send `post` and read the answer; gives the connection where it can be kept.

        A kept connection may turn out to be closed by the server meanwhile; then the post goes
        over a new one. If the first was taken after all, the second is a duplicate, which a
        server has to bear anyway.
        """
        connection = kept or self._connect()
        started = time.perf_counter()
        try:
            connection.request(post.method, post.path, post.body or None, post.headers)
            response = connection.getresponse()
            body = response.read(LARGEST_ANSWER)
            whole = not response.read(1)
        except (OSError, http.client.HTTPException) as error:
            connection.close()
            if kept is not None and isinstance(error, _STALE):
                return self._exchange(None, post)
            self._end(post, None, Answer("failed", _lost(error)))
            return None
        latency = time.perf_counter() - started
        self._end(post, latency, self._dialect.read(post, response.status, body))
        if response.will_close or not whole:
            connection.close()
            return None
        return connection

    def _end(self, post: Outgoing, latency: float | None, answer: Answer) -> None:
        outcome = self.outcome
        with self._lock:
            outcome.sent += 1
            if latency is not None:
                outcome.latencies.append(latency)
            if answer.kind == "received":
                outcome.received += 1
            else:
                if answer.kind == "refused":
                    outcome.refused += 1
                else:
                    outcome.failed += 1
                receipt = post.receipt
                outcome.failures.append(
                    Failure(receipt.message_id, receipt.recipient, answer.text)
                )


def _lost(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return "no answer in time"
    return f"the connection broke before the answer: {str(error) or type(error).__name__}"


def percentile(latencies: array[float], share: float) -> float:
    """The latency that `share` (0 to 1) of all do not exceed."""
    ordered = sorted(latencies)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else 0.0


def groups(failures: list[Failure]) -> list[tuple[str, list[Failure]]]:
    """Failures by what was said, the most frequent first; the receipts' own identifiers and
    phones, which an answer may name, do not tell groups apart."""
    found: dict[str, list[Failure]] = {}
    for failure in failures:
        text = failure.text
        for own, stands in ((failure.message_id, "<identifier>"), (failure.recipient, "<phone>")):
            if own and len(own) > 3:
                text = text.replace(own, stands)
        found.setdefault(text, []).append(failure)
    return sorted(found.items(), key=lambda group: -len(group[1]))
