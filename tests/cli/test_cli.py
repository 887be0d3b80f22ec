"""The command line, as whoever is woken at 3 a.m. meets it."""

from __future__ import annotations

import json
import os
import pwd
import re
import resource
import socket
import stat
import subprocess
import sys
from contextlib import closing
from datetime import UTC, datetime, timedelta

import click
import pytest

from kit.command_line import execute, run
from kit.server import CSOFT, SAMPLES, environment
from kit.store import receipt, rejection
from kit.terminal import on_terminal
from kit.wire import post
from receiptd import __version__
from receiptd.cli import main
from receiptd.cli.options import Moment
from receiptd.receipt import Kind, State

HEAVY = ("pydantic", "sqlalchemy", "twisted", "rich", "lxml", "spyne", "alembic", "phonenumbers")


@pytest.fixture(autouse=True)
def _environment(monkeypatch):
    """An environment without receiptd's variables."""
    for name in list(os.environ):
        if name.upper().startswith("RECEIPTD_"):
            monkeypatch.delenv(name)


def process(*arguments, env=None, **options):
    """The command in a process of its own, as a shell runs it."""
    return execute(*arguments, env=environment() | (env or {}), **options)


def processor_time() -> float:
    """Seconds that the processes started here have taken; a busy machine changes nothing."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def test_the_version_comes_at_once():
    spent = []
    for _ in range(3):
        started = processor_time()
        result = subprocess.run(
            [sys.executable, "-m", "receiptd", "--version"], capture_output=True, text=True
        )
        spent.append(processor_time() - started)
        assert result.stdout == f"receiptd {__version__}\n"
    assert min(spent) < 0.5


def test_nothing_heavy_is_imported_before_a_command_needs_it():
    script = (
        "import sys; from receiptd.cli import main; "
        f"print([name for name in {HEAVY!r} if name in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert result.stdout == "[]\n", result.stderr


def commands(group=main, path=()):
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from commands(command, (*path, name))
        elif not command.hidden:
            yield (*path, name)


@pytest.mark.parametrize("path", list(commands()), ids=" ".join)
def test_every_help_text_has_an_example_that_can_be_copied(path):
    result = run(*path, "-h")
    assert result.exit_code == 0
    assert run(*path, "--help").output == result.output
    _, _, examples = result.output.partition("Example")
    assert f"receiptd {' '.join(path)}" in examples


@pytest.mark.parametrize("path", sorted({path[:-1] for path in commands()}), ids=" ".join)
def test_what_a_command_does_fits_beside_its_name(path):
    assert "..." not in run(*path, "--help").output.partition("\nCommands:\n")[2]


@pytest.mark.parametrize(
    "arguments",
    [
        ["serve", "--bogus"],
        ["serv"],
        ["receipts", "list", "--limit", "0"],
        ["receipts", "list", "--state", "GONE"],
        ["receipts", "list", "--since", "yesterday"],
        ["receipts", "show"],
        ["simulate", "csoft"],
        ["simulate", "csoft", "--url", "here"],
        ["simulate", "nobody", "--url", "http://127.0.0.1:9/"],
    ],
)
def test_wrong_use_is_exit_code_2(arguments):
    result = run(*arguments)
    assert result.exit_code == 2
    assert result.stderr.startswith("Usage: ")


@pytest.mark.parametrize(
    ("text", "at"),
    [
        ("2026-01-31T18:00", datetime(2026, 1, 31, 18, tzinfo=UTC)),
        ("2026-01-31", datetime(2026, 1, 31, tzinfo=UTC)),
        ("2026-01-31 18:00:05+02:00", datetime(2026, 1, 31, 16, 0, 5, tzinfo=UTC)),
        ("2026-01-31T18:00Z", datetime(2026, 1, 31, 18, tzinfo=UTC)),
    ],
)
def test_a_time_is_utc_unless_it_has_an_offset(text, at):
    assert Moment().convert(text, None, None) == at


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90s", 90), ("30m", 1800), ("24h", 86400), ("7d", 604800), ("2W", 1209600)],
)
def test_an_age_counts_back_from_now(text, seconds):
    at = Moment().convert(text, None, None)
    assert abs(datetime.now(UTC) - at - timedelta(seconds=seconds)) < timedelta(seconds=5)


@pytest.mark.parametrize("text", ["", "24", "99999999999d", "2026-13-01", "h"])
def test_what_is_no_time_is_said(text):
    with pytest.raises(click.BadParameter, match="no time such as"):
        Moment().convert(text, None, None)


# serve


def test_serving_with_a_bad_configuration_says_what_to_mend(tmp_path):
    file = tmp_path / "bad.toml"
    file.write_text("[stor]\nurl = 'x'\n[server]\nmax_body = 'big'\n")
    result = process("serve", "--config", str(file))
    assert result.returncode == 1
    assert sorted(result.stderr.splitlines()) == [
        f'{file}: server.max_body: expected a whole number, not "big"',
        f"{file}: stor: unknown key: did you mean 'store'?",
    ]
    assert not (tmp_path / "receiptd.db").exists()


def test_serving_into_a_folder_that_is_not_there_is_one_line():
    result = process("serve", "--listen", "tcp:0", "--database", "sqlite:////no/where/x.db")
    assert result.returncode == 1
    last = result.stderr.splitlines()[-1]
    assert last == "/no/where: no such folder for the database x.db: make it first"
    assert "Traceback" not in result.stderr


def test_serving_on_a_taken_port_says_so_and_what_to_do():
    with closing(socket.create_server(("127.0.0.1", 0))) as taken:
        port = taken.getsockname()[1]
        result = process("serve", "--listen", f"tcp:{port}:interface=127.0.0.1")
    assert result.returncode == 1
    assert f"tcp:{port}:interface=127.0.0.1" in result.stderr
    assert "--listen" in result.stderr
    assert "Traceback" not in result.stderr


def test_a_second_server_on_a_database_says_so(serve):
    server = serve()
    url = f"sqlite:///{server.database}"
    result = process("serve", "--listen", "tcp:0:interface=127.0.0.1", "--database", url)
    assert result.returncode == 1
    assert f"another receiptd (process {server.process.pid})" in result.stderr
    assert "Traceback" not in result.stderr


# init and check-config


def test_init_writes_a_file_that_only_its_owner_reads(tmp_path):
    result = run("init")
    assert result.exit_code == 0
    file = tmp_path / "receiptd.toml"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert result.stderr.splitlines() == [
        f"wrote {file}",
        "Edit it, then: receiptd check-config",
    ]
    assert run("check-config").exit_code == 0


def test_init_leaves_a_file_that_is_there_unless_forced(tmp_path):
    file = tmp_path / "mine.toml"
    file.write_text("precious")
    result = run("init", "--output", str(file))
    assert result.exit_code == 1
    assert "--force" in result.stderr
    assert file.read_text() == "precious"
    assert run("init", "--output", str(file), "--force").exit_code == 0
    assert "[[endpoint]]" in file.read_text()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_init_writes_to_standard_output_too(tmp_path):
    assert "[[endpoint]]" in run("init", "--output", "-").stdout
    assert list(tmp_path.iterdir()) == []


def test_init_says_where_it_cannot_write():
    result = run("init", "--output", "/no/where/receiptd.toml")
    assert result.exit_code == 1
    assert (
        result.stderr == "/no/where/receiptd.toml: cannot be written: No such file or directory\n"
    )


FULL = """
[server]
listen = ["tcp:8080", "unix:/run/receiptd.sock"]
public_url = "https://dlr.example.com"
[store]
url = "postgresql+psycopg://receiptd:geheim1@db.example.com/receipts"
[[endpoint]]
provider = "csoft"
path = "/soap"
username = "ANOther.61234"
pin = "geheim2"
token = "geheim3"
[[endpoint]]
provider = "csoft"
path = "/open"
name = "the open one"
"""


def test_check_config_says_what_would_be_served_and_no_secret(tmp_path):
    file = tmp_path / "full.toml"
    file.write_text(FULL)
    file.chmod(0o644)
    result = run("check-config", "--config", str(file))
    assert "geheim" not in result.output
    lines = [line.rstrip() for line in result.stdout.splitlines()]
    assert lines[:12] == [
        f"configuration: {file}",
        "listens on:    tcp:8080, unix:/run/receiptd.sock",
        "TLS on:        nothing",
        "public URL:    https://dlr.example.com",
        "store:         postgresql+psycopg://receiptd:***@db.example.com/receipts",
        f"spool:         {tmp_path}/receiptd-spool",
        f"API:           token in {tmp_path}/receiptd-spool/api-token "
        "(receiptd api-token prints it)",
        "console:       /console",
        "log:           standard error, plain",
        "",
        "endpoint      path   provider  asks for",
        "soap          /soap  csoft     username and PIN; token in the URL",
    ]
    assert "the open one  /open  csoft" in lines[12]
    assert lines[12].endswith("nothing")
    doubts = [line for line in lines if line.startswith("warning: ")]
    assert any("the open one" in doubt and "tcp:8080" in doubt for doubt in doubts)
    exposed = f"{file} holds secrets and every user can read it: chmod o= {file}"
    assert f"error: {exposed}" in result.stderr
    assert not any("endpoint soap" in doubt for doubt in doubts)


def test_check_config_shows_whose_tokens_there_are_and_not_the_tokens(tmp_path):
    file = tmp_path / "api.toml"
    file.write_text(
        "[[api.token]]\nname = 'billing'\ntoken = 'geheim'\n"
        "[[api.token]]\nname = 'crm'\ntoken = 'geheim2'\nscopes = ['read', 'write']\n"
    )
    file.chmod(0o644)
    result = run("check-config", "--config", str(file))
    assert "geheim" not in result.output
    assert "\nAPI:           token of billing (read), crm (read, write)\n" in result.stdout
    assert "every user can read it" in result.stderr
    assert result.exit_code == 1


def test_check_config_tells_what_the_server_would_stumble_over(tmp_path):
    file = tmp_path / "x.toml"
    file.write_text("[server]\nlisten = 'foo:80'\n[store]\nurl = 'sqlite:////no/where/x.db'\n")
    result = run("check-config", "--config", str(file))
    assert result.exit_code == 1
    listen, folder = result.stderr.splitlines()
    assert listen.startswith("error: server.listen: 'foo:80' does not work: ")
    assert folder == "error: /no/where: no such folder for the database x.db: make it first"


def test_check_config_changes_nothing(tmp_path):
    assert run("check-config").exit_code == 0
    assert list(tmp_path.iterdir()) == []


# db upgrade


def test_db_upgrade_makes_the_database_and_says_when_there_is_nothing_to_do(tmp_path):
    first = run("db", "upgrade")
    assert first.stdout.startswith(f"sqlite:///{tmp_path}/receiptd.db: made, at revision ")
    assert (tmp_path / "receiptd.db").is_file()
    second = run("db", "upgrade")
    assert second.stdout.endswith(" already, nothing to do\n")
    assert (first.exit_code, second.exit_code) == (0, 0)


# reading


@pytest.mark.parametrize(
    "arguments", [["receipts", "list"], ["receipts", "show", "1"], ["rejected", "list", "--json"]]
)
def test_reading_makes_no_database(tmp_path, arguments):
    result = run(*arguments)
    assert result.exit_code == 1
    assert result.stdout == ""
    assert "receiptd.db: no such database" in result.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def closed(tmp_path):
    """Closes a folder to this process, which may be root's, to whom nothing is closed."""
    run("receipts", "list")  # so that what it imports need not be open to others
    nobody = pwd.getpwnam("nobody").pw_uid

    def close(folder):
        folder.chmod(0)
        if os.geteuid() == 0:
            os.seteuid(nobody)

    yield close
    if os.getuid() == 0:
        os.seteuid(0)
    for folder in tmp_path.rglob("closed"):
        folder.chmod(0o700)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("receipts", "list"), r"closed/r\.db: hidden from user \w+\. .*\n"),
        (("db", "upgrade"), r"closed/r\.db: hidden from user \w+\. .*\n"),
        (("spool", "status"), r"closed/r\.db-spool: cannot be read by this user\. .*\n"),
        (("spool", "drain"), r"closed/r\.db: hidden from user \w+\. .*\n"),
    ],
)
def test_what_this_user_may_not_see_is_not_taken_to_be_absent(tmp_path, closed, arguments, says):
    folder = tmp_path / "closed"
    (folder / "r.db-spool").mkdir(parents=True)
    closed(folder)
    result = run(*arguments, "--database", f"sqlite:///{folder}/r.db")
    assert (result.exit_code, result.stdout) == (1, "")
    assert re.fullmatch(f".*/{says}", result.stderr), result.stderr


