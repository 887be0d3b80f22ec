"""The command line of scripts/bench."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmark import (
    databases,
    forward,
    growth,
    identifiers,
    large,
    machine,
    soak,
    speed,
    table,
    targets,
)
from benchmark.growth import Size
from benchmark.servers import Failed
from benchmark.speed import Pace, Place
from benchmark.subjects import SUBJECTS

USUAL = Pace(rounds=5, warm_up=1, seconds=4, starts=5)
SHORT = Pace(rounds=1, warm_up=1, seconds=1, starts=1)

USUAL_SIZE = Size(10_000, 2_000_000, 10_000, 1_000_000, span=20_000, repeats=5)
SHORT_SIZE = Size(500, 5_000, 500, 2_000, span=500, repeats=2)

_DESCRIPTION = """\
Measures receiptd against a bare Twisted resource, Flask and FastAPI, each on one core under
load by wrk on another, and says which of the numbers to reach are reached. Takes about five
minutes, and wants a machine that does nothing else meanwhile.
"""
_EPILOG = """\
The exit code is 1 where a receipt that was answered is not stored or something could not be
measured, 2 where it was used wrongly; numbers that are not reached do not change it.
docs/benchmark.md says how to read the figures.
"""


def main() -> int:
    """Measure what is asked for; the exit code."""
    options = _options()
    if sys.platform != "linux":
        print("bench: needs Linux, whose /proc tells what a process uses", file=sys.stderr)
        return 2
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that what was started is ended
    try:
        with _folder() as folder:
            place = Place(folder, machine.choose_cores())
            for line in machine.description(folder, place.cores):
                print(line)
            print(flush=True)
            if options.soak:
                return _soak(options, place)
            if options.forward:
                return _forward(options, place)
            if options.large:
                return _large(options, place)
            if options.growth:
                return _growth(options, place)
            return _speed(options, place)
    except Failed as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


def _options() -> argparse.Namespace:
    names = [subject.name for subject in SUBJECTS] + ["start-up"]
    parser = argparse.ArgumentParser(
        prog="scripts/bench", description=_DESCRIPTION, epilog=_EPILOG
    )
    parser.add_argument("--short", action="store_true", help="see that it works, in half a minute")
    parser.add_argument(
        "--growth",
        action="store_true",
        help="measure instead, in about ten minutes, how speed and memory keep up "
        "over two million receipts",
    )
    parser.add_argument(
        "--large",
        type=int,
        metavar="RECEIPTS",
        help="fill a database with so many receipts instead, and measure what it then costs to "
        "insert, look up, delete, start and back up (20 million need 30 GB of disk)",
    )
    parser.add_argument(
        "--forward",
        action="store_true",
        help="measure forwarding instead: what it costs receiving, and how quick it is",
    )
    parser.add_argument(
        "--soak",
        type=int,
        metavar="SECONDS",
        help="load the SOAP endpoint for so long instead, and watch its speed and memory",
    )
    parser.add_argument(
        "--database",
        choices=databases.KINDS,
        default="sqlite",
        help="of --growth, --large and --soak; postgresql is a server of its own, from a wheel "
        "(default sqlite)",
    )
    parser.add_argument(
        "--only", nargs="+", choices=names, metavar="NAME", help="some of: " + ", ".join(names)
    )
    parser.add_argument("--rounds", type=int, metavar="N", help=f"instead of {USUAL.rounds}")
    parser.add_argument(
        "--seconds", type=int, metavar="N", help=f"of each measurement, instead of {USUAL.seconds}"
    )
    parser.add_argument(
        "--matched",
        type=float,
        default=0.5,
        metavar="SHARE",
        help="of the receipts that match a registered message (default 0.5)",
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures there too")
    options = parser.parse_args()
    if not 0 <= options.matched <= 1:
        parser.error("--matched: expected a share from 0 to 1")
    for name in ("rounds", "seconds", "soak", "large"):
        if getattr(options, name) is not None and getattr(options, name) < 1:
            parser.error(f"--{name}: expected a number from 1")
    return options


@contextlib.contextmanager
def _folder() -> Iterator[Path]:
    """A folder of our own on a disk, gone at the end."""
    parent = Path(os.environ["BENCH_DIR"]).resolve()
    parent.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix="bench-", dir=parent))
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


def _speed(options: argparse.Namespace, place: Place) -> int:
    usual = SHORT if options.short else USUAL
    pace = Pace(
        options.rounds or usual.rounds,
        usual.warm_up,
        options.seconds or usual.seconds,
        usual.starts,
    )
    chosen = [each for each in SUBJECTS if not options.only or each.name in options.only]
    _progress("preparing the databases")
    speed.prepare(place.folder, pace, options.matched)
    starts = []
    if not options.only or "start-up" in options.only:
        _progress("start-up")
        starts = speed.start_up(pace, place)
    runs = speed.rounds(chosen, pace, place, _progress)
    _progress("")
    outcomes = targets.ratios(runs)
    if starts:
        outcomes.append(targets.outcome(targets.START_UP, starts))
    kept, checked = table.verification(runs)
    if runs:
        print(table.of_servers(runs), end="\n\n")
    if outcomes:
        print(table.of_targets(outcomes), end="\n\n")
    if runs:
        print("\n".join([*table.remarks(runs), *checked]))
    _write(
        options.json,
        runs=[asdict(run) for run in runs],
        start_up=starts,
        targets=[asdict(each) for each in outcomes],
    )
    return 0 if kept else 1


def _forward(options: argparse.Namespace, place: Place) -> int:
    size = forward.SHORT if options.short else forward.USUAL
    figures = forward.measure(size, place, _progress)
    _progress("")
    print("\n".join(forward.lines(figures)))
    _write(options.json, forward=[asdict(each) for each in figures])
    return 0


def _growth(options: argparse.Namespace, place: Place) -> int:
    size = SHORT_SIZE if options.short else USUAL_SIZE
    rates = [
        growth.insert_rates(options.database, identifier, size, options.matched, place, _progress)
        for identifier in (identifiers.sequential, identifiers.scattered)
    ]
    memory = growth.memory(options.database, size, options.matched, place, _progress)
    _progress("")
    insertions = {"few": growth.shown(size.few), "many": growth.shown(size.many)}
    posts = {"few": growth.shown(size.few_posted), "many": growth.shown(size.many_posted)}
    measured = [
        (targets.SEQUENTIAL, "receipts/s", insertions, rates[0]),
        (targets.RANDOM, "receipts/s", insertions, rates[1]),
        (targets.MEMORY, "MB", posts, [memory]),
    ]
    outcomes = [
        targets.outcome(target, [each.ratio for each in found], **sizes)
        for target, _, sizes, found in measured
    ]
    print(
        table.of_growth(
            [
                (target.name, unit, sizes["few"], sizes["many"], found)
                for target, unit, sizes, found in measured
            ]
        ),
        end="\n\n",
    )
    print(table.of_targets(outcomes), end="\n\n")
    print("verified by their identifiers: every receipt that was answered is stored, once")
    _write(
        options.json,
        growth={target.name: [asdict(each) for each in found] for target, _, _, found in measured},
        targets=[asdict(each) for each in outcomes],
    )
    return 0


def _large(options: argparse.Namespace, place: Place) -> int:
    size = large.SHORT if options.short else large.USUAL
    figures = []
    for figure in large.measure(options.database, options.large, size, place, _progress):
        _progress("")
        print(f"{figure.name}: {figure.found}", flush=True)
        figures.append(asdict(figure))
    _write(options.json, large=figures)
    return 0


def _soak(options: argparse.Namespace, place: Place) -> int:
    print(soak.HEADING, flush=True)
    found = soak.soak(
        options.database,
        options.soak,
        options.matched,
        place,
        lambda each: print(soak.line(each), flush=True),
    )
    for fault in found.faults:
        print(f"NOT KEPT: {fault}")
    if not found.faults:
        print(
            f"\nverified by their identifiers: {found.answered:,} receipts were answered, and "
            f"every one is stored, once (in all {found.stored:,})"
        )
    _write(options.json, **asdict(found))
    return 1 if found.faults else 0


def _progress(text: str) -> None:
    """What is being done now, on one line that the next one replaces."""
    if sys.stderr.isatty():
        print(f"\r\033[K{text}", end="", file=sys.stderr, flush=True)


def _write(file: Path | None, **figures: Any) -> None:
    if file is not None:
        file.write_text(json.dumps(figures, indent=1) + "\n")


sys.exit(main())
