"""What a browser sends: forms and queries, read within bounds, and whether a form is our own."""

from __future__ import annotations

from collections.abc import Sequence
from urllib.parse import parse_qsl, urlencode, urlsplit

from receiptd.web.console.sessions import Session
from receiptd.web.problem import Problem
from receiptd.web.server.request import Request

LARGEST_FORM = 16 * 1024
"""Bytes of a form."""

MOST_FIELDS = 100
"""Fields of a form or of a query."""

CSRF = "csrf"
"""The field by which a form proves that a page of this session had it."""

_FORM = "application/x-www-form-urlencoded"


class Form(dict[str, list[str]]):
    """The fields of a form or of a query; those that are empty are not there."""

    def one(self, name: str) -> str:
        """A field's only value, empty where it did not come."""
        return self.get(name, [""])[0]


def fields(text: bytes) -> Form:
    """What a form or a query says.

    :raises Problem: 400 where it cannot be read.
    """
    if text.count(b"&") >= MOST_FIELDS:
        raise Problem(400, f"more than {MOST_FIELDS} fields came: at most so many are read")
    try:
        pairs = parse_qsl(text.decode(), errors="strict")
    except (UnicodeDecodeError, ValueError):
        raise Problem(400, "what came is no UTF-8") from None
    found = Form()
    for name, value in pairs:
        if value := value.strip():
            found.setdefault(name, []).append(value)
    return found


def query_of(found: Form, without: Sequence[str] = (), **more: object) -> str:
    """A query that says what `found` says, but for some names."""
    pairs = [
        (name, value)
        for name, values in found.items()
        if name not in without and name not in more
        for value in values
    ]
    return urlencode([*pairs, *more.items()])


def posted(request: Request) -> Form:
    """The form that a request carries.

    :raises Problem: 413 or 415 where it is none that a page of ours sends.
    """
    if len(request.content) > LARGEST_FORM:
        raise Problem(413, f"the form has {len(request.content)} bytes: at most {LARGEST_FORM}")
    if request.header(b"Content-Type").partition(";")[0].strip().lower() != _FORM:
        raise Problem(415, "expected a form, as the console's own pages send it")
    return fields(request.body())


def refuse_foreign(request: Request, public_url: str | None) -> None:
    """See that a page of ours has sent this.

    :param public_url: what the server is called outside, if that is configured.
    :raises Problem: 403 where another site's page has.
    """
    # Fetch Metadata (W3C): browsers say it, and pages cannot change it. Over plain HTTP from
    # another machine they do not, so there the Origin has to do (RFC 6454, section 7).
    site = request.header(b"Sec-Fetch-Site")
    origin = request.header(b"Origin")
    if site:
        foreign = site not in ("same-origin", "none")
    elif origin:
        ours = {request.header(b"Host").lower()}
        if public_url:
            ours.add(urlsplit(public_url).netloc.lower())
        foreign = urlsplit(origin).netloc.lower() not in ours - {""}
    else:
        foreign = False
    if foreign:
        raise Problem(403, "another site's page has sent this: open the console and do it there")


def check(form: Form, session: Session) -> None:
    """See that a form is one that this session was given.

    :raises Problem: 403 where it is not.
    """
    if not session.is_mine(form.one(CSRF)):
        raise Problem(
            403,
            "this form is not from a page of this session: go back, reload the page, try again",
        )
