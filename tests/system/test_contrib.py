"""contrib/: the alerts and the dashboard are what Prometheus and Grafana take, and speak of what
is counted."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from itertools import combinations
from typing import Any

import pytest
import yaml

from kit.contrib import ALERTS, DASHBOARD, ROOT, VARIABLES, expressions, promtool
from kit.wire import get

RULE_TESTS = sorted((ROOT / "tests" / "contrib").glob("*.test.yml"))

OURS = re.compile(r"\b(?:receiptd|process)_[a-z_]+\b")
"""A metric's name in an expression; recorded ones have a colon behind the first word."""

RECORDED = re.compile(r"\breceiptd:[a-z0-9_:]+\b")


@pytest.fixture(scope="module")
def rules() -> list[dict[str, Any]]:
    """All rules, recording ones and alerts."""
    content = yaml.safe_load(ALERTS.read_text())
    return [rule for group in content["groups"] for rule in group["rules"]]


@pytest.fixture(scope="module")
def dashboard() -> dict[str, Any]:
    """The dashboard."""
    read: dict[str, Any] = json.loads(DASHBOARD.read_text())
    return read


def variable_queries(dashboard: dict[str, Any]) -> Iterator[str]:
    for variable in dashboard["templating"]["list"]:
        if variable["type"] == "query":
            yield variable["definition"]


def test_promtool_takes_the_rules():
    promtool("check", "rules", ALERTS)


@pytest.mark.parametrize("file", RULE_TESTS, ids=lambda file: file.name)
def test_alerts_fire_when_they_should_and_else_not(file):
    promtool("test", "rules", file)


def test_promtool_takes_the_dashboards_expressions(dashboard, tmp_path):
    recorded = []
    for number, expression in enumerate(expressions(dashboard)):
        for variable, value in VARIABLES.items():
            expression = expression.replace(variable, value)
        assert "$" not in expression
        recorded.append({"record": f"panel:{number}", "expr": expression})
    file = tmp_path / "dashboard.yml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "dashboard", "rules": recorded}]}))
    promtool("check", "rules", file)


def test_each_alert_says_what_it_is_and_where_more_is_said(rules):
    alerts = [rule for rule in rules if "alert" in rule]
    names = [alert["alert"] for alert in alerts]
    assert len(set(names)) == len(names) >= 7
    for alert in alerts:
        name = alert["alert"]
        assert re.fullmatch(r"Receiptd[A-Z][A-Za-z]+", name)
        assert set(alert) <= {"alert", "expr", "for", "labels", "annotations"}
        assert alert["labels"]["severity"] in ("critical", "warning"), name
        assert set(alert["annotations"]) == {"summary", "description", "runbook_url"}, name
        assert alert["annotations"]["runbook_url"] == f"docs/operations.md#{name.lower()}"
        assert alert["annotations"]["description"].endswith("."), name
        for text in alert["annotations"].values():
            for found in re.findall(r"{{(.*?)}}", text):
                label = r"labels\.(instance|endpoint|reason|destination|code)"
                assert re.fullmatch(rf" \$({label}|value( \| humanize\w*)?) ", found)


def test_each_alert_is_tested(rules):
    tested = "".join(file.read_text() for file in RULE_TESTS)
    for rule in rules:
        if "alert" in rule:
            assert f'alertname="{rule["alert"]}"' in tested, rule["alert"]


def test_every_metric_that_they_speak_of_is_there(shared_server, rules, dashboard):
    """A live server's, from its start: with no traffic there are no alarms, but no gaps either."""
    page = get(shared_server.port, "/metrics", shared_server.bearer).text
    there = set()
    for name, kind in re.findall(r"^# TYPE (\S+) (\S+)$", page, re.MULTILINE):
        there.add(name)
        if kind == "histogram":
            there |= {name + end for end in ("_bucket", "_sum", "_count")}
    recorded = {rule["record"] for rule in rules if "record" in rule}
    asked = [rule["expr"] for rule in rules]
    asked += [*expressions(dashboard), *variable_queries(dashboard)]
    names = {name for expression in asked for name in OURS.findall(expression)}
    assert len(names) > 15
    assert names <= there
    assert {name for each in asked for name in RECORDED.findall(each)} <= recorded
    # And what is counted can be seen.
    ours = {name for name in there if name.startswith("receiptd_")}
    bare = {re.sub("_(bucket|sum|count)$", "", name) for name in names}
    assert {re.sub("_(bucket|sum|count)$", "", name) for name in ours} <= bare


def test_every_metric_is_on_the_page_about_metrics_and_no_other_is(shared_server):
    page = get(shared_server.port, "/metrics", shared_server.bearer).text
    there = set(re.findall(r"^# TYPE (receiptd_\S+) ", page, re.MULTILINE))
    written = (ROOT / "docs" / "monitoring.md").read_text()
    assert set(re.findall(r"`(receiptd_\w+)`", written)) == there


def test_the_dashboards_panels_have_numbers_and_places_of_their_own(dashboard):
    panels = dashboard["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    for panel in panels:
        assert panel["title"]
        if panel["type"] != "row":
            assert panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
            letters = [target["refId"] for target in panel["targets"]]
            assert len(set(letters)) == len(letters) > 0
        place = panel["gridPos"]
        assert 0 <= place["x"] < place["x"] + place["w"] <= 24
    for one, other in combinations((panel["gridPos"] for panel in panels), 2):
        assert (
            one["x"] + one["w"] <= other["x"]
            or other["x"] + other["w"] <= one["x"]
            or one["y"] + one["h"] <= other["y"]
            or other["y"] + other["h"] <= one["y"]
        ), (one, other)


def test_the_operations_page_has_what_the_alerts_point_to(rules):
    page = (ROOT / "docs" / "operations.md").read_text()
    # GitHub's way from a heading to its anchor
    anchors = {
        re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")
        for heading in re.findall(r"^#+ +(.*?) *$", page, re.MULTILINE)
    }
    assert {rule["alert"].lower() for rule in rules if "alert" in rule} <= anchors