def test_a_configuration_that_this_user_may_not_read_says_how_to_let_them(tmp_path, closed):
    folder = tmp_path / "closed"
    folder.mkdir()
    file = folder / "receiptd.toml"
    file.write_text("")
    closed(folder)
    result = run("receipts", "list", "--config", str(file))
    assert result.exit_code == 1
    assert f"{file}: cannot be read by user " in result.stderr
    assert f"chgrp GROUP {file}" in result.stderr


def test_a_spool_that_is_not_there_is_not_an_empty_one(tmp_path):
    result = run("spool", "status")
    assert (result.exit_code, result.stdout) == (1, "")
    assert re.match(
        rf"{re.escape(str(tmp_path))}/receiptd\.db-spool: no such folder\. .* --config FILE\n$",
        result.stderr,
    )
    (tmp_path / "receiptd.db-spool").mkdir()
    result = run("spool", "status")
    assert result.exit_code == 0
    assert "the spool is empty" in result.stdout


def test_a_database_of_another_version_is_told_how_to_mend(store):
    with store.engine.begin() as connection:
        connection.exec_driver_sql("DELETE FROM alembic_version")
    result = run("receipts", "list")
    assert result.exit_code == 1
    assert "run receiptd db upgrade" in result.stderr


def test_what_is_no_database_is_one_line(tmp_path):
    (tmp_path / "receiptd.db").write_bytes(b"this is no database, whatever its name says" * 99)
    result = run("receipts", "list")
    assert result.exit_code == 1
    assert result.stderr.count("\n") == 1
    assert "not a database" in result.stderr


