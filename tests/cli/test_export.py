"""Taking receipts away: all of them into a file, and each as it comes."""

from __future__ import annotations

import csv
import io
import itertools
import json
import re
import signal
import sys
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from uuid import uuid4

import pytest
from sqlalchemy import create_engine, make_url

from kit.command_line import peak_memory, run, start
from kit.server import wait_until
from kit.soap import MINIMAL
from kit.store import Store, new_engine, receipt
from kit.terminal import on_terminal
from kit.wire import post
from receiptd.cli.exporting import COLUMNS
from receiptd.message import Message
from receiptd.receipt import Kind, State
from receiptd.store.spool.folder import Spool


def fill(store: Store, count: int) -> None:
    for first in range(0, count, 500):
        numbers = range(first, min(first + 500, count))
        store.put(*([receipt(f"m{number}", raw=b"x" * 500)] for number in numbers))


def listed() -> list[dict]:
    """What `receipts list --json` says, oldest first."""
    return json.loads(run("receipts", "list", "--json").stdout)[::-1]


# --- export

HOSTILE = [
    receipt('comma, "quote"', description="two\nlines\r\nand\rmore", text=" space "),
    receipt("Kézbesítve \u2028\x85 \x1b[2J", extra={"a": "b,\n", "ü": ["1", '"']}),
    receipt("=1+1", price=Decimal("13.90"), reported_at=None, code=None, recipient=None, part=3),
    receipt("reply", kind=Kind.REPLY, linked_id="m", raw="é".encode("latin-1")),
]


def test_csv_gives_back_what_is_stored(store):
    store.outcomes(*HOSTILE)
    result = run("receipts", "export", "--raw-csv")
    assert (result.exit_code, result.stderr) == (0, "")
    reader = csv.DictReader(io.StringIO(result.stdout_bytes.decode(), newline=""), strict=True)
    rows = list(reader)
    assert reader.fieldnames == [name for name in COLUMNS if name != "raw"]
    for row, item in zip(rows, listed(), strict=True):
        assert json.loads(row.pop("extra")) == item.pop("extra")
        del item["raw"]
        assert row == {name: "" if value is None else str(value) for name, value in item.items()}


def test_ndjson_gives_back_what_is_stored_in_one_line_each(store):
    store.outcomes(*HOSTILE)
    result = run("receipts", "export", "--format", "ndjson")
    text = result.stdout_bytes.decode()
    assert "Kézbesítve" in text
    assert len(text.splitlines()) == len(HOSTILE), "no line ends but ours, of any kind"
    items = [json.loads(line) for line in text.splitlines()]
    assert items == [{k: v for k, v in item.items() if k != "raw"} for item in listed()]


@pytest.mark.parametrize("layout", ["csv", "ndjson"])
def test_the_posts_themselves_come_if_asked_for(store, layout):
    store.outcomes(receipt("A", raw=b"<PIN>***</PIN>"))
    text = run("receipts", "export", "--format", layout, "--raw").stdout
    if layout == "csv":
        (item,) = csv.DictReader(io.StringIO(text))
    else:
        item = json.loads(text)
    assert item["raw"] == "<PIN>***</PIN>"
    assert tuple(item) == COLUMNS == tuple(listed()[0])


def test_nothing_to_export_is_a_header(store):
    assert run("receipts", "export").stdout.startswith("id,received_at,endpoint,provider,")
    assert run("receipts", "export", "--format", "ndjson").stdout == ""


def test_filters_reach_the_query(store):
    store.outcomes(receipt("a"), receipt("b", state=State.EXPIRED), receipt("c"))

    def found(*filters: str) -> list[str]:
        result = run("receipts", "export", "--format", "ndjson", *filters)
        return [json.loads(line)["message_id"] for line in result.stdout.splitlines()]

    assert found() == ["a", "b", "c"]
    assert found("--state", "EXPIRED") == found("--message-id", "B") == ["b"]
    assert found("--since", "1h", "--provider", "csoft") == ["a", "b", "c"]
    assert found("--until", "1h") == []
    assert run("receipts", "export", "--limit", "1").exit_code == 2


@pytest.mark.parametrize(
    ("name", "first"),
    [
        ("x.csv", "id,"),
        ("x.ndjson", '{"id"'),
        ("x.jsonl", '{"id"'),
        ("x.JSON", '[\n{"id"'),
    ],
)
def test_a_file_is_written_as_its_name_says(store, tmp_path, name, first):
    store.outcomes(receipt("A"))
    result = run("receipts", "export", "--output", name)
    said = f"1 receipts in {tmp_path / name}\n"
    assert (result.exit_code, result.stdout, result.stderr) == (0, "", said)
    assert (tmp_path / name).read_text().startswith(first)
    assert not list(tmp_path.glob(".*.part"))


