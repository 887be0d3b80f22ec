"""The configuration: what is read from where, and errors that name file, key and remedy."""

from __future__ import annotations

import os
import re
import tomllib
from typing import NamedTuple

import pytest
from pydantic import BaseModel, SecretStr

from receiptd import providers
from receiptd.cli.template import template
from receiptd.config import (
    Api,
    ApiToken,
    Basic,
    Config,
    ConfigError,
    Endpoint,
    Logging,
    Server,
    Store,
    Tls,
    describe,
    find,
    load,
)
from receiptd.receipt import State

CSOFT = '[[endpoint]]\nprovider = "csoft"\npath = "/soap"\n'


@pytest.fixture(autouse=True)
def _folder(tmp_path, monkeypatch):
    """A working directory of its own, and an environment without receiptd's variables."""
    monkeypatch.chdir(tmp_path)
    for name in list(os.environ):
        if name.upper().startswith("RECEIPTD_"):
            monkeypatch.delenv(name)


@pytest.fixture
def written(tmp_path):
    """Writes a configuration file."""

    def write(text):
        file = tmp_path / "some.toml"
        file.write_text(text)
        return file

    return write


def complaint(*arguments, **options):
    with pytest.raises(ConfigError) as caught:
        load(*arguments, **options)
    return str(caught.value)


def test_without_a_file_every_provider_is_served_on_loopback():
    config = load()
    assert config.server.listen == ["tcp:8080:interface=127.0.0.1"]
    assert config.store.url == "sqlite:///receiptd.db"
    kinds = providers.load()
    served = [name for name, kind in kinds.items() if kind.by_default]
    assert [each.provider for each in config.endpoint] == served
    assert set(kinds) - set(served) == {"generic"}, "which is nothing without configuration"
    assert not any(each.authenticated for each in config.endpoint)


def test_the_file_is_the_named_one_else_the_environments_else_the_one_here(
    tmp_path, monkeypatch, written
):
    assert find() is None
    (tmp_path / "receiptd.toml").write_text("")
    assert find() == tmp_path / "receiptd.toml"
    monkeypatch.setenv("RECEIPTD_CONFIG", "/etc/other.toml")
    assert str(find()) == "/etc/other.toml"
    file = written("")
    assert find(file) == file


def test_a_files_endpoints_replace_the_default_ones(written):
    (endpoint,) = load(written(CSOFT)).endpoint
    assert (endpoint.provider, endpoint.path, endpoint.name) == ("csoft", "/soap", "soap")


def test_one_secret_and_several_are_read_alike(written):
    file = written(CSOFT + 'pin = ["old", "new"]\ntoken = "t"\n')
    (endpoint,) = load(file).endpoint
    assert [pin.get_secret_value() for pin in endpoint.pin] == ["old", "new"]
    assert [token.get_secret_value() for token in endpoint.token] == ["t"]


@pytest.mark.parametrize(
    "empty",
    [
        'username = ""\npin = ""\ntoken = ""',
        'pin = [""]\ntoken = ["", ""]\nusername = " "',
        'basic = { username = "", password = "" }',
    ],
)
def test_an_empty_credential_is_none(written, empty):
    (endpoint,) = load(written(CSOFT + empty)).endpoint
    assert not endpoint.authenticated


def test_codes_take_states_in_any_case(written):
    (endpoint,) = load(written(CSOFT + 'codes = { "99" = "expired" }')).endpoint
    assert endpoint.codes == {"99": State.EXPIRED}
    assert endpoint.bind().state("99") is State.EXPIRED


def test_networks_may_be_single_addresses(written):
    (endpoint,) = load(written(CSOFT + 'networks = ["192.0.2.7", "2001:db8::/32"]')).endpoint
    assert [str(each) for each in endpoint.networks] == ["192.0.2.7/32", "2001:db8::/32"]


def test_a_file_of_a_windows_editor_is_read(tmp_path):
    file = tmp_path / "bom.toml"
    file.write_bytes(b"\xef\xbb\xbf[server]\r\nmax_body = 2048\r\n")
    assert load(file).server.max_body == 2048


class Wrong(NamedTuple):
    """A row of the table of mistakes."""

    label: str
    toml: str
    says: str
    """What the one line says behind the file's name."""