@pytest.mark.parametrize("what", ["receipts", "rejected"])
def test_nothing_found_is_said_and_is_valid_json(store, what):
    result = run(what, "list")
    assert (result.exit_code, result.stdout) == (0, "")
    assert result.stderr.startswith("no re")
    result = run(what, "list", "--json")
    assert json.loads(result.stdout) == []
    narrow = run(what, "list", "--since", "1h")
    assert "fewer filters" in narrow.stderr


def test_receipts_come_newest_first_twenty_in_a_table_and_all_in_json(store):
    store.outcomes(*(receipt(f"m{number:02}") for number in range(25)))
    result = run("receipts", "list")
    header, *lines = result.stdout.splitlines()
    assert header.split() == [
        *("id", "received", "message", "state", "recipient", "verdict"),
    ]
    assert [line.split()[3] for line in lines] == [f"m{n:02}" for n in range(24, 4, -1)]
    assert result.stderr == "the newest 20; more with --limit N\n"
    everything = run("receipts", "list", "--limit", "25")
    assert (len(everything.stdout.splitlines()), everything.stderr) == (26, "")
    items = json.loads(run("receipts", "list", "--json").stdout)
    assert [item["id"] for item in items] == list(range(25, 0, -1))
    assert len(json.loads(run("receipts", "list", "--json", "--limit", "3").stdout)) == 3


