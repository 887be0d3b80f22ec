"""From root to an ordinary user, for good, once what only root may do is done."""

from __future__ import annotations

import grp
import os
import pwd
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib import import_module
from pathlib import Path
from pkgutil import walk_packages
from typing import NamedTuple

from twisted.logger import Logger

from receiptd.errors import UserError

_log = Logger(namespace="receiptd")

_IMPORTED_LATE = (
    *("alembic", "email", "encodings", "importlib", "lxml", "mako", "phonenumbers.data"),
    *("prometheus_client", "receiptd", "sqlalchemy", "zoneinfo"),
)
"""Packages of which something is imported only when it is needed."""


class PrivilegeError(UserError):
    """A user that the server cannot become, or secrets that everybody can read; the text says
    why and what to do."""


class Account(NamedTuple):
    """A user and the groups that go with it."""

    name: str
    user_id: int
    group_id: int
    groups: list[int]
    home: str


def look_up(user: str | None, group: str | None) -> Account | None:
    """The account of these names; None where there is no user's.

    :raises PrivilegeError: where there is no such user or group.
    """
    if user is None:
        if group is not None:
            raise PrivilegeError("server.group is set without server.user: name the user as well")
        return None
    try:
        entry = pwd.getpwnam(user)
    except KeyError:
        raise PrivilegeError(
            f"server.user: there is no user {user!r} on this machine. To make one: "
            f"useradd --system --no-create-home {user}"
        ) from None
    group_id = entry.pw_gid
    if group is not None:
        try:
            group_id = grp.getgrnam(group).gr_gid
        except KeyError:
            raise PrivilegeError(
                f"server.group: there is no group {group!r} on this machine"
            ) from None
    groups = os.getgrouplist(entry.pw_name, group_id)
    return Account(entry.pw_name, entry.pw_uid, group_id, groups, entry.pw_dir)


def account(user: str | None, group: str | None) -> Account | None:
    """The account to serve as; None where this process is to stay who it is.

    :raises PrivilegeError: where there is no such user or group, or this process may not become
        it, since it is not root's.
    """
    who = look_up(user, group)
    if who is None or (os.geteuid(), os.getegid()) == (who.user_id, who.group_id):
        return None
    if os.geteuid() != 0:
        raise PrivilegeError(
            f"server.user: only root can become {user!r}, and this process is user "
            f"{os.geteuid()}'s: start receiptd as root, or leave server.user out"
        )
    return who


def become(who: Account) -> None:
    """Be `who` from now on, and never root again: setuid(2) of root's sets the real, effective
    and saved user. What looks at the environment for a home, such as libpq, is told the new one.
    """
    # In this order: afterwards there is no right to do the one before.
    os.setgroups(who.groups)
    os.setgid(who.group_id)
    os.setuid(who.user_id)
    os.environ.update(HOME=who.home, USER=who.name, LOGNAME=who.name)


@contextmanager
def acting_as(who: Account | None) -> Iterator[None]:
    """Have what is opened and made meanwhile opened and made as `who`, whose it then is; root
    itself would follow whatever link that user has put there. Whoever is `who` by now stays it."""
    if who is None or os.geteuid() == who.user_id:
        yield
        return
    groups, group_id = os.getgroups(), os.getegid()
    os.setgroups(who.groups)
    os.setegid(who.group_id)
    os.seteuid(who.user_id)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(group_id)
        os.setgroups(groups)


def prepare_python(who: Account) -> Path | None:
    """See that `who` can go on where Python's files are root's alone: import now what is usually
    imported as late as it is needed. Returns what `who` cannot reach, None where it can reach
    all."""
    hidden = unreadable_python(who)
    if hidden is None:
        return None
    for package in _IMPORTED_LATE:
        # Some are of other systems, and some want libraries that are not installed.
        with suppress(Exception):
            found = import_module(package)
            for module in walk_packages(found.__path__, f"{package}.", onerror=lambda _: None):
                if "test" not in module.name and not module.name.endswith("__main__"):
                    with suppress(Exception):
                        import_module(module.name)
    return hidden


def unreadable_python(who: Account) -> Path | None:
    """The part of Python's own files that `who` cannot reach, if there is any: what is imported
    as late as it is needed cannot be imported then."""
    for path in {Path(os.__file__), Path(__file__), Path(sys.executable)}:
        resolved = path.resolve()
        for each in (*reversed(resolved.parents), resolved):
            wanted = stat.S_IXOTH if each != resolved else stat.S_IROTH
            found = each.stat()
            if found.st_uid == who.user_id:
                wanted <<= 6
            elif found.st_gid in who.groups:
                wanted <<= 3
            if not found.st_mode & wanted:
                return each
    return None


def serve_as(who: Account | None) -> None:
    """Become `who`, if it is not None, and log it."""
    if who is None:
        return
    if hidden := prepare_python(who):
        _log.warn(
            "the user {user} cannot reach Python's own files, because {path} is closed to it: "
            "install Python and receiptd where it can reach them, such as beneath /opt",
            user=who.name,
            path=hidden,
        )
    become(who)
    _log.info("serving as the user {user}", user=who.name)
