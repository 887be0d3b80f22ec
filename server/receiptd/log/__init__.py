"""The log: one place and one form for receipts, for what else happens, and for what libraries say.

Twisted's events come through `Log` itself, those of the standard library's `logging` through
`Log.take_from_libraries`; lines of receipts are gathered by `web/receiptlog.py`.
"""

from __future__ import annotations

import logging
import traceback
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from time import time
from typing import Any

from twisted.logger import ILogObserver, LogLevel, formatEvent
from zope.interface import implementer

from receiptd.config import Logging
from receiptd.log.lines import Answered, Event, Json, Lines, Plain
from receiptd.log.sink import LogError, Sink, check_file

__all__ = ["Answered", "Event", "Lines", "Log", "LogError", "check_log"]

LEVELS = ("debug", "info", "warn", "error", "critical")
"""As Twisted calls them, the least important first."""

_OURS = "receiptd"


@implementer(ILogObserver)
class Log:
    """Writes what is important enough, as it is configured."""

    lines: Lines
    """Makes the lines."""

    def __init__(
        self,
        settings: Logging,
        opening: Callable[[], AbstractContextManager[None]] = nullcontext,
    ) -> None:
        """
        :param opening: within it a file is opened, now and later.
        :raises LogError: where the file cannot be opened.
        """
        self.clean: Callable[[str], str] | None = None
        """Gives a text without the secrets that are known, where any are."""
        self._opening = opening
        self._file = _path(settings)
        self._sink = Sink(self._file, opening=opening)
        self._told = 0
        self._trouble = ""
        self._counted = 0
        self._lost_before = 0
        self._settle(settings)

    def _settle(self, settings: Logging) -> None:
        made: type[Json] | type[Plain] = Json if settings.format == "json" else Plain
        self.lines = made(mask=settings.mask_recipients)
        self._levels = frozenset(LEVELS[LEVELS.index(settings.level) :])

    def apply(self, settings: Logging) -> None:
        """Go on as `settings` says.

        :raises LogError: where its file cannot be opened; then all stays as it was.
        """
        file = _path(settings)
        if file != self._file:
            sink = Sink(file, opening=self._opening)
            self._sink, before, self._file = sink, self._sink, file
            before.close()
            self._lost_before += before.lost
        self._settle(settings)

    def newly_lost(self) -> int:
        """How many lines could not be written, since this was last asked for."""
        lost = self._lost
        newly, self._counted = lost - self._counted, lost
        return newly

    @property
    def _lost(self) -> int:
        return self._lost_before + self._sink.lost

    def wants(self, level: str) -> bool:
        """Whether lines of this level are written."""
        return level in self._levels

    def write(self, lines: str) -> None:
        """Write whole lines, without any secret that is known. Never fails, and does not wait."""
        if self.clean is not None and self.clean(lines) != lines:
            lines = "".join(f"{self.clean(line)}\n" for line in lines.split("\n")[:-1])
        # A half of a surrogate pair, which a request may well carry, is shown as an escape.
        self._sink.write(lines.encode("utf-8", "backslashreplace"))

    def look(self) -> None:
        """To be called every second: see whether the log was moved away, and whether what could
        not be written can be by now."""
        self._sink.look()
        lost = self._lost
        if lost > self._told and not self._sink.waiting:
            text = f"{lost - self._told} lines of the log are lost: it could not be written"
            self._told = lost
            self._write(Event(time(), "warn", "receiptd.log", text))
        trouble, self._trouble = self._trouble, self._sink.trouble
        if self._trouble and self._trouble != trouble:
            text = (
                f"log.file: {self._file} was moved away and cannot be made anew, so lines go on "
                f"into the old one: {self._trouble}"
            )
            self._write(Event(time(), "error", "receiptd.log", text))

    def reopen(self) -> None:
        """Go on in a new file where the old one was moved away; for a signal's handler."""
        self._sink.reopen()

    def close(self) -> None:
        """Write what waits, if that is possible, and close."""
        self._sink.close()

    def __call__(self, event: dict[str, Any]) -> None:
        """As Twisted's observer: an event of ours, or a warning or an error of a library."""
        level = event.get("log_level", LogLevel.info).name
        logger = event.get("log_namespace", "")
        if not self._wanted(level, logger):
            return
        failure = event.get("log_failure")
        self._write(
            Event(
                time=event["log_time"],
                level=level,
                logger=logger,
                text=formatEvent(event),
                request_id=event.get("request_id"),
                traceback=failure.getTraceback() if failure is not None else None,
            )
        )

    def take_from_libraries(self) -> logging.Handler:
        """Take what libraries tell the standard library's `logging`; returns its handler."""
        handler = _FromLibraries(self)
        logging.getLogger().addHandler(handler)
        return handler

    def _wanted(self, level: str, logger: str) -> bool:
        ours = logger == _OURS or logger.startswith(_OURS + ".")
        return self.wants(level) and (ours or level not in ("debug", "info"))

    def _write(self, event: Event) -> None:
        self.write(self.lines.event(event))


def check_log(settings: Logging) -> None:
    """See, without opening anything, that the log can be written.

    :raises LogError: where it cannot.
    """
    file = _path(settings)
    if file is not None:
        check_file(file)


class _FromLibraries(logging.Handler):
    """Warnings and errors of libraries that use the standard library's `logging`."""

    def __init__(self, log: Log) -> None:
        super().__init__(logging.WARNING)
        self._log = log

    def emit(self, record: logging.LogRecord) -> None:
        """Write one of them."""
        level = {"WARNING": "warn"}.get(record.levelname, record.levelname.lower())
        level = level if level in LEVELS else "error"
        if not self._log._wanted(level, record.name):
            return
        trace = "".join(traceback.format_exception(*record.exc_info)) if record.exc_info else None
        try:
            text = record.getMessage()
        except Exception as error:  # whatever a library puts together wrongly
            text = f"{record.msg!r} with {record.args!r}: {error}"
        self._log._write(Event(record.created, level, record.name, text, traceback=trace))


def _path(settings: Logging) -> Path | None:
    # Absolute, so that it stays where it is when a daemon changes its working directory.
    return Path(settings.file).absolute() if settings.file else None