def test_filters_reach_the_query(store):
    store.outcomes(
        receipt("a", recipient="+44 7700 900001"),
        receipt("b", state=State.EXPIRED, reference="order 9"),
        receipt("c", kind=Kind.SENT, endpoint="cdyne", provider="cdyne", recipient="7572373369"),
    )

    def found(*filters):
        result = run("receipts", "list", "--json", *filters)
        assert result.exit_code == 0, result.output
        return [item["message_id"] for item in json.loads(result.stdout)]

    assert found("--recipient", "00447700900001") == ["a"]
    assert found("--state", "expired") == ["b"]
    assert found("--state", "EXPIRED", "--state", "DELIVERED") == ["c", "b", "a"]
    assert found("--reference", "order 9") == ["b"]
    assert found("--kind", "sent") == ["c"]
    assert found("--provider", "cdyne", "--endpoint", "cdyne") == ["c"]
    assert found("--message-id", "B") == ["b"]
    assert found("--verdict", "accepted", "--since", "1h") == ["c", "b", "a"]
    assert found("--until", "1h") == []


def test_a_table_in_a_pipe_is_aligned_whole_and_without_tabs(store):
    long = "x" * 120
    store.outcomes(receipt(long), receipt("short"))
    header, first, second = run("receipts", "list").stdout.splitlines()
    assert first.index("short") == second.index(long) == header.index("message")
    assert first.index("DELIVERED") == second.index("DELIVERED") == header.index("state")
    assert "\t" not in header + first + second


