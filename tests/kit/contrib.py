"""What contrib/ holds for Prometheus and Grafana."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

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
