"""The Containerfile and compose.yaml say what receiptd, Prometheus and Grafana take.

That the Containerfile's steps make something that serves is tried by .ci/try-containerfile, which
needs root and some minutes.
"""

from __future__ import annotations

import json
import re
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from kit.command_line import run
from kit.containerfile import CONTAINERFILE, Stage, health_command, hidden, seen, stages
from kit.contrib import ROOT, promtool
from kit.server import environment
from receiptd import config

SECRETS = {
    name: f"a{number:047x}"
    for number, name in enumerate(
        ("DATABASE_PASSWORD", "METRICS_TOKEN", "API_TOKEN", "GRAFANA_PASSWORD"), 1
    )
}
"""What docs/containers.md has in .env."""


@pytest.fixture(scope="module")
def image() -> Stage:
    """What runs."""
    return stages(CONTAINERFILE.read_text())[-1]


@pytest.fixture(scope="module")
def services() -> dict[str, Any]:
    """compose.yaml's, with the values of .env."""
    text = (ROOT / "compose.yaml").read_text()
    assert {*re.findall(r"\$\{(\w+)\}", text)} == {*SECRETS}
    for name, value in SECRETS.items():
        text = text.replace(f"${{{name}}}", value)
    assert "$" not in text
    read: dict[str, Any] = yaml.safe_load(text)
    return read


