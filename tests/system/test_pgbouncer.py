"""Behind PgBouncer in transaction mode everything works as on PostgreSQL itself, also by TLS."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import create_engine, text

from kit.api import call
from kit.certificates import Authority
from kit.command_line import run
from kit.load import Load
from kit.pgbouncer import PROGRAM, PgBouncer
from kit.server import stored, wait_until
from kit.soap import envelope, new_id
from kit.store import Store, new_engine, receipt
from kit.wire import get, post
from receiptd.store.database.postgresql import STATEMENT_TIMEOUT
from receiptd.store.retention import Elsewhere, Pruning

pytestmark = pytest.mark.skipif(PROGRAM is None, reason="PgBouncer is not installed")


@pytest.fixture
def database(new_postgresql_database) -> str:
    return new_postgresql_database()


@pytest.fixture
def pgbouncer(database) -> Iterator[PgBouncer]:
    started = PgBouncer(database)
    yield started
    started.stop()


def test_posts_registrations_and_reads_go_on_and_nothing_is_spooled(serve, database, pgbouncer):
    servers = [serve("", options=("--database", pgbouncer.url)) for _ in range(2)]
    loads = [Load(server.port, clients=4) for server in servers]
    for number in range(40):
        message = {"provider": "seeme", "message_id": f"M{number}", "recipient": "447700900123"}
        server = servers[number % 2]
        assert call(server, "/api/v1/messages", "POST", message).status == 200
        assert call(server, "/api/v1/receipts?limit=3").status == 200
    for load in loads:
        wait_until(lambda load=load: len(load.acknowledged) > 300, "many posts are taken")
        load.stop()
    # The loads post the same names: what comes a second time is known already.
    acknowledged = sorted({name for load in loads for name in load.acknowledged})
    assert sorted(stored(database)) == acknowledged
    for server in servers:
        assert get(server.port, "/readyz").body == b"ready\n"
        assert not re.findall(r"Z (?:WARN|ERROR|CRITICAL) .*", server.log)


def test_every_transaction_has_its_settings_and_leaves_none_behind(database, pgbouncer):
    engine = new_engine(pgbouncer.url)
    asks = text("SELECT current_setting('timezone'), current_setting('statement_timeout')")
    try:
        for _ in range(8):  # more than the driver runs before it prepares a statement
            with engine.begin() as first, engine.connect().execution_options(reads=True) as second:
                for connection in (first, second):
                    zone, limit = connection.execute(asks).one()
                    assert (zone, limit) == ("UTC", f"{STATEMENT_TIMEOUT:.0f}s")
                    assert not connection.scalar(
                        text("SELECT count(*) FROM pg_prepared_statements")
                    )
    finally:
        engine.dispose()
    other = create_engine(pgbouncer.url)
    with other.connect() as connection:
        assert connection.execute(asks).one() == ("Asia/Kolkata", "0")
    other.dispose()


def test_what_is_old_is_deleted_by_one_at_a_time(pgbouncer):
    engine = new_engine(pgbouncer.url)
    tomorrow = datetime.now(UTC) + timedelta(days=1)
    met: list[str] = []
    store = Store(engine)
    store.outcomes(receipt("A"))
    store.writer.stop()

    def another(*_: object) -> None:
        with pytest.raises(Elsewhere):
            Pruning(engine, tomorrow).run()
        met.append("another")

    assert Pruning(engine, tomorrow).run(another).receipts == 1
    assert met
    # The lock went with its transaction, although the server's sessions go on.
    Pruning(engine, tomorrow).run()
    engine.dispose()


def test_the_certificate_of_the_server_is_verified(serve, tmp_path, database):
    folder = tmp_path / "certificates"
    folder.mkdir()
    ours, other = Authority(folder), Authority(folder, "another authority")
    pgbouncer = PgBouncer(database, tls=ours.issue("localhost", "server"))
    try:
        verified = {"sslmode": "verify-full", "sslrootcert": str(ours.file)}
        server = serve("", options=("--database", pgbouncer.url_with_tls(**verified)))
        assert (
            b"<Report>0</Report>"
            in post(server.port, envelope(new_id(), username=None, pin=None)).body
        )
        assert len(stored(database)) == 1
        for wrong, says in (
            ({"sslrootcert": str(other.file)}, "certificate verify failed"),
            ({"host": "db.example"}, 'does not match host name "db.example"'),
        ):
            url = pgbouncer.url_with_tls(**verified | wrong)
            refused = run("receipts", "list", "--database", url)
            assert refused.exit_code == 1
            assert says in refused.stderr
    finally:
        pgbouncer.stop()