MISTAKES = [
    Wrong("table", "[sever]\nx = 1", "sever: unknown key: did you mean 'server'?"),
    Wrong(
        "table far off",
        "[x]\ny = 1",
        "x: unknown key: expected one of server, store, log, api, console, endpoint, forward",
    ),
    Wrong("key", "[store]\nurll = 'x'", "store.urll: unknown key: did you mean 'url'?"),
    Wrong("place", "queue = 1", "queue: unknown key here: it belongs in [store]"),
    Wrong("place of endpoint", "pin = '1'", "pin: unknown key here: it belongs in [[endpoint]]"),
    Wrong(
        "endpoint key",
        CSOFT + "pni = 'geheim'",
        "endpoint 1.pni: unknown key: did you mean 'pin'?",
    ),
    Wrong(
        "whole number",
        "[store]\nqueue = 'many'",
        'store.queue: expected a whole number, not "many"',
    ),
    Wrong(
        "number as text", "[store]\nqueue = '7'", 'store.queue: expected a whole number, not "7"'
    ),
    Wrong("fraction", "[store]\nqueue = 1.5", "store.queue: expected a whole number, not 1.5"),
    Wrong("boolean", "[store]\nmigrate = 'no'", 'store.migrate: expected true or false, not "no"'),
    Wrong("too small", "[store]\nqueue = 0", "store.queue: expected at least 1, not 0"),
    Wrong(
        "too large",
        "[server]\nmax_body = 99999999",
        "server.max_body: expected at most 16777216, not 99999999",
    ),
    Wrong("text", "[store]\nurl = 7", "store.url: expected text in quotes"),
    Wrong("no table", "server = 5", "server: expected a table"),
    Wrong(
        "bare port",
        "[server]\nlisten = '8080'",
        "server.listen: '8080' is no Twisted endpoint description: did you mean 'tcp:8080'?",
    ),
    Wrong(
        "host and port",
        "[server]\nlisten = ['tcp:1', '0.0.0.0:80']",
        "server.listen: '0.0.0.0:80' is no Twisted endpoint description: "
        "did you mean 'tcp:80:interface=0.0.0.0'?",
    ),
    Wrong("no address", "[server]\nlisten = []", "server.listen: expected at least 1, not 0"),
    Wrong(
        "public URL",
        "[server]\npublic_url = 'dlr.example.com'",
        "server.public_url: expected an absolute URL without query, "
        "such as https://dlr.example.com",
    ),
    Wrong(
        "a path for a URL",
        "[store]\nurl = 'receipts.db'",
        "store.url: 'receipts.db' is no URL: did you mean 'sqlite:///receipts.db'?",
    ),
    Wrong(
        "other database",
        "[store]\nurl = 'mysql://root:geheim@h/d'",
        "store.url: expected sqlite:///FILE or postgresql+psycopg://USER:PASSWORD@HOST/DATABASE",
    ),
    Wrong(
        "memory",
        "[store]\nurl = 'sqlite://'",
        "store.url: a database in memory would lose receipts: name a file, "
        "such as sqlite:///receiptd.db",
    ),
    Wrong(
        "two slashes",
        "[store]\nurl = 'sqlite://receipts.db'",
        "store.url: expected three slashes before a file, as in sqlite:///receiptd.db, and four "
        "before an absolute path, as in sqlite:////var/lib/receiptd/receipts.db",
    ),
    Wrong(
        "one endpoint in single brackets",
        "[endpoint]\nprovider = 'csoft'",
        "endpoint: expected at least one table [[endpoint]], in double brackets",
    ),
    Wrong(
        "no endpoint",
        "endpoint = []",
        "endpoint: expected at least one table [[endpoint]], in double brackets",
    ),
    Wrong(
        "provider",
        "[[endpoint]]\nprovider = 'csfot'\npath = '/x'",
        "endpoint 1.provider: no provider is called 'csfot': did you mean 'csoft'?",
    ),
    Wrong(
        "path",
        "[[endpoint]]\nprovider = 'csoft'\npath = 'x'",
        "endpoint 1.path: 'x' is no path such as /soap: expected a slash, then letters, digits "
        "and . _ ~ - between slashes",
    ),
    Wrong(
        "path upwards",
        "[[endpoint]]\nprovider = 'csoft'\npath = '/a/../b'",
        "endpoint 1.path: '/a/../b' is no path such as /soap: expected a slash, then letters, "
        "digits and . _ ~ - between slashes",
    ),
    Wrong(
        "our path",
        "[[endpoint]]\nprovider = 'csoft'\npath = '/api/soap'",
        "endpoint 1.path: /api is receiptd's own: choose another path",
    ),
    Wrong("no path", "[[endpoint]]\nprovider = 'csoft'", "endpoint 1.path: is missing"),
    Wrong(
        "same path",
        CSOFT + CSOFT + "name = 'other'",
        "endpoint 2.path: endpoint 1 has the path '/soap' already: each needs its own",
    ),
    Wrong(
        "same name",
        CSOFT + "[[endpoint]]\nprovider = 'csoft'\npath = '/b'\nname = 'soap'",
        "endpoint 2.name: endpoint 1 has the name 'soap' already: each needs its own",
    ),
    Wrong("digits of a PIN", CSOFT + "pin = 4711", "endpoint 1.pin 1: expected text in quotes"),
    Wrong(
        "network",
        CSOFT + "networks = ['10.0.0.1/8']",
        "endpoint 1.networks 1: '10.0.0.1/8' names an address and not a network: "
        "did you mean '10.0.0.0/8'?",
    ),
    Wrong(
        "no network",
        CSOFT + "networks = 'here'",
        "endpoint 1.networks 1: 'here' is no IP network: expected one such as 192.0.2.0/24 or "
        "2001:db8::/32",
    ),
    Wrong(
        "time zone",
        CSOFT + "timezone = 'Europe/Roma'",
        "endpoint 1.timezone: no time zone is called 'Europe/Roma': did you mean 'Europe/Rome'?",
    ),
    Wrong(
        "region",
        CSOFT + "region = 'UK'",
        "endpoint 1.region: 'UK' is no country code of ISO 3166: did you mean 'GB'?",
    ),
    Wrong(
        "state",
        CSOFT + "codes = { '99' = 'DELIVRED' }",
        "endpoint 1.codes.99: 'DELIVRED' is no state: did you mean 'DELIVERED'?",
    ),
    Wrong(
        "choice",
        CSOFT + "match = 'sometimes'",
        "endpoint 1.match: expected 'auto', 'always' or 'never', not \"sometimes\"",
    ),
    Wrong(
        "basic",
        CSOFT + "basic = { username = 'x', password = '' }",
        "endpoint 1.basic: the password is empty: expected one, or no `basic` at all",
    ),
]


