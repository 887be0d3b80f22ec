"""A real PgBouncer in front of a PostgreSQL, in transaction mode."""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import subprocess
import tempfile
from pathlib import Path
from typing import Any

from sqlalchemy import make_url

from kit.server import wait_until

PROGRAM = shutil.which("pgbouncer") or shutil.which("pgbouncer", path="/usr/sbin")


class PgBouncer:
    """Gives each transaction to any of `size` connections to the server of `url`."""

    def __init__(self, url: str, *, size: int = 3, tls: tuple[Path, Path] | None = None) -> None:
        """
        :param tls: a certificate and its key: then it listens on a port of this machine, and
            speaks TLS alone there.
        """
        # Like the PostgreSQL of the tests, it does not run as root, and it needs a folder outside
        # of root's.
        self.folder = Path(tempfile.mkdtemp(prefix="receiptd-pgb-"))
        server: Any = make_url(url)
        behind = Path(server.query["host"])
        (self.folder / "users").write_text(f'"{server.username}" ""\n')
        secure = ""
        self.port = 6432
        if tls:
            with socket.create_server(("127.0.0.1", 0)) as free:
                self.port = free.getsockname()[1]
            for name, file in zip(("certificate", "key"), tls, strict=True):
                shutil.copy(file, self.folder / name)
            secure = (
                "listen_addr = 127.0.0.1\nclient_tls_sslmode = require\n"
                f"client_tls_cert_file = {self.folder}/certificate\n"
                f"client_tls_key_file = {self.folder}/key\n"
            )
        (self.folder / "ini").write_text(
            f"[databases]\n* = host={behind}\n"
            "[pgbouncer]\npool_mode = transaction\nauth_type = trust\n"
            f"auth_file = {self.folder}/users\ndefault_pool_size = {size}\n"
            f"unix_socket_dir = {self.folder}\nlogfile = {self.folder}/log\n"
            f"listen_port = {self.port}\n{secure}"
        )
        command = [PROGRAM, str(self.folder / "ini")]
        if os.getuid() == 0:
            owner = behind.stat().st_uid
            for each in (self.folder, *self.folder.iterdir()):
                os.chown(each, owner, -1)
            command[1:1] = ["--user", pwd.getpwuid(owner).pw_name]
        self.process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
        self._server = server
        wait_until(self._listens, "PgBouncer listens")

    def _listens(self) -> bool:
        with socket.socket(socket.AF_UNIX) as client:
            return client.connect_ex(str(self.folder / f".s.PGSQL.{self.port}")) == 0

    @property
    def url(self) -> str:
        """The URL of the same database through it, on a Unix socket."""
        return self._url_with(host=str(self.folder), port=str(self.port))

    def url_with_tls(self, **parameters: str) -> str:
        """The URL of the same database through it, by TLS, with these parameters of libpq."""
        given = {"host": "localhost", "hostaddr": "127.0.0.1", "port": str(self.port)}
        return self._url_with(**given | parameters)

    def _url_with(self, **parameters: str) -> str:
        url = self._server.set(query=parameters)
        return str(url.render_as_string(hide_password=False))

    def stop(self) -> None:
        """End it, with its files."""
        self.process.kill()
        self.process.wait()
        shutil.rmtree(self.folder)
