"""Messages on the command line: registered, imported, read back, while servers run."""

from __future__ import annotations

import json
import re
import shlex
import signal
import sqlite3
import threading
from contextlib import closing
from datetime import UTC, datetime, timedelta

import pytest

from kit.command_line import run, start
from kit.server import wait_until
from kit.soap import MINIMAL
from kit.store import Store, new_engine, receipt
from kit.terminal import on_terminal
from kit.wire import post
from receiptd.message import Message
from receiptd.receipt import State
from receiptd.store.spool.folder import Spool

HEADER = "provider,message_id,recipient\n"


def url(server) -> str:
    return f"sqlite:///{server.database}"


def answer(server, message_id: str) -> str:
    """Post a receipt about this message; what `Report` is answered."""
    body = post(server.port, MINIMAL % message_id.encode()).body
    return re.search(rb"<Report>(-?\d+)</Report>", body)[1].decode()


def registered(database) -> int:
    with closing(sqlite3.connect(database)) as connection:
        return connection.execute("SELECT count(*) FROM messages").fetchone()[0]


# --- add

SAID_OF_CSOFT = [
    "This is the first message of csoft. From now on its receipts are checked: a",
    "receipt about a message that is not registered, or about another recipient, is",
    "answered Report -1 and stored with the verdict unknown-message or",
    "wrong-recipient. So register each message that you send by csoft.",
    "If this was a test, delete it: receiptd message delete csoft MESSAGE_ID. When a",
    "provider has no message left, its receipts are no longer checked. To turn",
    'checking off for good, set match = "never" in the endpoint.',
]


def test_add_tells_what_happened_for_each_recipient(store):
    numbers = ("447700912345", "+44 7700 912345", "447700912346")
    options = [word for number in numbers for word in ("--recipient", number)]
    result = run("message", "add", "csoft", "4A2E3C10", *options, "--reference", "order 9")
    assert result.stdout.splitlines() == [
        "registered: csoft 4A2E3C10 to 447700912345",
        "unchanged: csoft 4A2E3C10 to +44 7700 912345",
        "registered: csoft 4A2E3C10 to 447700912346",
        *SAID_OF_CSOFT,
    ]
    again = run(
        *("message", "add", "csoft", "4a2e3c10", "--recipient", numbers[2]),
        *("--reference", "order 10", "--sender", "ACME", "--parts", "2"),
    )
    assert again.stdout == "updated: csoft 4a2e3c10 to 447700912346\n"
    rows = [(row.recipient, row.reference, row.sender, row.parts) for row in store.messages()]
    assert rows == [
        ("447700912345", "order 9", None, None),
        ("447700912346", "order 10", "ACME", 2),
    ]


def test_add_without_a_recipient_is_about_any(store):
    result = run("message", "add", "csoft", "A", "--json")
    assert json.loads(result.stdout) == [
        {"provider": "csoft", "message_id": "A", "recipient": None, "result": "registered"}
    ]
    assert store.outcomes(receipt("A", recipient="1")) == ["accepted"]


def test_add_tells_of_receipts_that_had_come_before(store):
    store.outcomes(receipt("A"), receipt("A", code="1"))
    result = run("message", "add", "csoft", "A")
    assert result.stdout.splitlines()[1:] == [
        "receipts that had come before: 2",
        *SAID_OF_CSOFT,
    ]
    assert store.message().state == "DELIVERED"


@pytest.mark.parametrize("command", [["add", "csoft", "A"], ["import", "sent.csv"], ["list"]])
def test_no_database_is_made(tmp_path, command):
    (tmp_path / "sent.csv").write_text(HEADER)
    result = run("message", *command)
    assert (result.exit_code, result.stdout) == (1, "")
    assert "receiptd.db: no such database" in result.stderr
    assert "run: receiptd db upgrade" in result.stderr
    assert not (tmp_path / "receiptd.db").exists()


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["csfot", "A"], "did you mean 'csoft'?"),
        (["csoft", " "], "message_id is missing"),
        (["csoft", "A", "--recipient", "phone"], "a phone number in digits was expected"),
        (["csoft", "A", "--parts", "0"], "--parts"),
        (["csoft"], "MESSAGE_ID"),
    ],
)
def test_what_makes_no_sense_is_wrong_use(store, arguments, complaint):
    result = run("message", "add", *arguments)
    assert result.exit_code == 2
    assert complaint in result.stderr
    assert store.messages() == []


def test_numbers_are_read_as_the_configuration_says(store, tmp_path):
    (tmp_path / "receiptd.toml").write_text(
        '[[endpoint]]\nprovider = "csoft"\npath = "/soap"\nregion = "GB"\n'
    )
    run("message", "add", "csoft", "A", "--recipient", "07700 912345")
    assert store.message().recipient_key == "447700912345"
    assert run("message", "add", "cdyne", "A").exit_code == 2, "it has no endpoint"


