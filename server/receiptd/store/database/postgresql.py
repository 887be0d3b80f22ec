"""What receiptd asks of PostgreSQL's sessions, directly or through a connection pooler.

A pooler in transaction mode (PgBouncer's `pool_mode = transaction`) gives each transaction to
another session of the server. So what a session knows, such as a setting or a prepared statement,
is not there in the next transaction, or is there for somebody else. Behind a pooler receiptd
therefore prepares nothing, and sets what it needs in each transaction.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, CursorResult, Engine, event

from receiptd.store.database.revision import ANY, QUERY, check

STATEMENT_TIMEOUT = 10.0
"""Seconds that PostgreSQL may take for a statement of those who write, another process's turn
included, unless the role, the database or the URL's `options` say otherwise."""

_TURN = 7251930846
"""The key of PostgreSQL's advisory lock for writing; any number nobody else uses."""

_POOLED = "receiptd-pooled"
"""The entry of a connection's `info` that says whether there is a pooler."""


def prepare_sessions(engine: Engine, *, writes: bool) -> None:
    """Have all connections of `engine` speak UTC; with `writes` their statements also have a
    limit of time, and transactions that write come one after the other."""

    def connected(connection: Any, record: Any) -> None:
        record.info[_POOLED] = _behind_pooler(connection)
        if record.info[_POOLED]:
            connection.prepare_threshold = None
        else:
            # In the server's own zone, times of the first and of the last year could not be read.
            connection.execute("SET timezone = 'UTC'")
            if writes:
                connection.execute(_limit(local=False))
        connection.commit()

    def begins(connection: Connection) -> None:
        options = connection.get_execution_options()
        takes_turn = writes and not options.get("reads")
        statements = []  # each gives a row: behind one that does not, no further result is read
        if connection.info.get(_POOLED):
            statements.append("SELECT set_config('timezone', 'UTC', true)")
            if writes:
                statements.append(_limit(local=True))
        if takes_turn and options.get("patient"):
            statements.append("SELECT set_config('statement_timeout', '0', true)")
        if takes_turn:
            statements.append(f"SELECT pg_advisory_xact_lock({_TURN})")
        checks = takes_turn and not options.get(ANY)
        if checks:
            # A statement of its own: one sees the database as it was before it waited.
            statements.append(QUERY)
        if statements:
            result = connection.exec_driver_sql("; ".join(statements))  # one round trip
            if checks:
                check(_last_rows(result), connection.engine.url)

    event.listen(engine, "connect", connected)
    event.listen(engine, "begin", begins)


def _last_rows(result: CursorResult[Any]) -> Sequence[Any]:
    """What the last of several statements gives."""
    cursor: Any = result.cursor
    while cursor.nextset():
        pass
    rows: Sequence[Any] = cursor.fetchall()
    result.close()
    return rows


def _limit(*, local: bool) -> str:
    """Sets the limit of time where nobody has; `local`: for the transaction alone."""
    return (
        f"SELECT set_config('statement_timeout', '{STATEMENT_TIMEOUT * 1000:.0f}', {local}) "
        "WHERE current_setting('statement_timeout') = '0'"
    )


def _behind_pooler(connection: Any) -> bool:
    """Whether a pooler stands between. It does not pass on the server process's number, which is
    part of the key to cancel a query, but makes up a key of its own (PgBouncer: "cancel_key")."""
    (process,) = connection.execute("SELECT pg_backend_pid()").fetchone()
    return bool(process != connection.info.backend_pid)