@pytest.mark.parametrize("wrong", MISTAKES, ids=lambda wrong: wrong.label)
def test_a_mistake_is_named_with_file_key_and_remedy(written, wrong):
    file = written(wrong.toml)
    assert complaint(file) == f"{file}: {wrong.says}"


def test_all_mistakes_are_told_at_once(written):
    file = written("[server]\nlistne = 1\nmax_body = 1\n[[endpoint]]\nprovder = 'csoft'\n")
    lines = complaint(file).splitlines()
    assert all(line.startswith(f"{file}: ") for line in lines)
    keys = {line.removeprefix(f"{file}: ").partition(": ")[0] for line in lines}
    assert keys == {
        "server.listne",
        "server.max_body",
        "endpoint 1.provder",
        "endpoint 1.provider",
        "endpoint 1.path",
    }


def test_numbers_and_booleans_are_no_texts_in_any_table(written):
    for name, table in (("server", Server), ("store", Store)):
        for key, field in table.model_fields.items():
            if field.annotation in (int, bool):
                text = complaint(written(f'[{name}]\n{key} = "1"'))
                assert f"{name}.{key}: expected" in text


def test_credentials_that_a_provider_does_not_send_are_refused(monkeypatch, written):
    class Other(providers.Provider):
        name, title, path = "other", "Other", "/other"

    monkeypatch.setitem(providers.load(), "other", Other)
    file = written('[[endpoint]]\nprovider = "other"\npath = "/o"\npin = "1"\n')
    assert complaint(file) == (
        f"{file}: endpoint 1.pin: other posts carry none: use token, basic or networks"
    )


