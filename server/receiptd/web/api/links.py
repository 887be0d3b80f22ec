"""The links of lists: where the next page is."""

from __future__ import annotations

from collections.abc import Callable
from urllib.parse import parse_qsl, urlencode

from receiptd.web.api.values import cursor
from receiptd.web.server.request import Request, local_address


def link_of_next(request: Request, where: str) -> Callable[[int], str]:
    """Gives the URL of the next page: what was asked for, with another place to begin at.

    :param where: `cursor`, or `after`, which says its number plainly.
    """
    host = request.header(b"Host") or local_address(request.host)
    base = f"{request.scheme}://{host}{request.path.decode('iso8859-1')}"
    pairs = [
        (name, value)
        for name, value in parse_qsl(
            request.query.decode(errors="replace"), keep_blank_values=True
        )
        if name != where
    ]

    def link(number: int) -> str:
        place = cursor(number) if where == "cursor" else str(number)
        return f"{base}?{urlencode([*pairs, (where, place)])}"

    return link