def test_a_running_server_checks_from_then_on_and_adopts(serve):
    server = serve()
    assert answer(server, "EARLY") == "0"
    assert answer(server, "STRAY") == "0"
    result = run("message", "add", "csoft", "EARLY", "--database", url(server))
    assert result.exit_code == 0, result.output
    assert answer(server, "UNKNOWN") == "-1"
    assert run("message", "add", "csoft", "UNKNOWN", "--database", url(server)).exit_code == 0
    stored = {each["message_id"]: each["verdict"] for each in server.receipts()}
    assert stored == {"EARLY": "accepted", "STRAY": "accepted", "UNKNOWN": "accepted"}
    shown = run("message", "show", "csoft", "unknown", "--json", "--database", url(server))
    found = json.loads(shown.stdout)
    assert (found["state"], found["final"], len(found["receipts"])) == ("DELIVERED", True, 1)


# --- import


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("sent.csv", HEADER + "csoft,A,1\ncsoft,B,2\n"),
        ("sent.tsv", "message_id\trecipient\tprovider\r\nA\t1\tcsoft\r\nB\t2\tcsoft\r\n"),
        ("sent.ndjson", '{"message_id": "A", "recipient": 1}\n{"message_id": "B"}\n'),
        ("sent.JSONL", '\ufeff{"message_id": "A", "recipient": "1"}\n\n{"message_id": "B"}'),
    ],
)
def test_a_file_is_imported_as_its_name_says(store, tmp_path, name, content):
    (tmp_path / name).write_text(content, newline="")
    result = run("message", "import", name, "--provider", "csoft")
    assert (result.exit_code, result.stderr) == (0, "")
    assert re.match(
        r"registered 2, updated 0, unchanged 0, bad 0; [\d.]+ s, \d+/s\n", result.stdout
    )
    assert [(row.provider, row.message_id) for row in store.messages()] == [
        ("csoft", "A"),
        ("csoft", "B"),
    ]


def test_standard_input_is_imported(store):
    content = '{"message_id": "A"}\n'
    arguments = ("message", "import", "-", "--provider", "csoft")
    assert run(*arguments, input=content).exit_code == 2, "its format must be said"
    result = run(*arguments, "--format", "ndjson", "--json", input=content)
    assert json.loads(result.stdout) | {"seconds": 0, "rate": 0} == {
        "registered": 1,
        "updated": 0,
        "unchanged": 0,
        "bad": 0,
        "adopted": 0,
        "next_line": None,
        "seconds": 0,
        "rate": 0,
    }


def test_an_import_stops_at_a_bad_line_and_says_how_to_go_on(store, tmp_path):
    file = tmp_path / "all sent.csv"
    lines = [f"csoft,M{number},{number}" for number in range(2, 1500)]
    file.write_text(HEADER + "\n".join([*lines[:1200], "csoft,M,phone", *lines[1200:]]))
    store.outcomes(receipt("M7", recipient="7"))

    result = run("message", "import", str(file), "--provider", "cdyne")
    assert result.exit_code == 1
    assert len(store.messages()) == 1200
    assert result.stdout.startswith("registered 1200, updated 0, unchanged 0, bad 1; ")
    assert (
        "\nreceipts that had come before: 1\nThis is the first message of csoft." in result.stdout
    )
    bad, stopped, command = result.stderr.splitlines()
    assert bad == "line 1202: recipient is 'phone': a phone number in digits was expected"
    assert "line 1202 and what follows it are not imported" in stopped

    file.write_text(file.read_text().replace("phone", "5"))
    program, *arguments = shlex.split(command)
    assert program == "receiptd"
    assert arguments[-2:] == ["--from-line", "1202"]
    result = run(*arguments)
    assert result.exit_code == 0
    assert result.stdout.startswith("registered 299, updated 0, unchanged 0, bad 0; ")
    assert len(store.messages()) == 1499


def test_an_import_skips_bad_lines_if_told_to_and_numbers_each(store, tmp_path):
    (tmp_path / "sent.csv").write_text(
        f"{HEADER}csoft,A,1\ncsfot,B,2\ncsoft,,3\ncsoft,D\ncsoft,E,5\n"
    )
    result = run("message", "import", "sent.csv", "--on-error", "skip")
    assert result.exit_code == 1
    assert [line.split(": ")[0] for line in result.stderr.splitlines()] == [
        "line 3",
        "line 4",
        "line 5",
    ]
    assert result.stdout.startswith("registered 2, updated 0, unchanged 0, bad 3; ")
    assert [row.message_id for row in store.messages()] == ["A", "E"]


