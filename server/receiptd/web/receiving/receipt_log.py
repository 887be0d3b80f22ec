"""What is noted of each post: a line in the log for each receipt, and what Prometheus counts."""

from __future__ import annotations

from typing import Any

from receiptd.log import Answered, Log
from receiptd.metrics.counters import Metrics
from receiptd.receipt import Outcome
from receiptd.web.receiving.intake import Intake, Origin, Taken

LONGEST_FIELD = 64
"""Characters of a field's name in a metric."""


class ReceiptLog:
    """Notes posts that were answered; a post's secrets and its texts are in no line.

    What one reactor iteration answers is written at once: a system call for each line would
    cost more than the line.
    """

    def __init__(self, log: Log, metrics: Metrics, reactor: Any) -> None:
        """
        :param reactor: Twisted's, by whose clock requests were stamped.
        """
        self._log = log
        self._metrics = metrics
        self._reactor = reactor
        self._lines: list[str] = []

    def taken(self, intake: Intake, taken: Taken, origin: Origin, started: float) -> None:
        """What became of a post, `started` being the reactor's clock when it came."""
        seconds = self._reactor.seconds() - started
        endpoint, provider = intake.name, intake.provider.name
        self._metrics.requests.observe(seconds, endpoint)
        answered = Answered(origin.request_id, endpoint, provider, origin.peer, seconds * 1000)
        if not taken.receipts:
            self._refused(answered, taken)
            return
        if taken.invalid:
            self._metrics.rejected[endpoint, "invalid"] += taken.invalid
            if self._log.wants("warn"):
                text = f"{taken.invalid} items of the post are nonsense, and are kept as such"
                self._write(self._log.lines.refused(answered, Outcome.INVALID, "warn", text))
        counts, code = self._metrics.receipts, self._metrics.code
        shown = self._log.wants("info")
        for receipt, verdict in zip(taken.receipts, taken.verdicts, strict=True):
            label = code(endpoint, receipt.code)
            counts[endpoint, provider, receipt.kind, receipt.state, verdict.outcome, label] += 1
            for field in receipt.unread:
                self._metrics.unread[endpoint, field[:LONGEST_FIELD]] += 1
            if shown:
                self._write(self._log.lines.receipt(answered, receipt, verdict.outcome))

    def fault(self, intake: Intake, code: str) -> None:
        """That a post was answered with a SOAP fault.

        :param code: its faultcode, of which what is behind a dot only details the rest (SOAP 1.1,
            section 4.4.1).
        """
        self._metrics.faults[intake.name, code.partition(".")[0]] += 1

    def flush(self) -> None:
        """Write what has gathered."""
        lines, self._lines = self._lines, []
        self._log.write("".join(lines))

    def _refused(self, answered: Answered, taken: Taken) -> None:
        verdict = taken.verdicts[0]
        if taken.reason == "ignored":
            self._metrics.ignored[(answered.endpoint,)] += 1
            if self._log.wants("info"):
                text = f"no receipt, and ignored: {verdict.text}"
                self._write(self._log.lines.refused(answered, verdict.outcome, "info", text))
            return
        self._metrics.rejected[answered.endpoint, taken.reason] += 1
        level = "error" if verdict.outcome is Outcome.BUSY else "warn"
        if self._log.wants(level):
            self._write(self._log.lines.refused(answered, verdict.outcome, level, verdict.text))

    def _write(self, line: str) -> None:
        if not self._lines:
            self._reactor.callLater(0, self.flush)
        self._lines.append(line)
