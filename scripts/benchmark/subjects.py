"""What is measured: receiptd by SOAP and by query, and the servers that it is compared with."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from benchmark import identifiers, store
from benchmark.competitors import receiving
from benchmark.servers import program
from receiptd.message import Message

CONFIGURATION = """
[[endpoint]]
provider = "csoft"
path = "/soap"
username = "ANOther.61234"
pin = "BLUE.music"

[[endpoint]]
provider = "seeme"
path = "/seeme"
token = "a-long-random-one"
"""
"""receiptd's: both endpoints ask for credentials, all else is as it comes."""


@dataclass(frozen=True, slots=True)
class Subject:
    """A server and the load that it is put under."""

    name: str
    title: str
    script: str
    """wrk's, `soap` or `query`."""
    path: str
    command: Callable[[Path], Sequence[str]]
    """What starts it, in a folder of its own."""
    template: str | None
    """Which prepared database it begins with: `receiptd` has messages registered, `empty` has
    none; None: it stores nothing."""
    variables: Mapping[str, str] = field(default_factory=dict)


def _fixed(kind: str) -> Callable[[Path], Sequence[str]]:
    return lambda _: [sys.executable, "-m", "benchmark.competitors.fixed", kind]


def receiptd(folder: Path, url: str | None = None) -> Sequence[str]:
    """The command that serves receiptd in `folder`.

    :param url: of its database; if None, that is a SQLite file there.
    """
    configuration = folder / "receiptd.toml"
    configuration.write_text(CONFIGURATION)
    configuration.chmod(0o600)
    return [
        *(program("receiptd"), "serve", "--config", str(configuration)),
        *("--listen", "tcp:0:interface=127.0.0.1"),
        *("--database", url or f"sqlite:///{folder / store.FILE}"),
    ]


def _flask(_folder: Path) -> Sequence[str]:
    # One worker, since there is one core; of gunicorn's default kind. Threads (gthread) take no
    # more receipts, since their transactions wait for each other, and have twice the p99.
    return [
        *(program("gunicorn"), "--bind", "127.0.0.1:0", "--workers", "1", "--no-control-socket"),
        "benchmark.competitors.flask_receiver:app",
    ]


def _fastapi(_folder: Path) -> Sequence[str]:
    # uvloop and httptools, which uvicorn[standard] brings. Its access log would cost it a tenth.
    return [
        *(program("uvicorn"), "--host", "127.0.0.1", "--port", "0", "--no-access-log"),
        "benchmark.competitors.fastapi_receiver:app",
    ]


_DATABASE = {receiving.DATABASE: store.FILE}

SOAP = Subject("soap", "receiptd, SOAP", "soap", "/soap", receiptd, "receiptd")

SUBJECTS = (
    Subject("stock-post", "stock Twisted, fixed POST", "soap", "/soap", _fixed("stock"), None),
    Subject("tuned-post", "tuned Twisted, fixed POST", "soap", "/soap", _fixed("tuned"), None),
    SOAP,
    Subject("flask", "Flask + SQLAlchemy", "soap", "/soap", _flask, "empty", _DATABASE),
    Subject("fastapi", "FastAPI + SQLAlchemy", "soap", "/soap", _fastapi, "empty", _DATABASE),
    Subject("stock-get", "stock Twisted, fixed GET", "query", "/seeme", _fixed("stock"), None),
    Subject("tuned-get", "tuned Twisted, fixed GET", "query", "/seeme", _fixed("tuned"), None),
    Subject("query", "receiptd, query", "query", "/seeme", receiptd, "receiptd"),
)
"""In the order in which a round measures them: what is compared stands close together."""


def soap_messages(count: int, share: float, *, first: int = 0) -> list[Message]:
    """The messages that a `share` of the first `count` SOAP receipts are about.

    :param first: from which receipt on.
    """
    return [
        Message("csoft", identifiers.hexadecimal(number), identifiers.csoft_recipient(number))
        for number in spread(count, share, first=first)
    ]


def query_messages(count: int, share: float) -> list[Message]:
    """The messages that a `share` of the first `count` query receipts are about."""
    return [
        Message("seeme", identifiers.hexadecimal(number), identifiers.seeme_recipient(number))
        for number in spread(count, share)
    ]


def spread(count: int, share: float, *, first: int = 0) -> Iterator[int]:
    """`share` of the numbers from `first` to below `count`, evenly spread."""
    for number in range(first, count):
        if int((number + 1) * share) > int(number * share):
            yield number
