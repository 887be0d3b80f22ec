"""The commands about the spool: `spool status`, `spool drain`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from receiptd.cli.options import Failed, config_option, database_option, load, store
from receiptd.cli.output import json_array, say, short_time, table

if TYPE_CHECKING:
    from sqlalchemy import Engine

    from receiptd.config import Config
    from receiptd.store.spool.drainer import Drainer
    from receiptd.store.spool.folder import Spool
    from receiptd.store.spool.survey import SegmentState

_HELD = "in use"
_LEFT = "left behind"
"""Whether a process holds the file. That process drains it."""

_UNREADABLE = "unreadable"

_SET_ASIDE = "set aside"
"""Of a file of records that could not be stored."""


@click.group()
def spool() -> None:
    """Posts that wait on disk until the database answers again.

    While the database does not answer, the server acknowledges posts and keeps them in the files
    of the spool. It stores them by itself as soon as it can, also those that an earlier server
    left behind.
    """


@spool.command()
@click.option("--json", "as_json", is_flag=True, help="Print one JSON array, an item per file.")
@config_option
@database_option
def status(as_json: bool, file: Path | None, database: str | None) -> None:
    """Show what is in the spool, file by file. It changes nothing and needs no database.

    The exit code is 1 if a file cannot be read. The other files are counted all the same.

    \b
    Examples:
      receiptd spool status
      receiptd spool status --json --config /etc/receiptd.toml
    """
    config = load(file, database)
    from receiptd.daemon.rules import spool_folder
    from receiptd.store.rows import time
    from receiptd.store.spool.survey import survey

    folder = spool_folder(config)
    try:
        segments = survey(folder)
    except FileNotFoundError:
        # This is not an empty spool: the user may be looking in the wrong place.
        raise Failed(
            f"{folder}: no such folder. A server makes it when it starts. If your server uses "
            "another folder, name the server's configuration with --config FILE"
        ) from None
    except PermissionError:
        raise Failed(
            f"{folder}: cannot be read by this user. Run this as the user that the server "
            "serves as: sudo -u USER receiptd spool status"
        ) from None
    except OSError as error:
        raise Failed(f"{error.filename or folder}: cannot be read: {error.strerror}") from None
    items = [
        {
            "file": str(folder / each.name),
            "in_use": each.held,
            "posts": each.records,
            "bytes": each.bytes,
            "oldest": time(each.oldest),
            "newest": time(each.newest),
            "damaged": each.damaged,
            "set_aside": each.set_aside,
            "error": each.error,
        }
        for each in segments
    ]
    if as_json:
        json_array(items)
    elif not items:
        say(f"{folder}: the spool is empty: everything that came is in the database")
    else:
        say(f"{folder}:")
        table(
            ("file", "state", "posts", "bytes", "oldest", "newest"),
            (
                (
                    each.name,
                    _state(each),
                    f"{each.records}, damaged" if each.damaged else each.records,
                    each.bytes,
                    short_time(time(each.oldest)),
                    short_time(time(each.newest)),
                )
                for each in segments
            ),
        )
    if not as_json:
        _tell_kept(folder)
    if unread := [each for each in segments if each.error]:
        raise Failed(
            "\n".join(f"{folder / each.name}: cannot be read: {each.error}" for each in unread)
        )


def _state(surveyed: SegmentState) -> str:
    if surveyed.error:
        return _UNREADABLE
    if surveyed.set_aside:
        return _SET_ASIDE
    return _HELD if surveyed.held else _LEFT


@spool.command()
@config_option
@database_option
def retry(file: Path | None, database: str | None) -> None:
    """Try again to store posts that were set aside. First mend the cause.

    A post that was acknowledged and cannot be stored is kept in a file that ends in .refused.
    This command takes those files into the spool again and drains it. What still cannot be
    stored is set aside again; then the exit code is 1.

    \b
    Examples:
      receiptd spool retry
      receiptd spool retry --config /etc/receiptd.toml
    """
    config = load(file, database)
    from receiptd.daemon.rules import spool_folder
    from receiptd.store.spool.folder import Spool

    files = Spool(spool_folder(config))
    with store(config, writes=True) as engine:
        drainer = _drainer(config, files, engine)
        try:
            records = files.readmit()
            _drain(drainer)
        except OSError as error:
            raise Failed(f"{error.filename or files.folder}: {error.strerror}") from None
        finally:
            files.close()
    click.echo(f"{files.folder}: {records} posts taken again, {_counts(drainer)}")
    if drainer.set_aside:
        raise Failed(
            f"{drainer.set_aside} posts cannot be stored; to see why: receiptd rejected list"
        )


@spool.command()
@config_option
@database_option
def drain(file: Path | None, database: str | None) -> None:
    """Store what earlier servers left in the spool. A running server does this by itself.

    It leaves the files of a running server alone. The exit code is 1 if the database does not
    answer; what is not stored yet then stays in the spool.

    \b
    Examples:
      receiptd spool drain
      receiptd spool drain --config /etc/receiptd.toml
    """
    config = load(file, database)
    from receiptd.daemon.rules import spool_folder
    from receiptd.store.spool.folder import Spool

    files = Spool(spool_folder(config))
    with store(config, writes=True) as engine:
        files.adopt()
        drainer = _drainer(config, files, engine)
        try:
            _drain(drainer)
        except OSError as error:
            raise Failed(f"{error.filename or files.folder}: {error.strerror}") from None
        finally:
            files.close()
            say(f"{files.folder}: {_counts(drainer)}")
    _tell_kept(files.folder)
    if in_use := len(set(files.folder.glob("*.spool")) - set(files.unusable)):
        say(f"files in use by a running receiptd, which drains them: {in_use}")
    if files.unusable:
        raise Failed("\n".join(f"{path}: {text}" for path, text in files.unusable.items()))


def _drain(drainer: Drainer) -> None:
    """Store all that is there. What fails for an unclear reason is tried again, at once, until it
    is stored or set aside.

    :raises Exception: where the database does not answer.
    """
    from receiptd.store.database.errors import Blame, blame

    while True:
        try:
            if not drainer.step():
                return
        except Exception as error:
            if not drainer.narrows or blame(error) is not Blame.UNCLEAR:
                raise


def _tell_kept(folder: Path) -> None:
    """Point out what was set aside for people."""
    for path in sorted([*folder.glob("*.damaged"), *folder.glob("*.refused")]):
        say(f"kept for you to look at: {path}", err=True)


def _drainer(config: Config, files: Spool, engine: Engine) -> Drainer:
    """A drainer by the rules of the configured server."""
    from receiptd.daemon.rules import policies, quota
    from receiptd.store.database.write_turns import WriteTurns
    from receiptd.store.recorder import Recorder
    from receiptd.store.spool.drainer import Drainer

    recorder = Recorder(engine, policies=policies(config), quota=quota(config))
    return Drainer(files, recorder, WriteTurns(engine).take)


def _counts(drainer: Drainer) -> str:
    text = f"{drainer.stored} posts stored"
    if drainer.set_aside:
        text += f", {drainer.set_aside} cannot be stored and are kept in a .refused file"
    return text
