"""A real Chromium, driven through Node.js."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from kit.server import Server

CLIENT = Path(__file__).parents[1] / "clients" / "browser"

SCREENSHOTS = Path(__file__).parents[2] / "build" / "screenshots"

CHROMIUM = ("chromium", "chromium-browser", "google-chrome")


def installed(folder: Path) -> tuple[str, str, Path]:
    """Node.js, Chromium, and the driver with what it needs, installed in `folder`; without them
    the test is skipped."""
    node, npm = shutil.which("node"), shutil.which("npm")
    chromium = next(filter(None, map(shutil.which, CHROMIUM)), None)
    missing = [
        name
        for name, found in (("Node.js", node), ("npm", npm), ("Chromium", chromium))
        if not found
    ]
    if node is None or npm is None or chromium is None:
        pytest.skip(f"{', '.join(missing)} not on PATH: no browser opens the console")
    for file in CLIENT.iterdir():
        shutil.copy(file, folder)
    done = subprocess.run(
        [npm, "install", "--no-audit", "--no-fund", "--no-package-lock"],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return node, chromium, folder / "driver.js"


class Browser:
    """One Chromium with one page, which is at `server`."""

    def __init__(self, programs: tuple[str, str, Path], server: Server) -> None:
        """
        :param programs: as `installed` gives them.
        """
        node, chromium, driver = programs
        self._process = subprocess.Popen(
            [node, str(driver), chromium, server.url],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def run(self, script: str, **values: Any) -> Any:
        """Run a script (see driver.js); what it returns."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps({"script": script, "values": values}) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        assert line, "the browser's driver has ended"
        answer = json.loads(line)
        assert "error" not in answer, answer["error"]
        return answer.get("value")

    def close(self) -> None:
        """End it."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(20)
