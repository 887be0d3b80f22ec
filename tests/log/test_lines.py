"""What a line looks like, and whose lines they are."""

from __future__ import annotations

import json
import logging
import re

import pytest
from twisted.logger import Logger, globalLogPublisher

from kit.store import receipt
from receiptd.config import Logging
from receiptd.log import Answered, Log, LogError
from receiptd.log import sink as sink_module
from receiptd.log.lines import Json, Plain, masked, masked_in
from receiptd.receipt import Outcome

ANSWERED = Answered("r1", "soap", "csoft", "192.0.2.1", 1.26)


def without_time(line: str) -> str:
    found = re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ (.*\n)", line, re.DOTALL)
    assert found, line
    return found[1]


def test_a_receipt_reads_well():
    line = Plain().receipt(ANSWERED, receipt(), Outcome.ACCEPTED)
    assert without_time(line) == (
        "r1 soap csoft delivery 4A2E3C10 DELIVERED accepted 1.3 ms to 447700912345 "
        "from 192.0.2.1\n"
    )


def test_what_a_post_lacks_is_a_dash_or_null():
    bare = receipt(None, recipient=None)
    answered = ANSWERED._replace(peer=None)
    line = Plain().receipt(answered, bare, Outcome.ACCEPTED)
    assert "delivery - DELIVERED accepted 1.3 ms to - from -\n" in line
    found = json.loads(Json().receipt(answered, bare, Outcome.ACCEPTED))
    assert (found["message_id"], found["recipient"], found["peer"]) == (None, None, None)


HOSTILE = 'a\n2026-01-31T18:00:00Z b"\\\x1b[2J\x00\u2028\ud800'


def test_nothing_that_a_post_brings_makes_a_second_line():
    wicked = receipt(HOSTILE, recipient=HOSTILE)
    for line in (
        Plain().receipt(ANSWERED, wicked, Outcome.ACCEPTED),
        Plain().refused(ANSWERED, Outcome.INVALID, "warn", HOSTILE),
        Json().receipt(ANSWERED, wicked, Outcome.ACCEPTED),
        Json().refused(ANSWERED, Outcome.INVALID, "warn", HOSTILE),
    ):
        assert line.isascii()
        assert line[:-1].isprintable()
        assert line.endswith("\n")
    found = json.loads(Json().receipt(ANSWERED, wicked, Outcome.ACCEPTED))
    assert found["message_id"] == found["recipient"] == HOSTILE


@pytest.mark.parametrize(
    ("number", "shown"),
    [
        ("447700912345", "***2345"),
        ("+44 (0)7700 912-345", "***2345"),
        ("12345", "***2345"),
        ("nobody", "***"),
        ("", ""),
        (None, None),
    ],
)
def test_of_a_masked_recipient_four_digits_are_left(number, shown):
    assert masked(number) == shown


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("SentTo is '447700912345x': digits", "SentTo is '***2345x': digits"),
        ("SentTo is '+44 (0)7700-912 345'", "SentTo is '***2345'"),
        ("Report is '12': one of 0, -4, 27", "Report is '12': one of 0, -4, 27"),
    ],
)
def test_of_what_may_be_a_phone_number_in_a_text_too(text, shown):
    assert masked_in(text) == shown


@pytest.fixture
def log(tmp_path):
    """Makes logs into a file, which take what libraries say; gives what is in it."""
    made: list[tuple[Log, logging.Handler]] = []

    def make(**settings):
        found = Log(Logging(file=str(tmp_path / "log"), **settings))
        globalLogPublisher.addObserver(found)
        made.append((found, found.take_from_libraries()))
        return found, (tmp_path / "log").read_text

    yield make
    for found, handler in made:
        globalLogPublisher.removeObserver(found)
        logging.getLogger().removeHandler(handler)
        found.close()