def test_a_link_stays_one(store, tmp_path):
    (tmp_path / "latest.csv").symlink_to(tmp_path / "today.csv")
    run("receipts", "export", "--output", "latest.csv")
    assert (tmp_path / "latest.csv").is_symlink()
    assert (tmp_path / "today.csv").read_text().startswith("id,")


def test_an_export_that_is_killed_leaves_the_file_that_was_there(store, tmp_path):
    fill(store, 20_000)
    (tmp_path / "x.csv").write_text("the one of yesterday")
    child = start("receipts", "export", "--output", "x.csv")
    wait_until(lambda: list(tmp_path.glob(".x.csv.*.part")), "it has begun")
    child.kill()
    child.communicate()
    assert (tmp_path / "x.csv").read_text() == "the one of yesterday"


def test_what_is_no_ordinary_file_is_written_to_and_not_replaced(store):
    store.outcomes(receipt("A"))
    child = start("receipts", "export", "--output", "/dev/stdout")
    out, _ = child.communicate(timeout=60)
    assert (child.returncode, out.count(b"\n")) == (0, 2)


@pytest.mark.skipif(sys.platform != "linux", reason="has no /dev/full")
def test_a_full_disk_is_told(store):
    store.outcomes(receipt("A"))
    result = run("receipts", "export", "--output", "/dev/full")
    assert result.exit_code == 1
    assert result.stderr == "/dev/full: cannot be written: No space left on device\n"


def test_a_folder_that_is_not_there_is_told(store, tmp_path):
    result = run("receipts", "export", "--output", "no/where.csv")
    assert result.exit_code == 1
    assert (
        result.stderr == f"{tmp_path}/no/where.csv: cannot be written: No such file or directory\n"
    )


def test_a_reader_that_stops_early_is_no_failure_worth_a_traceback(store):
    fill(store, 5_000)
    child = start("receipts", "export")
    child.stdout.readline()
    child.stdout.close()
    assert child.stderr.read() == b""
    child.wait(60)


def test_memory_does_not_grow_with_what_is_exported(store):
    fill(store, 1_000)
    little = peak_memory("receipts", "export")
    fill(store, 50_000)
    much = peak_memory("receipts", "export")
    assert len(run("receipts", "export").stdout.splitlines()) == 50_001
    assert much < little + 8 * 1024 * 1024


def test_a_terminal_shows_how_far_it_is_unless_the_receipts_go_there(store):
    fill(store, 1_000)
    shown, code = on_terminal("receipts", "export", "--output", "x.csv", columns=100)
    assert code == 0
    assert "exporting" in shown
    assert re.search(r"1000 receipts in \S+/x\.csv", shown)
    both, _ = on_terminal("receipts", "export", columns=100)
    assert "exporting" not in both


# --- tail


class Tail:
    """A `receipts tail` in a process of its own."""

    def __init__(self, folder, *arguments: str) -> None:
        self.output = folder / f"tail-{uuid4()}"
        with self.output.open("wb") as output:
            self.process = start("receipts", "tail", *arguments, stdout=output)

    def lines(self, count: int) -> list[str]:
        """What it has printed, once that is so many lines."""

        def printed() -> list[str] | None:
            lines = self.output.read_text().splitlines()
            return lines if len(lines) >= count else None

        return wait_until(printed, f"tail prints {count} lines")

    def interrupt(self) -> tuple[int, str]:
        """Ctrl-C; its exit code and what it said on standard error."""
        self.process.send_signal(signal.SIGINT)
        _, errors = self.process.communicate(timeout=20)
        return self.process.returncode, errors.decode()


@pytest.fixture
def tail(tmp_path):
    """Starts tails; they are gone at the test's end."""
    started = []

    def begin(*arguments: str) -> Tail:
        started.append(Tail(tmp_path, *arguments))
        return started[-1]

    yield begin
    for each in started:
        each.process.kill()
        each.process.communicate()