def test_a_narrow_terminal_loses_nothing(store):
    long = "abcdefghij" * 12
    store.outcomes(receipt(long, recipient="447700912345"))
    shown, code = on_terminal("receipts", "list", columns=40)
    assert code == 0
    assert long in shown
    assert "447700912345" in shown
    assert "…" not in shown


def test_what_a_post_carries_cannot_control_the_terminal(store):
    evil = "a\x1b[2Jb\x9bc\nd[red]\u202e"
    store.outcomes(receipt(evil, recipient=None, raw=b"raw \x1b[2J\r\nnext\tline"))
    escaped = "a\\x1b[2Jb\\x9bc\\nd[red]\\u202e"
    listed = run("receipts", "list")
    assert escaped in listed.stdout
    shown = run("receipts", "show", "1")
    assert "raw \\x1b[2J\n    next" in shown.stdout
    terminal, _ = on_terminal("receipts", "list", columns=200)
    assert escaped in terminal
    text = run("receipts", "list", "--json").stdout
    assert all(character.isprintable() or character == "\n" for character in text)
    assert json.loads(text)[0]["message_id"] == evil


def test_json_is_readable_where_the_encoding_allows_and_valid_where_not(store):
    store.outcomes(receipt("Kézbesítve"))
    assert "Kézbesítve" in process("receipts", "list", "--json").stdout
    plain = process("receipts", "list", "--json", env={"PYTHONIOENCODING": "ascii"})
    assert json.loads(plain.stdout)[0]["message_id"] == "Kézbesítve"
    assert plain.stdout.isascii()
    table = process("receipts", "list", env={"PYTHONIOENCODING": "ascii"})
    assert (table.returncode, "K\\xe9zbes" in table.stdout) == (0, True)


