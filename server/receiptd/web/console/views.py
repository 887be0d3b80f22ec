"""Pages as HTML: the templates, what they call, and the headers of every page."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from receiptd import __version__
from receiptd.receipt import State
from receiptd.web.console.assets import Assets
from receiptd.web.console.forms import Form, query_of
from receiptd.web.console.sessions import Session

HTML = b"text/html; charset=utf-8"

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
"""Scripts and styles are files of this server; nothing in a page is one, nothing comes from
elsewhere, and no other site shows a page in a frame."""

HEADERS = (
    b"Cache-Control: no-store\r\n",
    b"Content-Security-Policy: " + POLICY.encode() + b"\r\n",
    b"X-Content-Type-Options: nosniff\r\n",
    # Not no-referrer: a form's Origin would be null then (Fetch, section 3.2).
    b"Referrer-Policy: same-origin\r\n",
    b"Cross-Origin-Opener-Policy: same-origin\r\n",
    b"Cross-Origin-Resource-Policy: same-origin\r\n",
)
"""Of every page."""

LONGEST_SHOWN = 20_000
"""Characters of one value that a page shows; the API has all of them."""

_GOOD = frozenset({State.DELIVERED})
_WAITING = frozenset({State.ENROUTE, State.ACCEPTED, State.UNKNOWN})

_MARKS = frozenset(
    "\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\ufeff"
)


class Views:
    """Renders pages. May be called in any thread."""

    def __init__(self, assets: Assets) -> None:
        self._templates = Environment(
            loader=PackageLoader("receiptd.web.console"),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
            auto_reload=False,
        )
        self._templates.globals |= {"asset": assets.url, "version": __version__, "link": query_of}
        self._templates.filters |= {
            "time": time_element,
            "age": age,
            "shown": shown,
            "tone": tone,
            "number": number,
            "query": lambda found: query_of(Form(found)),
            "seconds": seconds,
        }

    def page(self, template: str, session: Session | None = None, **values: object) -> bytes:
        """The page's bytes."""
        text = self._templates.get_template(template).render(
            session=session, now=datetime.now(UTC), **{"notice": "", "here": "", **values}
        )
        # Half of a surrogate pair, which a post may carry, stays an escape.
        return text.encode("utf-8", "backslashreplace")


def shown(value: object) -> str:
    """`value` for people: what cannot be seen, or would turn the text around, as an escape."""
    if value is None or value == "":
        return "-"
    text = str(value)
    if len(text) > LONGEST_SHOWN:
        text = f"{text[:LONGEST_SHOWN]} … ({len(text) - LONGEST_SHOWN} characters more)"
    if text.isprintable():
        return text
    return "".join(
        each
        if each in "\n\t" or (each.isprintable() and each not in _MARKS)
        else each.encode("unicode_escape").decode()
        for each in text
    )


def time_element(at: datetime | str | None, empty: str = "-") -> Markup | str:
    """A time as an element: UTC in words, and for the script what it is exactly; the script puts
    the reader's own zone beside it."""
    if at is None:
        return empty
    moment = datetime.fromisoformat(at) if isinstance(at, str) else at
    moment = moment.astimezone(UTC)
    exact = moment.isoformat().replace("+00:00", "Z")
    return Markup('<time datetime="{}">{}</time>').format(exact, f"{moment:%Y-%m-%d %H:%M:%S} UTC")


def age(at: datetime | str | None, now: datetime) -> str:
    """How long ago `at` was, in words."""
    if at is None:
        return "never"
    moment = datetime.fromisoformat(at) if isinstance(at, str) else at
    return f"{span(now - moment)} ago"


def span(length: timedelta) -> str:
    """A length of time in words: its one or two largest units."""
    seconds = max(0, int(length.total_seconds()))
    units = (("d", 86400), ("h", 3600), ("min", 60), ("s", 1))
    for place, (name, size) in enumerate(units):
        if seconds >= size:
            text = f"{seconds // size} {name}"
            if place < 2 and (rest := seconds % size // units[place + 1][1]):
                text += f" {rest} {units[place + 1][0]}"
            return text
    return "0 s"


def tone(state: str) -> str:
    """What a state means at a glance; the word itself stands beside the colour."""
    if state in _GOOD:
        return "good"
    return "wait" if state in _WAITING else "bad"


def seconds(value: float | None) -> str:
    """A delivery time in words."""
    if value is None:
        return "-"
    if value < 1:
        return f"{1000 * value:.0f} ms"
    return f"{value:.1f} s" if value < 60 else span(timedelta(seconds=value))


def number(value: float | None) -> str:
    """A count with its thousands apart."""
    return "-" if value is None else f"{value:,}"
