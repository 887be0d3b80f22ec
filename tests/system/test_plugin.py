"""Another provider without touching the code: the package of docs/writing-a-provider.md."""

from __future__ import annotations

import hmac
import json
import re
import subprocess
import sys
from pathlib import Path
from textwrap import indent

import pytest

from kit.server import environment
from kit.wire import get, post

PAGE = Path(__file__).parents[2] / "docs" / "writing-a-provider.md"


def blocks(name: str) -> list[str]:
    """What the page says is in a file, piece by piece."""
    found = re.findall(
        rf"`{re.escape(name)}`[^\n]*:\n\n```(?:python|toml)\n(.*?)```", PAGE.read_text(), re.DOTALL
    )
    assert found, f"the page has no {name}"
    return found


@pytest.mark.parametrize(("name", "most"), [("receiptd_acme.py", 30), ("receiptd_beta.py", 45)])
def test_a_provider_is_short(name, most):
    lines = [line for line in blocks(name)[0].splitlines() if line.strip()]
    assert len(lines) <= most


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the page's package installed in it, by pip."""
    folder = tmp_path_factory.mktemp("acme")
    source, target = folder / "source", folder / "installed"
    source.mkdir()
    for name in ("receiptd_acme.py", "receiptd_beta.py", "pyproject.toml"):
        first, *methods = blocks(name)
        below = "\n".join(indent(each, "    ") for each in methods)
        (source / name).write_text(f"{first}\n{below}")
    subprocess.run(
        [
            *(sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"),
            *("--no-deps", "--target", str(target), str(source)),
        ],
        check=True,
        env=environment(),
    )
    return target


def test_the_package_of_the_page_is_served(serve, installed, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(installed))
    server = serve('[[endpoint]]\nprovider = "acme"\npath = "/acme"\ntoken = "t"\n')
    sent = "id=A-17&to=447700900123&status={}&at=2026-01-31T18%3A00%3A00%2B01%3A00&more=1"

    assert get(server.port, "/acme?token=t&" + sent.format("ok")).status == 200
    assert get(server.port, "/acme?token=t&" + sent.format("ok")).status == 200
    assert get(server.port, "/acme?" + sent.format("ok")).status == 403
    answer = get(server.port, "/acme?token=t&id=A-17")
    assert (answer.status, answer.text) == (
        400,
        "status is missing: it must be ok, wait or dead\n",
    )
    (receipt,) = server.receipts()
    assert (receipt["provider"], receipt["message_id"]) == ("acme", "A-17")
    assert (receipt["state"], receipt["description"]) == ("DELIVERED", "On the phone")
    assert receipt["reported_at"] == "2026-01-31T17:00:00Z"
    assert (receipt["extra"], receipt["repeats"]) == ({"more": "1"}, 1)


def test_it_is_served_by_default_and_simulated(serve, installed, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(installed))
    server = serve()
    done = subprocess.run(
        [
            *(sys.executable, "-m", "receiptd", "simulate", "acme"),
            *("--url", f"{server.url}/acme", "--count", "20"),
        ],
        capture_output=True,
        text=True,
        env=environment(),
    )
    assert done.returncode == 0, done.stderr
    assert len(server.receipts()) == 20


def test_the_signed_batch_of_the_page_is_served(serve, installed, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(installed))
    server = serve('[[endpoint]]\nprovider = "beta"\npath = "/beta"\nsecret = ["new", "old"]\n')
    reports = [
        {"id": "B-1", "state": {"name": "OK"}, "to": 447700900123, "price": 0.0350},
        {"id": "B-2", "to": "a horse"},
        {"id": "B-3", "state": {"name": "NO"}, "at": "2026-01-31T18:00:00Z"},
    ]

    def sent(key: bytes, content: object) -> int:
        body = json.dumps(content).encode()
        signature = hmac.new(key, body, "sha256").hexdigest()
        headers = [f"X-Beta-Signature: {signature}"]
        return post(server.port, body, "/beta", "application/json", headers).status

    assert sent(b"old", {"reports": reports}) == 200
    assert sent(b"new", {"reports": []}) == 200
    assert sent(b"other", {"reports": reports}) == 403
    assert sent(b"new", {}) == 400
    found = {each["message_id"]: each for each in server.receipts()}
    assert {name: each["state"] for name, each in found.items()} == {
        "B-1": "DELIVERED",
        "B-3": "REJECTED",
    }
    assert (found["B-1"]["recipient"], found["B-1"]["price"]) == ("447700900123", "0.035")
    assert [each["reason"] for each in server.rejected()].count("invalid") == 2


@pytest.mark.parametrize(
    ("line", "instead", "says"),
    [
        ('"acme", "Acme", "/acme"', '"other", "Acme", "/acme"', "its `name` is 'other'"),
        ('"acme", "Acme", "/acme"', '"acme", "Acme", "acme"', "its `path` is 'acme'"),
        ('("GET",)', '"GET"', "its `methods` are 'GET'"),
        ("def read(", "def reed(", "no method `read`"),
        ("class Acme(Provider)", "class Acme", "no subclass"),
    ],
)
def test_a_class_that_cannot_be_used_is_told_why(
    installed, monkeypatch, tmp_path, line, instead, says
):
    module = (installed / "receiptd_acme.py").read_text()
    assert line in module
    (tmp_path / "receiptd_acme.py").write_text(module.replace(line, instead))
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}:{installed}")
    done = subprocess.run(
        [sys.executable, "-m", "receiptd", "check-config"],
        capture_output=True,
        text=True,
        env=environment(),
        cwd=tmp_path,
    )
    assert done.returncode == 1
    assert "the provider 'acme' of the package receiptd-acme cannot be used" in done.stderr
    assert says in done.stderr
    assert "Traceback" not in done.stderr


def test_a_mistake_of_a_module_loses_nothing(serve, installed, monkeypatch, tmp_path):
    module = (installed / "receiptd_acme.py").read_text()
    (tmp_path / "receiptd_acme.py").write_text(module.replace("code is None", "code is None()"))
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}:{installed}")
    server = serve()
    answer = get(server.port, "/acme?id=A-17&status=ok")
    assert (answer.status, answer.headers["retry-after"]) == (503, "5")
    assert "TypeError" in server.log
    (kept,) = server.rejected()
    assert (kept["reason"], kept["raw"]) == ("unreadable", "?id=A-17&status=ok")


def test_a_package_that_cannot_be_imported_is_named(installed, monkeypatch, tmp_path):
    (tmp_path / "receiptd_acme.py").write_text("import nothing_of_that_name")
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}:{installed}")
    done = subprocess.run(
        [sys.executable, "-m", "receiptd", "check-config"],
        capture_output=True,
        text=True,
        env=environment(),
        cwd=tmp_path,
    )
    assert done.returncode == 1
    assert "the provider 'acme' of the package receiptd-acme cannot be imported" in done.stderr
    assert "Traceback" not in done.stderr
