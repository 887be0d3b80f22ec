"""The numbers to reach, as DESIGN.md has them, and how far they are reached."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from benchmark import speed
from benchmark.speed import Run


@dataclass(frozen=True, slots=True)
class Target:
    """A row of the table: what is asked for."""

    name: str
    what: str
    limit: float
    at_most: bool = False
    unit: str = ""


@dataclass(frozen=True, slots=True)
class Ratio:
    """A figure of one server over that of another."""

    target: Target
    figure: str
    subject: str
    other: str


RATIOS = (
    Ratio(
        Target("soap/stock", "SOAP receipts/s over the stock fixed POST reply", 1.1),
        *("rate", "soap", "stock-post"),
    ),
    Ratio(
        Target("soap/tuned", "SOAP receipts/s over the tuned fixed POST reply", 0.40),
        *("rate", "soap", "tuned-post"),
    ),
    Ratio(
        Target("query/stock", "query receipts/s over the stock fixed GET reply", 0.75),
        *("rate", "query", "stock-get"),
    ),
    Ratio(
        Target("query/tuned", "query receipts/s over the tuned fixed GET reply", 0.50),
        *("rate", "query", "tuned-get"),
    ),
    Ratio(
        Target("soap/flask", "SOAP receipts/s over Flask + SQLAlchemy", 8),
        *("rate", "soap", "flask"),
    ),
    Ratio(
        Target("soap/fastapi", "SOAP receipts/s over FastAPI + SQLAlchemy", 5),
        *("rate", "soap", "fastapi"),
    ),
    Ratio(
        Target("p99", "p99 latency over that of FastAPI + SQLAlchemy", 0.05, at_most=True),
        *("p99", "soap", "fastapi"),
    ),
)
START_UP = Target(
    "start-up", "start-up to the first acknowledged receipt", 1.0, at_most=True, unit=" s"
)
SEQUENTIAL = Target(
    "sequential", "insert rate with {many} stored over that with {few}: sequential ids", 0.9
)
RANDOM = Target("random", "insert rate with {many} stored over that with {few}: random ids", 0.7)
MEMORY = Target("memory", "memory after {many} receipts over that after {few}", 1.1, at_most=True)


@dataclass(frozen=True, slots=True)
class Outcome:
    """A row of the table: what was found, and in which span the single measurements lie."""

    name: str
    what: str
    limit: float
    at_most: bool
    unit: str
    found: float
    lowest: float
    highest: float

    @property
    def reached(self) -> bool:
        """Whether it is what is asked for."""
        return self.found <= self.limit if self.at_most else self.found >= self.limit


def outcome(target: Target, found: Iterable[float], **sizes: str) -> Outcome:
    """The row for single measurements, of which the median counts."""
    values = list(found)
    return Outcome(
        name=target.name,
        what=target.what.format(**sizes),
        limit=target.limit,
        at_most=target.at_most,
        unit=target.unit,
        found=statistics.median(values),
        lowest=min(values),
        highest=max(values),
    )


def ratios(runs: Sequence[Run]) -> list[Outcome]:
    """The rows that `runs` allow: the ratio is taken within each round, then the median."""
    found = []
    for ratio in RATIOS:
        values = speed.ratios(runs, ratio.subject, ratio.other, ratio.figure)
        if values:
            found.append(outcome(ratio.target, values))
    return found
