"""The command `forget`: a person's number out of the database and the spool."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from receiptd.cli.options import Failed, config_option, database_option, load, store
from receiptd.cli.output import json_text, say
from receiptd.cli.progress import progress_bar

if TYPE_CHECKING:
    from receiptd.config import Config
    from receiptd.forget.database import Forgetting, Forgotten
    from receiptd.forget.rows import Whom
    from receiptd.forget.spool import Left


@click.command(short_help="Delete what is kept about a person.")
@click.option("--recipient", metavar="NUMBER", help="Forget what was sent to this number.")
@click.option("--sender", metavar="NUMBER", help="Forget what this number has sent.")
@click.option(
    "--region",
    metavar="CC",
    help="Read NUMBER as written in this country, such as GB. Default: those of the endpoints.",
)
@click.option(
    "--pseudonymise",
    "key_file",
    metavar="KEYFILE",
    type=click.Path(path_type=Path, dir_okay=False, readable=False),
    help="Keep the rows, with a digest in place of the number. The file has the digest's key; it "
    "is made if it is not there.",
)
@click.option("--dry-run", is_flag=True, help="Change nothing; say what would be forgotten.")
@click.option("--yes", is_flag=True, help="Do it without asking, as a script must.")
@click.option("--json", "as_json", is_flag=True, help="Print the counts as one JSON object.")
@config_option
@database_option
def forget(
    recipient: str | None,
    sender: str | None,
    region: str | None,
    key_file: Path | None,
    dry_run: bool,
    yes: bool,
    as_json: bool,
    file: Path | None,
    database: str | None,
) -> None:
    """Delete what is kept about a person, whom a phone number stands for.

    It deletes the receipts and messages to --recipient (or from --sender), the rejected posts
    that hold the number, and what waits for a destination about them, in the database and in the
    spool. Where a receipt about somebody else mentions the number, the number is blanked. With
    --pseudonymise the rows stay for statistics, with a digest in place of the number and without
    texts and posts.

    It first counts and asks. Servers may run meanwhile. What comes about this number later is
    stored as before. If something is left, such as in a file of the spool that a server holds,
    it is named and the exit code is 1; run the command again then. docs/privacy.md says what
    else there is, such as backups.

    \b
    Examples:
      receiptd forget --recipient +447700900123 --dry-run
      receiptd forget --recipient +447700900123
      receiptd forget --recipient 07700900123 --region GB --yes
      receiptd forget --recipient +447700900123 --pseudonymise /etc/receiptd/pseudonym.key
    """
    if not recipient and not sender:
        raise click.UsageError("--recipient NUMBER or --sender NUMBER: who is to be forgotten?")
    config = load(file, database)
    whom = _whom(config, recipient, sender, region)
    if not dry_run and not yes and not sys.stdin.isatty():
        raise click.UsageError(
            "this deletes, and it cannot ask first: standard input is not a terminal. Give --yes, "
            "or --dry-run to see what would be deleted"
        )
    if key_file is not None:
        whom = _with_pseudonyms(whom, key_file, dry_run)
    if dry_run or not yes:
        counts, left = _run(config, whom, dry_run=True)
        if dry_run:
            _tell(counts, left, as_json, "would forget", not whom.person.searched)
            return
        say(_text(counts), err=True)
        if not click.confirm("Forget all this? This cannot be undone", err=True):
            raise Failed("nothing was changed")
    counts, left = _run(config, whom, dry_run=False)
    _tell(counts, left, as_json, "forgot", not whom.person.searched)
    if left:
        raise Failed("\n".join(f"left: {each}" for each in left))


def _whom(config: Config, recipient: str | None, sender: str | None, region: str | None) -> Whom:
    """
    :raises click.UsageError: where the options name no person, or two.
    """
    from receiptd.daemon.rules import phone_regions
    from receiptd.forget.person import NotANumber, Person
    from receiptd.forget.rows import Whom

    regions = phone_regions(config)
    if region is not None:
        import phonenumbers

        region = region.upper()
        if region not in phonenumbers.SUPPORTED_REGIONS:
            raise click.UsageError(f"--region: {region!r} is no country such as GB")
    # With a region alone: a national number would be another one if it were read internationally.
    read_as = regions if region is None else {region}
    try:
        person = Person(recipient or sender or "", read_as, regions)
        if recipient and sender and Person(sender, read_as).keys != person.keys:
            raise click.UsageError("--recipient and --sender: one person at a time")
    except NotANumber as error:
        raise click.UsageError(str(error)) from None
    return Whom(person, recipient=bool(recipient), sender=bool(sender))


def _with_pseudonyms(whom: Whom, path: Path, dry_run: bool) -> Whom:
    """
    :raises Failed: where the key cannot be used.
    """
    from dataclasses import replace

    from receiptd.forget.pseudonyms import KeyFileError, Pseudonyms, read_or_make

    if dry_run and not path.exists():
        return replace(whom, pseudonyms=Pseudonyms(b"none yet"))
    try:
        pseudonyms, made = read_or_make(path)
    except KeyFileError as error:
        raise Failed(str(error)) from None
    if made:
        say(f"{path}: made, with a new key. Keep it: it gives a number its pseudonym", err=True)
    return replace(whom, pseudonyms=pseudonyms)


def _run(config: Config, whom: Whom, *, dry_run: bool) -> tuple[Forgotten, list[str]]:
    """Go through the spool and the database; returns the counts, and what is left."""
    from receiptd.daemon.rules import spool_folder
    from receiptd.forget.database import Forgetting
    from receiptd.forget.spool import forget as forget_spool

    left: list[str] = []
    # The spool first: what a server drains meanwhile is found in the database then.
    folder = spool_folder(config)
    with store(config, writes=not dry_run) as engine:
        try:
            spooled = forget_spool(folder, whom, dry_run=dry_run)
        except OSError as error:
            raise Failed(f"{error.filename or folder}: {error.strerror}") from None
        left += map(_left, spooled.left)
        forgetting = Forgetting(engine, whom, dry_run=dry_run)
        forgetting.forgotten.spool = spooled.records
        try:
            _watch(forgetting)
        except KeyboardInterrupt:
            left.append("interrupted: run this again")
        if not forgetting.log_truncated:
            left.append(
                "SQLite's write-ahead log (-wal) still has what was deleted, since somebody reads "
                "the database: run this again later"
            )
    return forgetting.forgotten, left


def _left(left: Left) -> str:
    return f"{left.path}: {left.why}"


def _text(counts: Forgotten) -> str:
    return ", ".join(f"{count} {name.replace('_', ' ')}" for name, count in counts)


def _tell(
    counts: Forgotten, left: list[str], as_json: bool, verb: str, columns_only: bool
) -> None:
    if as_json:
        say(json_text({**dict(counts), "left": left}, indent=2))
        return
    say(f"{verb}: {_text(counts)}")
    if columns_only:
        say("the number is too short to be looked for within texts and posts", err=True)
    if verb != "forgot":
        for each in left:
            say(f"would be left: {each}", err=True)


def _watch(forgetting: Forgetting) -> None:
    """Run, with a progress bar on a terminal."""
    bar = progress_bar("{task.description}")
    if bar is None:
        forgetting.run()
        return
    with bar as progress:
        tasks = {}

        def watch(table: str, done: int, ids: int) -> None:
            if table not in tasks:
                tasks[table] = progress.add_task(table.replace("_", " "))
            progress.update(tasks[table], completed=done, total=ids)

        forgetting.run(watch)
