"""The file with the token of the HTTP API and of /metrics, where none is configured.

The server makes it at its first start, beside the SQLite file or in the spool's folder. Only its
owner can read it. To get another token, delete the file and restart or reload the server.
"""

from __future__ import annotations

import errno
import os
import re
import secrets
import stat
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from pydantic import SecretStr

from receiptd.config import ApiToken, Config
from receiptd.errors import UserError
from receiptd.store.database.engine import sqlite_file
from receiptd.store.spool.folder import default_folder

NAME = "api-token"
"""The file's name in the spool's folder; beside a SQLite file it is that file's name, `-` and
this. It is also the token's name in the log."""

BYTES = 32
"""Random bytes in a token: nobody guesses 256 bits."""

_SHORTEST = 20
"""Characters of a token that somebody has written into the file themselves."""

_LARGEST = 4096
"""Bytes that are read; the server's own token has 43 characters and a line end."""

_TOKEN = re.compile(r"[A-Za-z0-9._~+/-]+=*")
"""RFC 6750, section 2.1; the same as for a configured token."""

_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_MAKE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC

_REPLACE = "delete it, and restart or reload the server, which makes a new one"


class TokenFileError(UserError):
    """A token file that cannot be used; the text names it and says what to do."""


class NoTokenFile(TokenFileError):
    """There is none yet."""


class Found(NamedTuple):
    """What is in a token file."""

    token: str
    made: bool = False
    """Whether the file was made just now."""
    warning: str = ""
    """What its owner should know; empty where all is well."""


def place(config: Config) -> Path:
    """Where the token file of a server with this configuration is; an absolute path."""
    database = sqlite_file(config.store.url)
    if database is not None:
        file = database.with_name(f"{database.name}-{NAME}")
    else:
        file = Path(config.store.spool or default_folder(config.store.url)) / NAME
    return file.absolute()


def described(config: Config) -> str:
    """Which tokens open the API and /metrics, for people; no secret is in it."""
    if config.api.token:
        named = ", ".join(f"{each.name} ({', '.join(each.scopes)})" for each in config.api.token)
        return f"token of {named}"
    return f"token in {place(config)} (receiptd api-token prints it)"


def api_token(found: Found) -> ApiToken:
    """The token as if it were configured: good for everything."""
    return ApiToken(name=NAME, token=SecretStr(found.token), scopes=["read", "write"])


def read(path: Path) -> Found:
    """The token in the file, for somebody who may read it. Changes nothing.

    :raises NoTokenFile: where there is none.
    :raises TokenFileError: where it is no regular file, cannot be read, or holds no token.
    """
    descriptor = _open(path)
    try:
        _regular(path, descriptor)
        warning = _exposed(path, descriptor)
        return Found(_content(path, descriptor), warning=warning)
    finally:
        os.close(descriptor)


def read_or_make(path: Path) -> Found:
    """The token in the file, for the server. Makes the file where there is none, and takes it
    away from everybody else who could read it.

    Several processes may call this at once: all get the same token.

    :raises TokenFileError: where the file cannot be made, or cannot be trusted.
    """
    made = False
    while True:
        try:
            descriptor = _open(path)
            break
        except NoTokenFile:
            made = _make(path) or made
    try:
        owner = _regular(path, descriptor).st_uid
        # To root it may belong to whoever the folder belongs to, and so the database.
        trusted = {os.geteuid()} | ({path.parent.stat().st_uid} if os.geteuid() == 0 else set())
        if owner not in trusted:
            raise TokenFileError(
                f"{path}: belongs to the user {owner} and not to the server's, {os.geteuid()}: "
                f"{_REPLACE}"
            )
        warning = _exposed(path, descriptor)
        if warning:
            os.fchmod(descriptor, 0o600)
        return Found(_content(path, descriptor), made, warning)
    except OSError as error:
        raise TokenFileError(f"{path}: cannot be used: {error.strerror}") from None
    finally:
        os.close(descriptor)


def _open(path: Path) -> int:
    try:
        return os.open(path, _READ)
    except FileNotFoundError:
        raise NoTokenFile(f"{path}: there is no such file yet") from None
    except PermissionError:
        try:
            owner = str(path.stat().st_uid)
        except OSError:
            owner = "another user"
        raise TokenFileError(
            f"{path}: only its owner ({owner}) can read it, and this process is the user "
            f"{os.geteuid()}'s"
        ) from None
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise TokenFileError(
                f"{path}: is a symbolic link, and anybody may have put it there: {_REPLACE}"
            ) from None
        raise TokenFileError(f"{path}: cannot be read: {error.strerror}") from None


def _regular(path: Path, descriptor: int) -> os.stat_result:
    found = os.fstat(descriptor)
    if not stat.S_ISREG(found.st_mode):
        raise TokenFileError(f"{path}: is no regular file: {_REPLACE}")
    return found


def _exposed(path: Path, descriptor: int) -> str:
    """What is wrong with the file's mode; empty where only its owner can use it."""
    mode = stat.S_IMODE(os.fstat(descriptor).st_mode)
    if mode & 0o022:
        # Whoever wrote it knows what is in it.
        raise TokenFileError(f"{path}: others can write to it (mode {mode:04o}): {_REPLACE}")
    if mode & 0o077:
        return (
            f"{path}: others could read it (mode {mode:04o}). If one of them may not know the "
            f"token, {_REPLACE}"
        )
    return ""


def _content(path: Path, descriptor: int) -> str:
    data = os.read(descriptor, _LARGEST + 1)
    text = data.decode("iso8859-1").strip()
    if len(data) > _LARGEST or len(text) < _SHORTEST or not _TOKEN.fullmatch(text):
        raise TokenFileError(
            f"{path}: holds no token (one line of at least {_SHORTEST} letters, digits and "
            f". _ ~ + / -): {_REPLACE}"
        )
    return text


def _make(path: Path) -> bool:
    """Make the file; whether it was this process that did. Nobody ever sees half of it: it gets
    its name when it is whole, and only where nothing has that name."""
    unfinished = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(8)}")
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(unfinished, _MAKE, 0o600)
        try:
            os.fchmod(descriptor, 0o600)
            os.write(descriptor, f"{secrets.token_urlsafe(BYTES)}\n".encode())
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        try:
            os.link(unfinished, path, follow_symlinks=False)
        except FileExistsError:
            return False
        finally:
            unfinished.unlink()
    except OSError as error:
        raise TokenFileError(
            f"{path}: cannot be made: {error.strerror}. Make its folder writable for the server, "
            "or configure a token ([[api.token]])"
        ) from None
    with suppress(OSError):
        folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    return True
