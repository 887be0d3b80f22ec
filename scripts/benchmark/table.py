"""The figures for people: one table of the servers with their ratios, one of the numbers to
reach."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

from benchmark.growth import Grown
from benchmark.speed import Run, middle, ratios
from benchmark.subjects import SUBJECTS
from benchmark.targets import RATIOS, Outcome

TOO_MUCH = 0.05
"""Share of the cores that others may use before figures are not worth much."""

_HEADINGS = ("receipts/s", "p50 ms", "p99 ms", "p99.9 ms", "CPU µs", "MB")
_FIGURES = ("rate", "p50", "p99", "p999", "cpu", "resident")


def of_servers(runs: Sequence[Run]) -> str:
    """A line for each server, and one for each that receiptd is compared with: medians over the
    rounds, of the figures and of the ratios."""
    measured = {run.subject for run in runs}
    titles = {each.name: each.title for each in SUBJECTS if each.name in measured}
    rows = [
        [title, *(_number(middle(runs, name, figure)) for figure in _FIGURES)]
        for name, title in titles.items()
    ]
    for subject in dict.fromkeys(each.subject for each in RATIOS):
        others = dict.fromkeys(each.other for each in RATIOS if each.subject == subject)
        found = [
            [f"  {titles[other]}", *(_ratio(runs, subject, other, figure) for figure in _FIGURES)]
            for other in others
            if {subject, other} <= measured
        ]
        if found:
            rows += [[f"{titles[subject]}, over", *[""] * len(_FIGURES)], *found]
    return _lines([["", *_HEADINGS], *rows])


def _ratio(runs: Sequence[Run], subject: str, other: str, figure: str) -> str:
    return _plain(statistics.median(ratios(runs, subject, other, figure)))


def of_growth(measured: Sequence[tuple[str, str, str, str, Sequence[Grown]]]) -> str:
    """A line for each figure that is compared between few and many receipts stored: its name,
    its unit, how many are few and many, and the pairs found, of which the medians are shown."""
    rows = [
        [
            f"{name}, {unit}",
            f"{_number(statistics.median(each.few for each in found))} with {few}",
            f"{_number(statistics.median(each.many for each in found))} with {many}",
        ]
        for name, unit, few, many, found in measured
    ]
    return _lines(rows)


def of_targets(outcomes: Sequence[Outcome]) -> str:
    """A line for each number to reach."""
    rows = [
        [
            each.what,
            _plain(each.found) + each.unit,
            f"{_plain(each.lowest)} to {_plain(each.highest)}",
            f"{'<=' if each.at_most else '>='} {each.limit:g}{each.unit}",
            "reached" if each.reached else "MISSED",
        ]
        for each in outcomes
    ]
    return _lines([["", "found", "single ones", "wanted", ""], *rows])


def remarks(runs: Sequence[Run]) -> list[str]:
    """What the figures rest on, and what speaks against them."""
    found = []
    matched = [run.matched for run in runs if run.subject in ("soap", "query")]
    if matched:
        found.append(
            f"{statistics.median(matched):.0%} of receiptd's receipts matched a registered message"
        )
    disturbed = [run.others for run in runs]
    found.append(
        f"other processes used {statistics.median(disturbed):.0%} of the cores in the middle "
        f"run, {max(disturbed):.0%} in the worst"
    )
    if statistics.median(disturbed) > TOO_MUCH:
        found.append("WARNING: that is too much, the figures are only bearings")
    if limited := sorted({run.subject for run in runs if run.load > 0.9}):
        found.append(f"wrk itself was the limit for {', '.join(limited)}")
    for run in runs:
        if run.broken:
            found.append(
                f"{run.subject}, round {run.round + 1}: {run.broken} requests were refused or "
                "their connection broke"
            )
    return found


def verification(runs: Sequence[Run]) -> tuple[bool, list[str]]:
    """Whether every answered receipt is stored, and how that was seen."""
    faults = [
        f"NOT KEPT: {run.subject}, round {run.round + 1}: {fault}"
        for run in runs
        for fault in run.faults
    ]
    checked = [run for run in runs if run.stored is not None]
    if faults or not checked:
        return not faults, faults
    answered = sum(run.answered for run in checked)
    kept = sum(run.stored or 0 for run in checked)
    return True, [
        f"verified: {answered:,} receipts were answered and every one is stored, once "
        f"({kept - answered} more are, whose answers were cut off by wrk's end)"
    ]


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}"


def _plain(value: float) -> str:
    return f"{value:.3f}" if value < 0.1 else f"{value:.2f}"


def _lines(rows: Sequence[Sequence[str]]) -> str:
    """`rows` below each other, the first column to the left, the others to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(
            text.rjust(width) if number else text.ljust(width)
            for number, (text, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    )