def test_a_providers_own_keys_are_checked_by_its_options(monkeypatch, written):
    class Options(BaseModel):
        dlr_url: str
        depth: int = 1

    class Other(providers.Provider):
        name, title, path = "other", "Other", "/other"

    Other.Options = Options
    monkeypatch.setitem(providers.load(), "other", Other)
    start = '[[endpoint]]\nprovider = "other"\npath = "/o"\n'
    file = written(start + 'dlr_rul = "x"\n')
    assert complaint(file).splitlines() == [
        f"{file}: endpoint 1.dlr_rul: unknown key: did you mean 'dlr_url'?",
        f"{file}: endpoint 1.dlr_url: is missing",
    ]
    file = written(start + 'dlr_url = "x"\ndepth = "deep"\n')
    assert complaint(file) == f'{file}: endpoint 1.depth: expected a whole number, not "deep"'
    (endpoint,) = load(written(start + 'dlr_url = "x"\ndepth = 2\n')).endpoint
    assert endpoint.bind().endpoint.options == Options(dlr_url="x", depth=2)


def test_a_file_that_is_none_is_told_how_to_make_one(tmp_path):
    assert complaint(tmp_path / "no.toml") == (
        f"{tmp_path}/no.toml: no such file. "
        f"Write a new one with: receiptd init --output {tmp_path}/no.toml"
    )
    assert complaint(tmp_path) == f"{tmp_path}: cannot be read: Is a directory"


def test_what_is_no_toml_is_told_with_its_line(written):
    file = written("[server]\nlisten = \n")
    assert complaint(file).startswith(f"{file}: this is no TOML: ")
    assert "line 2" in complaint(file)


def test_the_environment_overrides_the_file(written, monkeypatch):
    file = written("[store]\nurl = 'sqlite:///file.db'\nqueue = 5\n")
    monkeypatch.setenv("RECEIPTD_STORE__URL", "sqlite:///environment.db")
    config = load(file)
    assert (config.store.url, config.store.queue) == ("sqlite:///environment.db", 5)
    assert describe(file) == f"{file}, overridden by RECEIPTD_STORE__URL"


def test_the_command_line_overrides_both(written, monkeypatch):
    monkeypatch.setenv("RECEIPTD_STORE__URL", "sqlite:///environment.db")
    monkeypatch.setenv("RECEIPTD_SERVER__LISTEN", "tcp:1")
    config = load(written(CSOFT), listen=["tcp:2", "tcp:3"], database="sqlite:///option.db")
    assert config.store.url == "sqlite:///option.db"
    assert config.server.listen == ["tcp:2", "tcp:3"]


@pytest.mark.parametrize(
    ("name", "value", "table", "key", "read"),
    [
        ("RECEIPTD_SERVER__LISTEN", "tcp:1", "server", "listen", ["tcp:1"]),
        ("RECEIPTD_SERVER__LISTEN", '["tcp:1", "tcp:2"]', "server", "listen", ["tcp:1", "tcp:2"]),
        ("RECEIPTD_SERVER__MAX_BODY", "2048", "server", "max_body", 2048),
        ("RECEIPTD_STORE__MIGRATE", "false", "store", "migrate", False),
        ("receiptd_store__queue", "7", "store", "queue", 7),
        ("RECEIPTD_STORE", '{"queue": 7}', "store", "queue", 7),
    ],
)
def test_a_variable_is_read_as_what_its_key_is(monkeypatch, name, value, table, key, read):
    monkeypatch.setenv(name, value)
    assert getattr(getattr(load(), table), key) == read


def test_endpoints_come_from_the_environment_as_json(monkeypatch, written):
    monkeypatch.setenv(
        "RECEIPTD_ENDPOINT", '[{"provider": "csoft", "path": "/env", "pin": "geheim"}]'
    )
    (endpoint,) = load(written(CSOFT)).endpoint
    assert (endpoint.path, endpoint.pin) == ("/env", [SecretStr("geheim")])


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("RECEIPTD_STORE_URL", "x", ": unknown: did you mean 'RECEIPTD_STORE__URL'?"),
        ("RECEIPTD_STORE__URI", "x", ": unknown: did you mean 'RECEIPTD_STORE__URL'?"),
        (
            "RECEIPTD_ENDPOINT__0__PIN",
            "geheim",
            ": unknown: expected RECEIPTD_ENDPOINT with the whole list of endpoints as JSON",
        ),
        ("RECEIPTD_STORE__QUEUE", "x", ': store.queue: expected a whole number, not "x"'),
        ("RECEIPTD_SERVER__LISTEN", '["tcp:1', ": expected JSON, and this is not: "),
        ("RECEIPTD_SERVER", "x", ": server: expected a table"),
        (
            "RECEIPTD_STORE",
            '{"queeu": 1}',
            ": store.queeu: unknown key: did you mean 'queue'?",
        ),
    ],
)
def test_a_mistake_in_the_environment_names_the_variable(monkeypatch, name, value, says):
    monkeypatch.setenv(name, value)
    assert complaint().startswith(f"environment variable {name}{says}")


