"""The README's quick start, by copy and paste: the commands as they stand there."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from kit.brokers import free_port
from kit.server import Server, environment, wait_until

ROOT = Path(__file__).parents[2]
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


def run(script: str, port: int, folder: Path = ROOT) -> subprocess.CompletedProcess[str]:
    """A block, pasted into a shell in the checkout; the port alone is another."""
    return subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script.replace(":8080", f":{port}")],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=250,
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
        assert re.search(r"^1 +\S+ \S+ +4A2E3C10 +ENROUTE", done.stdout, re.MULTILINE)
        assert "recipient    447700912345" in done.stdout

        done = run(simulate, int(found[1]))
        assert 'sent 100, answered "received" 100' in done.stdout
    finally:
        server.terminate()
        assert server.wait(20) == 0


def test_what_it_says_of_the_rest_is_so_as_well(tmp_path):
    """In an empty folder that has what the README finds beside itself."""
    for name in (".venv", "tests"):
        (tmp_path / name).symlink_to(ROOT / name)
    server = Server(tmp_path, "", "tcp:0:interface=127.0.0.1", [])
    server.config.unlink()  # since `init` is to write it
    DATABASE["RECEIPTD_STORE__URL"] = f"sqlite:///{server.database}"
    try:
        run(blocks("Quick start")[1], server.port, tmp_path)
        told = [run(each, server.port, tmp_path) for each in blocks("Configure")]
        assert re.search(r"^soap +/soap +csoft +nothing$", told[0].stdout, re.MULTILINE)
        assert server.config.exists()

        register, read = (
            run(each, server.port, tmp_path).stdout for each in blocks("Tell it what you sent")
        )
        assert '"result": "registered"' in register
        assert "registered: csoft 4A2E3C11 to 447700912346" in register
        assert "message 4A2E3C10 of csoft" in read
        assert '"reference": "order 17"' in read

        operator, numbers, more, by_http, by_token = blocks("Read back")
        run(operator, server.port, tmp_path)
        assert "csoft" in run(numbers, server.port, tmp_path).stdout
        assert told_in_a_while(more, server.port, tmp_path, '"message_id": "4A2E3C10"')
        assert "4A2E3C10" in (tmp_path / "receipts.csv").read_text()
        by_http = told_in_a_while(by_http, server.port, tmp_path, "retry: ")
        assert by_http.count('"next": null') == 2
        assert "https://dlr.example.com/api/v1/receipts" in by_token

        made, *_ = (each for each in blocks("Register with the provider") if "easysms-url" in each)
        written = (ROOT / "README.md").read_text()
        assert f'dlr_url = "{run(made, server.port, tmp_path).stdout.strip()}"' in written
    finally:
        server.kill()


def test_handing_on_as_it_says(tmp_path):
    """The four lines. They wait for what has to be there instead of some seconds."""
    (block,) = blocks("Hand on")
    listen, application = free_port(), free_port()
    waiting = "until curl -fs http://127.0.0.1:8080/readyz >/dev/null; do sleep 0.2; done"
    taken = (
        "until .venv/bin/receiptd forward status | grep -qE '^app +sending +0 .* 1 +0'; do "
        "sleep 0.2; done; .venv/bin/receiptd forward status"
    )
    for old, new in (
        ("sleep 8", waiting),
        ("sleep 3", "sleep 0"),
        (".venv/bin/receiptd forward status", taken),
        ("9000", str(application)),
    ):
        assert old in block
        block = block.replace(old, new)
    DATABASE["RECEIPTD_STORE__URL"] = f"sqlite:///{tmp_path / 'receiptd.db'}"
    DATABASE["RECEIPTD_SERVER__LISTEN"] = f'["tcp:{listen}:interface=127.0.0.1"]'
    try:
        done = run(f"{block}\nwait", listen)
    finally:
        del DATABASE["RECEIPTD_SERVER__LISTEN"]
    assert re.search(r"^app +sending +0 .* 1 +0", done.stdout, re.MULTILINE)
    assert "receipt.stored" in done.stdout


def told_in_a_while(block: str, port: int, folder: Path, what: str) -> str:
    """What commands print of which one goes on until it is told to stop, as it is here after some
    seconds: a few, or more where the machine needs them to come to `what`."""
    for seconds in (2, 5, 20, 60):
        ended = re.sub(
            r"^(.* tail|curl -N .*)$",
            rf"timeout {seconds} \1 || [ $? -eq 124 ]",
            block,
            flags=re.MULTILINE,
        )
        assert ended != block
        told = run(ended, port, folder).stdout
        if what in told:
            return told
    raise AssertionError(f"no {what!r} in {told}")
