"""What contrib/ holds for Prometheus and Grafana."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
ALERTS = ROOT / "contrib" / "prometheus" / "alerts.yml"
DASHBOARD = ROOT / "contrib" / "grafana" / "receiptd.json"

VARIABLES = {
    "$__rate_interval": "5m",
    "$job": "receiptd",
    "$instance": ".*",
    "$endpoint": ".*",
}
"""What Grafana puts in their place."""


def expressions(dashboard: dict[str, Any]) -> Iterator[str]:
    """What its panels, variables and annotations ask for."""
    for panel in dashboard["panels"]:
        for target in panel.get("targets", ()):
            yield target["expr"]
    for annotation in dashboard["annotations"]["list"]:
        yield annotation["expr"]


def promtool(*arguments: object) -> None:
    """Run promtool, which has to be content."""
    program = shutil.which("promtool")
    if program is None:
        pytest.skip("promtool is not on this machine (Debian: in the package prometheus)")
    done = subprocess.run([program, *map(str, arguments)], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
