"""No regular expression of the server takes time that grows with the square of its input.

The patterns are found, not listed: those that modules hold, and those written where they are used.
Each is given what it matches, cut off somewhere, the last characters of that many times, and an
end that it does not match: that is what makes a pattern try one division after another. Processor
time counts, and the best of several goes, so that a busy machine changes nothing.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from time import process_time
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

import receiptd

SERVER = Path(receiptd.__file__).parent
OWN_ROOMS = ("cli", "config")
"""They read what this machine's administrator writes."""
PEERS_ALL_THE_SAME = ("cli/exporting.py", "cli/output.py")
"""They show what is in receipts."""
WAYS = frozenset({"search", "match", "fullmatch", "split", "findall", "finditer", "sub", "subn"})

SMALL = 512
GROWN = 8
RATIO = 20.0
"""Between 8, of what is linear, and 64, of a square."""
GOES = 5
WORTH_A_LOOK = 0.002
"""Seconds of processor time for the larger size: what is linear takes a tenth of it."""
MOST_CUTS = 16
EXAMPLES = {
    # Nobody finds by chance what stands before a place and behind it at once.
    " (?=[0-9]{2}:?[0-9]{2}$)(?<=:[0-9]{2} )": ["10:52:00 05:30", ":52 0530"],
}
"""Of patterns that Hypothesis makes nothing of."""


def _modules() -> Iterator[tuple[str, Path]]:
    for file in sorted(SERVER.rglob("*.py")):
        path = file.relative_to(SERVER)
        if path.name == "__main__.py" or "migrations" in path.parts:
            continue
        if path.parts[0] not in OWN_ROOMS or str(path) in PEERS_ALL_THE_SAME:
            yield ".".join(("receiptd", *path.with_suffix("").parts)), file


def _used(tree: ast.Module) -> Iterator[tuple[ast.expr, str]]:
    """What is searched with, and how: `X.search(...)` and `re.search(X, ...)`."""
    for node in ast.walk(tree):
        if not isinstance(node, ast.Attribute | ast.Call):
            continue
        of_re = isinstance(node, ast.Call) and ast.unparse(node.func).partition(".")[0] == "re"
        if of_re and node.func.attr in WAYS:
            yield node.args[0], node.func.attr
        elif isinstance(node, ast.Attribute) and node.attr in WAYS:
            yield node.value, node.attr


def _pattern(expression: ast.expr, names: dict[str, Any]) -> re.Pattern[Any] | None:
    """What `expression` says, where that is a pattern known before the module does anything."""
    value = None
    if isinstance(expression, ast.Name):
        value = names.get(expression.id)
    elif isinstance(expression, ast.Constant):
        value = expression.value
    if isinstance(value, str | bytes):
        return re.compile(value)
    return value if isinstance(value, re.Pattern) else None


def _patterns() -> dict[str, tuple[re.Pattern[Any], str]]:
    """Each pattern of the server with a way in which it is used, by a name for the test."""
    found = {}
    for module, file in _modules():
        source = file.read_text()
        if "re." not in source:
            continue
        names = vars(import_module(module))
        for expression, way in _used(ast.parse(source)):
            if (pattern := _pattern(expression, names)) is not None:
                at = f"{file.relative_to(SERVER)}:{ast.unparse(expression)[:40]}"
                found[f"{at}.{way}"] = pattern, way
    return found


PATTERNS = _patterns()


def _run(pattern: re.Pattern[Any], way: str) -> Callable[[Any], object]:
    if way in ("sub", "subn"):
        return lambda text: pattern.sub(text[:0], text)
    if way == "finditer":
        return pattern.findall
    return getattr(pattern, way)  # type: ignore[no-any-return]


def _seconds(run: Callable[[Any], object], text: Any, goes: int) -> float:
    times = []
    for _ in range(goes):
        started = process_time()
        run(text)
        times.append(process_time() - started)
    return min(times)


def grows_as_its_input(run: Callable[[Any], object], before: Any, pump: Any, end: Any) -> bool:
    """Whether `run` takes no more than in proportion for more of `pump`."""
    small, large = (before + pump * (size // len(pump)) + end for size in (SMALL, SMALL * GROWN))
    if _seconds(run, large, 1) < WORTH_A_LOOK:
        return True
    return _seconds(run, large, GOES) < RATIO * _seconds(run, small, GOES)


def _matching(pattern: re.Pattern[Any]) -> st.SearchStrategy[Any]:
    """What `pattern` matches."""
    if pattern.pattern in EXAMPLES:
        return st.sampled_from(EXAMPLES[pattern.pattern])
    if isinstance(pattern.pattern, str):
        return st.from_regex(pattern)
    # Hypothesis does not read patterns of bytes that ignore case.
    flags = re.ASCII | pattern.flags
    text = re.compile(pattern.pattern.decode("latin-1"), flags)
    every = st.characters(max_codepoint=0xFF)
    return st.from_regex(text, alphabet=every).map(lambda found: found.encode("latin-1"))


def squares(pattern: re.Pattern[Any], run: Callable[[Any], object]) -> list[tuple[Any, Any]]:
    """Beginnings, and what behind them takes `run` too long the more there is of it."""
    found: list[tuple[Any, Any]] = []
    seen = set()

    @settings(
        max_examples=4,
        derandomize=True,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(_matching(pattern))
    def attack(matching: Any) -> None:
        odd, space = ("\0!", " ") if isinstance(matching, str) else (b"\0!", b" ")
        for cut in range(min(len(matching), MOST_CUTS) + 1):
            before = matching[:cut]
            for pump in {before[-1:], before[-3:], before, space} - {odd[:0]}:
                if found or (before, pump) in seen:
                    continue
                seen.add((before, pump))
                if not grows_as_its_input(run, before, pump, odd):
                    found.append((before, pump))

    attack()
    return found


@pytest.mark.parametrize(("pattern", "way"), PATTERNS.values(), ids=PATTERNS)
def test_a_pattern_takes_time_in_proportion(pattern, way):
    assert squares(pattern, _run(pattern, way)) == []


def test_the_patterns_are_found():
    files = {name.partition(":")[0] for name in PATTERNS}
    assert files >= {
        *("log/lines.py", "providers/values.py", "providers/forms.py"),
        *("providers/notations.py", "providers/receipt_text.py"),
        *("web/token_auth.py", "web/api/values.py", "web/server/proxies.py", "web/server/head.py"),
        *("web/server/request.py", "soap/contract.py", "blanking/decoding.py", "store/phone.py"),
    }


def test_none_is_held_and_not_seen_in_use():
    """A pattern that is used in a way that this test does not see would go untested."""
    used = {id(pattern) for pattern, _ in PATTERNS.values()}
    unseen = [
        f"{module}.{name}"
        for module, _ in _modules()
        for name, value in vars(import_module(module)).items()
        if isinstance(value, re.Pattern) and id(value) not in used
    ]
    assert unseen == []


@pytest.mark.parametrize(
    ("pattern", "way"),
    [
        (r"[0-9 ]+-[0-9]", "search"),
        (r"x\s*\s*=", "match"),
        (r"a+a+b", "fullmatch"),
        (rb"(?i)charset[ \t]*[ \t]*=", "search"),
    ],
)
def test_a_square_would_be_found(pattern, way):
    compiled = re.compile(pattern)
    assert squares(compiled, _run(compiled, way)) != []
