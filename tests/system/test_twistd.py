"""`twistd receiptd`: from the checkout, and from a wheel."""

from __future__ import annotations

import re
import shutil
import signal
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from kit.receiver import receiver
from kit.server import CSOFT, environment, wait_until
from kit.wire import get, post

CHECKOUT = Path(__file__).parents[2]

PLUGINS = """
import sys
wheel, checkout = sys.argv[1:]
sys.path = [wheel, *(each for each in sys.path if not each.startswith(checkout + "/server"))]
from twisted.application.service import IServiceMaker
from twisted.plugin import getPlugins
(found,) = (each for each in getPlugins(IServiceMaker) if each.tapname == "receiptd")
print(found.description)
print(found.options.__name__, sys.modules["receiptd.daemon.twistd"].__file__)
"""


def twistd(*arguments: str) -> list[str]:
    """The command, which stays in the foreground."""
    code = "from twisted.scripts.twistd import run; run()"
    return [sys.executable, "-c", code, "--nodaemon", "--pidfile=", *arguments]


def test_twistd_serves_reloads_and_stops_as_receiptd_serve_does(tmp_path):
    log = tmp_path / "log"
    config = tmp_path / "receiptd.toml"
    config.write_text(CSOFT)
    config.chmod(0o600)
    arguments = ["--config", str(config), "--listen", "tcp:0:interface=127.0.0.1"]
    arguments += ["--database", f"sqlite:///{tmp_path}/receipts.db"]
    with log.open("wb") as output:
        process = subprocess.Popen(
            twistd("receiptd", *arguments),
            cwd=tmp_path,
            stdout=output,
            stderr=output,
            env=environment(),
        )
    try:
        found = wait_until(
            lambda: re.search(r"listening on http://127\.0\.0\.1:(\d+)", log.read_text()),
            "it serves",
        )
        port = int(found[1])
        body = b"Username=ANOther.61234&PIN=BLUE.music&MessageIdentifier=A&Report=0"
        assert b"Report=0" in post(port, body, content_type="application/x-www-form-urlencoded")[2]
        wait_until(lambda: " A DELIVERED accepted " in log.read_text(), "it is in the log")

        config.write_text(CSOFT + '[[endpoint]]\nprovider = "cdyne"\npath = "/new"\n')
        process.send_signal(signal.SIGHUP)
        wait_until(lambda: "the configuration was reloaded" in log.read_text(), "it is reloaded")
        assert get(port, "/new").status == 200
    finally:
        process.terminate()
        assert process.wait(20) == 0


def test_under_twistd_receipts_are_handed_on(tmp_path):
    log = tmp_path / "log"
    config = tmp_path / "receiptd.toml"
    with receiver() as app, log.open("wb") as output:
        config.write_text(f'{CSOFT}\n[[forward]]\nname = "app"\nurl = "{app.url}"\n')
        config.chmod(0o600)
        arguments = ["--config", str(config), "--listen", "tcp:0:interface=127.0.0.1"]
        arguments += ["--database", f"sqlite:///{tmp_path}/receipts.db"]
        process = subprocess.Popen(
            twistd("receiptd", *arguments),
            cwd=tmp_path,
            stdout=output,
            stderr=output,
            env=environment(),
        )
        try:
            found = wait_until(
                lambda: re.search(r"listening on http://127\.0\.0\.1:(\d+)", log.read_text()),
                "it serves",
            )
            body = b"Username=ANOther.61234&PIN=BLUE.music&MessageIdentifier=A&Report=0"
            post(int(found[1]), body, content_type="application/x-www-form-urlencoded")
            wait_until(lambda: app.messages() == ["A"], "the application is told")
            sender = int(
                wait_until(
                    lambda: re.search(r"forwarding is done by process (\d+)", log.read_text()),
                    "the process that forwards is named",
                )[1]
            )
        finally:
            process.terminate()
            assert process.wait(20) == 0
        assert not Path(f"/proc/{sender}").exists()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (
            ["--database", "sqlite:////no/where/r.db", "--listen", "tcp:0:interface=127.0.0.1"],
            "/no/where: no such folder",
        ),
        (["--listen", "tcp:x"], "'tcp:x' is no Twisted endpoint description"),
        (["--database", "nonsense"], "--database: store.url: 'nonsense' is no URL"),
        (["--config", "nowhere.toml"], "nowhere.toml: no such file"),
    ],
)
def test_what_keeps_it_from_starting_is_one_line(tmp_path, arguments, said):
    done = subprocess.run(
        twistd("receiptd", *arguments),
        cwd=tmp_path,
        capture_output=True,
        text=True,
        env=environment(),
    )
    assert done.returncode == 1
    output = done.stdout + done.stderr
    assert said in output
    assert "Traceback" not in output


def test_a_wheel_brings_the_plugin_and_the_consoles_files(tmp_path):
    # Building leaves things in the folder that is built.
    source = tmp_path / "source"
    source.mkdir()
    for name in ("pyproject.toml", "README.md", "LICENSE", ".gitignore"):
        shutil.copy(CHECKOUT / name, source)
    for name in ("server", "wsdl", "contrib", "docs"):
        shutil.copytree(
            CHECKOUT / name,
            source / name,
            symlinks=True,
            ignore=shutil.ignore_patterns("*.egg-info", "__pycache__"),
        )
    subprocess.run(
        [
            *(sys.executable, "-m", "pip", "wheel", "--quiet", "--disable-pip-version-check"),
            *("--no-deps", "--wheel-dir", str(tmp_path), str(source)),
        ],
        check=True,
        env=environment(),
    )
    (wheel,) = tmp_path.glob("receiptd-*.whl")
    with zipfile.ZipFile(wheel) as file:
        names = file.namelist()
        file.extractall(tmp_path / "wheel")
    # One file in the package of Twisted's plugins, and nothing that would stand in its way.
    assert [name for name in names if name.startswith("twisted/")] == [
        "twisted/plugins/receiptd_plugin.py"
    ]
    console = CHECKOUT / "server/receiptd/web/console"
    files = [each for kind in ("templates", "static") for each in (console / kind).iterdir()]
    assert {str(each.relative_to(CHECKOUT / "server")) for each in files} <= set(names)
    found = subprocess.run(
        [sys.executable, "-c", PLUGINS, str(tmp_path / "wheel"), str(CHECKOUT)],
        capture_output=True,
        text=True,
        cwd=tmp_path,
    )
    assert found.stdout.splitlines() == [
        "Receives SMS delivery receipts and keeps them.",
        f"Options {tmp_path}/wheel/receiptd/daemon/twistd.py",
    ], found.stderr


def test_twistds_help_lists_it(tmp_path):
    done = subprocess.run(twistd("--help"), capture_output=True, text=True, cwd=tmp_path)
    assert "receiptd" in done.stdout
    done = subprocess.run(
        twistd("receiptd", "--help"), capture_output=True, text=True, cwd=tmp_path
    )
    for option in ("--config", "--listen", "--database"):
        assert option in done.stdout
