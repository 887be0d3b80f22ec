"""Who may read and write what is stored: the guard of the HTTP API and of /metrics.

Whoever has a configured bearer token (RFC 6750) of the right scope. As long as none is
configured, whoever is on this machine: a request from a loopback address that asks for a loopback
host, so that no web page can send a browser here under a name of its own (DNS rebinding), and
that no proxy has passed on, since behind one everybody comes from a loopback address.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from hmac import compare_digest
from ipaddress import ip_address
from typing import Literal, TypeAlias

from twisted.logger import Logger

from receiptd.config import ApiToken
from receiptd.web.problem import Problem
from receiptd.web.server.request import Request

Scope: TypeAlias = Literal["read", "write"]

FORWARDING = (
    b"Forwarded",
    b"Via",
    b"X-Forwarded-For",
    b"X-Forwarded-Host",
    b"X-Forwarded-Proto",
    b"X-Real-IP",
)
"""Headers that a proxy adds; any of them means that the peer is not who asks."""

_HOST = re.compile(r"(?P<host>\[[0-9A-Fa-f:.]+\]|[^:\[\]]*)(:[0-9]*)?")
_BEARER = re.compile(r"bearer +([A-Za-z0-9._~+/-]+=*) *", re.IGNORECASE)
_CONFIGURE = "configure a token ([[api.token]] in the configuration, see receiptd init)"

_log = Logger(namespace="receiptd.web")


class Guard:
    """Lets requests pass, or says why not."""

    def __init__(self, tokens: Sequence[ApiToken]) -> None:
        self.renew(tokens)

    def renew(self, tokens: Sequence[ApiToken]) -> None:
        """Go by these tokens from now on."""
        self._tokens = [(each.token.get_secret_value().encode(), each) for each in tokens]
        self.asks_token = bool(self._tokens)

    def check(self, request: Request, scope: Scope | None) -> None:
        """See that `request` may pass.

        :param scope: what it wants; None where that does not matter yet.
        :raises Problem: 401 without a valid token, 403 where the token is good for other
            things, or where none is configured and the request is not from this machine.
        """
        try:
            if self._tokens:
                self._check_token(request, scope)
            else:
                _check_local(request)
        except Problem as problem:
            _log.info(
                "{status} to {peer}: {detail}",
                status=problem.status,
                peer=request.peer or "a local socket",
                detail=problem.detail,
                request_id=request.request_id,
            )
            raise

    def _check_token(self, request: Request, scope: Scope | None) -> None:
        header = request.header(b"Authorization")
        found = _BEARER.fullmatch(header)
        given = found[1].encode() if found else b""
        # Each is compared, so that the time tells nothing about which one was nearly right.
        equal = [token for secret, token in self._tokens if compare_digest(given, secret)]
        if not equal:
            # RFC 6750, section 3.1: no error code where no token came
            code = ', error="invalid_token"' if header else ""
            raise Problem(
                401,
                "the token is "
                + ("none of the configured ones" if header else "missing")
                + ": send the header Authorization: Bearer TOKEN",
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


def _check_local(request: Request) -> None:
    passed_on = [name for name in FORWARDING if request.headers(name)]
    hosts = request.headers(b"Host")
    if not _is_loopback(request.peer):
        reason = f"only requests from this machine itself are answered, not from {_who(request)}"
    elif passed_on:
        reason = (
            f"the request was passed on by a proxy (it has the header {passed_on[0].decode()}), "
            "and only requests from this machine itself are answered"
        )
    elif len(hosts) != 1 or not _is_loopback_host(hosts[0].decode("iso8859-1")):
        host = hosts[0].decode("iso8859-1") if hosts else ""
        reason = f"the Host {host!r} is none of this machine itself, such as localhost"
    else:
        return
    raise Problem(403, f"without a token configured {reason}: {_CONFIGURE}")


def _who(request: Request) -> str:
    return request.peer or "a Unix socket, behind which there may be a proxy"


def _is_loopback_host(host: str) -> bool:
    found = _HOST.fullmatch(host.strip())
    if not found:
        return False
    name = found["host"].lower()
    return name == "localhost" or _is_loopback(name.strip("[]"))


def _is_loopback(address: str | None) -> bool:
    try:
        found = ip_address(address or "")
    except ValueError:
        return False
    return (getattr(found, "ipv4_mapped", None) or found).is_loopback
