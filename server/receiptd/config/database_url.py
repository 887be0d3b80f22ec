"""The URL of a PostgreSQL database: whether it can be read in one way only, and its password.

No text that is made here holds any part of the URL: where a password was not encoded, any part of
it may be a part of the password.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from urllib.parse import parse_qsl, quote

LONGEST_PASSWORD_FILE = 4096
"""Bytes; a larger file is another one."""

# RFC 3986, section 3.2: userinfo, host and port. A password must have its reserved characters
# percent-encoded. Those that can be told from what follows have always been taken as they are; an
# @ or a ? cannot: what stands behind it would be taken for the host, and shown.
_POSTGRESQL = re.compile(
    r"postgresql(?:\+psycopg)?://"
    r"(?:[^:/?#\[\]@]*(?::(?P<password>[^?@]*))?@)?"
    r"(?:\[[^\]/?#@]*\]|[^:/?#\[\]@]*)(?P<port>:[^/?#@]*)?"
    r"(?:/[^/?#@]*)?"
    r"(?:\?(?P<query>[^#]*))?"
)
_OPEN_PASSWORD = re.compile(r"postgresql(?:\+psycopg)?://[^:/@]*:[^@]*@")

_ENCODE = (
    "In a username or a password these characters must be percent-encoded: "
    "@ as %40, : as %3A, / as %2F, ? as %3F, # as %23, [ as %5B, ] as %5D and % as %25. "
    "Or leave the password out of the URL and name a file with it: store.password_file"
)


def mistake(url: str) -> str | None:
    """What is wrong with the URL of a PostgreSQL database; None where nothing is, or where it is
    a URL of something else."""
    if not url.startswith(("postgresql://", "postgresql+psycopg://")):
        return None
    found = _POSTGRESQL.fullmatch(url)
    if found is None:
        return f"the URL cannot be read in one way only (it is not shown here). {_ENCODE}"
    port = (found["port"] or ":")[1:]
    if port and not (port.isascii() and port.isdigit() and 0 < int(port[:6]) < 65536):
        return (
            "what stands between the host's : and the next / is no port number. Where it belongs "
            f"to a password, an @ is missing behind it. {_ENCODE}"
        )
    if any("=" not in part for part in (found["query"] or "x=").split("&") if part):
        return f"what follows the ? is no list of KEY=VALUE. {_ENCODE}"
    return None


def password_of(url: str) -> bool:
    """Whether `url` holds a password, in front of the host or among the parameters."""
    found = _POSTGRESQL.fullmatch(url)
    if found is None:
        return _OPEN_PASSWORD.match(url) is not None
    names = {name.lower() for name, value in parse_qsl(found["query"] or "") if value}
    return bool(found["password"] or names & {"password", "sslpassword"})


def with_password(url: str, file: Path) -> str:
    """`url` with the password that `file` holds: its first line.

    :raises ValueError: where the password cannot be had, or belongs to no URL of this kind.
    """
    if not url.startswith("postgresql"):
        raise ValueError("only a PostgreSQL database has a password")
    if password_of(url):
        raise ValueError("store.url has a password already: name one or the other")
    try:
        with file.open("rb") as opened:
            content = opened.read(LONGEST_PASSWORD_FILE + 1)
    except OSError as error:
        raise ValueError(
            f"{file}: cannot be read by user {os.geteuid()}: {error.strerror}"
        ) from None
    if len(content) > LONGEST_PASSWORD_FILE:
        raise ValueError(f"{file}: is longer than {LONGEST_PASSWORD_FILE} bytes")
    try:
        password = content.decode("utf-8-sig").split("\n", 1)[0].rstrip("\r")
    except UnicodeDecodeError:
        raise ValueError(f"{file}: is not UTF-8") from None
    if not password or "\0" in password:
        raise ValueError(f"{file}: its first line must be the password")
    return f"{url}{'&' if '?' in url else '?'}password={quote(password, safe='')}"
