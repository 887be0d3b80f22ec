"""Who may read and write what is stored: the guard of the HTTP API and of /metrics.

Whoever has a bearer token (RFC 6750) of the right scope, and nobody else. Where a request comes
from opens nothing: behind a proxy everybody comes from this machine.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from hashlib import sha256
from hmac import compare_digest
from math import ceil
from time import monotonic
from typing import Literal, TypeAlias

from twisted.logger import Logger

from receiptd.config import ApiToken
from receiptd.web.problem import Problem
from receiptd.web.server.request import Request

Scope: TypeAlias = Literal["read", "write"]

MOST_LINES = 20
"""Refusals that the log names one by one, in each `LINES_SECONDS`: whoever guesses tokens must
not fill the disk."""

LINES_SECONDS = 10.0

_BEARER = re.compile(r"bearer +([A-Za-z0-9._~+/-]+=*) *", re.IGNORECASE)

_HOW = "send the header Authorization: Bearer TOKEN, "
_CONFIGURED = _HOW + "one of those that the server's configuration has as [[api.token]]"
_MADE = _HOW + "which receiptd api-token prints"

_log = Logger(namespace="receiptd.web")


class Guard:
    """Lets requests pass, or says why not."""

    def __init__(self, tokens: Sequence[ApiToken], clock: Callable[[], float] = monotonic) -> None:
        """
        :param tokens: see `renew`.
        """
        self._clock = clock
        self._lines = _Lines(clock)
        self._buckets: dict[str, _Bucket] = {}
        self.renew(tokens)

    def renew(self, tokens: Sequence[ApiToken], *, made: bool = False) -> None:
        """Go by these tokens from now on. Where there are none, nobody passes.

        :param made: whether they are not configured, but the server's own.
        """
        self._remedy = _MADE if made else _CONFIGURED
        known, self._buckets = self._buckets, {}
        for each in tokens:
            if rate := each.requests_per_second:
                bucket = known.get(each.name)
                if bucket is None or bucket.rate != rate:
                    bucket = _Bucket(rate, self._clock)
                self._buckets[each.name] = bucket
        self._tokens = [(_digest(each.token.get_secret_value()), each) for each in tokens]

    def check(
        self, request: Request, scope: Scope | None, path: str, *, counts: bool = True
    ) -> str:
        """See that `request` may pass; the name of its token.

        :param scope: what it wants; None where that does not matter yet.
        :param path: what it is about, for the log; without anything that the client has made up.
        :param counts: whether it counts among the requests that the token may make.
        :raises Problem: 401 without a valid token, 403 where the token is good for other things,
            429 where it has asked for too much.
        """
        try:
            name = self._check(request, scope)
            if counts:
                self._limit(name)
            return name
        except Problem as problem:
            if (unsaid := self._lines.may_say()) is not None:
                _log.info(
                    "{status} to {peer}, who asked for {path}: {detail}{more}",
                    status=problem.status,
                    peer=request.peer or "a local socket",
                    path=path,
                    detail=problem.detail,
                    more=f" ({unsaid} more were refused and are not named here)" * bool(unsaid),
                    request_id=request.request_id,
                )
            raise

    def _limit(self, name: str) -> None:
        bucket = self._buckets.get(name)
        if bucket is not None and (seconds := bucket.wait()):
            raise Problem(
                429,
                f"the token {name!r} may make {bucket.rate} requests per second "
                "(requests_per_second): slow down",
                headers=(b"Retry-After: %d\r\n" % seconds,),
            )

    def _check(self, request: Request, scope: Scope | None) -> str:
        header = request.header(b"Authorization")
        found = _BEARER.fullmatch(header)
        given = _digest(found[1] if found else "")
        # Each is compared, so that the time tells nothing about which one was nearly right, and
        # by digests, so that it tells nothing about their lengths.
        equal = [token for digest, token in self._tokens if compare_digest(given, digest)]
        if not found or not equal:
            # RFC 6750, section 3.1: no error code where no token came
            code = ', error="invalid_token"' if header else ""
            wrong = "not one of the server's" if header else "missing"
            raise Problem(
                401,
                f"the token is {wrong}: {self._remedy}",
                headers=(f'WWW-Authenticate: Bearer realm="receiptd"{code}\r\n'.encode(),),
            )
        if scope is not None and scope not in equal[0].scopes:
            raise Problem(
                403,
                f"the token {equal[0].name!r} has not the scope {scope!r}, which this needs: "
                f"configure it in its `scopes`, or use another token",
                headers=(
                    b'WWW-Authenticate: Bearer realm="receiptd", error="insufficient_scope", '
                    b'scope="%s"\r\n' % scope.encode(),
                ),
            )
        return equal[0].name


class _Bucket:
    """The requests of one token: as many as a second's worth at once, then so many per second."""

    def __init__(self, rate: int, clock: Callable[[], float]) -> None:
        self.rate = rate
        self._clock = clock
        self._left = float(rate)
        self._filled = clock()

    def wait(self) -> int:
        """0 for a request that may pass, else the whole seconds to wait before the next one."""
        now = self._clock()
        self._left = min(float(self.rate), self._left + (now - self._filled) * self.rate)
        self._filled = now
        if self._left >= 1:
            self._left -= 1
            return 0
        return ceil((1 - self._left) / self.rate)


class _Lines:
    """Says how many lines may be written, and counts those that may not."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._since = float("-inf")
        self._said = 0
        self._unsaid = 0

    def may_say(self) -> int | None:
        """None where the line is one too many, else how many were left out before it."""
        now = self._clock()
        if now - self._since >= LINES_SECONDS:
            self._since, self._said = now, 0
        if self._said >= MOST_LINES:
            self._unsaid += 1
            return None
        self._said += 1
        unsaid, self._unsaid = self._unsaid, 0
        return unsaid


def _digest(token: str) -> bytes:
    return sha256(token.encode()).digest()
