"""The HTTP API of several servers on one PostgreSQL, and while that does not answer."""

from __future__ import annotations

import pytest
from sqlalchemy import create_engine, make_url

from kit.api import call, deliver, items, register, watch
from kit.server import wait_until

MESSAGES = "/api/v1/messages"
RECEIPTS = "/api/v1/receipts"

SOAP = '[[endpoint]]\nprovider = "csoft"\npath = "/soap"\nmatch = "always"\n'


@pytest.fixture
def database(new_postgresql_database):
    """A new database."""
    return new_postgresql_database()


@pytest.fixture
def servers(serve, database):
    """Two servers on it."""
    return [serve(SOAP, options=("--database", database)) for _ in range(2)]


def test_what_one_server_takes_another_shows(servers):
    one, other = servers
    with watch(other) as events:
        deliver(one, "A1", phone="447700900001")
        assert events.event().data == call(other, f"{RECEIPTS}/1").json
        deliver(other, "A2")
        assert events.event().data["verdict"] == "unknown-message"
    register(
        other,
        {"provider": "csoft", "message_id": "A1", "recipient": "447700900001", "parts": 1},
        {"provider": "csoft", "message_id": "A1", "recipient": "447700900002"},
    )
    shown = call(one, f"{MESSAGES}/csoft/a1").json
    assert (shown["state"], shown["delivered"], shown["parts"]) == ("ENROUTE", 1, 2)
    assert [each["verdict"] for each in shown["receipts"]] == ["accepted"]
    assert [each["recipient"] for each in items(one, f"{MESSAGES}?final=false&until=0s")] == [
        "447700900002"
    ]
    assert [each["id"] for each in items(one, f"{RECEIPTS}?verdict=unknown-message")] == [2]
    assert [each["id"] for each in items(other, f"{RECEIPTS}?message_id=A1&since=1h")] == [1]
    assert [each["id"] for each in items(other, f"{RECEIPTS}?limit=1")] == [2, 1]
    assert items(one, f"{RECEIPTS}?reference=%F0%9F%98%80") == []
    deliver(one, "A1", report="")
    assert [each["field"] for each in items(other, "/api/v1/rejected?reason=invalid")] == [
        "Report"
    ]


def test_while_the_database_does_not_answer_clients_are_told_to_come_again(servers, database):
    server, _ = servers
    name = make_url(database).database
    admin = create_engine(
        make_url(database).set(database="postgres"), isolation_level="AUTOCOMMIT"
    )

    def allow(connections):
        with admin.connect() as connection:
            connection.exec_driver_sql(f"ALTER DATABASE {name} ALLOW_CONNECTIONS {connections}")
            if not connections:
                connection.exec_driver_sql(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                    f"WHERE datname = '{name}'"
                )

    with watch(server) as events:
        deliver(server, "A1")
        assert events.event().id == 1
        allow(False)
        for path in (RECEIPTS, f"{RECEIPTS}/1", f"{MESSAGES}/csoft/A1", f"{RECEIPTS}/stream"):
            reply = call(server, path)
            assert reply.status == 503
            assert reply.headers["retry-after"] == "5"
            assert "the database does not answer" in reply.problem["detail"]
        allow(True)
        assert wait_until(lambda: call(server, RECEIPTS).status == 200, "it answers again")
        deliver(server, "A2")
        assert events.event().data["message_id"] == "A2"
    admin.dispose()
