"""How much the server takes on: connections in all and per address, requests per second.

A connection beyond the limit is accepted all the same. To make room for it the server closes the
connection that has kept it waiting for longest: one between requests, else one whose request
is still not whole after `WHOLE_REQUEST_TIMEOUT`. Only where there is neither, the new one is
answered 503 with `Retry-After`. To leave it in the system's queue would lose more: the queue
overflows without a word, and a provider that waits in it runs into its own time limit and learns
nothing, while a 503 tells those that retry to do so.
"""

from __future__ import annotations

import resource
from collections import Counter
from collections.abc import Iterable, MutableMapping
from functools import lru_cache
from ipaddress import IPv6Network, ip_address
from math import ceil
from time import monotonic
from typing import Protocol

from twisted.logger import Logger

WHOLE_REQUEST_TIMEOUT = 5.0
"""Seconds after which an incomplete request may be given up to make room for another connection;
one that is not pressed for room has `server.request_seconds`."""

IDLE = 1.0
"""Seconds after which a connection that has sent nothing may be closed to make room."""

MOST_TURNED_AWAY = 500
"""Connections that may be waiting for their 503 to be read; further ones are just closed."""

SPARE_DESCRIPTORS = 300
"""File descriptors for other things than connections: those turned away, the database, files."""

REPORT_EVERY = 10.0
"""Seconds between log lines on a limit that is being met all the time."""

LIMITED = "limited"
"""The reason under which posts beyond the rate are counted, in `receiptd_rejected_posts_total`."""

PREFIX = 64
"""Bits of an IPv6 address that stand for one peer: whoever has one address has, as a rule, all of
its /64 (RFC 4291, section 2.5.4; RFC 6177), and may come from a new one each time."""

_NAT64 = IPv6Network("64:ff9b::/96")  # RFC 6052, section 2.1: an IPv4 address in its last 32 bits

_log = Logger(namespace="receiptd.web")


class Waiting(Protocol):
    """A connection, as far as it matters here."""

    def waits(self, now: float) -> tuple[bool, float] | None:
        """Whether it is in the middle of a request, and for how many seconds it has kept us
        waiting; None while it is us who owe it an answer."""

    def loseConnection(self) -> object:
        """Close it."""


class Crowd:
    """The open connections, counted; and which of them would make room for another."""

    def __init__(self, most: int, per_address: int) -> None:
        """
        :param most: connections in all.
        :param per_address: connections from one `peer`; 0: as many as in all.
        """
        self.most = most
        self.per_address = per_address
        self._by_peer: Counter[str] = Counter()
        self._inside = 0
        self.turned_away = 0
        """Connections that are open only until their 503 is read."""
        self._removable: list[Waiting] = []
        self._closed = self._refused = 0
        self._reported = float("-inf")

    def enter(self, address: str | None, now: float, *, proxy: bool = False) -> str:
        """Count a new connection in; empty, or why it is to be turned away.

        :param address: None for a Unix socket, which has no limit of its own.
        :param proxy: whether it is a trusted proxy's, which has none either.
        """
        who = None if address is None else peer(address)
        if self.per_address and who is not None and not proxy:
            held = self._by_peer[who]
            if held >= self.per_address:
                self._refused += 1
                return f"{held} connections from {who} are open (connections_per_address)"
        if self._inside >= self.most and not self._make_room(now):
            self._refused += 1
            return f"{self._inside} connections are open (server.connections)"
        self._inside += 1
        if who is not None:
            self._by_peer[who] += 1
        return ""

    def leave(self, address: str | None) -> None:
        """Count a connection out that was let in."""
        self._inside -= 1
        if address is not None:
            who = peer(address)
            self._by_peer[who] -= 1
            if self._by_peer[who] <= 0:
                del self._by_peer[who]

    def look(self, connections: Iterable[Waiting], now: float) -> None:
        """Once a second: find out who would make room, where it may be wanted soon."""
        self._removable = []
        if self._inside >= self.most * 0.9:
            found = []
            for connection in connections:
                waits = connection.waits(now)
                if waits and waits[1] > (WHOLE_REQUEST_TIMEOUT if waits[0] else IDLE):
                    found.append((waits[0], -waits[1], id(connection), connection))
            self._removable = [each[3] for each in sorted(found, reverse=True)]
        if (self._closed or self._refused) and now - self._reported >= REPORT_EVERY:
            self._reported = now
            _log.warn(
                "too many connections: {open} are open, of at most {most}; {closed} waiting ones "
                "were closed to make room, {refused} new ones turned away",
                open=self._inside,
                most=self.most,
                closed=self._closed,
                refused=self._refused,
            )
            self._closed = self._refused = 0

    def _make_room(self, now: float) -> bool:
        while self._removable:
            connection = self._removable.pop()
            waits = connection.waits(now)
            # It may have sent something since, or be closed.
            if waits and waits[1] > (WHOLE_REQUEST_TIMEOUT if waits[0] else IDLE):
                connection.loseConnection()
                self._closed += 1
                return True
        return False