def test_what_a_bad_line_holds_cannot_control_the_terminal(store, tmp_path):
    (tmp_path / "sent.csv").write_text(f"{HEADER}csoft,A,\x1b[2J\n")
    assert "\x1b" not in run("message", "import", "sent.csv").stderr


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ("message_id,msisdn\nA,1\n", "sent.csv: line 1: unknown column 'msisdn': did you mean"),
        ("message_id\nA\n", "sent.csv: line 1 names no column provider: say with --provider"),
    ],
)
def test_a_header_that_is_wrong_fails_before_the_first_line(store, tmp_path, content, complaint):
    (tmp_path / "sent.csv").write_text(content)
    result = run("message", "import", "sent.csv", "--on-error", "skip")
    assert result.exit_code == 1
    assert result.stderr.startswith(complaint)
    assert store.messages() == []


def test_a_file_that_is_not_there_is_one_line():
    result = run("message", "import", "sent.csv")
    assert (result.exit_code, result.stderr) == (
        1,
        "sent.csv: cannot be read: No such file or directory\n",
    )


def test_a_terminal_shows_how_far_it_is(store, tmp_path):
    lines = "".join(f"csoft,M{number},{number}\n" for number in range(2000))
    (tmp_path / "sent.csv").write_text(f"{HEADER}{lines}csoft,,1\n")
    shown, code = on_terminal("message", "import", "sent.csv", columns=100)
    assert code == 1
    assert "importing" in shown
    assert "line 2002: message_id is missing" in shown
    assert "registered 2000" in shown


def test_an_import_that_was_killed_is_done_again(store, tmp_path):
    lines = [f"csoft,M{number},{number}\n" for number in range(6000)]
    (tmp_path / "sent.csv").write_text(HEADER + "".join(lines))
    child = start("message", "import", "-", "--format", "csv", stdin=-1)
    child.stdin.write((HEADER + "".join(lines[:4000])).encode())
    child.stdin.flush()
    wait_until(lambda: registered("receiptd.db") >= 1000, "some are registered")
    child.send_signal(signal.SIGKILL)
    child.communicate()
    before = registered("receiptd.db")
    assert 1000 <= before <= 4000

    result = run("message", "import", "sent.csv", "--json")
    summary = json.loads(result.stdout)
    assert (summary["registered"], summary["unchanged"]) == (6000 - before, before)
    assert {row.message_id for row in store.messages()} == {f"M{n}" for n in range(6000)}


def test_an_import_that_is_interrupted_says_how_to_go_on(store):
    lines = [f"csoft,M{number},{number}\n" for number in range(3000)]
    child = start("message", "import", "-", "--format", "csv", stdin=-1)
    child.stdin.write((HEADER + "".join(lines)).encode())
    child.stdin.flush()
    wait_until(lambda: registered("receiptd.db") >= 1000, "some are registered")
    child.send_signal(signal.SIGINT)
    out, errors = child.communicate(timeout=20)
    assert child.returncode == 1
    done = registered("receiptd.db")
    assert out.startswith(b"registered %d, " % done)
    assert f"interrupted: line {done + 2} and what follows it" in errors.decode()
    assert f"import - --format csv --from-line {done + 2}\n" in errors.decode()


def test_an_import_while_a_server_receives_keeps_the_rules(serve, tmp_path):
    """Receipts come before, during and after their message's registration."""
    server = serve()
    names = [f"M{number}" for number in range(4000)]
    file = tmp_path / "sent.csv"
    file.write_text("message_id\n" + "\n".join(names))
    posted: set[str] = set()
    answers: list[str] = []
    ended = threading.Event()

    def provider(offset: int) -> None:
        for number in range(offset, 4000, 40):
            for name in (names[number], names[-number - 1]):
                answers.append(answer(server, name))
                posted.add(name)
            if ended.is_set():
                return

    threads = [threading.Thread(target=provider, args=(offset,)) for offset in range(2)]
    for thread in threads:
        thread.start()
    wait_until(lambda: len(answers) > 5, "the server answers")
    result = run("message", "import", str(file), "--provider", "csoft", "--database", url(server))
    ended.set()
    for thread in threads:
        thread.join(60)
    assert (result.exit_code, result.stderr) == (0, "")
    assert set(answers) <= {"0", "-1"}, "none was turned away"
    assert answer(server, "UNKNOWN") == "-1"

    verdicts = {each["message_id"]: each["verdict"] for each in server.receipts()}
    assert verdicts.pop("UNKNOWN") == "unknown-message"
    assert set(verdicts) == posted
    assert set(verdicts.values()) == {"accepted"}
    listed = run("message", "list", "--final", "--json", "--database", url(server))
    assert {each["message_id"] for each in json.loads(listed.stdout)} == posted


