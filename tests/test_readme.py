"""The README's quick start, by copy and paste: the commands as they stand there."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from daemon import environment, wait_until

ROOT = Path(__file__).parents[1]
BIN = Path(sys.executable).parent

pytestmark = pytest.mark.skipif(
    BIN != ROOT / ".venv" / "bin",
    reason="the README's commands are those of scripts/serve's own environment, .venv",
)


def blocks(heading: str) -> list[str]:
    """The shell blocks below a heading of the README."""
    section = re.search(
        rf"^## {heading}\n(.*?)^## ", (ROOT / "README.md").read_text(), re.DOTALL | re.MULTILINE
    )
    assert section
    return re.findall(r"```sh\n(.*?)```", section[1], re.DOTALL)


def run(script: str, port: int) -> subprocess.CompletedProcess[str]:
    """A block, pasted into a shell in the checkout; the port alone is another."""
    return subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script.replace(":8080", f":{port}")],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        env=environment() | DATABASE,
        check=True,
    )


DATABASE: dict[str, str] = {}


def test_from_the_first_command_to_reading_the_receipt_back(tmp_path):
    serve, post_and_read, simulate = blocks("Quick start")
    assert serve == "scripts/serve\n"
    # The checkout's own receiptd.db is not to be written by a test.
    DATABASE["RECEIPTD_STORE__URL"] = f"sqlite:///{tmp_path / 'receiptd.db'}"
    log = tmp_path / "log"
    with log.open("wb") as out:
        server = subprocess.Popen(
            [*serve.split(), "--listen", "tcp:0:interface=127.0.0.1"],
            cwd=ROOT,
            stdout=out,
            stderr=out,
            env=environment() | DATABASE,
        )
    try:
        found = wait_until(
            lambda: re.search(r"listening on http://127\.0\.0\.1:(\d+)", log.read_text()),
            "scripts/serve listens",
        )
        done = run(post_and_read, int(found[1]))
        assert "<Report>0</Report>" in done.stdout
        assert re.search(r"^1 +\S+ +soap +delivery +4A2E3C10 +ENROUTE", done.stdout, re.MULTILINE)
        assert "recipient    447700912345" in done.stdout

        done = run(simulate, int(found[1]))
        assert 'sent 100, answered "received" 100' in done.stdout
    finally:
        server.terminate()
        assert server.wait(20) == 0
