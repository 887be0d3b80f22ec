"""`simulate --kind`: receipts of one kind alone."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from random import Random

import pytest
from click.testing import CliRunner

from kit.server import CSOFT
from receiptd import providers
from receiptd.cli import main
from receiptd.config import Endpoint
from receiptd.receipt import Kind

AT = datetime(2026, 6, 9, 10, 52, tzinfo=UTC)
CONFIG = (
    CSOFT
    + """
[[endpoint]]
provider = "cdyne"
path = "/cdyne"
"""
)


def run(*arguments):
    return CliRunner().invoke(main, ["simulate", *arguments], prog_name="receiptd")


@pytest.mark.parametrize("form", [[], ["--form"]])
def test_a_server_stores_each_message_that_a_phone_sent(pooled, form):
    server = pooled(CONFIG)
    result = run(
        *("csoft", "--kind", "reply", "--url", f"{server.url}/soap", "--count", "20", "--json"),
        *("--username", "ANOther.61234", "--pin", "BLUE.music", *form),
    )
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["received"] == 20
    stored = server.receipts()
    assert len(stored) == 20
    for receipt in stored:
        assert receipt["kind"] == "reply"
        assert receipt["text"]
        assert receipt["sender"].startswith("447700")
        assert receipt["recipient"] == "447786201000"
        assert receipt["reported_at"]


def test_wrong_credentials_are_told(pooled):
    server = pooled(CONFIG)
    result = run("csoft", "--kind", "reply", "--url", f"{server.url}/soap", "--pin", "x")
    assert result.exit_code == 1
    assert "Report 2: Invalid login" in result.stdout


def test_another_provider_sends_the_kind_that_is_asked_for(pooled):
    server = pooled(CONFIG)
    result = run("cdyne", "--kind", "reply", "--url", f"{server.url}/cdyne", "--count", "5")
    assert result.exit_code == 0, result.output
    assert [each["kind"] for each in server.receipts()] == ["reply"] * 5


@pytest.mark.parametrize(("provider", "kind"), [("seeme", "reply"), ("csoft", "call")])
def test_a_kind_that_a_provider_never_sends_is_an_error(provider, kind):
    result = run(provider, "--kind", kind, "--url", "http://127.0.0.1:1/")
    assert result.exit_code == 2
    assert f"nothing of that kind is known of {provider}" in result.stderr


def test_the_same_seed_makes_the_same_messages():
    csoft = Endpoint(provider="csoft", path="/soap").bind()
    made = [csoft.sample_of(Kind.REPLY, Random(7), AT) for _ in range(2)]
    assert made[0] == made[1]
    assert csoft.read(csoft.write(made[0]))[0]._replace(raw=b"") == made[0]


@pytest.mark.parametrize("name", sorted(set(providers.load()) - {"generic"}))
def test_a_provider_s_own_kinds_are_found(name):
    provider = Endpoint(provider=name, path=providers.load()[name].path).bind()
    kind = provider.sample(Random(1), AT).kind
    assert provider.sample_of(kind, Random(2), AT).kind is kind
