"""`completion`: what a shell needs to complete receiptd's commands and options."""

from __future__ import annotations

import sys

import click
from click.shell_completion import get_completion_class

VARIABLE = "_RECEIPTD_COMPLETE"
"""By which click is asked for completions; the script of each shell sets it."""


@click.command(short_help="Print a script that completes commands in a shell.")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(ctx: click.Context, shell: str) -> None:
    """Print a script with which SHELL completes receiptd's commands, options and their values.

    The shell asks receiptd itself, so the script stays as it is when receiptd is upgraded.

    \b
    Examples:
      receiptd completion bash >~/.local/share/bash-completion/completions/receiptd
      receiptd completion zsh >"${fpath[1]}/_receiptd"
      receiptd completion fish >~/.config/fish/completions/receiptd.fish
      . <(receiptd completion bash)
    """
    kind = get_completion_class(shell)
    assert kind is not None  # click knows these three
    sys.stdout.write(kind(ctx.find_root().command, {}, "receiptd", VARIABLE).source() + "\n")