def settings(variables: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> config.Config:
    """What receiptd makes of environment variables, and of nothing else."""
    for name, value in variables.items():
        if name.startswith("RECEIPTD_"):
            monkeypatch.setenv(name, value)
    return config.load(None)


# --- The image


def test_the_image_serves_as_a_user_without_rights_and_ends_at_sigterm(image):
    assert image.last("USER") not in ("root", "0")
    assert signal.Signals[image.last("STOPSIGNAL")] is signal.SIGTERM
    assert image.words("ENTRYPOINT") == ["receiptd"], "so that an argument is a command"
    assert image.words("CMD") == ["serve"]


def test_the_images_settings_are_known_and_all_that_is_written_is_in_its_volume(
    image, monkeypatch, tmp_path
):
    monkeypatch.chdir(tmp_path)
    found = settings(image.environment, monkeypatch)
    volume = image.last("VOLUME")
    assert found.store.url.startswith(f"sqlite:///{volume}/")
    assert found.store.spool is not None
    assert str(found.store.spool).startswith(f"{volume}/")
    assert image.last("WORKDIR") == volume
    assert found.server.listen == [f"tcp:{image.last('EXPOSE')}"]


def test_the_health_check_is_a_command_that_there_is(image):
    program, *command = health_command(image)
    assert program == "receiptd"
    assert run(*command, "--help").exit_code == 0


def test_a_build_sees_all_that_the_wheel_is_made_of_and_nothing_more():
    there = seen(ROOT)
    assert {each for each in there if not (ROOT / each).exists()} == set()
    assert {"pyproject.toml", "README.md", "LICENSE", "server", "contrib", "docs", "wsdl"} <= {
        *there
    }
    assert not {".git", ".venv", "tests", "build", "receiptd.db"} & {*there}
    assert hidden(ROOT) == ["__pycache__"]


# --- compose.yaml


def test_receiptds_settings_in_compose_are_known(services, image, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    variables = image.environment | services["services"]["receiptd"]["environment"]
    found = settings(variables, monkeypatch)
    assert found.store.url == (
        f"postgresql+psycopg://receiptd:{SECRETS['DATABASE_PASSWORD']}@postgresql/receipts"
    )
    tokens = {each.token.get_secret_value(): each for each in found.api.token}
    assert tokens[SECRETS["METRICS_TOKEN"]].scopes == ["read"]
    assert SECRETS["API_TOKEN"] in tokens


def test_what_the_services_mount_and_name_is_there(services):
    for name, service in services["services"].items():
        for volume in service["volumes"]:
            source = volume.split(":")[0]
            if source.startswith("."):
                assert (ROOT / source).exists(), source
                assert volume.endswith(":ro"), source
            else:
                assert source in services["volumes"], source
        for secret in service.get("secrets", ()):
            assert services["secrets"][secret]["environment"] in SECRETS
        for other in service.get("depends_on", ()):
            assert other in services["services"]
        assert "image" in service or name == "receiptd"
    built = services["services"]["receiptd"]["build"]
    assert (ROOT / built["context"] / built["dockerfile"]) == CONTAINERFILE


def test_the_database_is_the_one_that_is_made(services):
    made = services["services"]["postgresql"]["environment"]
    url = services["services"]["receiptd"]["environment"]["RECEIPTD_STORE__URL"]
    assert (
        url
        == "postgresql+psycopg://{POSTGRES_USER}:{POSTGRES_PASSWORD}@postgresql/{POSTGRES_DB}".format(
            **made
        )
    )


def test_without_a_configuration_of_ones_own_only_this_machine_is_served(services):
    for service in services["services"].values():
        for port in service.get("ports", ()):
            assert port.startswith("127.0.0.1:")


def test_it_is_given_the_time_that_stopping_takes(services, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    seconds = int(services["services"]["receiptd"]["stop_grace_period"].removesuffix("s"))
    assert seconds > settings({}, monkeypatch).server.stop_timeout


def mounted(services: dict[str, Any], service: str) -> dict[str, Path]:
    """What a service finds at which path."""
    pairs = (each.split(":") for each in services["services"][service]["volumes"])
    return {pair[1]: ROOT / pair[0] for pair in pairs if pair[0].startswith(".")}


def test_prometheus_takes_its_configuration_and_asks_where_receiptd_listens(
    services, image, tmp_path
):
    files = mounted(services, "prometheus")
    text = files["/etc/prometheus/prometheus.yml"].read_text()
    (job,) = yaml.safe_load(text)["scrape_configs"]
    assert job["job_name"] == "receiptd", "which the alerts and the dashboard expect"
    assert job["static_configs"] == [{"targets": [f"receiptd:{image.last('EXPOSE')}"]}]
    (secret,) = services["services"]["prometheus"]["secrets"]
    assert job["authorization"] == {"credentials_file": f"/run/secrets/{secret}"}
    rules = "/etc/prometheus/receiptd-alerts.yml"
    token = tmp_path / "token"
    token.write_text("t")
    (tmp_path / "prometheus.yml").write_text(
        text.replace(rules, str(files[rules])).replace(f"/run/secrets/{secret}", str(token))
    )
    promtool("check", "config", tmp_path / "prometheus.yml")


def test_grafana_finds_the_dashboard_and_where_its_numbers_are(services):
    files = mounted(services, "grafana")
    start = "/etc/grafana/provisioning"
    (source,) = files[f"{start}/datasources"].iterdir()
    (told,) = yaml.safe_load(source.read_text())["datasources"]
    assert (told["type"], told["url"]) == ("prometheus", "http://prometheus:9090")
    (provider,) = files[f"{start}/dashboards"].iterdir()
    (told,) = yaml.safe_load(provider.read_text())["providers"]
    (dashboard,) = (each for each in files if each.startswith(told["options"]["path"] + "/"))
    assert json.loads(files[dashboard].read_text())["uid"] == "receiptd"


# --- The page


def test_the_page_makes_the_file_that_compose_reads(tmp_path):
    page = (ROOT / "docs" / "containers.md").read_text()
    (block,) = (
        block for block in re.findall(r"```sh\n(.*?)```", page, re.DOTALL) if ">.env" in block
    )
    command = block.partition("\n\n")[0].partition("docker compose")[0]
    subprocess.run(["bash", "-euc", command], cwd=tmp_path, env=environment(), check=True)
    lines = (tmp_path / ".env").read_text().splitlines()
    assert [line.split("=")[0] for line in lines] == [*SECRETS]
    assert all(re.fullmatch(r"\w+=[0-9a-f]{48}", line) for line in lines)
    assert len({line.split("=")[1] for line in lines}) == len(lines)
    assert (tmp_path / ".env").stat().st_mode & 0o077 == 0
