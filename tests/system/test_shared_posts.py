"""A post with many reports, from the provider to every reader: one server, its commands, its
API and an application behind it; with the database away, a `kill -9` and a restart between."""

from __future__ import annotations

import csv
import io
import json
import re
import sqlite3
from base64 import b64decode
from contextlib import closing
from pathlib import Path

from kit.api import call, items
from kit.command_line import run
from kit.receiver import SECRET, Receiver, receiver
from kit.server import Server, locked, wait_until
from kit.wire import post

README = Path(__file__).parents[2] / "README.md"

REPORTS = 20
CONFIG = f"""
[[endpoint]]
provider = "generic"
as = "acme"
path = "/acme"
each = "results"
fields = {{ message_id = "id" }}

[[forward]]
name = "app"
url = "{{url}}"
secret = "{SECRET}"
raw = true
"""


def body(prefix: str) -> str:
    """Twenty reports in 52 kB."""
    each = [{"id": f"{prefix}{number}", "note": "x" * 2570} for number in range(REPORTS)]
    return json.dumps({"results": each})


def sent(server: Server, text: str) -> None:
    assert post(server.port, text.encode(), "/acme", "application/json").status == 200


def selected(server: Server, query: str) -> list[str]:
    """Posts that a query gives in its last column, read as anybody does who has SQL."""
    with closing(sqlite3.connect(f"file:{server.database}?mode=ro", uri=True)) as connection:
        return [row[-1].decode() for row in connection.execute(query)]


def raws(app: Receiver) -> dict[int, str]:
    """The posts of which the application was told, by the ids of their receipts."""
    told = [event["data"]["receipt"] for request in app.requests for event in request.events]
    return {each["id"]: b64decode(each["raw"]).decode() for each in told}


def test_all_reports_of_a_post_have_it_wherever_they_are_read(serve, tmp_path):
    impatient = f"sqlite:///{tmp_path / 'server' / 'receipts.db'}?timeout=0.2"
    with receiver() as app:
        server = serve(
            CONFIG.replace("{url}", app.url),
            folder=tmp_path / "server",
            options=("--database", impatient),
        )
        first, second = body("A"), body("B")
        sent(server, first)
        with locked(server):
            sent(server, second)
            (spooled,) = (server.folder / "receipts.db-spool").glob("*.spool")
            assert spooled.stat().st_size < 3 * len(second)
            server.kill()
        server.start()
        wait_until(lambda: len(server.receipts()) == 2 * REPORTS, "what was spooled is stored")
        sent(server, second)
        assert selected(server, "SELECT raw FROM posts ORDER BY id") == [first, second]
        expected = [first] * REPORTS + [second] * REPORTS
        assert [each["raw"] for each in server.receipts()] == expected
        (query,) = re.findall(r"```sql\n(SELECT r.id, .*?)\n```", README.read_text())
        assert selected(server, f"{query} ORDER BY r.id") == expected
        assert [each["repeats"] for each in server.receipts()] == [0] * REPORTS + [1] * REPORTS
        assert [each["raw"] for each in items(server, "/api/v1/receipts?limit=1000")][::-1] == (
            expected
        )
        assert call(server, f"/api/v1/receipts/{REPORTS + 1}").json["raw"] == second
        wait_until(lambda: len(raws(app)) == 2 * REPORTS, "the application is told of all")
        told = raws(app)
        assert [told[number] for number in sorted(told)] == expected
        url = ("--database", f"sqlite:///{server.database}")
        assert second in run("receipts", "show", "B7", *url).stdout
        lines = run("receipts", "export", "--format", "ndjson", "--raw", *url).stdout.splitlines()
        assert [json.loads(line)["raw"] for line in lines] == expected
        table = run("receipts", "export", "--format", "csv", "--raw", "--raw-csv", *url).stdout
        assert [row["raw"] for row in csv.DictReader(io.StringIO(table))] == expected
        assert server.stop() == 0
