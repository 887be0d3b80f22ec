"""Shells complete commands, options and their values: real shells, where they are installed."""

from __future__ import annotations

import os
import pty
import shutil
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest

from kit.command_line import run
from kit.server import environment, wait_until

HERE = environment() | {
    "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
    "TERM": "dumb",
    "LC_ALL": "C.UTF-8",
}

BASH = """
. <(receiptd completion bash)
complete -p receiptd | grep -q _receiptd_completion
complete() {
    COMP_WORDS=("$@") COMP_CWORD=$(($# - 1)) COMPREPLY=()
    _receiptd_completion receiptd
    echo "${COMPREPLY[*]}"
}
complete receiptd rece
complete receiptd receipts t
complete receiptd receipts list --recip
complete receiptd receipts list --state undel
complete receiptd simulate cs
complete receiptd contrib prom
complete receiptd completion f
"""

COMPLETED = [
    "receipts",
    "tail",
    "--recipient",
    "UNDELIVERABLE",
    "csoft",
    "prometheus prometheus/alerts.yml",
    "fish",
]

FISH = """
receiptd completion fish | source
complete -C 'receiptd rece'
complete -C 'receiptd receipts list --recip'
"""


def shell(name: str) -> str:
    """The shell's program."""
    program = shutil.which(name)
    if program is None:
        pytest.skip(f"{name} is not on this machine")
    return program


def test_bash_completes_commands_options_and_values():
    done = subprocess.run(
        [shell("bash"), "-euc", BASH], capture_output=True, text=True, env=HERE, check=True
    )
    assert [line.strip() for line in done.stdout.splitlines()] == COMPLETED


def test_fish_completes_with_what_each_word_is_for(tmp_path):
    done = subprocess.run(
        [shell("fish"), "--no-config", "--command", FISH],
        capture_output=True,
        text=True,
        env=HERE | {"HOME": str(tmp_path)},
        check=True,
    )
    command, option = (line.split("\t") for line in done.stdout.splitlines())
    assert (command[0], option[0]) == ("receipts", "--recipient")
    assert len(command[1]) > 5


def test_zsh_completes_at_the_press_of_a_key(tmp_path):
    """In a terminal, since zsh completes nowhere else."""
    ours, theirs = pty.openpty()
    child = subprocess.Popen(
        [shell("zsh"), "-f", "-i"],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        cwd=tmp_path,
        env=HERE | {"HOME": str(tmp_path), "PS1": "ready> "},
        start_new_session=True,
    )
    os.close(theirs)
    os.set_blocking(ours, False)
    shown = ""

    def shows(text: str) -> bool:
        nonlocal shown
        with suppress(BlockingIOError):
            shown += os.read(ours, 65536).decode(errors="replace")
        return text in shown

    try:
        os.write(
            ours, b"autoload -U compinit && compinit -u -D && receiptd completion zsh >script\n"
        )
        os.write(ours, b". ./script && echo 'all '$((1 + 2))\n")
        wait_until(lambda: shows("all 3"), "zsh has read the script")
        shown = ""
        os.write(ours, b"receiptd compl\t")
        wait_until(lambda: shows("receiptd completion"), "zsh completes the command")
    finally:
        os.close(ours)
        child.kill()
        child.wait()


@pytest.mark.parametrize("name", ["bash", "zsh", "fish"])
def test_the_script_is_on_standard_output(name):
    result = run("completion", name)
    assert result.exit_code == 0
    assert "_RECEIPTD_COMPLETE" in result.stdout


def test_a_shell_that_it_does_not_know_is_wrong_use():
    result = run("completion", "tcsh")
    assert result.exit_code == 2
    assert "'bash', 'zsh', 'fish'" in result.stderr
