"""`receiptd forget`, beside a running server."""

from __future__ import annotations

import json
import stat
from pathlib import Path

import pytest

from kit.command_line import run
from kit.server import CSOFT, Server, wait_until
from kit.soap import MINIMAL
from kit.store import AT, Store, new_engine, receipt
from kit.terminal import on_terminal
from kit.wire import post
from receiptd.store.recorder import Submission
from receiptd.store.spool.folder import Spool
from receiptd.store.spool.records import encode

NUMBER = "447700900123"
COUNTS = {
    *("receipts", "messages", "rejected_posts", "waiting", "aliases", "posts", "mentions"),
    *("spool", "left"),
}


@pytest.fixture
def database(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The URL of a database with two receipts of the person and one of another."""
    monkeypatch.chdir(tmp_path)
    url = f"sqlite:///{tmp_path / 'receipts.db'}"
    engine = new_engine(url)
    store = Store(engine, spool=Spool(tmp_path / "receipts.db-spool"))
    store.outcomes(
        receipt("A", recipient=NUMBER, raw=b"447700900123"),
        receipt("B", recipient="+44 7700 900 123"),
        receipt("C", recipient="447700900124"),
    )
    store.writer.stop()
    engine.dispose()
    return url


def listed(database: str) -> list[tuple[str, str]]:
    """The receipts that are there."""
    rows = json.loads(run("receipts", "list", "--json", "--database", database).stdout)
    return sorted((row["message_id"], row["recipient"]) for row in rows)


def test_who_is_to_be_forgotten_must_be_said(database):
    result = run("forget", "--database", database, "--yes")
    assert result.exit_code == 2
    assert "who is to be forgotten?" in result.stderr
    for number in ("ACME", "12", "+44 7700 900123 ext. x"):
        assert run("forget", "--recipient", number, "--yes").exit_code == 2
    assert run("forget", "--recipient", NUMBER, "--region", "XX", "--yes").exit_code == 2
    two = run("forget", "--recipient", NUMBER, "--sender", "447700900124", "--yes")
    assert two.exit_code == 2
    assert "one person at a time" in two.stderr


def test_it_wants_yes_where_nobody_can_be_asked(database):
    result = run("forget", "--recipient", NUMBER, "--database", database)
    assert result.exit_code == 2
    assert "--yes" in result.stderr
    assert len(listed(database)) == 3


def test_a_dry_run_counts_and_changes_nothing(database):
    result = run("forget", "--recipient", NUMBER, "--database", database, "--dry-run", "--json")
    counts = json.loads(result.stdout)
    assert result.exit_code == 0
    assert set(counts) == COUNTS
    assert counts["receipts"] == 2
    assert len(listed(database)) == 3


def test_it_forgets(database):
    result = run("forget", "--recipient", "+44 7700-900123", "--database", database, "--yes")
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout.startswith("forgot: 2 receipts, ")
    assert listed(database) == [("C", "447700900124")]


def test_a_national_number_is_read_by_the_region(database):
    arguments = ("--recipient", "07700 900123", "--database", database, "--yes")
    assert run("forget", *arguments).stdout.startswith("forgot: 0 receipts, ")
    assert run("forget", *arguments, "--region", "gb").stdout.startswith("forgot: 2 receipts, ")


def test_it_counts_and_asks_on_a_terminal(database):
    arguments = ("forget", "--recipient", NUMBER, "--database", database)
    shown, ended = on_terminal(*arguments, typed="n\n")
    assert ended == 1
    assert "2 receipts" in shown
    assert "nothing was changed" in shown
    assert len(listed(database)) == 3
    shown, ended = on_terminal(*arguments, typed="y\n")
    assert ended == 0
    assert listed(database) == [("C", "447700900124")]


def test_a_pseudonym_is_looked_up_as_a_number(database, tmp_path):
    key = tmp_path / "pseudonym.key"
    result = run(
        *("forget", "--recipient", NUMBER, "--database", database, "--yes"),
        *("--pseudonymise", str(key)),
    )
    assert result.exit_code == 0
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    (_, pseudonym), (_, same), _ = listed(database)
    assert pseudonym == same != NUMBER
    found = run("receipts", "list", "--json", "--database", database, "--recipient", pseudonym)
    assert len(json.loads(found.stdout)) == 2
    assert run("forget", "--recipient", NUMBER, "--database", database, "--yes").exit_code == 0
    assert len(listed(database)) == 3


@pytest.mark.parametrize(("content", "mode"), [(b"short", 0o600), (b"k" * 40, 0o644)])
def test_a_key_that_cannot_be_trusted_is_refused(database, tmp_path, content, mode):
    key = tmp_path / "pseudonym.key"
    key.write_bytes(content)
    key.chmod(mode)
    result = run(
        *("forget", "--recipient", NUMBER, "--database", database, "--yes"),
        *("--pseudonymise", str(key)),
    )
    assert result.exit_code == 1
    assert str(key) in result.stderr
    assert len(listed(database)) == 3


def test_what_a_server_holds_in_its_spool_is_left_and_said(database, tmp_path):
    spool = Spool(tmp_path / "receipts.db-spool")
    spool.open()
    spool.append([encode(Submission(None, [receipt("S", recipient=NUMBER)]), AT)])
    try:
        result = run("forget", "--recipient", NUMBER, "--database", database, "--yes")
    finally:
        spool.close()
    assert result.exit_code == 1
    assert "left: " in result.stderr
    assert "run this again" in result.stderr
    again = run("forget", "--recipient", NUMBER, "--database", database, "--yes")
    assert again.exit_code == 0
    assert ", 1 spool" in again.stdout


def test_beside_a_running_server_others_receipts_go_on(serve):
    server: Server = serve(CSOFT.replace("username", "# username").replace("pin", "# pin"))
    database = f"sqlite:///{server.database}"

    def receive(name: str, recipient: str) -> None:
        body = MINIMAL.replace(
            b"<Report>", b"<SentTo>" + recipient.encode() + b"</SentTo><Report>"
        )
        assert post(server.port, body % name.encode()).status == 200

    receive("A", "+447700900123")
    receive("B", "+447700900124")
    wait_until(lambda: len(server.receipts()) == 2, "both are stored")
    assert "447700900123" in json.dumps(server.receipts())
    result = run("forget", "--recipient", NUMBER, "--database", database, "--yes")
    assert result.exit_code == 0, result.output
    receive("C", "+447700900125")
    assert [row["message_id"] for row in server.receipts()] == ["B", "C"]
    assert "447700900123" not in json.dumps(server.receipts())
    # What comes later is stored as before.
    receive("A", "+447700900123")
    assert [row["message_id"] for row in server.receipts()] == ["B", "C", "A"]
