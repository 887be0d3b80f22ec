"""The token that the server makes where none is configured, and the file that it is in."""

from __future__ import annotations

import os
import re
import signal
import stat
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import pytest

from kit.api import call
from kit.command_line import run
from kit.server import wait_until
from kit.wire import get
from receiptd.web import token_file
from receiptd.web.token_file import NoTokenFile, TokenFileError, read, read_or_make

RECEIPTS = "/api/v1/receipts"


def mode(path):
    """The bits of who may do what."""
    return stat.S_IMODE(path.stat().st_mode)


def command(server, *options):
    """`receiptd api-token` by the server's own configuration."""
    return run(
        *("api-token", "--config", str(server.config)),
        *("--database", f"sqlite:///{server.database}", *options),
    )


def test_the_first_start_makes_a_token_that_only_its_owner_can_read(serve):
    server = serve()
    file = Path(f"{server.database}-api-token")
    assert re.fullmatch(r"[A-Za-z0-9_-]{43}\n", file.read_text())
    assert mode(file) == 0o600
    assert f"made a token for the API and /metrics: {file}" in server.log
    assert f"ask for a token in {file} (receiptd api-token prints it)" in server.log
    assert server.token not in server.log
    assert not list(server.folder.glob(".*api-token*")), "nothing is left over"


def test_the_command_prints_it_and_it_stays_over_a_restart(serve):
    server = serve()
    done = command(server)
    assert (done.exit_code, done.stdout) == (0, f"{server.token}\n")
    server.stop()
    server.start()
    assert command(server).stdout == done.stdout
    assert (
        get(server.port, "/metrics", [f"Authorization: Bearer {done.stdout.strip()}"]).status
        == 200
    )


def test_without_a_file_the_command_says_where_it_would_be_and_what_to_do(monkeypatch, tmp_path):
    database = tmp_path / "other.db"
    monkeypatch.chdir(tmp_path)
    done = run("api-token", "--database", f"sqlite:///{database}")
    assert (done.exit_code, done.stdout) == (1, "")
    assert f"{database}-api-token: there is no such file yet" in done.stderr
    assert "receiptd serve" in done.stderr


def test_where_tokens_are_configured_no_file_is_made_and_the_command_says_so(serve):
    server = serve('[[api.token]]\nname = "billing"\ntoken = "secret-text"\n')
    assert not list(server.folder.glob("*api-token*"))
    done = command(server)
    assert (done.exit_code, done.stdout) == (1, "")
    assert "billing" in done.stderr
    assert "secret-text" not in done.stderr


def test_deleting_the_file_and_a_reload_make_another_token_for_all_workers(serve):
    server = serve(options=("--workers", "2"))
    old = server.bearer
    file = Path(f"{server.database}-api-token")
    file.unlink()
    server.process.send_signal(signal.SIGHUP)
    wait_until(file.exists, "another token is made")
    for token, status in ((old, 401), (server.bearer, 200)):
        # Each worker in its own time, and twenty answers may be one worker's.
        wait_until(
            lambda token=token, status=status: all(
                get(server.port, "/metrics", token).status == status for _ in range(20)
            ),
            "no worker goes by the old one",
        )
    assert mode(file) == 0o600


def test_a_link_in_its_place_is_not_followed_and_receipts_are_taken_all_the_same(serve, tmp_path):
    folder = tmp_path / "server"
    folder.mkdir()
    target = tmp_path / "target"
    target.write_text("a" * 43)
    (folder / "receipts.db-api-token").symlink_to(target)
    server = serve(folder=folder)
    assert "is a symbolic link" in server.log
    assert "the API and /metrics answer nobody" in server.log
    header = {"Authorization": "Bearer " + "a" * 43}
    assert call(server, RECEIPTS, headers=header).status == 401
    assert get(server.port, "/readyz").status == 200
    assert command(server).exit_code == 1


def test_a_file_that_others_can_read_is_taken_from_them(tmp_path):
    file = tmp_path / "api-token"
    token = read_or_make(file).token
    file.chmod(0o644)
    assert "others could read it (mode 0644)" in read(file).warning
    assert mode(file) == 0o644, "looking changes nothing"
    found = read_or_make(file)
    assert (found.token, found.made) == (token, False)
    assert "others could read it" in found.warning
    assert mode(file) == 0o600
    assert read_or_make(file).warning == ""


def test_a_file_that_others_can_write_is_refused(tmp_path):
    file = tmp_path / "api-token"
    read_or_make(file)
    for bits in (0o660, 0o602):
        file.chmod(bits)
        with pytest.raises(TokenFileError, match="others can write to it"):
            read_or_make(file)


@pytest.mark.parametrize(
    "content", [b"", b"\n", b"short", b"a" * 43 + b"\nb", b"a b" * 20, b"\xff" * 43, b"a" * 10_000]
)
def test_what_is_no_token_is_refused_with_what_to_do(tmp_path, content):
    file = tmp_path / "api-token"
    file.write_bytes(content)
    file.chmod(0o600)
    with pytest.raises(TokenFileError, match=r"holds no token .* delete it"):
        read_or_make(file)


def test_what_is_no_file_is_refused(tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe, 0o600)
    for path in (tmp_path, pipe):
        with pytest.raises(TokenFileError, match="is no regular file"):
            read_or_make(path)


def test_a_folder_that_is_missing_is_made_for_its_owner_alone(tmp_path):
    file = tmp_path / "spool" / "api-token"
    with pytest.raises(NoTokenFile):
        read(file)
    assert read_or_make(file).made
    assert mode(file.parent) == 0o700


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_anothers_file_is_refused_unless_the_folder_is_theirs_too(tmp_path):
    folder = tmp_path / "folder"
    file = folder / "api-token"
    token = read_or_make(file).token
    os.chown(file, 12345, 12345)
    with pytest.raises(TokenFileError, match="belongs to the user 12345"):
        read_or_make(file)
    os.chown(folder, 12345, 12345)
    assert read_or_make(file).token == token


def _made(path):
    found = read_or_make(path)
    return found.token, found.made


def test_processes_that_start_at_once_all_get_the_same_token(tmp_path):
    with ProcessPoolExecutor(4) as processes:
        for number in range(20):
            file = tmp_path / f"api-token-{number}"
            found = list(processes.map(_made, [file] * 8))
            assert len({token for token, _ in found}) == 1
            assert sum(made for _, made in found) == 1
    assert len(list(tmp_path.iterdir())) == 20, "nothing is left over"


def test_with_postgresql_it_is_in_the_spool(serve, new_postgresql_database, tmp_path):
    url = new_postgresql_database()
    spool = tmp_path / "spool"
    server = serve(f'[store]\nspool = "{spool}"\n', options=("--database", url))
    file = spool / token_file.NAME
    assert mode(file) == 0o600
    header = [f"Authorization: Bearer {file.read_text().strip()}"]
    assert get(server.port, RECEIPTS, header).status == 200