@lru_cache(1024)
def peer(address: str) -> str:
    """Whom connections from `address` count for: an IPv4 address, also one that is written as an
    IPv6 one, by itself; any other IPv6 address as its network of `PREFIX` bits. On a link of this
    machine's own, which all have in common, each address is somebody else."""
    if ":" not in address:
        return address
    try:
        found = ip_address(address)
    except ValueError:  # none that a socket gives
        return address
    if mapped := getattr(found, "ipv4_mapped", None):
        return str(mapped)
    if found.is_link_local:
        return address
    if found in _NAT64:
        return str(ip_address(int(found) & 0xFFFFFFFF))
    return str(IPv6Network((int(found), PREFIX), strict=False))


class Rate:
    """Requests per second on one endpoint: a token bucket that holds one second's worth."""

    def __init__(
        self, endpoint: str, per_second: int, counts: MutableMapping[tuple[str | int, ...], int]
    ) -> None:
        """
        :param counts: where rejected posts are counted, by endpoint and reason.
        """
        self.text = f"more than {per_second} requests per second (requests_per_second)"
        self._endpoint = endpoint
        self._counts = counts
        counts[endpoint, LIMITED] = counts.get((endpoint, LIMITED), 0)  # seen from the start
        self._per_second = per_second
        self._tokens = float(per_second)
        self._filled = monotonic()
        self._refused = 0
        self._reported = float("-inf")

    def wait(self) -> int:
        """0 for a request that may pass, else the whole seconds to wait before the next try."""
        now = monotonic()
        self._tokens = min(
            float(self._per_second), self._tokens + (now - self._filled) * self._per_second
        )
        self._filled = now
        if self._tokens >= 1:
            self._tokens -= 1
            return 0
        self._refused += 1
        self._counts[self._endpoint, LIMITED] += 1
        if now - self._reported >= REPORT_EVERY:
            self._reported = now
            _log.warn(
                "429 at endpoint {endpoint}: {text}, {count} refused since the last such line",
                endpoint=self._endpoint,
                text=self.text,
                count=self._refused,
            )
            self._refused = 0
        return ceil((1 - self._tokens) / self._per_second)


def rate(
    endpoint: str,
    own: int | None,
    general: int,
    counts: MutableMapping[tuple[str | int, ...], int],
) -> Rate | None:
    """The limit of an endpoint: its own, else the general one; None where that is 0.

    :param counts: where rejected posts are counted, by endpoint and reason.
    """
    per_second = general if own is None else own
    return Rate(endpoint, per_second, counts) if per_second else None


def raise_descriptors(connections: int) -> int:
    """See that so many connections can be open, as far as the system lets us.

    The soft limit of file descriptors is raised towards the hard one. Without descriptors left
    accepting fails, and connections are lost without an answer.

    :return: the connections that there are descriptors for, at most `connections`.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = connections + SPARE_DESCRIPTORS + MOST_TURNED_AWAY
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return connections
    most = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    if most > soft:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
        soft = most
    if soft >= wanted:
        return connections
    possible = max(soft - min(SPARE_DESCRIPTORS + MOST_TURNED_AWAY, soft // 2), 1)
    _log.warn(
        "server.connections is {connections}, but the system allows this process {soft} open "
        "files, so it is {possible}: raise that limit (LimitNOFILE= in the systemd unit, "
        "ulimit -n in a shell)",
        connections=connections,
        soft=soft,
        possible=min(possible, connections),
    )
    return min(possible, connections)