def test_ours_is_logged_from_the_level_on_and_of_libraries_what_is_wrong(log):
    _, text = log(level="info")
    ours, theirs = Logger(namespace="receiptd.store"), Logger(namespace="twisted.x")
    lookalike = Logger(namespace="receiptdx")
    for each in (ours, theirs, lookalike):
        each.debug("debug")
        each.info("{name} says info", name=each.namespace)
        each.warn("{name} warns", name=each.namespace)
    logging.getLogger("sqlalchemy.x").info("info")
    logging.getLogger("sqlalchemy.x").warning("sqlalchemy %s", "warns")
    assert [without_time(line + "\n") for line in text().splitlines()] == [
        "receiptd.store says info\n",
        "WARN: receiptd.store warns\n",
        "WARN: twisted.x warns\n",
        "WARN: receiptdx warns\n",
        "WARN: sqlalchemy warns\n",
    ]


def go_wrong() -> None:
    """Something of ours, then something of a library."""
    try:
        raise ValueError("no\nsuch thing")
    except ValueError:
        ours = Logger(namespace="receiptd.web")
        ours.failure("answering {path}", path="/x", request_id="r1")
        logging.getLogger("library").exception("went wrong")


def test_a_traceback_is_indented(log):
    _, text = log()
    go_wrong()
    lines = text().splitlines()
    assert lines[1] == "  Traceback (most recent call last):"
    heads = [without_time(line + "\n") for line in lines if not line.startswith("  ")]
    assert heads == ["CRITICAL: r1 answering /x\n", "ERROR: went wrong\n"]


def test_a_traceback_is_one_field(log):
    _, text = log(format="json")
    go_wrong()
    ours, theirs = map(json.loads, text().splitlines())
    assert tuple(ours) == ("time", "level", "request_id", "logger", "text", "traceback")
    assert (ours["level"], ours["logger"]) == ("critical", "receiptd.web")
    assert (ours["request_id"], ours["text"]) == ("r1", "answering /x")
    assert tuple(theirs) == ("time", "level", "logger", "text", "traceback")
    for line in (ours, theirs):
        assert line["traceback"].startswith("Traceback (most recent call last):\n")
        assert line["traceback"].endswith("ValueError: no\nsuch thing\n")


def test_what_a_library_puts_together_wrongly_is_shown_as_it_is(log):
    found, text = log()
    handler = found.take_from_libraries()
    logging.getLogger().removeHandler(handler)
    library = logging.Logger("library")  # alone: pytest's own handlers would fail
    library.addHandler(handler)
    library.error("%d files", "many")
    assert "ERROR: '%d files' with ('many',): %d format" in text()


def test_that_lines_were_lost_is_said_once_there_is_room(monkeypatch, tmp_path):
    monkeypatch.setattr(sink_module, "MOST_WAITING", 100)
    monkeypatch.setattr(sink_module, "LOOK", 0.0)
    path = tmp_path / "log"
    path.symlink_to("/dev/full")
    log = Log(Logging(file=str(path)))
    for number in range(20):
        log.write(f"line {number:02}\n")
    log.look()
    assert (log.newly_lost(), log.newly_lost()) == (8, 0)
    path.unlink()
    log.look()
    log.look()
    *kept, said = path.read_text().splitlines()
    assert kept == [f"line {number:02}" for number in range(12)]
    assert without_time(said + "\n") == (
        "WARN: 8 lines of the log are lost: it could not be written\n"
    )
    log.close()


def test_settings_are_applied_while_it_is_in_use(tmp_path):
    log = Log(Logging(file=str(tmp_path / "one")))
    log.apply(Logging(file=str(tmp_path / "two"), format="json", level="error"))
    assert not log.wants("warn")
    log.write("to two\n")
    with pytest.raises(LogError):
        log.apply(Logging(file=str(tmp_path / "nowhere" / "three")))
    assert isinstance(log.lines, Json)
    log.write("to two\n")
    log.close()
    assert (tmp_path / "one").read_text() == ""
    assert (tmp_path / "two").read_text() == "to two\n" * 2
