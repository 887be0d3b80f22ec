"""Those who only read: a user who may not write SQLite's files, a role that may only SELECT."""

from __future__ import annotations

import os
import pwd
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from sqlalchemy import create_engine, make_url

from kit.command_line import run
from kit.soap import envelope, new_id
from kit.wire import post

READS = [
    ("receipts", "list"),
    ("receipts", "export", "--format", "ndjson"),
    ("message", "list"),
    ("rejected", "list"),
    ("forward", "status"),
]


@contextmanager
def as_nobody() -> Iterator[None]:
    """Meanwhile this process is nobody's; what it imports, it has imported as root."""
    os.seteuid(pwd.getpwnam("nobody").pw_uid)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder of root's, in which others may read."""
    folder = Path(tempfile.mkdtemp(prefix="receiptd-read-"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_a_user_who_may_only_read_sqlites_files_reads(serve, folder):
    server = serve(folder=folder / "server")
    name = new_id()
    post(server.port, envelope(name, username=None, pin=None))
    url = ("--database", f"sqlite:///{server.database}")

    def let_others_read() -> None:
        for each in Path(server.database).parent.glob(f"{Path(server.database).name}*"):
            each.chmod(0o644 if each.is_file() else 0o755)

    let_others_read()
    for command in READS:
        run(*command, *url)  # imports as root
    for state in ("the server runs", "the server has ended", "the server runs again"):
        if "ended" in state:
            server.stop()
        if "again" in state:
            server.start()
            post(server.port, envelope(new_id(), username=None, pin=None))
        let_others_read()
        with as_nobody():
            for command in READS:
                result = run(*command, *url)
                assert result.exit_code == 0, (state, command, result.stderr)
            exported = run("receipts", "export", "--format", "ndjson", *url).stdout
            refused = run("prune", "--older-than", "1d", "--yes", *url)
        assert name in exported
        assert len(exported.splitlines()) == (2 if "again" in state else 1), state
        assert refused.exit_code == 1
        assert "not writable by user nobody" in refused.stderr


def test_a_role_that_may_only_select_reads(serve, new_postgresql_database):
    url = new_postgresql_database()
    server = serve("", options=("--database", url))
    name = new_id()
    post(server.port, envelope(name, username=None, pin=None))
    role = f"reader_{new_id().lower()}"
    _grant(url, role, "SELECT")
    reads = make_url(url).set(username=role).render_as_string(hide_password=False)
    for command in READS:
        result = run(*command, "--database", reads)
        assert result.exit_code == 0, (command, result.stderr)
    exported = run("receipts", "export", "--format", "ndjson", "--database", reads).stdout
    assert name in exported
    refused = run("prune", "--older-than", "0.001s", "--yes", "--database", reads)
    assert refused.exit_code != 0
    assert "Traceback" not in refused.output
    server.stop()
    _drop(url, role)


def test_a_role_without_rights_to_the_schema_serves(serve, new_postgresql_database):
    url = new_postgresql_database(migrated=True)
    role = f"writer_{new_id().lower()}"
    _grant(url, role, "SELECT, INSERT, UPDATE, DELETE", sequences=True)
    writes = make_url(url).set(username=role).render_as_string(hide_password=False)
    server = serve("[store]\nmigrate = false\n", options=("--database", writes))
    name = new_id()
    assert b"<Report>0</Report>" in post(server.port, envelope(name, username=None, pin=None)).body
    assert name in run("receipts", "list", "--json", "--database", writes).stdout
    assert run("message", "add", "csoft", name, "--database", writes).exit_code == 0
    assert run("prune", "--older-than", "1d", "--yes", "--database", writes).exit_code == 0
    assert server.stop() == 0
    _drop(url, role)


def _grant(url: str, role: str, rights: str, *, sequences: bool = False) -> None:
    statements = [
        f"CREATE ROLE {role} LOGIN",
        f"GRANT USAGE ON SCHEMA public TO {role}",
        f"GRANT {rights} ON ALL TABLES IN SCHEMA public TO {role}",
    ]
    if sequences:
        statements.append(f"GRANT USAGE ON ALL SEQUENCES IN SCHEMA public TO {role}")
    _execute(url, *statements)


def _drop(url: str, role: str) -> None:
    _execute(url, f"DROP OWNED BY {role}", f"DROP ROLE {role}")


def _execute(url: str, *statements: str) -> None:
    engine = create_engine(url, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        for statement in statements:
            connection.exec_driver_sql(statement)
    engine.dispose()
