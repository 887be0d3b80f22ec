"""A real PgBouncer in front of a PostgreSQL, in transaction mode."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any

from sqlalchemy import make_url

from kit.server import wait_until

PROGRAM = shutil.which("pgbouncer") or shutil.which("pgbouncer", path="/usr/sbin")


class PgBouncer:
    """Gives each transaction to any of `size` connections to the server of `url`."""

    def __init__(self, url: str, *, size: int = 3) -> None:
        # Like the PostgreSQL of the tests, it does not run as root, and it needs a folder outside
        # of root's.
        self.folder = Path(tempfile.mkdtemp(prefix="receiptd-pgb-"))
        server: Any = make_url(url)
        socket = server.query["host"]
        port = server.query.get("port", server.port or 5432)
        (self.folder / "users").write_text(f'"{server.username}" ""\n')
        (self.folder / "ini").write_text(
            f"[databases]\n* = host={socket} port={port}\n"
            "[pgbouncer]\npool_mode = transaction\nauth_type = trust\n"
            f"auth_file = {self.folder}/users\ndefault_pool_size = {size}\n"
            f"listen_addr =\nunix_socket_dir = {self.folder}\nlisten_port = 6432\n"
            f"logfile = {self.folder}/log\n"
        )
        command = [PROGRAM, str(self.folder / "ini")]
        if os.getuid() == 0:
            owner = Path(socket).stat().st_uid
            os.chown(self.folder, owner, -1)
            command[1:1] = ["--user", pwd.getpwuid(owner).pw_name]
        self.process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
        self._url = server.update_query_dict({"host": str(self.folder), "port": "6432"})
        wait_until(lambda: (self.folder / ".s.PGSQL.6432").exists(), "PgBouncer listens")

    @property
    def url(self) -> str:
        """The URL of the same database through it."""
        return str(self._url.render_as_string(hide_password=False))

    def stop(self) -> None:
        """End it, with its files."""
        self.process.kill()
        self.process.wait()
        shutil.rmtree(self.folder)
