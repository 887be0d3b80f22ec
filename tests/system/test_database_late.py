"""A server that starts while its database does not answer, and one whose database never will."""

from __future__ import annotations

import re
import socket
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import create_engine, make_url
from sqlalchemy.exc import OperationalError

from kit.api import call
from kit.command_line import execute
from kit.server import stored, wait_until
from kit.store import Store, receipt
from kit.wire import get, post
from receiptd.store.database.connection import WriterConnection
from receiptd.store.database.engine import open_engine
from receiptd.store.database.errors import StoreAway, StoreError, may_pass
from receiptd.store.database.late_database import LateDatabase
from receiptd.store.database.migrating import revision, upgrade
from receiptd.store.schema import REVISION

ENVELOPE = (
    b'<e:Envelope xmlns:e="http://schemas.xmlsoap.org/soap/envelope/"><e:Body>'
    b"<SubmitDeliveryReceipt><MessageIdentifier>%s</MessageIdentifier><Report>0</Report>"
    b"</SubmitDeliveryReceipt></e:Body></e:Envelope>"
)
MESSAGES = "/api/v1/messages"


def acknowledged(server, message_id):
    body = post(server.port, ENVELOPE % message_id.encode()).body
    return b"<Report>0</Report>" in body


def degraded(server):
    """How many times the log says that the database does not store."""
    return server.log.count("the database does not store")


@pytest.mark.parametrize("workers", [1, 2])
def test_a_server_starts_without_its_database_and_has_all_once_that_is_there(
    serve, own_postgresql, workers
):
    url = own_postgresql.url(own_postgresql.new_database())  # no table in it yet
    own_postgresql.stop()
    server = serve(options=("--database", url, "--workers", str(workers)))
    assert acknowledged(server, "M0")
    answer = get(server.port, "/readyz")
    assert answer.status == 200
    assert "degraded since" in answer.text
    assert "receiptd_degraded 1.0" in get(server.port, "/metrics", server.bearer).text
    for path, method, body in (
        ("/api/v1/receipts", "GET", None),
        (f"{MESSAGES}/csoft/M0", "GET", None),
        (MESSAGES, "POST", [{"provider": "csoft", "message_id": "M0"}]),
    ):
        reply = call(server, path, method, body)
        assert (reply.status, reply.headers["retry-after"]) == (503, "5"), path
    expected = [f"M{number}" for number in range(50)]
    assert all(acknowledged(server, each) for each in expected[1:])
    # Each process says it once, however many posts and questions come.
    assert degraded(server) == workers
    assert server.log.count("the database does not answer: connection") == workers
    own_postgresql.start()
    wait_until(lambda: get(server.port, "/readyz").text == "ready\n", "the spool is drained")
    message = {"provider": "csoft", "message_id": "after"}
    # Another worker may have another second to go.
    wait_until(lambda: call(server, MESSAGES, "POST", [message]).status == 200, "it registers")
    wait_until(lambda: len(stored(url)) >= len(expected), "every worker's spool is drained")
    found = stored(url)
    assert sorted(found) == sorted(expected)
    if workers == 1:
        assert found == expected
        assert server.log.count("made a new database") == 1
    assert acknowledged(server, "after")
    assert degraded(server) == workers
    assert server.stop() == 0


def test_a_server_killed_and_started_while_its_database_is_away_loses_nothing(
    serve, own_postgresql
):
    url = own_postgresql.url(own_postgresql.new_database())
    server = serve(options=("--database", url))
    assert acknowledged(server, "before")
    own_postgresql.stop()
    for number in range(3):
        assert acknowledged(server, f"M{number}")
        server.kill()
        server.start()
    assert acknowledged(server, "last")
    own_postgresql.start()
    wait_until(lambda: get(server.port, "/readyz").text == "ready\n", "the spool is drained")
    assert stored(url) == ["before", "M0", "M1", "M2", "last"]


def test_the_service_manager_is_told_that_it_serves_and_how(
    serve, own_postgresql, tmp_path, monkeypatch
):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.settimeout(20)
        # Not of this process: `environment` is taken when the server is started.
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        url = own_postgresql.url(own_postgresql.new_database())
        own_postgresql.stop()
        serve(options=("--database", url))
        told = manager.recv(4096).decode().splitlines()
    assert told[0] == "READY=1"
    assert "degraded: 0 posts wait in the spool" in told[1]


