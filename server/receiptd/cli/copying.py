"""The command `db copy`: moving a database to another place, or to another kind."""

from __future__ import annotations

from contextlib import ExitStack

import click

from receiptd.cli.options import Failed
from receiptd.cli.output import say
from receiptd.cli.progress import LEFT, progress_bar

MOST_RUNS = 5
"""How often `--finish` compares, while it finds differences."""


@click.command("copy", short_help="Copy a database into another one.")
@click.option("--from", "source", metavar="URL", required=True, help="The database to copy.")
@click.option(
    "--to", "target", metavar="URL", required=True, help="The database to copy into: a new one."
)
@click.option(
    "--finish",
    is_flag=True,
    help="Go on until both are equal, then let servers use the copy. First stop the servers of "
    "the database that is copied.",
)
def copy(source: str, target: str, finish: bool) -> None:
    """Copy a database into another one: SQLite to PostgreSQL, back, or to another place.

    Servers may use the database that is copied meanwhile. Run the command as often as you like:
    each run copies what has changed, and goes on where an earlier one was broken off. Then stop
    the servers, run it once more with --finish, and start the servers with the new database. The
    last run compares every row of both databases.

    Ids stay as they are. What is in the spool is not copied: move the spool's folder, or let the
    servers store what is in it before you stop them.

    \b
    Example:
      receiptd db copy --from sqlite:////var/lib/receiptd/receipts.db \\
          --to postgresql+psycopg://receiptd@db.example.com/receipts
    """
    from sqlalchemy.exc import DataError, SQLAlchemyError

    from receiptd.store.copying import Copied, Copy
    from receiptd.store.database.engine import check_file, open_engine
    from receiptd.store.database.errors import StoreError, cause, shown
    from receiptd.store.database.server_lock import ServerLock

    def run(work: Copy) -> Copied:
        bar = progress_bar("{task.description}", LEFT)
        if bar is None:
            return work.run()
        with bar:
            task = bar.add_task("", total=None)
            return work.run(
                lambda table, done, rows: bar.update(
                    task, description=table, completed=done, total=rows or None
                )
            )

    try:
        with ExitStack() as engines:
            check_file(source, create=False, writes=False)
            reader = open_engine(source, writes=False)
            engines.callback(reader.dispose)
            check_file(target, create=True)
            writer = open_engine(target)
            engines.callback(writer.dispose)
            if reader.url == writer.url:
                raise Failed("--from and --to are the same database")
            if finish:
                # On PostgreSQL nothing tells; what a server stores is found below.
                lock = ServerLock(source)
                lock.take()
                engines.callback(lock.release)
            work = Copy(reader, writer)
            work.begin()
            copied = run(work)
            say(f"{shown(writer.url)}: {_count(copied.rows)}; {copied.written} rows written")
            for _ in range(MOST_RUNS if finish else 0):
                if not copied.written:
                    break
                copied = run(work)
                say(f"compared again: {copied.written} rows written")
            if finish and copied.written:
                raise Failed("the database that is copied still changes: stop its servers first")
            if finish:
                work.finish()
                say("every row is the same in both: start the servers with the new database")
            else:
                say(
                    "To finish: stop the servers of the database that is copied, and run this "
                    "again with --finish"
                )
    except StoreError as error:
        raise Failed(str(error)) from None
    except DataError as error:
        raise Failed(
            f"a row cannot be stored in the new database: {cause(error)}. Mend it in the database "
            "that is copied, then run the command again"
        ) from None
    except SQLAlchemyError as error:
        raise Failed(
            f"the copy has stopped; run the command again to go on: {cause(error)}"
        ) from None


def _count(rows: dict[str, int]) -> str:
    return ", ".join(
        f"{count} {name.replace('_', ' ')}"
        for name, count in rows.items()
        if name in ("receipts", "messages", "rejected_posts")
    )
