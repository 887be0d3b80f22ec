"""What may not be used again: codes that have opened the console, and sessions that were ended.

Each is an empty file, made beside the token file. Only one process can make a file, so of several
workers only one lets a code in, and a server that was restarted still knows it.
"""

from __future__ import annotations

import os
from contextlib import suppress
from hashlib import sha256
from itertools import islice
from pathlib import Path
from time import time

from receiptd.config import Config
from receiptd.config.console import LONGEST_SESSION
from receiptd.web import token_file

KEPT = LONGEST_SESSION.total_seconds() + 3600
"""Seconds after which nothing that is remembered could be used anyway."""

MOST_LOOKED_AT = 1000
"""Files that are looked at for old ones at a time."""


class Spent:
    """The folder of these files. Called in a reader's thread."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    @classmethod
    def of(cls, config: Config) -> Spent:
        """The folder of a server with this configuration."""
        file = token_file.place(config)
        name = file.name.removesuffix(token_file.NAME) + "console"
        return cls(file.with_name(name))

    def spend(self, name: str) -> bool:
        """Use `name` up; whether it had not been used before.

        :raises OSError: where that cannot be written down, and so must not count.
        """
        self._folder.mkdir(mode=0o700, exist_ok=True)
        self._delete_old()
        try:
            flags = os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC
            os.close(os.open(self._file(name), flags, 0o600))
        except FileExistsError:
            return False
        return True

    def is_spent(self, name: str) -> bool:
        """Whether `name` was used up."""
        return self._file(name).exists()

    def _file(self, name: str) -> Path:
        return self._folder / sha256(name.encode()).hexdigest()[:40]

    def _delete_old(self) -> None:
        before = time() - KEPT
        with suppress(OSError), os.scandir(self._folder) as entries:
            for entry in islice(entries, MOST_LOOKED_AT):
                with suppress(OSError):
                    if entry.stat(follow_symlinks=False).st_mtime < before:
                        Path(entry.path).unlink()
