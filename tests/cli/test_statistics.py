"""`receiptd stats`, and what it prints of."""

from __future__ import annotations

import csv
import io
import json

import pytest

from kit.command_line import run
from kit.store import receipt, rejection
from receiptd.message import Message
from receiptd.receipt import State


@pytest.fixture
def filled(store):
    """Three receipts, two of them about registered messages, and a rejected post."""
    store.register(Message("csoft", "A"), Message("csoft", "B"), Message("csoft", "C"))
    store.outcomes(
        receipt("A", network="23410"),
        receipt("B", state=State.EXPIRED, code="=1+1", network="23410"),
        receipt("X", recipient="393401234567"),
    )
    store.put(rejection())
    return store


def test_stats_prints_a_row_for_each_provider(filled):
    result = run("stats")
    assert result.exit_code == 0, result.output
    header, row = result.stdout.splitlines()
    assert header.split()[:4] == ["provider", "receipts", "failed", "mismatched"]
    assert row.split()[:2] == ["csoft", "3"]
    assert "50.0 %" in row


def test_stats_sums_the_groups_up(filled):
    lines = run("stats", "--by", "state,code").stdout.splitlines()
    assert lines[-1].split()[:2] == ["all", "3"]


def test_stats_names_networks_by_number_where_the_provider_names_none(filled):
    result = run("stats", "--by", "network")
    assert "23410" in result.stdout
    assert "IT " in result.stdout
    assert "* derived from the phone numbers" in result.stderr


def test_stats_by_endpoint_shows_the_ones_that_are_silent(filled):
    lines = run("stats", "--by", "endpoint").stdout.splitlines()
    rows = {line.split()[0]: line for line in lines}
    assert rows["easysms"].split()[1] == "0"
    assert rows["easysms"].endswith("-")
    assert rows["soap"].endswith(":00")
    assert "last receipt" in lines[0]


def test_stats_prints_json(filled):
    found = json.loads(run("stats", "--by", "provider", "--json").stdout)
    assert found["complete"] is True
    (item,) = found["items"]
    assert (item["provider"], item["receipts"], item["messages"]) == ("csoft", 3, 2)
    assert found["total"]["delivery_rate"] == 0.5


def test_stats_prints_csv_without_formulas(filled):
    rows = list(csv.DictReader(io.StringIO(run("stats", "--by", "code", "--csv").stdout)))
    assert {row["code"]: row["receipts"] for row in rows} == {"0": "2", "'=1+1": "1"}


def test_stats_takes_filters(filled):
    found = json.loads(run("stats", "--state", "expired", "--code", "=1+1", "--json").stdout)
    assert found["total"]["receipts"] == 1
    found = json.loads(run("stats", "--by", "reason", "--json").stdout)
    assert [(each["reason"], each["rejected"]) for each in found["items"]] == [("invalid", 1)]


def test_stats_says_that_nothing_was_counted(filled):
    result = run("stats", "--until", "2000-01-01", "--since", "1999-01-01")
    assert (result.exit_code, result.stdout) == (0, "")
    assert "nothing was counted" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--by", "providr"], "did you mean 'provider'?"),
        (["--by", ""], "nothing to add up by"),
        (["--since", "yesterday"], "is no time such as"),
        (["--since", "2026-01-02", "--until", "2026-01-01"], "--since is later than --until"),
        (["--provider", "csofd"], "did you mean 'csoft'?"),
        (["--state", "GONE"], "no state is called 'GONE'"),
    ],
)
def test_stats_used_wrongly_says_what_is_meant(store, arguments, said):
    result = run("stats", *arguments)
    assert result.exit_code == 2
    assert said in " ".join(result.stderr.split())


def test_a_message_says_when_it_was_sent(store):
    result = run("message", "add", "csoft", "A", "--sent-at", "2026-01-31T18:00:00+01:00")
    assert result.exit_code == 0, result.output
    assert "2026-01-31T17:00:00Z" in run("message", "show", "csoft", "A").stdout
    result = run("message", "add", "csoft", "A", "--sent-at", "soon")
    assert result.exit_code == 2
    assert "expected a time such as" in " ".join(result.stderr.split())
