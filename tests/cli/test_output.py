"""What commands print: it fits, it cannot control a terminal, and a full disk is one line."""

from __future__ import annotations

import csv
import io
import json
import stat

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kit.command_line import execute, run, start
from kit.store import receipt, rejection
from kit.terminal import on_terminal
from receiptd.message import Message
from receiptd.registration.spreadsheet import no_formula

EVIL = "a\x1b[2Jb\x9bc\x07d\u202ee"


COMMANDS = [
    ["--help"],
    ["--version"],
    ["init", "--output", "-"],
    ["check-config"],
    ["receipts", "list"],
    ["receipts", "list", "--json"],
    ["receipts", "show", "A"],
    ["receipts", "export"],
    ["receipts", "export", "--format", "json"],
    ["rejected", "list"],
    ["rejected", "show", "1"],
    ["message", "list"],
    ["message", "show", "csoft", "A"],
    ["spool", "status"],
    ["prune", "--older-than", "1d", "--dry-run"],
]


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_a_full_disk_is_one_line_and_no_traceback(store, tmp_path, command):
    (tmp_path / "receiptd.db-spool").mkdir(exist_ok=True)
    store.register(Message("csoft", "A", "447700912345"))
    store.outcomes(receipt("A", recipient="447700912345"))
    store.put(rejection("nonsense"))
    with open("/dev/full", "wb") as full:  # noqa: PTH123 - a device
        ended = execute(*command, stdout=full)
    lines = ended.stderr.splitlines()
    assert lines[-1] == "the output cannot be written: No space left on device"
    assert "Traceback" not in ended.stderr
    assert ended.returncode == 1


def test_a_reader_that_leaves_at_once_is_not_spoken_of(store):
    store.outcomes(*(receipt(f"m{n}", raw=b"x" * 1000) for n in range(200)))
    child = start("receipts", "export", "--raw")
    child.stdout.close()
    assert child.stderr.read() == b""
    assert child.wait(60) == 1


# --- control characters


def controls(text: str) -> list[str]:
    return [each for each in text if not each.isprintable() and each not in "\n\r"]


@pytest.mark.parametrize(
    "command",
    [
        ["receipts", "list", "--wide"],
        ["receipts", "show", "1"],
        ["receipts", "export", "--raw"],
        ["receipts", "export", "--format", "ndjson", "--raw"],
        ["receipts", "list", "--json"],
        ["rejected", "list", "--wide"],
        ["rejected", "show", "1"],
        ["message", "list", "--wide"],
        ["message", "show", "csoft", EVIL],
        ["message", "show", "csoft", f"{EVIL}x"],
        ["message", "add", "csoft", EVIL],
        ["message", "add", EVIL, "A"],
        ["message", "delete", "csoft", f"{EVIL}x"],
        ["receipts", "list", "--provider", EVIL],
        ["receipts", "list", "--state", EVIL],
        ["receipts", EVIL],
        [EVIL],
        ["receipts", "list", f"--{EVIL}"],
        ["receipts", "list", "--config", EVIL],
        ["check-config", "--database", f"sqlite:////{EVIL}/x.db"],
        ["simulate", "csoft", "--url", f"http://127.0.0.1:9/{EVIL}"],
    ],
    ids=lambda command: " ".join(command).encode("unicode_escape").decode(),
)
def test_no_command_lets_a_post_control_the_terminal(store, command):
    fields = {"description": EVIL, "sender": EVIL, "reference": EVIL, "text": EVIL}
    more = {"network": EVIL, "code": EVIL, "extra": {EVIL: [EVIL, {EVIL: EVIL}]}}
    store.register(Message("csoft", EVIL, None, EVIL, EVIL))
    store.outcomes(receipt(EVIL, recipient=EVIL, raw=EVIL.encode(), **fields, **more))
    store.put(rejection(EVIL, raw=EVIL.encode()))
    shown, _ = on_terminal(*command, columns=2000)
    # rich's own, and the colours of a state
    for own in ("\x1b[1m", "\x1b[0m", "\x1b[32m", "\x1b[31m"):
        shown = shown.replace(own, "")
    assert controls(shown) == []
    assert "Traceback" not in shown


