"""What comes with receiptd for the programs around it, printed and written by `contrib`."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from kit.command_line import run
from kit.contrib import ROOT
from receiptd.cli import main
from receiptd.cli.manual import names
from receiptd.config import Api, ApiToken, Endpoint, Forward, Logging, Server, Store, Tls


def printed(name: str) -> str:
    result = run("contrib", name)
    assert result.exit_code == 0, result.output
    return result.stdout


def test_it_lists_all_that_is_in_the_folders():
    listed = {line[2:] for line in run("contrib").stdout.splitlines() if line.startswith("  ")}
    there = set()
    for folder, start in ((ROOT / "contrib", ""), (ROOT / "docs", "docs/")):
        there |= {
            f"{start}{file.relative_to(folder)}" for file in folder.rglob("*") if file.is_file()
        }
    assert {name for name in listed if not name.startswith("man/")} == there
    assert {"man/man1/receiptd-serve.1", "man/man5/receiptd.toml.5"} <= listed


def test_it_prints_a_file_as_it_is():
    assert printed("prometheus/alerts.yml") == (
        ROOT / "contrib" / "prometheus" / "alerts.yml"
    ).read_text(encoding="utf-8")
    assert yaml.safe_load(printed("prometheus/alerts.yml"))["groups"]
    assert json.loads(printed("grafana/receiptd.json"))["uid"] == "receiptd"
    assert printed("docs/operations.md").startswith("# Operating receiptd\n")


def test_the_unit_starts_the_receiptd_that_prints_it():
    unit = printed("systemd/receiptd.service")
    (program,) = re.findall(r"^ExecStart=(\S+) serve", unit, re.MULTILINE)
    assert program == str(Path(sys.executable).with_name("receiptd"))
    again = unit.replace(program, "/opt/receiptd/bin/receiptd")
    assert again == (ROOT / "contrib" / "systemd" / "receiptd.service").read_text()


def test_a_unit_whose_program_a_service_cannot_see_is_warned_of(monkeypatch):
    monkeypatch.setattr(sys, "executable", "/root/.local/share/uv/tools/receiptd/bin/python")
    result = run("contrib", "systemd/receiptd.service")
    assert result.exit_code == 0
    assert "/root/.local/share/uv/tools/receiptd/bin/receiptd serve" in result.stdout
    assert "ProtectHome=yes" in result.stderr


def test_it_writes_into_a_folder_as_cp_does(tmp_path):
    result = run("contrib", "--to", "new/etc", "systemd/receiptd.socket", "prometheus")
    assert (result.exit_code, result.stdout) == (0, "")
    assert sorted(
        str(file.relative_to("new/etc")) for file in Path("new/etc").rglob("*") if file.is_file()
    ) == ["prometheus/alerts.yml", "receiptd.socket"]
    text = Path("new/etc/receiptd.socket").read_text()
    assert text == printed("systemd/receiptd.socket")


def test_without_a_name_it_writes_all_there_is(tmp_path):
    assert run("contrib", "--to", ".").exit_code == 0
    listed = {line[2:] for line in run("contrib").stdout.splitlines() if line.startswith("  ")}
    assert {str(file) for file in Path().rglob("*") if file.is_file()} == listed


def test_what_is_there_and_differs_is_left_unless_forced(tmp_path):
    Path("receiptd.socket").write_text("mine")
    arguments = ("contrib", "--to", ".", "systemd/receiptd.sysusers", "systemd/receiptd.socket")
    result = run(*arguments)
    assert result.exit_code == 1
    assert (
        "receiptd.socket: is there already and differs. Replace it with --force" in result.stderr
    )
    assert Path("receiptd.socket").read_text() == "mine"
    assert not Path("receiptd.sysusers").exists(), "nothing was written"
    assert run(*arguments, "--force").exit_code == 0
    assert Path("receiptd.socket").read_text() == printed("systemd/receiptd.socket")
    assert run(*arguments).exit_code == 0, "what is the same is no obstacle"


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["systemd/receiptd.servce"], 2, "did you mean 'systemd/receiptd.service'?"),
        (["../pyproject.toml"], 2, "there is no '../pyproject.toml': expected one of systemd, "),
        ([""], 2, "there is no '': expected one of systemd, "),
        (["systemd"], 2, "one file is printed at a time"),
        (["--to", "file", "grafana"], 2, "is a file"),
        (["--to", "file/below", "grafana"], 1, "file/below/grafana/receiptd.json: "),
    ],
)
def test_what_cannot_be_is_said(tmp_path, arguments, code, says):
    Path("file").touch()
    result = run("contrib", *arguments)
    assert (result.exit_code, result.stdout) == (code, "")
    assert says in result.stderr


# --- Manual pages


def shown(*pages: str) -> str:
    """Pages as `man` shows them; warnings fail."""
    groff = shutil.which("groff")
    if groff is None:
        pytest.skip("groff is not on this machine")
    done = subprocess.run(
        [groff, "-man", "-Tutf8", "-ww", "-rLL=200n", "-P-c"],
        input="".join(map(printed, pages)),
        capture_output=True,
        encoding="utf-8",
        check=True,
    )
    assert done.stderr == ""
    return re.sub(".\b", "", done.stdout)


def test_each_command_that_is_shown_has_a_page():
    def commands(command, path):
        yield path
        for name, below in getattr(command, "commands", {}).items():
            if not below.hidden:
                yield from commands(below, f"{path}-{name}")

    expected = {f"man/man1/{path}.1" for path in commands(main, "receiptd")}
    assert "man/man1/receiptd-simulate-destination.1" in expected
    assert expected == {name for name in names() if name.startswith("man/man1/")}


def test_troff_takes_each_page_without_a_warning():
    assert shown(*names()).count("\nSYNOPSIS\n") == len(names()) - 1


def test_a_commands_page_says_what_its_help_says():
    page = shown("man/man1/receiptd-receipts-export.1")
    assert "receiptd-receipts-export - write receipts as CSV, JSON or NDJSON, oldest first" in page
    assert "receiptd receipts export [OPTIONS]" in page
    assert "receiptd receipts export --output receipts.csv\n" in page
    assert "--message-id ID" in page
    assert "\b" not in page
    assert "receiptd-receipts(1)" in page


def test_the_page_of_the_configuration_has_every_key():
    page = shown("man/man5/receiptd.toml.5")
    for model in (Server, Tls, Store, Logging, Api, ApiToken, Forward, Endpoint):
        for name, field in model.model_fields.items():
            assert re.search(rf"^ +{field.alias or name}\b|\.{name}\]", page, re.MULTILINE), name
    assert 'Default: ["tcp:8080:interface=127.0.0.1"]' in page
    assert "Example: listen = " in page
    assert "[[endpoint]]" in page
    assert re.search(r"^ +csoft +/soap +", page, re.MULTILINE)
