"""Another provider without touching the code: the package of docs/writing-a-provider.md."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from kit.server import environment
from kit.wire import get

PAGE = Path(__file__).parents[2] / "docs" / "writing-a-provider.md"


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the page's package installed in it, by pip."""
    folder = tmp_path_factory.mktemp("acme")
    source, target = folder / "source", folder / "installed"
    source.mkdir()
    text = PAGE.read_text()
    for name, language in (("receiptd_acme.py", "python"), ("pyproject.toml", "toml")):
        block = re.search(
            rf"`{re.escape(name)}`[^\n]*:\n\n```{language}\n(.*?)```", text, re.DOTALL
        )
        assert block, f"the page has no {name}"
        (source / name).write_text(block[1])
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
