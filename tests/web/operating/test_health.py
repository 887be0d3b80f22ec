"""Whether receipts can be stored: what is found out, and how it is found out."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.task import Clock

from receiptd.store.writer import Backlog
from receiptd.web.operating import health
from receiptd.web.operating.health import (
    ANSWER_TIMEOUT,
    FORGOTTEN,
    STALLED,
    Look,
    Readiness,
    State,
)

WELL = Backlog(None, "", 0, 0, False)
AWAY = Backlog(
    datetime(2026, 1, 31, 18, tzinfo=UTC), "connection refused by 10.0.0.5", 7, 99, False
)
DRAINING = AWAY._replace(reason="")

DEGRADED = (
    "degraded since 2026-01-31T18:00:00.000000Z: posts go to the spool, since the database does "
    "not store; 7 records of 99 bytes wait there"
)


class Parts:
    """What readiness is found out from."""

    def __init__(self) -> None:
        self.running = True
        self.backlog = WELL
        self.stalled = 0.0
        self.waiting = 3
        self.database: bool | None = True
        self.spool: str | None = ""
        self.looks: list[str] = []
        self.readiness = Readiness(Clock(), self, self, self, None)  # type: ignore[arg-type]

    def read(self, function: Any) -> Deferred[Any]:
        """Stands for the reader."""
        name = "database" if function is health._answers else "spool"
        self.looks.append(name)
        return succeed(getattr(self, name))

    def state(self) -> State:
        """What is found out."""
        found: list[State] = []
        Deferred.fromCoroutine(self.readiness.find_out()).addCallback(found.append)
        return found[0]


STATES: list[tuple[str, dict[str, Any], bool, list[str]]] = [
    ("all is well", {}, True, []),
    ("the database is away", {"backlog": AWAY}, True, [DEGRADED]),
    (
        "what another process left is drained",
        {"backlog": DRAINING},
        True,
        [DEGRADED.replace("the database does not store", "an earlier one is drained")],
    ),
    (
        "the spool is full",
        {"backlog": AWAY._replace(full=True)},
        False,
        ["the spool takes no more; the log says why", DEGRADED],
    ),
    (
        "the database does not answer, but no post has found out yet",
        {"database": False},
        True,
        ["the database does not answer; posts will go to the spool"],
    ),
    (
        "it hangs",
        {"database": None},
        True,
        ["the database does not answer; posts will go to the spool"],
    ),
    (
        "the spool cannot be used, which does not matter yet",
        {"spool": "its disk is full"},
        True,
        ["the spool cannot be used: its disk is full"],
    ),
    (
        "neither answers",
        {"database": None, "spool": None},
        False,
        [
            "the spool cannot be used: its disk does not answer",
            "the database does not answer; posts will go to the spool",
        ],
    ),
    (
        "the database is away and the spool's disk full",
        {"backlog": AWAY, "spool": "its disk is full"},
        False,
        ["the spool cannot be used: its disk is full", DEGRADED],
    ),
    ("the writer is dead", {"running": False}, False, ["the writer has ended; the log says why"]),
    (
        "the writer hangs",
        {"stalled": STALLED + 2.4},
        False,
        ["nothing was stored for 12 s, and 3 posts wait"],
    ),
    ("the writer has a long batch", {"stalled": STALLED - 1}, True, []),
]


@pytest.mark.parametrize(
    ("parts", "ready", "lines"), [row[1:] for row in STATES], ids=[row[0] for row in STATES]
)
def test_states(parts, ready, lines):
    found = Parts()
    vars(found).update(parts)
    assert found.state() == State(ready, lines)
    # The same, without another look.
    found.looks.clear()
    assert found.readiness.latest() == State(ready, lines)
    assert not found.looks


def test_a_server_that_ends_is_not_ready():
    parts = Parts()
    parts.readiness.leave()
    assert parts.state() == State(False, ["the server is about to end"])


def test_a_database_that_has_just_stored_something_is_not_looked_at():
    parts = Parts()
    parts.readiness.stored()
    parts.state()
    assert parts.looks == ["spool"]


def test_however_many_ask_there_is_one_look():
    parts = Parts()
    for _ in range(10):
        parts.state()
    assert sorted(parts.looks) == ["database", "spool"]


class Looked:
    """A look whose end the test decides."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.clock = Clock()
        self.begun: list[Deferred[Any]] = []
        self.look: Look[str] = Look(self.clock, self._begin, keep=1.0)
        monkeypatch.setattr(health, "monotonic", self.clock.seconds)
        self.clock.advance(100)

    def _begin(self) -> Deferred[Any]:
        self.begun.append(Deferred())
        return self.begun[-1]

    def ask(self) -> list[Any]:
        """What is answered, once it is."""
        answers: list[Any] = []
        self.look.ask().addCallback(answers.append)
        return answers


@pytest.fixture
def looked(monkeypatch):
    return Looked(monkeypatch)


def test_whoever_asks_meanwhile_waits_for_the_same_look(looked):
    one, other = looked.ask(), looked.ask()
    assert (one, other, len(looked.begun)) == ([], [], 1)
    looked.begun[0].callback("found")
    assert (one, other) == (["found"], ["found"])
    assert looked.ask() == ["found"]
    looked.clock.advance(1.0)
    assert looked.ask() == []
    assert len(looked.begun) == 2


def test_nobody_waits_for_long_and_no_second_look_joins_one_that_hangs(looked):
    one = looked.ask()
    looked.clock.advance(ANSWER_TIMEOUT)
    assert one == [None]
    looked.clock.advance(1.0)
    assert looked.ask() == [None], "at once"
    assert len(looked.begun) == 1
    looked.begun[0].callback("late")
    assert looked.ask() == ["late"]
    assert looked.look.recent("default") == "late"
    looked.clock.advance(FORGOTTEN)
    assert looked.look.recent("default") == "default"


def test_a_look_that_fails_has_found_nothing(looked):
    look: Look[str] = Look(looked.clock, lambda: fail(OSError("no")))
    answers: list[Any] = []
    look.ask().addCallback(answers.append)
    assert answers == [None]
    assert look.recent("default") is None


def test_a_folder_that_cannot_be_used(tmp_path, monkeypatch):
    assert health._spool_trouble(tmp_path) == ""
    assert health._spool_trouble(tmp_path / "nowhere") == "its folder cannot be written to"
    monkeypatch.setattr(health, "LEAST_FREE", 2**62)
    assert health._spool_trouble(tmp_path) == "its disk is full"