def test_a_database_that_takes_connections_and_says_nothing_is_awaited(serve):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        url = f"postgresql://nobody@127.0.0.1:{port}/none?connect_timeout=2"
        server = serve(options=("--database", url))
        assert acknowledged(server, "M")
        assert degraded(server) == 1


def test_a_host_whose_name_is_not_known_is_awaited(serve):
    # Where containers come and go, so do their names.
    server = serve(options=("--database", "postgresql://nobody@nowhere.invalid/none"))
    assert acknowledged(server, "M")
    assert "failed to resolve host 'nowhere.invalid'" in server.log
    assert degraded(server) == 1


def test_a_new_sqlite_database_on_a_full_disk_is_awaited(serve, small_disk, tmp_path):
    disk = small_disk(1024 * 1024)
    filler = disk / "filler"
    with filler.open("wb", buffering=0) as file:
        try:
            while file.write(bytes(4096)):
                pass
        except OSError:
            pass
    server = serve(
        f'[store]\nspool = "{tmp_path / "spool"}"\n',
        options=("--database", f"sqlite:///{disk / 'receipts.db'}"),
    )
    assert acknowledged(server, "M")
    assert degraded(server) == 1
    filler.unlink()
    wait_until(lambda: get(server.port, "/readyz").text == "ready\n", "the spool is drained")
    assert stored(f"sqlite:///{disk / 'receipts.db'}") == ["M"]
    assert server.stop() == 0