def test_tail_prints_what_a_running_server_receives(serve, tail):
    server = serve()
    for name in ("A", "B", "C"):
        post(server.port, MINIMAL % name.encode())
    tailing = tail("--json", "-n", "2", "--database", f"sqlite:///{server.database}")
    names = [json.loads(line)["message_id"] for line in tailing.lines(2)]
    assert names == ["B", "C"]
    for name in ("D", "E"):
        post(server.port, MINIMAL % name.encode())
    lines = tailing.lines(4)
    assert [json.loads(line) for line in lines] == server.receipts()[1:]
    server.stop()
    server.start()
    post(server.port, MINIMAL % b"F")
    assert json.loads(tailing.lines(5)[4])["message_id"] == "F"
    assert tailing.interrupt() == (0, "")


def test_tail_prints_a_table_of_what_fits(store, tail):
    store.outcomes(receipt("early"), receipt("x" * 60, state=State.EXPIRED))
    tailing = tail("--state", "EXPIRED")
    header, first = tailing.lines(2)
    assert header.split()[:3] == ["id", "received", "message"]
    store.outcomes(receipt("other"), receipt("late", state=State.EXPIRED))
    late = tailing.lines(3)[2]
    assert (first.split()[3], late.split()[3]) == ("x" * 60, "late")
    assert first.index("EXPIRED") == late.index("EXPIRED")
    assert tailing.interrupt()[0] == 0


def test_tail_begins_where_it_is_told(store, tail):
    store.outcomes(*(receipt(f"m{number:02}") for number in range(12)))
    ten = tail()
    assert [line.split()[3] for line in ten.lines(11)[1:]] == [f"m{n:02}" for n in range(2, 12)]
    none = tail("-n", "0", "--json")
    numbers = itertools.count()

    def came() -> str:
        store.outcomes(receipt(f"new{next(numbers)}"))
        return none.output.read_text()

    assert json.loads(wait_until(came, "it prints").splitlines()[0])["message_id"][:3] == "new"


def test_tail_survives_a_database_that_does_not_answer(new_postgresql_database, tail, tmp_path):
    url = new_postgresql_database(migrated=True)
    name = make_url(url).database
    engine = new_engine(url)
    store = Store(engine, spool=Spool(tmp_path / "spool"))
    store.outcomes(receipt("before"))
    tailing = tail("--json", "--database", url)
    tailing.lines(1)

    server = create_engine(make_url(url).set(database="postgres"), isolation_level="AUTOCOMMIT")
    with server.connect() as connection:
        connection.exec_driver_sql(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS false')
        connection.exec_driver_sql(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", (name,)
        )
        assert b"does not answer" in tailing.process.stderr.readline()
        connection.exec_driver_sql(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS true')
    store.outcomes(receipt("after"))
    assert json.loads(tailing.lines(2)[1])["message_id"] == "after"
    assert tailing.interrupt() == (0, "the database answers again\n")
    store.writer.stop()
    engine.dispose()
    server.dispose()


# --- prune


def test_prune_deletes_what_is_old_and_says_how_much(tmp_path):
    engine = new_engine(f"sqlite:///{tmp_path / 'receiptd.db'}")
    days = [datetime.now(UTC) - timedelta(days=10)]
    store = Store(engine, spool=Spool(tmp_path / "spool"), now=lambda: days[0])
    store.outcomes(receipt("old"), receipt("older"))
    days[0] = datetime.now(UTC)
    store.outcomes(receipt("new"))

    dry = run("prune", "--older-than", "7d", "--dry-run", "--json")
    assert json.loads(dry.stdout)["receipts"] == 2
    assert len(store.receipts()) == 3
    result = run("prune", "--older-than", "1w", "--yes")
    assert result.stdout.startswith("deleted what is from before ")
    assert result.stdout.endswith(": 2 receipts, 0 rejected posts, 0 messages\n")
    assert [row.message_id for row in store.receipts()] == ["new"]

    days[0] = datetime.now(UTC) - timedelta(days=10)
    store.register(Message("csoft", "lost", None))
    assert run("prune", "--older-than", "7d", "--yes").stdout.endswith(" 0 messages\n")
    assert run("prune", "--older-than", "7d", "--unfinished", "--yes").stdout.endswith(
        " 1 messages\n"
    )
    assert store.messages() == []
    store.writer.stop()
    engine.dispose()


def test_prune_takes_the_age_from_the_configuration_or_wants_to_be_told(store, tmp_path):
    refused = run("prune")
    assert refused.exit_code == 2
    assert "--older-than" in refused.stderr
    (tmp_path / "receiptd.toml").write_text('[store]\nkeep = "180d"\n')
    assert run("prune", "--yes").exit_code == 0
    assert run("prune", "--older-than", "0d").exit_code == 2
    assert run("prune", "--older-than", "ages").exit_code == 2