# --- show and list


def test_show_tells_the_state_and_the_timeline(store):
    run("message", "add", "csoft", "A", "--recipient", "447700912345", "--reference", "order 9")
    store.outcomes(receipt("A", code="-4", state=State.ENROUTE), receipt("A", code="0"))
    result = run("message", "show", "csoft", "a")
    lines = [line.split() for line in result.stdout.splitlines()]
    assert lines[0] == ["message", "A", "of", "csoft"]
    for line in (
        ["recipient", "447700912345"],
        ["state", "DELIVERED"],
        ["final", "yes"],
        ["state_at", "2009-06-09T10:52:00Z"],
        ["reference", "order", "9"],
        ["sender", "-"],
    ):
        assert line in lines
    timeline = lines[lines.index([]) + 1 :]
    assert timeline[0][:5] == ["receipt", "received", "state", "code", "reported"]
    assert [line[3] for line in timeline[1:]] == ["ENROUTE", "DELIVERED"]
    found = json.loads(run("message", "show", "csoft", "a", "--json").stdout)
    assert [each["code"] for each in found["receipts"]] == ["-4", "0"]


def test_show_tells_each_recipient(store):
    run("message", "add", "csoft", "A", "--recipient", "1", "--recipient", "2")
    store.outcomes(receipt("A", recipient="2"))
    text = run("message", "show", "csoft", "A").stdout
    assert re.search(r"^1 +ENROUTE +- ", text, re.M)
    assert re.search(r"^2 +DELIVERED +2009-06-09", text, re.M)


def test_show_says_what_it_did_not_find(store):
    missing = run("message", "show", "csoft", "nothing")
    assert (missing.exit_code, missing.stdout) == (1, "")
    assert missing.stderr == "no message 'nothing' is registered for 'csoft'\n"
    misspelt = run("message", "show", "csfot", "nothing")
    assert (misspelt.exit_code, "did you mean 'csoft'?" in misspelt.stderr) == (2, True)
    store.outcomes(receipt("A"))
    assert "receiptd receipts show A" in run("message", "show", "csoft", "A").stderr


def test_a_fresh_message_has_no_receipts_yet(store):
    run("message", "add", "csoft", "A")
    assert run("message", "show", "csoft", "A").stdout.endswith("\n\nno receipts yet\n")


def test_filters_reach_the_query(store):
    run("message", "add", "csoft", "A", "--recipient", "+44 7700 900001", "--reference", "r")
    run("message", "add", "cdyne", "B", "--recipient", "7572373369")
    run("message", "add", "csoft", "C")
    store.outcomes(receipt("C"))

    def found(*filters: str) -> list[str]:
        result = run("message", "list", "--json", *filters)
        assert result.exit_code == 0, result.output
        return [each["message_id"] for each in json.loads(result.stdout)]

    assert found() == ["C", "B", "A"]
    assert found("--provider", "csoft") == ["C", "A"]
    assert found("--state", "delivered") == found("--final") == ["C"]
    assert found("--pending") == ["B", "A"]
    assert found("--recipient", "00447700900001") == ["A"]
    assert found("--recipient", "+1 757-237-3369") == ["B"]
    assert found("--reference", "r") == found("--message-id", "a") == ["A"]
    assert found("--since", "1h", "--limit", "2") == ["C", "B"]
    assert found("--until", "1h") == found("--pending-for", "1h") == []
    assert found("--pending-for", "0s") == ["B", "A"]
    assert run("message", "list", "--final", "--pending-for", "1h").exit_code == 2
    assert run("message", "list", "--pending-for", "long").exit_code == 2


def test_messages_that_wait_too_long_are_found(tmp_path):
    engine = new_engine(f"sqlite:///{tmp_path / 'receiptd.db'}")
    then = datetime.now(UTC) - timedelta(hours=7)
    store = Store(engine, spool=Spool(tmp_path / "spool"), now=lambda: then)
    store.register(Message("csoft", "waits"), Message("csoft", "done"))
    store.outcomes(receipt("done"))
    store.writer.stop()
    engine.dispose()
    run("message", "add", "csoft", "fresh")
    result = run("message", "list", "--pending-for", "6h")
    assert [line.split()[-4] for line in result.stdout.splitlines()] == ["message", "waits"]


def test_nothing_found_is_said_and_is_valid_json(store):
    empty = run("message", "list")
    assert (empty.exit_code, empty.stdout) == (0, "")
    assert "receiptd message add" in empty.stderr
    assert json.loads(run("message", "list", "--json").stdout) == []
    assert "fewer filters" in run("message", "list", "--pending").stderr
