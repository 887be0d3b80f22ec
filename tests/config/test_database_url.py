"""A PostgreSQL URL and its password: read in one way only, and shown nowhere."""

from __future__ import annotations

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import create_engine, text

from receiptd.cli import main
from receiptd.config import ConfigError, exposed, find, load
from receiptd.config.database_url import mistake, password_of, with_password
from receiptd.store.database.engine import open_engine, parse
from receiptd.store.database.errors import shown


@pytest.fixture(autouse=True)
def _folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def run(*arguments, **options):
    return CliRunner().invoke(main, arguments, prog_name="receiptd", **options)


@pytest.mark.parametrize(
    "url",
    [
        "postgresql+psycopg://u:x7q@y8k@h/d",
        "postgresql+psycopg://u:x7q@y8k:z9w/v6t@h/d",
        "postgresql://u:@x7qy8k@h:5432/d",
        "postgresql://u:x7q?y8k@h/d",
        "postgresql://u:x7qy8k/d",
        "postgresql://h:x7qy8k",
        "postgresql://u:x@h?x7qy8k@h/d",
        "postgresql://u:x@h:x7qy8k/d",
    ],
)
@pytest.mark.parametrize("command", [["check-config"], ["serve"], ["receipts", "list"]])
def test_a_password_that_is_not_encoded_is_refused_and_no_part_of_it_is_shown(command, url):
    result = run(*command, "--database", url)
    assert result.exit_code == 1
    for piece in ("x7q", "y8k", "z9w", "v6t"):
        assert piece not in result.output
    assert "%40" in result.stderr
    assert "store.password_file" in result.stderr
    assert isinstance(result.exception, SystemExit)


@pytest.mark.parametrize(
    "url",
    [
        "postgresql+psycopg://u:p%40s%3As%2Fw@h/d",
        "postgresql://u:p:s/w@h/d",
        "postgresql://postgres:@/d?host=/tmp/x",
        "postgresql://[::1]:5432/d",
        "postgresql:///d",
        "postgresql://u@h/d?sslmode=require&sslpassword=x",
        "postgresql://h/d?host=a:1&host=b:2",
    ],
)
def test_a_url_that_can_be_read_in_one_way_only_is_taken(url):
    assert mistake(url) is None
    parse(url)


@given(
    password=st.text(
        st.characters(exclude_categories=("Cs",), exclude_characters="\0\n\r"),
        min_size=1,
        max_size=60,
    )
)
def test_any_password_comes_out_of_a_file_as_it_was_written(tmp_path_factory, password):
    file = tmp_path_factory.mktemp("password") / "file"
    file.write_bytes(password.encode() + b"\nanother line")
    url = with_password("postgresql+psycopg://u@h/d", file)
    assert mistake(url) is None
    assert password_of(url)
    assert parse(url).password == password.removeprefix("\ufeff")
    assert shown(parse(url)) == "postgresql+psycopg://u:***@h/d"


def test_a_password_file_stands_beside_the_configuration_file(tmp_path, monkeypatch):
    (tmp_path / "etc").mkdir()
    file = tmp_path / "etc" / "receiptd.toml"
    file.write_text('[store]\nurl = "postgresql://u@h/d"\npassword_file = "secret"\nspool = "s"\n')
    (tmp_path / "etc" / "secret").write_text("p@s:s/w\n")
    (tmp_path / "etc" / "secret").chmod(0o600)
    config = load(file)
    assert parse(config.store.url).password == "p@s:s/w"
    assert config.store.spool == str(tmp_path / "etc" / "s")
    assert exposed(find(file), config) is None
    (tmp_path / "etc" / "secret").chmod(0o644)
    assert "secret holds a password and every user can read it" in str(exposed(file, config))
    result = run("check-config", "--config", str(file))
    assert "p@s" not in result.output
    assert f"spool:         {tmp_path}/etc/s\n" in result.stdout


def test_a_spool_that_an_earlier_version_made_stays_in_use(tmp_path):
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc" / "receiptd.toml").write_text('[store]\nspool = "s"\n')
    (tmp_path / "s").mkdir()
    assert load(tmp_path / "etc" / "receiptd.toml").store.spool == str(tmp_path / "s")


@pytest.mark.parametrize(
    ("url", "content", "says"),
    [
        ("postgresql://u@h/d", None, "cannot be read by user"),
        ("postgresql://u@h/d", "", "its first line must be the password"),
        ("postgresql://u@h/d", "x" * 5000, "is longer than 4096 bytes"),
        ("postgresql://u:p@h/d", "x", "store.url has a password already"),
        ("sqlite:///x.db", "x", "only a PostgreSQL database has a password"),
    ],
)
def test_a_password_file_that_cannot_be_used_is_named(tmp_path, url, content, says):
    if content is not None:
        (tmp_path / "secret").write_text(content)
    file = tmp_path / "receiptd.toml"
    file.write_text(f'[store]\nurl = "{url}"\npassword_file = "secret"\n')
    with pytest.raises(ConfigError, match=f"store.password_file: .*{says}"):
        load(file)


def test_a_password_among_the_parameters_is_shown_nowhere(tmp_path):
    url = (
        "postgresql://u@h/d?password=geheim&password=geheim2&sslpassword=geheim&SSLPassword=geheim"
    )
    assert "geheim" not in shown(parse(url))
    assert "geheim" not in run("check-config", "--database", url).output


def test_a_real_database_takes_the_password_of_the_file(new_postgresql_database, tmp_path):
    url = new_postgresql_database()
    engine = create_engine(url, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(text("DROP ROLE IF EXISTS stumbler"))
        connection.execute(text("CREATE ROLE stumbler LOGIN PASSWORD 'p@s:s/w%41'"))
        connection.execute(text(f"GRANT ALL ON DATABASE {engine.url.database} TO stumbler"))
        connection.execute(text("GRANT ALL ON SCHEMA public TO stumbler"))
        try:
            (tmp_path / "secret").write_text("p@s:s/w%41\n")
            (tmp_path / "secret").chmod(0o600)
            own = engine.url.set(username="stumbler", password=None)
            file = tmp_path / "receiptd.toml"
            file.write_text(
                f'[store]\nurl = "{own.render_as_string(False)}"\npassword_file = "secret"\n'
            )
            file.chmod(0o600)
            made = run("db", "upgrade", "--config", str(file))
            assert made.exit_code == 0, made.output
            assert ": made, at revision" in made.stdout
            assert "p@s" not in made.output
            reader = open_engine(load(file).store.url, writes=False)
            assert reader.url.password == "p@s:s/w%41"
            reader.dispose()
        finally:
            connection.execute(text("DROP OWNED BY stumbler"))
            connection.execute(text("DROP ROLE stumbler"))
    engine.dispose()
