"""Opening the database: durability settings, migrations, locks, and errors that help."""

from __future__ import annotations

import os

import pytest
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import text

from kit.store import on_sqlite
from receiptd.store.database.engine import check_file, open_engine, parse
from receiptd.store.database.errors import StoreError
from receiptd.store.database.migrating import require, revision, upgrade
from receiptd.store.database.postgresql import STATEMENT_TIMEOUT
from receiptd.store.database.server_lock import ServerLock, open_lock
from receiptd.store.phone import e164
from receiptd.store.schema import REVISION, metadata


def pragma(engine, name):
    with engine.connect() as connection:
        return connection.exec_driver_sql(f"PRAGMA {name}").scalar()


@on_sqlite
def test_sqlite_commits_to_disk(engine):
    assert pragma(engine, "journal_mode") == "wal"
    assert pragma(engine, "synchronous") == 2, "FULL"


@pytest.mark.parametrize(
    "url",
    [
        "postgresql+psycopg://u:geheim@127.0.0.1:1/d?connect_timeout=3",
        "postgresql+psycopg://u@127.0.0.1:1/d?connect_timeout=3&password=geheim",
        "postgresql:///d?host=127.0.0.1&port=1&user=u&connect_timeout=3&password=geheim",
    ],
)
def test_a_password_is_used_and_not_shown_wherever_it_stands(url):
    engine = open_engine(url)
    assert engine.dialect.create_connect_args(engine.url)[1]["password"] == "geheim"
    with pytest.raises(StoreError) as error:
        upgrade(engine)
    assert "does not answer" in str(error.value)
    assert "geheim" not in str(error.value)
    assert "geheim" not in str(parse(url))


def test_the_password_of_a_clients_key_is_used_and_not_shown():
    engine = open_engine(
        "postgresql://u@127.0.0.1:1/d?connect_timeout=3&sslpassword=geheim&application_name=a"
    )
    assert engine.dialect.create_connect_args(engine.url)[1]["sslpassword"] == "geheim"
    with pytest.raises(StoreError) as error:
        upgrade(engine)
    assert "?application_name=a&connect_timeout=3: the database does not answer" in str(
        error.value
    )
    assert "geheim" not in str(error.value)


def test_the_newest_migration_is_the_one_the_schema_names():
    config = Config()
    config.set_main_option("script_location", "receiptd:store/migrations")
    assert ScriptDirectory.from_config(config).get_current_head() == REVISION


@pytest.mark.filterwarnings("ignore:Skipped unsupported reflection")
def test_migrations_make_the_tables_that_the_schema_describes(engine):
    assert revision(engine) == REVISION
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        differences = compare_metadata(context, metadata)
    ours = [each for each in differences if each[0] != "remove_index"]
    assert ours == [], "the indexes on expressions are made by the migrations alone"


def test_upgrading_twice_changes_nothing(engine):
    assert upgrade(engine) == REVISION


def test_a_database_of_a_newer_receiptd_is_refused(engine):
    with engine.begin() as connection:
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = '9999'")
    text = r"at revision 9999.*a newer receiptd has used it; upgrade receiptd"
    with pytest.raises(StoreError, match=text) as no:
        upgrade(engine)
    assert "db upgrade" not in str(no.value), "no command of this version mends it"


def test_an_empty_database_is_named_with_the_command_that_fills_it(tmp_path):
    engine = open_engine(f"sqlite:///{tmp_path / 'empty.db'}")
    with pytest.raises(StoreError, match=r"empty.*receiptd db upgrade"):
        require(engine)


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda folder: folder / "missing" / "r.db", "no such folder"),
        (lambda folder: folder, "is a folder"),
    ],
)
def test_a_file_that_cannot_be_is_said_plainly(tmp_path, make, says):
    with pytest.raises(StoreError, match=says):
        check_file(f"sqlite:///{make(tmp_path)}", create=True)