def test_show_prints_what_is_nested_as_json(store):
    store.outcomes(receipt("A", extra={"list": ["a", None, True], "text": "plain", "n": 1}))
    shown = run("receipts", "show", "1").stdout
    assert 'list = ["a", null, true]' in shown
    assert "text = plain" in shown


# --- widths


PATHS = ("spool:", "store:", "API:")
"""How the lines of `check-config` begin that name a file."""


def test_tables_fit_80_columns_and_wide_shows_all(store, tmp_path):
    store.register(Message("easysms", "4A2E3C10", "447700912345", "ACME", "order 9"))
    store.register(Message("csoft", "4A2E3C10", "447700912345", "ACME", "order 9"))
    store.outcomes(
        receipt("4A2E3C10", recipient="447700912345", description="a long description " * 9),
        receipt("4A2E3C11", recipient="447700912345"),
    )
    store.put(rejection("a long sentence that says what is wrong with it, " * 3))
    commands = [
        ("receipts", "list"),
        ("rejected", "list"),
        ("message", "list"),
        ("message", "show", "csoft", "4A2E3C10"),
        ("check-config",),
    ]
    for command in commands:
        wide = run(*command, "--wide")
        narrow = run(*command)
        assert (wide.exit_code, narrow.exit_code) == (0, 0), narrow.output
        # A file's path is never cut: it is there to be copied.
        tables = [line for line in narrow.stdout.splitlines() if not line.startswith(PATHS)]
        assert max(map(len, tables)) <= 80, command
        assert max(map(len, wide.stdout.splitlines())) > 80, command
        terminal, _ = on_terminal(*command)
        for own in ("\x1b[1m", "\x1b[0m", "\x1b[32m", "\x1b[31m"):
            terminal = terminal.replace(own, "")
        rows = [line for line in terminal.splitlines() if not line.startswith(PATHS)]
        assert max(len(line.rstrip()) for line in rows) <= 80, command


def test_a_terminal_leaves_columns_out_before_it_breaks_a_line(store):
    identifier = "d290f1ee-6c54-4b01-90e6-d701748f0851"
    store.outcomes(receipt(identifier, recipient="447700912345"))
    shown, _ = on_terminal("receipts", "list")
    assert identifier in shown
    assert "received" not in shown
    assert "received" in on_terminal("receipts", "list", columns=200)[0]


# --- files


def test_an_export_can_be_read_by_its_owner_and_group(store, tmp_path):
    (tmp_path / "x.csv").write_text("")
    (tmp_path / "x.csv").chmod(0o644)
    for name in ("x.csv", "x.json", "x.ndjson"):
        assert run("receipts", "export", "--output", name).exit_code == 0
        assert stat.S_IMODE((tmp_path / name).stat().st_mode) == 0o640


def test_json_is_one_array(store, tmp_path):
    assert json.loads(run("receipts", "export", "--format", "json").stdout) == []
    store.outcomes(receipt("A"), receipt("B"))
    run("receipts", "export", "--output", "x.json")
    items = json.loads((tmp_path / "x.json").read_text())
    assert [item["message_id"] for item in items] == ["A", "B"]


FORMULAS = ["=1+1", "@SUM(A1)", "\tx", "\r=1", "+1+1", "-1+1", "+cmd|' /C calc'!A0", "-", " =1"]


def test_a_spreadsheet_takes_no_cell_for_a_formula(store):
    store.outcomes(*(receipt("A", text=text, code=str(n)) for n, text in enumerate(FORMULAS)))
    store.outcomes(receipt("B", recipient="+447700912345", text="-12.5"))
    rows = list(csv.DictReader(io.StringIO(run("receipts", "export").stdout, newline="")))
    assert [row["text"] for row in rows[:-1]] == [f"'{text}" for text in FORMULAS]
    assert (rows[-1]["recipient"], rows[-1]["text"]) == ("+447700912345", "-12.5")
    plain = run("receipts", "export", "--raw-csv").stdout
    assert [row["text"] for row in csv.DictReader(io.StringIO(plain, newline=""))][:-1] == FORMULAS


@given(cell=st.text())
def test_no_cell_begins_as_a_formula_unless_it_is_a_number(cell):
    made = no_formula(cell)
    assert made in (cell, f"'{cell}")
    if made[:1] in ("+", "-"):
        float(made.replace(",", "."))
    assert made[:1] not in ("=", "@", "\t", "\r")