def test_what_kubernetes_sets_for_a_service_of_that_name_is_not_ours(monkeypatch):
    for name in ("SERVICE_HOST", "SERVICE_PORT", "SERVICE_PORT_HTTP", "PORT"):
        monkeypatch.setenv(f"RECEIPTD_{name}", "tcp://10.0.0.1:8080")
    for end in ("", "_PROTO", "_PORT", "_ADDR"):
        monkeypatch.setenv(f"RECEIPTD_PORT_8080_TCP{end}", "10.0.0.1")
    assert load() == Config()


def test_a_mistake_on_the_command_line_names_the_option(written):
    file = written(CSOFT)
    assert complaint(file, listen=["80"]).startswith("--listen: server.listen: '80' is no")
    assert complaint(file, database="x.db").startswith("--database: store.url: 'x.db' is no URL")


SECRETS = """
username = "user"
pin = ["geheim1", "geheim2"]
token = "geheim3"
basic = { username = "b", password = "geheim4" }
"""


def test_secrets_are_in_no_text(written):
    config = load(written(CSOFT + SECRETS))
    assert "geheim" not in repr(config) + str(config)
    assert "geheim" not in config.model_dump_json()
    wrong = [
        "pni = 'geheim'",
        "pin = { a = 'geheim' }",
        "token = [['geheim']]",
        "basic = 'geheim'",
        "basic = { username = 'x', pasword = 'geheim' }",
        "networks = [{ a = 'geheim' }]",
        "pin = 'geheim'\nusername = 1",
    ]
    for line in wrong:
        assert "geheim" not in complaint(written(CSOFT + line)), line
    assert "geheim" not in complaint(written("[store]\nurl = 'mysql://u:geheim@h/d'"))


EXAMPLE = re.compile(r"^#(?=[\[a-z])", re.MULTILINE)


def test_the_template_changes_nothing_as_it_is(written):
    assert load(written(template())) == Config()


def test_the_template_has_every_key_and_each_example_can_be_used(written):
    text = EXAMPLE.sub("", template())
    read = tomllib.loads(text)
    for name, table in (("server", Server), ("store", Store), ("log", Logging), ("api", Api)):
        assert set(read[name]) == set(table.model_fields), name
    assert set(read["api"]["token"][0]) == set(ApiToken.model_fields)
    assert set(read["endpoint"][0]) == set(Endpoint.model_fields)
    assert set(read["endpoint"][0]["basic"]) == set(Basic.model_fields)
    for endpoint in read["endpoint"]:
        own = providers.load()[endpoint["provider"]].Options.model_fields
        assert {field.alias or name for name, field in own.items()} <= set(endpoint)
    assert set(read) == set(Config.model_fields)
    # The example of the database is a file, which has no password.
    config = load(written(re.sub(r"(?m)^password_file = .*$", "", text)))
    assert config.endpoint[0].authenticated


def test_the_template_says_of_every_key_what_it_is_and_its_default():
    lines = template().splitlines()
    sections = {"[server]": Server, "[store]": Store, "[log]": Logging, "#[[api.token]]": ApiToken}
    sections["#[server.tls]"] = Tls
    for section, model in (sections | {"#[[endpoint]]": Endpoint}).items():
        start = lines.index(section)
        for key, field in model.model_fields.items():
            assert field.description, key
            if key == "tls":
                continue  # a table, and one of the sections
            number = next(i for i in range(start, len(lines)) if lines[i].startswith(f"#{key} = "))
            said = lines[number - 1]
            assert field.is_required() or said.startswith("# Default: "), key
            assert said.startswith("# "), key
    assert max(map(len, lines)) <= 99 or any("dlr_url" in line for line in lines)


# Tokens of the API

TOKEN = '[[api.token]]\nname = "one"\ntoken = "geheim"\n'


