"""`rejected retry` and `rejected delete`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from kit.command_line import run
from kit.soap import envelope
from kit.store import Store, rejection

WRONG = envelope("R1", pin="***")
CONFIG = '[[endpoint]]\nprovider = "csoft"\npath = "/soap"\nname = "soap"\npin = "BLUE.music"\n'


@pytest.fixture(autouse=True)
def configured(working_directory: None) -> None:
    file = Path("receiptd.toml")
    file.write_text(CONFIG)
    file.chmod(0o600)


@pytest.fixture
def filled(store: Store) -> Store:
    """A post whose PIN was wrong, one without a code, and one whose endpoint is gone."""
    store.put(
        rejection("the PIN is wrong", reason="unauthorized", raw=WRONG),
        rejection("Report is missing", raw=envelope("R2", pin="***", Report=None)),
        rejection("nonsense", endpoint="old", raw=WRONG),
    )
    return store


def test_what_a_retry_made_of_each_is_shown(filled):
    result = run("rejected", "retry", "--all")
    assert result.exit_code == 1
    lines = result.stdout.splitlines()
    assert lines[0].split() == ["id", "result", "message", "text"]
    assert lines[1].split() == ["1", "accepted", "R1", "-"]
    assert "Report is missing" in lines[2]
    assert "no endpoint is called 'old'" in lines[3]
    assert lines[4] == "1 stored, 2 still rejected"
    assert [each.message_id for each in filled.receipts()] == ["R1"]
    assert filled.rejected() == ["Report is missing", "nonsense"]
    assert run("rejected", "retry", "1").exit_code == 1  # it is gone


def test_a_retry_that_stores_all_exits_with_0(filled):
    result = run("rejected", "retry", "--reason", "unauthorized", "--since", "1h", "--json")
    assert result.exit_code == 0
    (item,) = json.loads(result.stdout)
    assert item == {
        "id": 1,
        "result": "stored",
        "text": "",
        "receipts": [
            {
                "message_id": "R1",
                "recipient": "447700912345",
                "state": "DELIVERED",
                "verdict": "accepted",
                "text": "",
            }
        ],
    }


def test_a_dry_run_changes_nothing(filled):
    result = run("rejected", "retry", "1", "2", "--dry-run")
    assert "this would be: 1 stored, 1 still rejected" in result.stdout
    assert (len(filled.rejected()), filled.receipts()) == (3, [])
    assert (
        "would delete 3 rejected posts" in run("rejected", "delete", "--all", "--dry-run").stdout
    )
    assert len(filled.rejected()) == 3


def test_both_want_to_know_which(filled):
    for command in ("retry", "delete"):
        result = run("rejected", command)
        assert result.exit_code == 2
        assert "say which: ID..., --endpoint" in result.stderr
        result = run("rejected", command, "--endpoint", "saop")
        assert result.exit_code == 2
        assert "did you mean 'soap'?" in result.stderr
    assert run("rejected", "retry", "99").exit_code == 1


def test_deleting_asks_first(filled):
    result = run("rejected", "delete", "1")
    assert result.exit_code == 2
    assert "give --yes" in result.stderr
    assert "deleted 2 rejected posts" in run("rejected", "delete", "1", "3", "--yes").stdout
    assert filled.rejected() == ["Report is missing"]
    assert run("rejected", "delete", "1", "--yes").exit_code == 1
    assert "deleted 1 rejected post\n" in run("rejected", "delete", "--all", "--yes").stdout