def test_a_reader_that_stops_early_is_no_failure_worth_a_traceback(store):
    store.outcomes(*(receipt(f"m{n}", raw=b"x" * 1000) for n in range(450)))
    # A process from its very beginning: what Python says at its end is the matter.
    child = subprocess.Popen(
        [sys.executable, "-m", "receiptd", "receipts", "list", "--json"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment(),
    )
    assert child.stdout is not None
    assert child.stderr is not None
    with child:
        child.stdout.readline()
        child.stdout.close()
        assert child.stderr.read() == b""


def test_show_tells_all_of_a_receipt(store):
    store.outcomes(
        receipt("4A2E3C10", description="Accepted by phone", extra={"campaign": "spring"})
    )
    by_number = run("receipts", "show", "1")
    assert by_number.stdout == run("receipts", "show", "4a2e3c10").stdout
    (item,) = json.loads(run("receipts", "show", "1", "--json").stdout)
    (listed,) = json.loads(run("receipts", "list", "--json").stdout)
    assert item == listed
    lines = [line.split(None, 1) for line in by_number.stdout.splitlines()]
    assert lines[0] == ["receipt", "1"]
    assert {line[0] for line in lines[1:-1]} == set(item) - {"id"}
    assert ["message_id", "4A2E3C10"] in lines
    assert ["extra", "campaign = spring"] in lines
    assert ["sender", "-"] in lines
    assert lines[-1] == ["raw"]


def test_show_tells_every_receipt_of_a_message_oldest_first(store):
    store.outcomes(
        receipt("m", code="-4", state=State.ENROUTE),
        receipt("other"),
        receipt("M", code="0"),
        receipt("reply", kind=Kind.REPLY, linked_id="m", provider="cdyne", endpoint="cdyne"),
    )
    result = run("receipts", "show", "m")
    heads = [line for line in result.stdout.splitlines() if line.startswith("receipt ")]
    assert heads == ["receipt 1", "receipt 3", "receipt 4"]
    items = json.loads(run("receipts", "show", "m", "--json").stdout)
    assert [item["id"] for item in items] == [1, 3, 4]
    items = json.loads(run("receipts", "show", "m", "--json", "--provider", "cdyne").stdout)
    assert [item["id"] for item in items] == [4]


def test_show_says_what_it_did_not_find(store):
    result = run("receipts", "show", "nothing")
    assert result.exit_code == 1
    assert result.stderr == "no receipt has the number or the message identifier 'nothing'\n"
    assert run("rejected", "show", "5").exit_code == 1


def test_rejected_posts_are_listed_and_shown(store):
    store.put(rejection("Report is 'x': a whole number was expected"))
    store.put(rejection("wrong", reason="unauthorized", raw=b"<PIN>***</PIN>"))
    result = run("rejected", "list", "--wide")
    assert "Report is 'x': a whole number was expected" in result.stdout
    header, *lines = result.stdout.splitlines()
    assert header.startswith("id  received (UTC)        endpoint  reason ")
    assert [line.split()[3] for line in lines] == [
        "unauthorized",
        "invalid",
    ]
    (item,) = json.loads(run("rejected", "list", "--json", "--reason", "unauthorized").stdout)
    assert item["raw"] == "<PIN>***</PIN>"
    shown = run("rejected", "show", "2")
    assert "rejected post 2" in shown.stdout
    assert "    <PIN>***</PIN>" in shown.stdout


def test_a_receipt_is_read_back_while_the_server_runs(serve):
    server = serve(CSOFT)
    body = (SAMPLES / "csoft-v5-unqualified.xml").read_bytes()
    assert b"<Report>0</Report>" in post(server.port, body).body
    options = ("--config", str(server.config), "--database", f"sqlite:///{server.database}")
    listed = process("receipts", "list", "--json", *options)
    (item,) = json.loads(listed.stdout)
    assert (item["message_id"], item["state"], item["code"]) == ("4A2E3C10", "ENROUTE", "-4")
    shown = process("receipts", "show", "4a2e3c10", *options)
    assert "447700912345" in shown.stdout
    assert "BLUE.music" not in shown.stdout
    assert server.process.poll() is None


def test_the_environment_names_the_database_for_reading_too(store, tmp_path):
    store.outcomes(receipt("m"))
    url = f"sqlite:///{tmp_path / 'receiptd.db'}"
    result = process("receipts", "list", cwd="/", env={"RECEIPTD_STORE__URL": url})
    assert result.stdout.splitlines()[1].split()[3] == "m"


def test_easysms_url_prints_a_template_that_the_configuration_takes(tmp_path):
    printed = run("easysms-url", "https://dlr.example.com/easysms?token=t").stdout.strip()
    assert printed.startswith("https://dlr.example.com/easysms?token=t&id=%i&d=%d&")
    (tmp_path / "receiptd.toml").write_text(
        '[[endpoint]]\nprovider = "easysms"\npath = "/easysms"\ntoken = "t"\n'
        f'dlr_url = "{printed}"\n'
    )
    (tmp_path / "receiptd.toml").chmod(0o600)
    checked = run("check-config")
    assert checked.exit_code == 0
    assert "warning" not in checked.output


def test_easysms_url_wants_a_url():
    done = run("easysms-url", "dlr.example.com")
    assert done.exit_code == 2
    assert "'dlr.example.com' is no URL such as https://dlr.example.com" in done.stderr