def test_api_tokens_read_unless_more_is_said(written, monkeypatch):
    (token,) = load(written(TOKEN)).api.token
    assert (token.name, token.token.get_secret_value(), token.scopes) == (
        "one",
        "geheim",
        ["read"],
    )
    assert load(written("")).api.token == []
    monkeypatch.setenv(
        "RECEIPTD_API__TOKEN", '[{"name": "env", "token": "t", "scopes": ["read", "write"]}]'
    )
    assert [each.name for each in load(written(TOKEN)).api.token] == ["env"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('[[api.token]]\ntoken = "geheim"', "api.token 1.name: is missing"),
        ('[[api.token]]\nname = "one"', "api.token 1.token: is missing"),
        (TOKEN.replace("geheim", ""), "api.token 1.token: expected letters, digits"),
        (TOKEN.replace("geheim", "ge heim"), "api.token 1.token: expected letters, digits"),
        (TOKEN + 'scope = ["read"]', "api.token 1.scope: unknown key: did you mean 'scopes'?"),
        (TOKEN + 'scopes = ["admin"]', "api.token 1.scopes 1: expected 'read' or 'write'"),
        (TOKEN + "scopes = []", "api.token 1.scopes: expected at least 1"),
        (TOKEN * 2, "api.token 2.name: token 1 has the name 'one' already"),
        (TOKEN + TOKEN.replace("one", "two"), "api.token 2.token: token 1 has the token already"),
        ('[api]\ntoken = "geheim"', "api.token: expected tables: write [[api.token]]"),
        ('[api.token]\ntoken = "geheim"', "api.token: expected tables: write [[api.token]]"),
        (TOKEN + "requests_per_second = -1", "api.token 1.requests_per_second: expected"),
        ('[api]\ncors_origins = ["*"]', "name each, since * would let in every page"),
        ('[api]\ncors_origins = ["https://x.example/"]', "'https://x.example/' is no origin"),
        ('[api]\ncors_origins = ["HTTPS://x.example"]', "is no origin"),
        ('[api]\ntokens = "geheim"', "api.tokens: unknown key: did you mean 'token'?"),
    ],
)
def test_an_api_token_that_is_no_good_is_named(written, text, expected):
    error = complaint(written(text))
    assert expected in error
    assert "geheim" not in error


# TLS and proxies


def test_the_environment_sets_single_keys_of_tls(written, monkeypatch):
    file = written("[server.tls]\ncertificate = 'file.pem'\nminimum = 'TLSv1.3'\n")
    monkeypatch.setenv("RECEIPTD_SERVER__TLS__CERTIFICATE", "environment.pem")
    tls = load(file).server.tls
    assert (tls.certificate, tls.minimum) == ("environment.pem", "TLSv1.3")
    monkeypatch.setenv("RECEIPTD_SERVER__TLS__MINIMUM", "TLSv1.1")
    assert complaint(file) == (
        "environment variable RECEIPTD_SERVER__TLS__MINIMUM: server.tls.minimum: "
        "expected 'TLSv1.2' or 'TLSv1.3', not \"TLSv1.1\""
    )


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("tls = { key = 'k.pem' }", "server.tls.certificate: is missing"),
        (
            "tls = { certificate = 'c.pem', keys = 'k.pem' }",
            "server.tls.keys: unknown key: did you mean 'key'?",
        ),
        (
            "tls = { certificate = 'c.pem', listen = 'ssl:443' }",
            "server.tls.listen: 'ssl:443' speaks TLS by itself: expected one such as 'tcp:8443'",
        ),
        (
            "tls = { certificate = 'c.pem', listen = '443' }",
            "server.tls.listen: '443' is no Twisted endpoint description: did you mean 'tcp:443'?",
        ),
        (
            "trusted_proxies = ['10.0.0.1/8']",
            "server.trusted_proxies 1: '10.0.0.1/8' names an address and not a network: "
            "did you mean '10.0.0.0/8'?",
        ),
    ],
)
def test_mistakes_in_tls_and_proxies_are_named(written, text, says):
    file = written(f"[server]\n{text}\n")
    assert says in complaint(file).splitlines()[0]


def test_proxies_are_addresses_networks_and_unix(written):
    file = written('[server]\ntrusted_proxies = ["127.0.0.1", "fd00::/8", "unix"]\n')
    assert [str(each) for each in load(file).server.trusted_proxies] == [
        "127.0.0.1/32",
        "fd00::/8",
        "unix",
    ]
