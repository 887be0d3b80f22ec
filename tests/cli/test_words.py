"""Words that name nothing are errors that say what was meant; what deletes asks first."""

from __future__ import annotations

import pytest

from kit.command_line import run
from kit.store import receipt
from kit.terminal import on_terminal
from receiptd.message import Message

LISTS = [["receipts", "list"], ["receipts", "export"], ["receipts", "tail"], ["rejected", "list"]]


def spaced(text: str) -> str:
    """`text` with one space between words, whatever the width of its columns."""
    return " ".join(text.split())


@pytest.mark.parametrize("command", [*LISTS, ["message", "list"]], ids=" ".join)
def test_a_provider_that_there_is_not_is_wrong_use(store, command):
    result = run(*command, "--provider", "cosft")
    assert (result.exit_code, result.stdout) == (2, "")
    assert "no provider is called 'cosft': did you mean 'csoft'?" in result.stderr


@pytest.mark.parametrize("command", LISTS, ids=" ".join)
def test_an_endpoint_that_there_is_not_is_wrong_use(store, command):
    result = run(*command, "--endpoint", "nope")
    assert (result.exit_code, result.stdout) == (2, "")
    assert "no endpoint is called 'nope': expected one of cdyne, cdyne/phone, " in result.stderr


@pytest.mark.parametrize("command", [*LISTS[:3], ["message", "list"]], ids=" ".join)
@pytest.mark.parametrize("phone", ["abc", "", "44x7700", "7" * 65])
def test_a_recipient_that_is_no_phone_number_is_wrong_use(store, command, phone):
    result = run(*command, "--recipient", phone)
    assert (result.exit_code, result.stdout) == (2, "")
    assert "is no phone number: expected digits" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["receipts", "list", "--state", "DELIVRED"], "did you mean 'DELIVERED'?"),
        (["receipts", "list", "--kind", "deliver"], "did you mean 'delivery'?"),
        (["receipts", "list", "--verdict", "x"], "expected one of accepted, "),
        (["rejected", "list", "--reason", "invald"], "did you mean 'invalid'?"),
        (["message", "list", "--state", "nonsense"], "expected one of ENROUTE, DELIVERED, "),
        (["message", "delete", "cosft", "A"], "did you mean 'csoft'?"),
        (["message", "show", "cosft", "A"], "did you mean 'csoft'?"),
        (["message", "import", "-", "--format", "csv", "--provider", "cosft"], "'csoft'?"),
        (["simulate", "cosft", "--url", "http://127.0.0.1:9/"], "did you mean 'csoft'?"),
        (["receipts", "export", "--output", "x.xlsx"], "--format"),
        (["receipts", "export", "--output", "x"], "--format"),
        (["receipts", "export", "--format", "jsn"], "did you mean 'json'?"),
        (["receipts", "export", "--format", "json", "--raw-csv"], "--raw-csv is for CSV"),
    ],
)
def test_a_word_that_is_none_is_wrong_use(store, arguments, says):
    result = run(*arguments)
    assert result.exit_code == 2
    assert says in result.stderr


def test_what_was_stored_under_a_name_is_found_though_nothing_is_called_so_now(store):
    store.outcomes(receipt("A", endpoint="old-name"))
    result = run("receipts", "list", "--endpoint", "old-name")
    assert (result.exit_code, "A " in result.stdout) == (0, True)


# --- checking against messages


def test_the_first_message_of_a_provider_says_that_it_turns_checking_on(store, tmp_path):
    assert "csoft no, until a message is registered" in spaced(run("check-config").stdout)
    first = run("message", "add", "csoft", "A")
    assert "This is the first message of csoft. From now on" in first.stdout
    assert "receiptd message delete csoft MESSAGE_ID" in first.stdout
    assert 'match = "never"' in first.stdout
    assert "first message" not in run("message", "add", "csoft", "B").output
    checked = run("check-config").stdout
    assert "csoft yes, since 20" in spaced(checked)
    assert "cdyne no, until a message is registered" in spaced(checked)
    assert "checked against messages for: csoft (since 20" in run("message", "list").stderr
    as_json = run("message", "add", "cdyne", "A", "--json")
    assert "first message of cdyne" in as_json.stderr
    (tmp_path / "sent.csv").write_text("provider,message_id\nseeme,A\n")
    assert "first message of seeme" in run("message", "import", "sent.csv").stdout


def test_where_nothing_is_checked_anyway_nothing_is_said(store, tmp_path):
    (tmp_path / "receiptd.toml").write_text(
        '[[endpoint]]\nprovider = "csoft"\npath = "/a"\nmatch = "never"\n'
        '[[endpoint]]\nprovider = "seeme"\npath = "/b"\nmatch = "always"\n'
    )
    assert "first message" not in run("message", "add", "csoft", "A").output
    checked = run("check-config").stdout
    assert 'csoft no (match = "never")' in spaced(checked)
    assert 'seeme yes (match = "always")' in spaced(checked)
    assert "for: seeme (always)" in run("message", "list").stderr


def test_a_message_is_deleted_and_the_last_one_turns_checking_off(store):
    store.register(Message("csoft", "A", "447700912345"), Message("csoft", "A", "447700912346"))
    store.register(Message("csoft", "B", "447700912345"))
    one = run("message", "delete", "csoft", "a", "--recipient", "+44 7700 912346")
    assert one.stdout == "deleted: csoft a to +44 7700 912346\n"
    assert {(row.message_id, row.recipient) for row in store.messages()} == {
        ("A", "447700912345"),
        ("B", "447700912345"),
    }
    assert store.outcomes(receipt("X")) == ["unknown-message"]
    assert run("message", "delete", "csoft", "A").output == "deleted: csoft A\n"
    last = run("message", "delete", "csoft", "B")
    assert "This was the last message of csoft: its receipts are no longer checked" in last.stderr
    assert store.messages() == []
    assert "csoft no, until a message is registered" in spaced(run("check-config").stdout)
    missing = run("message", "delete", "csoft", "B")
    assert (missing.exit_code, missing.stderr) == (
        1,
        "no message 'B' is registered for 'csoft'\n",
    )


# --- prune


def test_prune_wants_yes_where_nobody_can_be_asked(store):
    result = run("prune", "--older-than", "1d")
    assert (result.exit_code, result.stdout) == (2, "")
    assert "Give --yes" in result.stderr
    assert run("prune", "--older-than", "1d", "--dry-run").exit_code == 0
    assert run("prune", "--older-than", "1d", "--yes").exit_code == 0


def test_prune_asks_on_a_terminal(store):
    store.outcomes(receipt("A"))
    for answer, code, says in (("n\n", 1, "nothing was deleted"), ("y\n", 0, "deleted what is")):
        shown, ended = on_terminal("prune", "--older-than", "1d", typed=answer)
        assert "Delete all receipts, rejected posts and finished messages from before" in shown
        assert (ended, says in shown) == (code, True)