def test_a_sqlite_database_that_is_to_be_migrated_and_is_locked_is_awaited(serve, tmp_path):
    file = tmp_path / "receipts.db"
    with closing(sqlite3.connect(file, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        server = serve(options=("--database", f"sqlite:///{file}?timeout=0.3"))
        assert acknowledged(server, "M")
        assert degraded(server) == 1
        other.execute("ROLLBACK")
    wait_until(lambda: get(server.port, "/readyz").text == "ready\n", "the spool is drained")
    assert stored(f"sqlite:///{file}") == ["M"]


# --- What nobody needs to wait for


@pytest.fixture
def guest(own_postgresql):
    """The URL of a role that has a password."""
    engine = create_engine(own_postgresql.url(), isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.exec_driver_sql("CREATE ROLE guest LOGIN PASSWORD 'right-one'")
        file = Path(connection.exec_driver_sql("SHOW hba_file").scalar_one())
        rules = file.read_text()
        file.write_text("local all guest scram-sha-256\n" + rules)
        connection.exec_driver_sql("SELECT pg_reload_conf()")
    url = make_url(own_postgresql.url()).set(username="guest", password="right-one")
    wait_until(lambda: not connects(url.set(password="wrong-one")), "the rules are in force")
    assert connects(url)
    yield url
    file.write_text(rules)
    with engine.connect() as connection:
        connection.exec_driver_sql("DROP ROLE guest")
        connection.exec_driver_sql("SELECT pg_reload_conf()")
    engine.dispose()


def connects(url):
    engine = create_engine(url)
    try:
        engine.connect().close()
    except Exception:
        return False
    finally:
        engine.dispose()
    return True


def refused(folder, url, *options):
    """The one line that `receiptd serve` says as it ends."""
    done = execute(
        *("serve", "--listen", "tcp:0:interface=127.0.0.1", "--database", url, *options),
        cwd=folder,
    )
    assert done.returncode == 1, done.stderr
    (line,) = (
        line for line in done.stderr.splitlines() if not re.match(r"\S+Z (?!CRITICAL|ERROR)", line)
    )
    return line


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_wrong_password_ends_the_start(guest, tmp_path, workers):
    url = guest.set(password="wrong-one").render_as_string(hide_password=False)
    line = refused(tmp_path, url, "--workers", workers)
    assert 'password authentication failed for user "guest"' in line
    assert "wrong-one" not in line


def test_no_password_ends_the_start(guest, tmp_path):
    line = refused(tmp_path, guest._replace(password=None).render_as_string())
    assert "no password supplied" in line
    assert "PGPASSFILE" in line, "it says what to do"


def test_no_such_database_ends_the_start(guest, tmp_path):
    url = guest.set(database="nowhere").render_as_string(hide_password=False)
    assert 'database "nowhere" does not exist' in refused(tmp_path, url)


def test_a_role_that_may_not_make_tables_ends_the_start_and_is_told_what_to_do(guest, tmp_path):
    line = refused(tmp_path, guest.render_as_string(hide_password=False))
    assert "permission denied for schema public" in line
    assert "receiptd db upgrade" in line
    assert "right-one" not in line


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("no url at all", "store.url: "),
        ("mysql://h/d", "expected sqlite:///FILE or postgresql+psycopg://"),
        ("postgresql://127.0.0.1:1/d?sslmode=nonsense", 'invalid sslmode value: "nonsense"'),
        ("postgresql://127.0.0.1:1/d?nonsense=1", 'invalid connection option "nonsense"'),
    ],
)
def test_a_url_that_can_never_do_ends_the_start(tmp_path, url, says):
    assert says in refused(tmp_path, url)


def test_an_empty_database_that_is_not_to_be_migrated_ends_the_start(
    new_postgresql_database, tmp_path
):
    (tmp_path / "receiptd.toml").write_text("[store]\nmigrate = false\n")
    assert "run receiptd db upgrade" in refused(tmp_path, new_postgresql_database())


@pytest.mark.parametrize(
    ("text", "passes"),
    [
        ("connection failed: Connection refused", True),
        ("FATAL:  the database system is starting up", True),
        ("FATAL:  the database system is shutting down", True),
        ("FATAL:  sorry, too many clients already", True),
        ("connection timeout expired", True),
        ("FATAL:  Passwort-Authentifizierung für Benutzer »guest« fehlgeschlagen", True),
        ('FATAL:  password authentication failed for user "guest"', False),
        ('FATAL:  role "nobody" does not exist', False),
        ('FATAL:  no pg_hba.conf entry for host "192.0.2.1"', False),
        ("server does not support SSL, but SSL was required", False),
    ],
)
def test_why_a_connection_was_not_made(text, passes):
    assert may_pass(OperationalError("", (), Exception(text))) is passes


# --- What is found out later


def awaited(url, prepare):
    engine = open_engine(url)
    found = LateDatabase(url, prepare, StoreAway("it was away"))
    found.writes(engine)
    reader = open_engine(url, writes=False)
    found.reads(reader)
    return engine, reader, found


def test_nobody_reads_or_writes_before_the_database_is_prepared(tmp_path):
    url = f"sqlite:///{tmp_path / 'r.db'}"
    engine, reader, found = awaited(url, upgrade)
    with pytest.raises(StoreAway, match="it was away"):
        reader.connect()
    assert WriterConnection(engine).transact(lambda _: revision(open_engine(url))) == REVISION
    assert found.error is None
    reader.connect().close()
    reader.dispose()
    engine.dispose()


def test_what_is_wrong_for_good_is_said_when_it_is_found_out_and_posts_go_on(
    tmp_path, monkeypatch
):
    from twisted.logger import formatEvent, globalLogPublisher

    monkeypatch.setattr("receiptd.store.spool.fallback.PACE", 0.01)
    asked, trouble = [], [StoreError("the database is at revision 9999: upgrade receiptd")]

    def prepare(engine):
        asked.append(engine)
        if len(asked) > 5 and trouble:
            raise trouble[0]
        if trouble:
            raise StoreAway("it is away")
        upgrade(engine)

    said = []

    def observe(event):
        said.append(formatEvent(event))

    globalLogPublisher.addObserver(observe)
    try:
        engine, _, _ = awaited(f"sqlite:///{tmp_path / 'r.db'}", prepare)
        store = Store(engine)
        assert store.writer.backlog.since is not None, "from the first post on"
        assert store.outcomes(receipt("A")) == ["accepted"]
        wait_until(lambda: len(asked) > 20, "it is tried again and again")
        assert [text.partition(". What")[0] for text in said] == [
            "the database does not store: it was away",
            "the database does not store: the database is at revision 9999: upgrade receiptd",
        ]
        trouble.clear()
        wait_until(lambda: store.writer.backlog.since is None, "the spool is drained")
        assert [row.message_id for row in store.receipts()] == ["A"]
        store.writer.stop()
        engine.dispose()
    finally:
        globalLogPublisher.removeObserver(observe)
