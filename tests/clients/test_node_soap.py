"""`soap` (npm) works with what `?wsdl` and `?singleWsdl` say."""

from __future__ import annotations

import json
import shutil
import subprocess
from datetime import UTC, datetime
from pathlib import Path

import pytest

ENDPOINT = """
[[endpoint]]
provider = "csoft"
path = "/soap"
username = "ANOther.61234"
pin = "BLUE.music"
"""
CREDENTIALS = {"Username": "ANOther.61234", "PIN": "BLUE.music"}
RECEIPT = {
    "Timestamp1": "2009-06-09T10:52:00Z",
    "SentTo": "447700912345",
    "MessageIdentifier": "4A2E3C10",
    "Report": -4,
}
FAULTY_HEADER = '<t:Transaction xmlns:t="urn:x" soap:mustUnderstand="1"/>'


@pytest.fixture(scope="session")
def program(tmp_path_factory):
    """The client with its dependency, installed once, outside of the source."""
    node, npm = shutil.which("node"), shutil.which("npm")
    if node is None or npm is None:
        pytest.skip(f"{'npm' if node else 'Node.js'} is not on PATH: its SOAP client cannot run")
    folder = tmp_path_factory.mktemp("clients") / "node"
    folder.mkdir()
    for name in ("package.json", "client.js"):
        shutil.copy(Path(__file__).parent / "node" / name, folder)
    installed = subprocess.run(
        [npm, "install", "--no-audit", "--no-fund", "--no-package-lock"],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert installed.returncode == 0, installed.stdout + installed.stderr
    return [node, str(folder / "client.js")]


@pytest.fixture
def post(program):
    """Posts each of `calls` by one client made from a server's WSDL; gives the answers."""

    def post(server, *calls, asked="wsdl"):
        done = subprocess.run(
            [*program, f"{server.url}/soap?{asked}"],
            input=json.dumps(calls),
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    return post


def test_a_receipt_with_credentials_is_received(pooled, post):
    server = pooled(ENDPOINT)
    assert post(server, {"receipt": CREDENTIALS | RECEIPT}) == [
        {"MessageIdentifier": "4A2E3C10", "Report": 0}
    ]
    (stored,) = server.receipts()
    assert stored["message_id"] == "4A2E3C10"
    assert stored["recipient"] == "447700912345"
    assert stored["code"] == "-4"
    assert stored["state"] == "ENROUTE"
    assert datetime.fromisoformat(stored["reported_at"]) == datetime(
        2009, 6, 9, 10, 52, tzinfo=UTC
    )


def test_a_receipt_is_received_also_by_the_single_wsdl(pooled, post):
    server = pooled(ENDPOINT)
    assert post(server, {"receipt": CREDENTIALS | RECEIPT}, asked="singleWsdl") == [
        {"MessageIdentifier": "4A2E3C10", "Report": 0}
    ]
    assert [stored["message_id"] for stored in server.receipts()] == ["4A2E3C10"]


def test_a_receipt_without_credentials_is_received_where_none_are_configured(pooled, post):
    server = pooled()
    assert post(server, {"receipt": RECEIPT}) == [{"MessageIdentifier": "4A2E3C10", "Report": 0}]
    assert [stored["message_id"] for stored in server.receipts()] == ["4A2E3C10"]


def test_without_the_right_credentials_the_answer_is_invalid_login(pooled, post):
    server = pooled(ENDPOINT)
    wrong = CREDENTIALS | {"PIN": "BLUE.noise"}
    refused = {"MessageIdentifier": "4A2E3C10", "Report": 2, "Text": "Invalid login"}
    assert post(server, {"receipt": wrong | RECEIPT}, {"receipt": RECEIPT}) == [refused, refused]
    assert server.receipts() == []


def test_an_unusual_timestamp_is_the_time_it_means(pooled, post):
    server = pooled()
    receipt = RECEIPT | {"Timestamp1": "2009-06-09T16:22:01.234+05:30"}
    assert post(server, {"receipt": receipt})[0]["Report"] == 0
    (stored,) = server.receipts()
    assert datetime.fromisoformat(stored["reported_at"]) == datetime(
        2009, 6, 9, 10, 52, 1, 234000, UTC
    )


def test_the_client_reads_a_fault(pooled, post):
    server = pooled()
    (answer,) = post(server, {"receipt": RECEIPT, "header": FAULTY_HEADER})
    assert answer["fault"].endswith(":MustUnderstand")
    assert answer["text"]
    assert server.receipts() == []


@pytest.mark.parametrize("asked", ["wsdl", "singleWsdl"])
def test_a_message_that_a_phone_sent_is_received(pooled, post, asked):
    server = pooled(ENDPOINT)
    message = CREDENTIALS | {
        "Recipient": {"SendTo": "447786201000"},
        "Message": {"TextMessage": "See you at 5 & bring Zoë"},
        "ReplyTo": "447700912345",
        "Timestamp1": "2009-06-09T10:52:00Z",
        "MessageIdentifier": "4A2E3C11",
    }
    assert post(server, {"message": message}, asked=asked) == [
        {"MessageIdentifier": "4A2E3C11", "Report": 0}
    ]
    (stored,) = server.receipts()
    assert (stored["kind"], stored["text"]) == ("reply", "See you at 5 & bring Zoë")
    assert (stored["sender"], stored["recipient"]) == ("447700912345", "447786201000")
    assert stored["reported_at"] == "2009-06-09T10:52:00Z"
