"""The command line: what each command is called and takes; what it does lies in the other rooms.

`receiptd --version` and every help text answer at once, so nothing heavy (pydantic, SQLAlchemy,
Twisted, rich) is imported before a command needs it: a rule for all modules of this package.
"""

from __future__ import annotations

import sys
from io import TextIOWrapper

import click

from receiptd import __version__
from receiptd.cli.api_token import api_token
from receiptd.cli.check_config import check_config
from receiptd.cli.completion import completion
from receiptd.cli.console import console
from receiptd.cli.contrib import contrib
from receiptd.cli.copying import copy
from receiptd.cli.daemon import forwarder, init, serve, upgrade, worker
from receiptd.cli.dead_letters import dead
from receiptd.cli.easysms import easysms_url
from receiptd.cli.exporting import export
from receiptd.cli.forgetting import forget
from receiptd.cli.forward import forward
from receiptd.cli.group import CommandLine
from receiptd.cli.health import health
from receiptd.cli.lists import receipts, rejected
from receiptd.cli.messages import message
from receiptd.cli.pruning import prune
from receiptd.cli.receipt_import import import_receipts
from receiptd.cli.rejected_posts import delete, retry
from receiptd.cli.replays import replay, replays
from receiptd.cli.simulation import simulate
from receiptd.cli.spool import spool
from receiptd.cli.statistics import stats
from receiptd.cli.tail import tail
from receiptd.cli.trying import try_request

__all__ = ["main"]


@click.group(
    cls=CommandLine,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(__version__, prog_name="receiptd", message="%(prog)s %(version)s")
def main() -> None:
    """Receives SMS delivery receipts and keeps every one of them.

    \b
    Start here:
      receiptd serve                   serve every provider on 127.0.0.1:8080
      receiptd simulate csoft --url http://127.0.0.1:8080/soap
                                       post a receipt as that provider would
      receiptd receipts list           read back what has come
      receiptd init                    write a configuration file to start from

    Exit codes: 0 done, 1 the thing asked for failed, 2 used wrongly.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            # What a terminal's encoding lacks is shown as an escape, not as a traceback.
            stream.reconfigure(errors="backslashreplace")


@main.group()
def db() -> None:
    """The database itself."""


db.add_command(upgrade)
db.add_command(copy)
receipts.add_command(tail)
receipts.add_command(export)
rejected.add_command(retry)
rejected.add_command(delete)
receipts.add_command(import_receipts)
for command in (dead, replay, replays):
    forward.add_command(command)
for command in (
    *(serve, worker, forwarder, init, check_config, api_token, console, health),
    *(message, receipts, rejected, forward, stats, prune, forget, spool),
    *(simulate, try_request, easysms_url),
    *(contrib, completion),
):
    main.add_command(command)
