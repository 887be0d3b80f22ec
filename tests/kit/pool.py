"""Servers that the tests of a module use one after another: to start one takes a second."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from kit.server import DEADLINE, Server

_EMPTIED = ("events", "receipts", "messages", "aliases", "rejected_posts", "sqlite_sequence")


class Pool:
    """Running servers by their configuration.

    Who takes one finds its database empty and its log at its beginning, as if it had just
    started. What a server counts stays: a test that looks at /metrics needs a server of its own.
    """

    def __init__(self, new_folder: Callable[[], Path]) -> None:
        self._new_folder = new_folder
        self._servers: dict[tuple[str, tuple[str, ...], bool], Server] = {}

    def take(
        self, config: str = "", *, options: tuple[str, ...] = (), registers: bool = False
    ) -> Server:
        """A server of this configuration.

        :param registers: whether the test begins by registering messages. A server remembers
            for which providers there ever were messages, and matches their receipts from then
            on. So such tests share a server among themselves only.
        """
        key = (config, options, registers)
        server = self._servers.get(key)
        if server is not None and _made_new(server, registers):
            server.log_begins = server.log_file.stat().st_size
            return server
        if server is not None:
            server.kill()
        self._servers[key] = Server(
            self._new_folder(), config, "tcp:0:interface=127.0.0.1", list(options)
        )
        return self._servers[key]

    def close(self) -> None:
        """End them all."""
        for server in self._servers.values():
            server.kill()


def _made_new(server: Server, registers: bool) -> bool:
    """Whether the server could be made as if it had just started."""
    if server.process.poll() is not None:
        return False
    with closing(sqlite3.connect(server.database, timeout=DEADLINE)) as connection, connection:
        if not registers and connection.execute("SELECT 1 FROM matching").fetchone():
            return False
        for table in _EMPTIED:
            connection.execute(f"DELETE FROM {table}")
    return True
