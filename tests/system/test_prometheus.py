"""A real Prometheus, where there is one: it reads a real server's /metrics as docs/monitoring.md
has it, and what the dashboard asks for has an answer."""

from __future__ import annotations

import json
import re
import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import urlencode
from urllib.request import urlopen

import pytest
import yaml

from kit.certificates import Authority
from kit.contrib import ALERTS, DASHBOARD, ROOT, VARIABLES, expressions
from kit.receiver import receiver
from kit.server import CSOFT, Server, wait_until
from kit.soap import envelope, new_id
from kit.wire import TIMEOUT, get, post

PATIENCE = 60.0
"""Seconds: Prometheus waits for the disk many times before it reads anything."""

CONFIG = (
    CSOFT
    + """
requests_per_second = 1000
[[endpoint]]
provider = "seeme"
path = "/seeme"
[[endpoint]]
provider = "infobip"
path = "/infobip"
[[forward]]
name = "app"
url = "{url}"
"""
)


class Prometheus:
    """A server of its own, that reads one receiptd's metrics every second."""

    def __init__(self, program: str, folder: Path, target: str, token: Path) -> None:
        page = (ROOT / "docs" / "monitoring.md").read_text()
        block = re.search(r"```yaml\n(.*?)```", page, re.DOTALL)
        assert block
        config = yaml.safe_load(block[1])
        config["global"] = {"scrape_interval": "1s", "evaluation_interval": "1s"}
        config["scrape_configs"][0]["authorization"]["credentials_file"] = str(token)
        config["scrape_configs"][0]["static_configs"][0]["targets"] = [target]
        shutil.copy(ALERTS, folder / config["rule_files"][0])
        (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
        with closing(socket.socket()) as free:
            free.bind(("127.0.0.1", 0))
            self._port = free.getsockname()[1]
        with (folder / "log").open("wb") as log:
            self.process = subprocess.Popen(
                [
                    program,
                    f"--config.file={folder / 'prometheus.yml'}",
                    f"--storage.tsdb.path={folder / 'data'}",
                    f"--web.listen-address=127.0.0.1:{self._port}",
                ],
                stdout=log,
                stderr=log,
            )
        wait_until(self._ready, f"Prometheus is ready: {folder / 'log'}", PATIENCE)

    def _ready(self) -> bool:
        assert self.process.poll() is None
        try:
            return b"ready" in self._get("/-/ready").lower()
        except OSError:
            return False

    def _get(self, path: str) -> bytes:
        with urlopen(f"http://127.0.0.1:{self._port}{path}", timeout=TIMEOUT) as answer:
            body: bytes = answer.read()
            return body

    def ask(self, path: str, **parameters: str) -> Any:
        """What its API says."""
        return json.loads(self._get(f"/api/v1/{path}?{urlencode(parameters)}"))["data"]

    def query(self, expression: str) -> list[Any]:
        """The series that an expression has now."""
        found: list[Any] = self.ask("query", query=expression)["result"]
        return found


@pytest.fixture
def server(serve: Any, tmp_path: Path) -> Iterator[Server]:
    """Two workers, an application that is told, and one registered message."""
    with receiver() as application:
        config = CONFIG.replace("{url}", application.url)
        certificate, key = Authority(tmp_path).issue("localhost", "server")
        config += (
            f'[server.tls]\ncertificate = "{certificate}"\nkey = "{key}"\n'
            'listen = ["tcp:0:interface=127.0.0.1"]\n'
        )
        yield _started(serve, config)


def _started(serve: Any, config: str) -> Server:
    started: Server = serve(config, options=("--workers", "2"))
    message = {"provider": "csoft", "message_id": "M", "recipient": "447700912345"}
    answer = post(
        started.port,
        json.dumps(message).encode(),
        "/api/v1/messages",
        "application/json",
        headers=started.bearer,
    )
    assert answer.status == 200
    return started


@pytest.fixture
def prometheus(server: Server, tmp_path: Path) -> Iterator[Prometheus]:
    """It reads the server's metrics already."""
    program = shutil.which("prometheus")
    if program is None:
        pytest.skip("prometheus is not on this machine (Debian: in the package prometheus)")
    folder = tmp_path / "prometheus"
    folder.mkdir()
    token = Path(f"{server.database}-api-token")  # Prometheus reads what the server has made
    started = Prometheus(program, folder, f"127.0.0.1:{server.port}", token)
    try:
        wait_until(lambda: started.query('up{job="receiptd"} == 1'), "receiptd is read", PATIENCE)
        yield started
    finally:
        started.process.terminate()
        started.process.wait(20)


def test_all_that_the_dashboard_and_the_alerts_ask_for_has_an_answer(server, prometheus):
    dashboard = json.loads(DASHBOARD.read_text())
    asked = []
    for expression in expressions(dashboard):
        for variable, value in VARIABLES.items():
            expression = expression.replace(variable, value)
        # What is usual is known a day later, and no alarm is good.
        if "receipts_usual" not in expression and "ALERTS" not in expression:
            asked.append(expression)
    assert len(asked) > 25

    def unanswered() -> list[str]:
        post(server.port, envelope("M"))
        post(server.port, envelope(new_id()))
        post(server.port, envelope(new_id(), Report="27"))
        post(server.port, envelope("M", pin="WRONG.pin"))
        post(server.port, b"<nonsense")
        get(server.port, f"/seeme?reference={new_id()}&code=6&price=cheap")
        post(server.port, b'{"results": []}', "/infobip", "application/json")
        return [each for each in asked if not prometheus.query(each)]

    wait_until(lambda: not unanswered(), "every panel has something to show", PATIENCE)
    for variable in dashboard["templating"]["list"]:
        if variable["type"] == "query":
            found = re.fullmatch(r"label_values\((.*), (\w+)\)", variable["definition"])
            assert found
            series = found[1].replace("$job", "receiptd").replace("$instance", ".*")
            labels = {each[found[2]] for each in prometheus.ask("series", **{"match[]": series})}
            assert labels
    rules = [rule for group in prometheus.ask("rules")["groups"] for rule in group["rules"]]
    assert len(rules) > 10
    assert [rule for rule in rules if rule["health"] == "err"] == []
