"""What an import of messages has done: registers them in batches and counts the results."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from receiptd.cli.output import printable

if TYPE_CHECKING:
    from receiptd.registration.message_file import Entry, MessageFile
    from receiptd.store.registry import Registry


class Shown(Protocol):
    """Shows the progress of an import."""

    def problem(self, text: str) -> None:
        """Show what is wrong with a line."""

    def reached(self, position: int, lines: int) -> None:
        """Show how many bytes and lines are done."""


@dataclass
class Tally:
    """What an import has done, and how far it has come."""

    registered: int = 0
    updated: int = 0
    unchanged: int = 0
    bad: int = 0
    adopted: int = 0
    next_line: int | None = None
    """The first line that is not done yet; None before the beginning."""
    ended: str | None = None
    """Why it ended early."""
    seconds: float = 0.0
    newly_checked: list[str] = field(default_factory=list)
    """The providers whose first messages these were."""

    def run(self, messages: MessageFile, registry: Registry, shown: Shown, *, stops: bool) -> None:
        """Register `messages`.

        :param stops: whether the first bad line ends it.
        """
        started = time.monotonic()
        try:
            self._run(messages, registry, shown, stops)
        finally:
            self.seconds = time.monotonic() - started

    def _run(self, messages: MessageFile, registry: Registry, shown: Shown, stops: bool) -> None:
        waiting: list[Entry] = []
        for entry in messages:
            if not waiting:
                self.next_line = entry.line
            if entry.message is None:
                self.bad += 1
                shown.problem(f"line {entry.line}: {printable(entry.problem)}")
                if stops:
                    self._register(waiting, registry)
                    self.next_line = entry.line
                    self.ended = "stopped at a bad line (--on-error skip would leave it out)"
                    return
                continue
            waiting.append(entry)
            if len(waiting) >= registry.batch:
                self._register(waiting, registry)
                shown.reached(messages.position, self.lines)
                waiting = []
        self._register(waiting, registry)
        shown.reached(messages.position, self.lines)

    @property
    def lines(self) -> int:
        """How many lines are done."""
        return self.registered + self.updated + self.unchanged + self.bad

    def _register(self, entries: list[Entry], registry: Registry) -> None:
        messages = [entry.message for entry in entries if entry.message is not None]
        results = registry.register(messages)
        self.registered += results.count("registered")
        self.updated += results.count("updated")
        self.unchanged += results.count("unchanged")
        self.adopted = registry.adopted
        if entries:
            self.next_line = entries[-1].line + 1