def test_a_file_that_is_no_database_is_said_plainly(tmp_path):
    file = tmp_path / "r.db"
    file.write_text("this is a letter, not a database, and quite a long one at that" * 20)
    with pytest.raises(StoreError, match="file is not a database"):
        upgrade(open_engine(f"sqlite:///{file}"))


def test_a_folder_that_may_not_be_written_is_said_plainly(tmp_path, monkeypatch):
    # The tests may run as root, to whom nothing is forbidden.
    monkeypatch.setattr("os.access", lambda path, mode, **options: False)
    with pytest.raises(StoreError, match="not writable"):
        check_file(f"sqlite:///{tmp_path / 'r.db'}", create=True)


def test_a_file_that_cannot_be_made_is_said_plainly():
    # Nobody makes files there, root included.
    with pytest.raises(StoreError, match=r"^/proc/r\.db: cannot be made: No such file"):
        upgrade(open_engine("sqlite:////proc/r.db"))


def test_reading_does_not_make_a_file(tmp_path):
    with pytest.raises(StoreError, match=r"no such database.*receiptd db upgrade"):
        check_file(f"sqlite:///{tmp_path / 'r.db'}", create=False)


def test_one_server_at_a_time(tmp_path):
    url = f"sqlite:///{tmp_path / 'r.db'}"
    first, second = ServerLock(url), ServerLock(url)
    first.take()
    with pytest.raises(StoreError, match=rf"r\.db: another receiptd \(process {os.getpid()}\)"):
        second.take()
    first.release()
    second.take()
    second.release()


@pytest.mark.parametrize(
    ("number", "region", "key"),
    [
        ("447700912345", None, "447700912345"),
        ("+44 7700 912345", None, "447700912345"),
        ("00447700912345", None, "447700912345"),
        ("(+44) 7700-912345", None, "447700912345"),
        ("7572373369", "US", "17572373369"),
        ("17572373369", "US", "17572373369"),
        ("+1 757-237-3369", "US", "17572373369"),
        ("(757) 237-3369", "US", "17572373369"),
        ("447700912345", "US", "447700912345"),
        ("0117 496 0123", "GB", "441174960123"),
        ("06 1234 5678", "IT", "390612345678"),
        ("74121", None, "74121"),
    ],
)
def test_phone_numbers_compare_as_e164(number, region, key):
    assert e164(number, region) == key


@given(
    st.text("0123456789 +-()", min_size=1, max_size=30),
    st.sampled_from([None, "US", "GB", "IT"]),
)
def test_a_number_compares_as_digits_whatever_it_is(number, region):
    key = e164(number, region)
    assert key == "" or key.isdigit()
    assert e164(key, None) == key or key.startswith("00")


def test_a_new_database_is_not_for_everybody_to_read(tmp_path):
    file = tmp_path / "r.db"
    upgrade(open_engine(f"sqlite:///{file}"))
    assert file.stat().st_mode & 0o007 == 0


@pytest.mark.parametrize("before", [None, 0o644], ids=["a new one", "one of an older version"])
def test_nobody_else_can_lock_what_servers_lock(tmp_path, before):
    path = tmp_path / "receipts.db-lock"
    if before is not None:
        path.touch()
        path.chmod(before)
    with open_lock(path):
        assert path.stat().st_mode & 0o777 == 0o600


def test_a_limit_of_time_that_others_have_set_stays(new_postgresql_database):
    url = new_postgresql_database(migrated=True)
    asks = text("SELECT current_setting('statement_timeout')")

    def limits() -> tuple[object, ...]:
        engine = open_engine(url)
        with engine.begin() as usual:
            found = [usual.scalar(asks)]
        with engine.execution_options(patient=True).begin() as patient:
            found.append(patient.scalar(asks))
        engine.dispose()
        return tuple(found)

    assert limits() == (f"{STATEMENT_TIMEOUT:.0f}s", "0")
    engine = open_engine(url)
    with engine.begin() as connection:
        name = engine.url.database
        connection.execute(text(f"ALTER DATABASE {name} SET statement_timeout = '3s'"))
    engine.dispose()
    assert limits() == ("3s", "0")
