"""Reading a SQLite database without the right to write it.

SQLite reads a database in write-ahead log mode together with its files `-wal` and `-shm`. While a
server runs they are there, and the right to read them is enough. A server that ends removes them,
and SQLite wants to make them again, which a reader may not. Then nobody writes. So the file is
read as one that does not change (`immutable`), until there is a log again.

Source: https://www.sqlite.org/wal.html, "Read-Only Databases".
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any
from urllib.parse import quote

from sqlalchemy import Engine, event
from sqlalchemy.exc import DisconnectionError

from receiptd.store.database.errors import file_of

_IMMUTABLE = "receiptd-immutable"
"""The entry of a connection's `info` for a database that is read as one that does not change."""


def let_read(engine: Engine) -> None:
    """Have `engine`, a reader's, read SQLite's file also where it may not write there."""
    file = file_of(engine.url)
    if file is None or engine.url.query.get("uri"):
        return
    log = Path(f"{file}-wal")

    def connecting(_dialect: Any, record: Any, arguments: list[Any], options: Any) -> None:
        record.info[_IMMUTABLE] = not log.exists() and not os.access(
            file.parent, os.W_OK, effective_ids=True
        )
        if record.info[_IMMUTABLE]:
            arguments[0] = f"file:{quote(str(file))}?immutable=1"
            options["uri"] = True

    def used(_connection: Any, record: Any, _proxy: Any) -> None:
        if record.info[_IMMUTABLE] and log.exists():
            raise DisconnectionError(f"{file} changes again")

    event.listen(engine, "do_connect", connecting)
    event.listen(engine, "checkout", used)
