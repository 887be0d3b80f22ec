"""A real server in a process of its own, and the samples of what providers send it."""

from __future__ import annotations

import os
import re
import resource
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from functools import cache
from pathlib import Path
from typing import IO, Any, TypeVar

from sqlalchemy import create_engine, select

from kit.warm import Process
from receiptd.store.database.engine import open_engine
from receiptd.store.database.migrating import upgrade
from receiptd.store.posts import whole
from receiptd.store.rows import receipt_json, rejection_json
from receiptd.store.schema import receipts, rejected_posts

SAMPLES = Path(__file__).parents[1] / "samples"

CSOFT = """
[[endpoint]]
provider = "csoft"
path = "/soap"
username = "ANOther.61234"
pin = "BLUE.music"
"""
"""The endpoint that the vendor's own examples are for."""

DEADLINE = 45.0
"""Seconds that any awaited thing may take, on the slowest machine."""

SOON = 20.0
"""Seconds within which happens what has a limit of its own, of a few seconds. It is longer than on
the slowest machine, and shorter than what would be waited for without that limit."""

PATH = os.environ.get("PYTHONPATH")
"""Where this process finds modules beside the installed ones."""

T = TypeVar("T")


def wait_until(condition: Callable[[], T], what: str, deadline: float | None = None) -> T:
    """The first truthy value of `condition`; fails where none comes before the deadline, which is
    `DEADLINE` unless given."""
    deadline = deadline or DEADLINE
    end = time.monotonic() + deadline
    pause = 0.005
    while not (value := condition()):
        assert time.monotonic() < end, f"{what}: not within {deadline} s"
        time.sleep(pause)
        pause = min(pause * 1.2, 0.1)  # what takes long need not be asked for all the time
    return value


@cache
def new_database() -> bytes:
    """A SQLite database as a server makes it where there is none: to copy it takes a tenth of the
    time that to make it takes."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "receipts.db"
        engine = open_engine(f"sqlite:///{file}")
        upgrade(engine)
        engine.dispose()
        return file.read_bytes()


class Server:
    """A `receiptd serve` in a process of its own."""

    last_line = "the API and /metrics"
    """What the last line of its start begins with."""
    log_begins = 0
    """Where in its file `log` begins."""

    def __init__(self, folder: Path, config: str, listen: str, options: list[str]) -> None:
        self.folder = folder
        self.config = folder / "receiptd.toml"
        self.config.write_text(config)
        self.config.chmod(0o600)
        self.database = folder / "receipts.db"
        if not self.database.exists() and "user =" not in config:
            self.database.write_bytes(new_database())
            self.database.chmod(0o640)
        self.log_file = folder / "log"
        self._arguments = [
            *(sys.executable, "-m", "receiptd", "serve", "--config", str(self.config)),
            *("--listen", listen, "--database", f"sqlite:///{self.database}", *options),
        ]
        self.start()

    def start(self) -> None:
        """Start, or start again on the same database, and wait until it listens."""
        with self.log_file.open("ab") as log:
            offset = log.tell()
            self.process: subprocess.Popen[bytes] | Process = self.spawn(self._arguments, log)

        def listening() -> re.Match[str] | None:
            text = self.log_file.read_bytes()[offset:].decode()
            assert self.process.poll() is None, f"the server ended:\n{text}"
            # Up to the last line of its start: a test may look for any of them.
            listens = re.search(r"listening on (http://127\.0\.0\.1:(\d+))", text)
            return listens if self.last_line in text else None

        try:
            found = wait_until(listening, "the server listens")
        except BaseException:
            # No fixture knows of it yet, and one that listens late would run for ever.
            self.kill()
            raise
        self.url, self.port = found[1], int(found[2])

    @property
    def token(self) -> str | None:
        """The token that it has made for the API; None where tokens are configured."""
        files = [Path(f"{self.database}-api-token"), *self.folder.glob("*/api-token")]
        found = [file.read_text().strip() for file in files if file.exists()]
        configured = self.config.exists() and "[[api.token]]" in self.config.read_text()
        return found[0] if found and not configured else None

    @property
    def bearer(self) -> list[str]:
        """The header line with that token."""
        return [f"Authorization: Bearer {self.token}"]

    def spawn(self, arguments: list[str], log: IO[bytes]) -> subprocess.Popen[bytes] | Process:
        """Start a process that logs to `log`."""
        program, arguments = arguments[:3], arguments[3:]
        warm = (
            program == [sys.executable, "-m", "receiptd"] and os.environ.get("PYTHONPATH") == PATH
        )
        if not warm:
            return subprocess.Popen(
                [*program, *arguments], cwd=self.folder, stdout=log, stderr=log, env=environment()
            )
        with open(os.devnull, "rb") as nothing:  # noqa: PTH123 - a device
            streams = (nothing.fileno(), log.fileno(), log.fileno())
            return Process(arguments, streams, cwd=self.folder, env=environment())

    def processes(self) -> list[int]:
        """The processes that serve: the workers, where there are any."""
        own = self.process.pid
        children = Path(f"/proc/{own}/task/{own}/children").read_text().split()
        return [int(each) for each in children] or [own]

    @property
    def log(self) -> str:
        """What it has logged: where tests take turns on it, during this one."""
        return self.log_file.read_bytes()[self.log_begins :].decode()

    def receipts(self) -> list[dict[str, Any]]:
        """All stored receipts, by the keys used everywhere, oldest first."""
        return self._rows(receipts, receipt_json)

    def rejected(self) -> list[dict[str, Any]]:
        """All posts that were kept though rejected, oldest first."""
        return self._rows(rejected_posts, rejection_json)

    def _rows(self, table: Any, shape: Callable[[Any], dict[str, Any]]) -> list[dict[str, Any]]:
        engine = open_engine(f"sqlite:///{self.database}", writes=False)
        with engine.connect() as connection:
            rows = connection.execute(whole(table).order_by(table.c.id)).mappings().all()
        engine.dispose()
        return [shape(row) for row in rows]

    def everything_kept(self) -> bytes:
        """Every byte it has written, into the database, the spool or the log."""
        files = (file for file in self.folder.rglob("*") if file.is_file())
        return b"".join(file.read_bytes() for file in files if file != self.config)

    def stop(self) -> int:
        """Ask it to end; its exit code."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        return self.process.wait(DEADLINE)

    def kill(self) -> None:
        """End it at once, as a crash would."""
        self.process.kill()
        self.process.wait(DEADLINE)


def stored(url: str) -> list[str]:
    """The message identifiers of all receipts in a database, in the order they were stored."""
    engine = create_engine(url)
    with engine.connect() as connection:
        found = list(connection.scalars(select(receipts.c.message_id).order_by(receipts.c.id)))
    engine.dispose()
    return found


@contextmanager
def locked(server: Server) -> Iterator[None]:
    """As long as another process has the database's turn to write."""
    with closing(sqlite3.connect(server.database, isolation_level=None, timeout=20)) as other:
        other.execute("BEGIN IMMEDIATE")
        yield
        other.execute("ROLLBACK")


def resident(process_id: int) -> int:
    """A process's resident memory in bytes."""
    pages = int(Path(f"/proc/{process_id}/statm").read_text().split()[1])
    return pages * resource.getpagesize()


def environment() -> dict[str, str]:
    """This process's environment without receiptd's own variables."""
    return {key: value for key, value in os.environ.items() if not key.startswith("RECEIPTD_")}
