"""From root to an ordinary user, and secrets that not everybody may read."""

from __future__ import annotations

import os
import pwd
import re
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from kit.command_line import execute, start
from kit.server import CSOFT, Server, environment, wait_until
from kit.wire import get, post
from receiptd.config import exposed, load
from receiptd.daemon import privileges

root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")

FORM = "application/x-www-form-urlencoded"
NOBODY = '[server]\nuser = "nobody"\n'


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder of nobody's, that nobody can get to: pytest's own are closed to others."""
    above = Path(tempfile.mkdtemp(prefix="receiptd-nobody-"))
    above.chmod(0o755)
    folder = above / "nobody"
    folder.mkdir()
    os.chown(folder, pwd.getpwnam("nobody").pw_uid, -1)
    yield folder
    shutil.rmtree(above)


def identity(process: int) -> dict[str, list[int]]:
    """The users and groups of a process, by the names of proc(5)."""
    lines = Path(f"/proc/{process}/status").read_text().splitlines()
    return {
        line.split(":")[0]: [int(each) for each in line.split(":")[1].split()]
        for line in lines
        if line.startswith(("Uid:", "Gid:", "Groups:"))
    }


def refused(
    tmp_path: Path, config: str, *options: str, mode: int = 0o600, **variables: str
) -> str:
    """What is said of a server that does not start; it is one thing, and no traceback."""
    file = tmp_path / "receiptd.toml"
    file.write_text(config)
    file.chmod(mode)
    done = execute(
        *("serve", "--config", str(file), "--listen", "tcp:0:interface=127.0.0.1", *options),
        cwd=tmp_path,
        env=environment() | variables,
    )
    assert done.returncode == 1, done.stderr
    assert "Traceback" not in done.stderr
    return done.stderr


# --- The user


@root
@pytest.mark.parametrize("workers", ["1", "2"])
def test_it_listens_as_root_and_serves_as_the_user(serve, folder, workers):
    with socket.socket() as free:
        # A port that root alone may have, and that nobody has just now.
        free.bind(("127.0.0.1", 0))
        low = next(each for each in range(700, 1023) if free.connect_ex(("127.0.0.1", each)) != 0)
    server = serve(
        NOBODY + CSOFT,
        folder=folder,
        listen=f"tcp:{low}:interface=127.0.0.1",
        options=("--workers", workers),
    )
    assert server.port == low
    nobody = pwd.getpwnam("nobody")
    for process in server.processes():
        assert identity(process) == {
            "Uid": [nobody.pw_uid] * 4,
            "Gid": [nobody.pw_gid] * 4,
            "Groups": sorted(os.getgrouplist("nobody", nobody.pw_gid)),
        }
    body = b"Username=ANOther.61234&PIN=BLUE.music&MessageIdentifier=A&Report=0"
    assert b"Report=0" in post(server.port, body, content_type=FORM).body
    assert get(server.port, "/metrics", server.bearer).status == 200
    assert server.stop() == 0

    # What it has made is the user's to use: also by the other kind of server.
    for each in folder.iterdir():
        if each.name not in ("receiptd.toml", "log"):
            assert each.stat().st_uid == nobody.pw_uid, each
    serve(NOBODY, folder=folder, options=("--workers", "1" if workers == "2" else "2"))


@root
@pytest.mark.parametrize("workers", ["1", "2"])
def test_the_log_is_the_users_also_when_it_was_moved_away(folder, workers):
    log = folder / "receiptd.log"
    file = folder / "receiptd.toml"
    file.write_text(NOBODY + f'[log]\nfile = "{log}"\n')
    process = start(
        *("serve", "--config", str(file)),
        *("--listen", "tcp:0:interface=127.0.0.1", "--workers", workers),
        cwd=folder,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )

    def written(message: str) -> bool:
        query = f"reference={message}&number=36301234567&code=6"
        assert get(port, f"/seeme?{query}").status == 200
        return f" {message} " in log.read_text()

    try:
        wait_until(lambda: log.exists() and "seeme posts to" in log.read_text(), "it serves")
        found = re.search(r"listening on \S+:(\d+)", log.read_text())
        assert found
        port = int(found[1])
        # logrotate moves it away. With several processes each looks after it, and the one that
        # stays root must not make it root's: the others could not write to it.
        for number in (1, 2):
            assert log.stat().st_uid == pwd.getpwnam("nobody").pw_uid
            log.rename(folder / f"receiptd.log.{number}")
            if number == 1:
                process.send_signal(signal.SIGUSR1)
            wait_until(log.exists, "there is a new one")

            wait_until(partial(written, f"R{number}"), "receipts are in the new one")
        # A link that the user has put there is followed with the user's own rights.
        log.rename(folder / "receiptd.log.3")
        theirs = folder.parent / "root's"
        log.symlink_to(theirs)
        wait_until(
            lambda: (
                "cannot be made anew, so lines go on into the old one: Permission denied"
                in (folder / "receiptd.log.3").read_text()
            ),
            "it is told",
        )
        assert not theirs.exists()
    finally:
        process.terminate()
        assert process.wait(20) == 0


@root
def test_a_database_that_the_user_cannot_write_is_named(folder):
    os.chown(folder, 0, 0)
    assert f"{folder}/receiptd.db: not writable" in refused(
        folder, NOBODY, "--database", f"sqlite:///{folder}/receiptd.db"
    )


@root
def test_a_supervisor_reloads_what_root_alone_can_read_and_a_single_process_says_so(serve, folder):
    server = serve(NOBODY + CSOFT, folder=folder)
    server.process.send_signal(signal.SIGHUP)
    wait_until(lambda: "stays in force" in server.log, "it is refused")
    assert f"{server.config}: cannot be read by user" in server.log
    assert f"chmod g+r {server.config}" in server.log
    assert server.stop() == 0

    server = serve(NOBODY + CSOFT, folder=folder, options=("--workers", "2"))
    server.config.write_text(NOBODY)
    server.process.send_signal(signal.SIGHUP)
    wait_until(lambda: "the configuration was reloaded" in server.log, "it is reloaded")
    os.kill(server.processes()[0], signal.SIGKILL)
    wait_until(lambda: "is started again" in server.log, "it is noticed")
    wait_until(lambda: len(server.processes()) == 2, "another is started")


@root
def test_a_unix_socket_of_roots_is_gone_with_its_server_or_replaced(folder, tmp_path):
    path = tmp_path / "receiptd.sock"
    path.unlink(missing_ok=True)
    (folder / "receiptd.toml").write_text(NOBODY)
    for _ in range(2):
        process = start(
            *("serve", "--config", "receiptd.toml", "--listen", f"unix:{path}"),
            cwd=folder,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

        def answers() -> bool:
            with closing(socket.socket(socket.AF_UNIX)) as client:
                try:
                    client.connect(str(path))
                    client.sendall(b"GET /healthz HTTP/1.0\r\n\r\n")
                    return client.recv(100).startswith(b"HTTP/1.")
                except (ConnectionError, FileNotFoundError):  # not yet
                    return False

        wait_until(answers, "it serves")
        process.terminate()
        assert process.wait(20) == 0


def test_a_user_that_is_not_there_is_named(tmp_path):
    assert "server.user: there is no user 'xyzzy' on this machine" in refused(
        tmp_path, '[server]\nuser = "xyzzy"\n'
    )
    assert "server.group: there is no group 'xyzzy'" in refused(
        tmp_path, '[server]\nuser = "nobody"\ngroup = "xyzzy"\n'
    )
    assert "server.group is set without server.user" in refused(
        tmp_path, '[server]\ngroup = "nogroup"\n'
    )


def test_only_root_can_become_another_user(monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: 4711)
    with pytest.raises(privileges.PrivilegeError) as error:
        privileges.account("nobody", None)
    assert "only root can become 'nobody', and this process is user 4711's" in str(error.value)


def test_whoever_is_the_user_already_stays_it(monkeypatch):
    nobody = pwd.getpwnam("nobody")
    monkeypatch.setattr(os, "geteuid", lambda: nobody.pw_uid)
    monkeypatch.setattr(os, "getegid", lambda: nobody.pw_gid)
    assert privileges.account("nobody", None) is None


def test_the_groups_go_before_the_group_and_that_before_the_user(monkeypatch):
    done: list[tuple[str, Any]] = []
    for name in ("setgroups", "setgid", "setuid"):
        monkeypatch.setattr(os, name, lambda value, name=name: done.append((name, value)))
    monkeypatch.setattr(os, "environ", {})
    privileges.become(privileges.Account("a", 1, 2, [2, 3], "/home/a"))
    assert done == [("setgroups", [2, 3]), ("setgid", 2), ("setuid", 1)]
    assert os.environ == {"HOME": "/home/a", "USER": "a", "LOGNAME": "a"}


@root
def test_what_is_made_on_behalf_of_the_user_is_the_users(folder):
    who = privileges.look_up("nobody", None)
    assert who is not None
    before = identity(os.getpid())
    with privileges.acting_as(who):
        (folder / "made").touch()
        with pytest.raises(PermissionError):
            Path("/etc/shadow").read_text()
    assert (folder / "made").stat().st_uid == who.user_id
    assert identity(os.getpid()) == before


# --- Secrets that everybody can read


SECRETS = {
    "a PIN": CSOFT,
    "a PIN without quotes": CSOFT.replace('"BLUE.music"', "['1234', '5678']"),
    "a token in the URL": '[[endpoint]]\nprovider = "cdyne"\npath = "/c"\ntoken = "t"\n',
    "HTTP Basic": '[[endpoint]]\nprovider = "cdyne"\npath = "/c"\n'
    'basic = { username = "u", password = "p" }\n',
    "a token of the API": '[[api.token]]\nname = "a"\ntoken = "t"\n',
    "the database's password": '[store]\nurl = "postgresql+psycopg://u:p@127.0.0.1:1/d"\n',
    "the same as a parameter": '[store]\nurl = "postgresql://u@127.0.0.1:1/d?password=p"\n',
    "that of its client's key": '[store]\nurl = "postgresql://u@127.0.0.1:1/d?sslpassword=p"\n',
}


@pytest.mark.parametrize("what", SECRETS)
def test_secrets_that_everybody_can_read_are_refused(tmp_path, what):
    said = refused(tmp_path, SECRETS[what], mode=0o644)
    file = tmp_path / "receiptd.toml"
    assert f"{file} holds secrets and every user can read it: chmod o= {file}" in said
    assert "--allow-readable-config" in said


@pytest.mark.parametrize(
    ("config", "variables"),
    [
        ("", {}),
        ('[[endpoint]]\nprovider = "csoft"\npath = "/soap"\nusername = "a"\n', {}),
        ('[store]\nurl = "postgresql+psycopg://u@127.0.0.1:1/d"\n', {}),
        # The secret is elsewhere.
        ("[server]\nmax_body = 5000\n", {"RECEIPTD_API__TOKEN": '[{"name": "a", "token": "t"}]'}),
    ],
)
def test_a_configuration_without_secrets_may_be_readable(tmp_path, monkeypatch, config, variables):
    file = tmp_path / "receiptd.toml"
    file.write_text(config)
    file.chmod(0o644)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert exposed(file, load(file)) is None


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o660])
def test_others_alone_are_meant(tmp_path, mode):
    file = tmp_path / "receiptd.toml"
    file.write_text(CSOFT)
    file.chmod(mode)
    assert exposed(file, load(file)) is None


class WorldReadable(Server):
    """A server whose configuration every user can read."""

    def start(self) -> None:
        self.config.chmod(0o644)
        super().start()


@pytest.mark.parametrize(
    ("config", "options"),
    [
        (CSOFT, ["--allow-readable-config"]),
        ("[server]\nallow_readable_config = true\n" + CSOFT, []),
    ],
)
def test_it_can_be_allowed(tmp_path, config, options):
    server = WorldReadable(tmp_path, config, "tcp:0:interface=127.0.0.1", options)
    assert server.stop() == 0


def test_a_reload_is_refused_as_well(serve):
    server = serve(CSOFT)
    server.config.chmod(0o644)
    server.process.send_signal(signal.SIGHUP)
    wait_until(lambda: "the old one stays in force" in server.log, "it is refused")
    assert "every user can read it" in server.log
