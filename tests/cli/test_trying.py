"""`try`: SOAP, and what an endpoint asks of a request, told without storing anything."""

from __future__ import annotations

import json
from base64 import b64encode
from pathlib import Path

import pytest
from click.testing import CliRunner

from kit.soap import envelope
from receiptd.cli import main

SAMPLES = Path(__file__).parent.parent / "samples"
CONFIG = """
[store]
url = "sqlite:///never-made.db"

[[endpoint]]
provider = "csoft"
path = "/soap"
username = "ANOther.61234"
pin = "BLUE.music"

[[endpoint]]
provider = "seeme"
path = "/seeme"
token = "a-long-random-one"
networks = ["192.0.2.0/24"]

[[endpoint]]
provider = "cdyne"
path = "/cdyne"
basic = { username = "dlr", password = "a-password" }
"""
QUERY = b"reference=order-17&code=6&number=36301234567"


@pytest.fixture
def tried(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    config = tmp_path / "c.toml"
    config.write_text(CONFIG)
    config.chmod(0o600)

    def run(raw: bytes, endpoint: str, *options: str):
        file = tmp_path / "request.http"
        file.write_bytes(raw)
        arguments = ["try", str(file), "--endpoint", endpoint, "--config", str(config), *options]
        done = CliRunner().invoke(main, arguments, prog_name="receiptd")
        assert not (tmp_path / "never-made.db").exists()
        return done

    return run


def soap(body: bytes, content_type: str = "text/xml; charset=utf-8") -> bytes:
    return f"POST /soap HTTP/1.1\r\nContent-Type: {content_type}\r\n\r\n".encode() + body


def receipt_in(output: str):
    return json.loads(output[output.index("{") : output.index("\nanswer")])


def test_the_vendor_s_example_is_a_receipt(tried):
    done = tried((SAMPLES / "csoft-v3-example.http").read_bytes(), "soap")
    assert done.exit_code == 0, done.output
    receipt = receipt_in(done.output)
    assert (receipt["message_id"], receipt["state"]) == ("3C7D98A4", "DELIVERED")
    assert "<Report>0</Report>" in done.output
    assert "BLUE.music" not in done.output


def test_a_message_of_a_phone_is_one_too(tried):
    body = envelope("1").replace(b"SubmitDeliveryReceipt", b"DeliverMessage")
    done = tried(soap(body), "soap")
    assert receipt_in(done.output)["kind"] == "reply"


def test_other_encodings_and_multipart_are_read(tried):
    done = tried(soap(envelope("M16").decode().encode("utf-16"), "text/xml"), "soap")
    assert receipt_in(done.output)["message_id"] == "M16"
    related = (
        b"--b\r\nContent-Type: text/xml\r\nContent-ID: <a>\r\n\r\n" + envelope("MR") + b"\r\n--b--"
    )
    done = tried(soap(related, 'multipart/related; boundary="b"; start="<a>"'), "soap")
    assert "MR" in done.output


def test_wrong_credentials_would_be_refused_and_the_receipt_is_shown_all_the_same(tried):
    done = tried(soap(envelope("M1", pin="BLUE.noise")), "soap")
    assert done.exit_code == 1
    assert "would be refused: the username or the PIN in the post is not" in done.output
    assert '"message_id": "M1"' in done.output
    assert "BLUE" not in done.output


def test_what_is_no_receipt_is_told_with_the_answer(tried):
    done = tried(soap(envelope("M1", Report=None)), "soap")
    assert done.exit_code == 1
    assert "invalid: Report is missing" in done.output
    assert "<Report>-1</Report>" in done.output
    done = tried(soap(b"<a>"), "soap")
    assert done.exit_code == 1
    assert "a fault, Client: the body is not well-formed XML" in done.output
    assert "answer: 500" in done.output


def test_a_form_post_to_the_same_endpoint(tried):
    done = tried((SAMPLES / "csoft-form.http").read_bytes(), "soap")
    assert "would be refused: the username or the PIN" in done.output
    assert '"message_id": "4A2E3C12"' in done.output
    assert done.exit_code == 1


@pytest.mark.parametrize(
    ("target", "options", "says", "code"),
    [
        (b"/seeme?" + QUERY, ["--from", "192.0.2.7"], "refused: the token is missing", 1),
        (b"/seeme?token=x&" + QUERY, ["--from", "192.0.2.7"], "refused: the token is wrong", 1),
        (b"/seeme/a-long-random-one?" + QUERY, ["--from", "192.0.2.7"], '"order-17"', 0),
        (
            b"/seeme?token=a-long-random-one&" + QUERY,
            ["--from", "198.51.100.1"],
            "refused: the address 198.51.100.1 is in none of the endpoint's networks",
            1,
        ),
        (b"/seeme?token=a-long-random-one&" + QUERY, [], "not looked at: whether it comes", 0),
    ],
)
def test_token_and_networks_are_looked_at(tried, target, options, says, code):
    done = tried(b"GET " + target + b" HTTP/1.1\r\nHost: h\r\n\r\n", "seeme", *options)
    assert done.exit_code == code, done.output
    assert says in done.output
    assert '"message_id": "order-17"' in done.output
    assert "a-long-random-one" not in done.output


@pytest.mark.parametrize(
    ("login", "says", "code"),
    [
        (None, "refused: the HTTP Basic credentials are missing", 1),
        ("dlr:wrong", "refused: the HTTP Basic credentials are wrong", 1),
        ("dlr:a-password", '"state"', 0),
    ],
)
def test_basic_credentials_are_looked_at(tried, login, says, code):
    head, _, body = (SAMPLES / "cdyne-sent.http").read_bytes().partition(b"\r\n\r\n")
    if login:
        head += b"\r\nAuthorization: Basic " + b64encode(login.encode())
    done = tried(head + b"\r\n\r\n" + body, "cdyne")
    assert done.exit_code == code, done.output
    assert says in done.output
