"""Pseudonyms: a keyed digest in place of a phone number, so that statistics stay.

A pseudonym is `999` and 17 digits of HMAC-SHA-256 over the number's E.164 digits. It compares as a
phone number does, so that it can be looked up, and is none: E.164 has at most 15 digits, and no
country has the code 999. The same key gives the same number the same pseudonym. Whoever has the
key can find out whose a pseudonym is, by trying numbers: without the key nobody can. Delete the
key, and what was pseudonymised is anonymous.
"""

from __future__ import annotations

import hmac
import os
import secrets
import stat
from pathlib import Path

from receiptd.errors import UserError

BYTES = 32
"""Random bytes of a key."""

_LARGEST = 4096
_PREFIX = "999"
_DIGITS = 17

_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_MAKE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


class KeyFileError(UserError):
    """A key file that cannot be used; the text names it and says what to do."""


class Pseudonyms:
    """Gives numbers their pseudonyms."""

    def __init__(self, key: bytes) -> None:
        self._key = key

    def of(self, number: str) -> str:
        """The pseudonym of a number in E.164 digits."""
        digest = hmac.digest(self._key, b"number " + number.encode(), "sha256")
        return f"{_PREFIX}{int.from_bytes(digest) % 10**_DIGITS:0{_DIGITS}d}"

    def digest(self, value: str) -> str:
        """What stands for a digest that was made of a person's data without a key."""
        return hmac.digest(self._key, b"variant " + value.encode(), "sha256").hex()


def read_or_make(path: Path) -> tuple[Pseudonyms, bool]:
    """The pseudonyms by the key in the file, and whether the file was made just now: with a
    random key, for its owner alone.

    :raises KeyFileError: where it cannot be made or read, holds no key, or others may read it.
    """
    try:
        descriptor = os.open(path, _READ)
    except FileNotFoundError:
        return _make(path), True
    except OSError as error:
        raise KeyFileError(f"{path}: cannot be read: {error.strerror}") from None
    try:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            raise KeyFileError(f"{path}: is no regular file")
        if found.st_mode & 0o077:
            raise KeyFileError(f"{path}: others may read it: chmod 600 {path}")
        key = os.read(descriptor, _LARGEST).strip()
    except OSError as error:
        raise KeyFileError(f"{path}: cannot be read: {error.strerror}") from None
    finally:
        os.close(descriptor)
    if len(key) < BYTES:
        raise KeyFileError(
            f"{path}: holds no key: it has less than {BYTES} characters. Name a file that is not "
            "there yet, and it is made"
        )
    return Pseudonyms(key), False


def _make(path: Path) -> Pseudonyms:
    """Make the file; it is on disk before its key is used."""
    key = secrets.token_urlsafe(BYTES).encode()
    try:
        descriptor = os.open(path, _MAKE, 0o600)
        try:
            os.write(descriptor, key + b"\n")
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except OSError as error:
        raise KeyFileError(f"{path}: cannot be made: {error.strerror}") from None
    return Pseudonyms(key)
