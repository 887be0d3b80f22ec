"""Whatever peers send is read in time that grows with its size, not with its square.

Each function is given the same adversarial shapes in growing sizes. `GROWN` times the size may
take `RATIO` times as long: a square takes `GROWN` squared. Processor time counts, not the clock,
and the best of several goes.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from ipaddress import ip_network
from time import process_time

import pytest

from receiptd.blanking.by_name import blank_elements, blank_members
from receiptd.blanking.by_value import KnownSecrets
from receiptd.providers import Post
from receiptd.providers.multipart import form_parts
from receiptd.soap import contract
from receiptd.soap.document import charset_of, parse
from receiptd.soap.envelope import Fault, operation_of, read_call
from receiptd.soap.pin import blanked
from receiptd.soap.related import root_part
from receiptd.web.server.proxies import Proxies

SMALL = 4 * 1024
GROWN = 8
RATIO = 20.0
"""Between 8, of what is linear, and 64, of a square."""
GOES = 3
WORTH_A_LOOK = 0.01
"""Seconds of processor time under which the larger size is no square of anything."""

SHAPES = [
    *("<PIN ", "<PIN", "PIN ", "<PIN>", "<PIN a='", "</PIN>", "<pin>x", "<x:PIN ", "<PIN/>"),
    *("<", ">", "&", "%", "\\", "\0", "=", ";", '"', "'", "[", "{", "?", " ", "\n", "\r\n", "\t"),
    *(
        "<!--",
        "<!-- -->",
        "-->",
        "<![CDATA[",
        "]]>",
        "<?",
        "<?x?>",
        "&#",
        "&#0",
        "&#00000",
        "&amp;",
    ),
    *("%25", "%", "%2", "\\u", "\\\\", "a=b&", "pin=1&", "pin=1;", ";pin", "a[", "pin[", "x=\n"),
    *('"pin"', '"pin":', '"pin" ', '"pin":"', '"pin":"\\', '{"pin":[', '\\"'),
    *(
        "BLUE.",
        "BLUE.musi",
        "B",
        "B<!--",
        "B\0",
        "B<!-- -->",
        "Qkx",
        "b",
        "%42",
        "&#66;",
        "\\u0042",
    ),
    *(
        "--b\r\n",
        "--b",
        "\r\n--b ",
        "--b\r\n\r\n",
        '--b\r\nContent-Disposition: form-data; name="',
    ),
    *(
        "; name=",
        ';name="',
        "; filename*=",
        "; boundary=",
        "; boundary",
        ";",
        "charset=",
        "charset ",
    ),
    *("uoted-=41", "ase64\n", "base64 QkxV\n", "; start=", "1.", "a.", "a-", "aaaa", "0"),
]

PROXIES = Proxies([ip_network("127.0.0.1")])
KNOWN = KnownSecrets(["BLUE.music", "4711", "a" * 40])
MULTIPART = "multipart/form-data; boundary=b"
PIN = frozenset({"pin", "token"})


def _read(body: bytes) -> None:
    with suppress(Fault):
        read_call(operation_of(parse(body)))


def _related(body: bytes) -> None:
    with suppress(Fault):
        root_part("multipart/related; boundary=b; start=x", body)


def _within(
    before: str, behind: str, function: Callable[[bytes], object]
) -> Callable[..., object]:
    """`function` over a body in which the shape stands in an envelope."""
    return lambda body: function(before.encode() + body + behind.encode())


def _blank_parsed(body: bytes) -> None:
    with suppress(Fault):
        blanked(body, parse(body))


READERS: dict[str, Callable[[bytes], object]] = {
    "blanking by value": KNOWN.blanked,
    "blanking by value, one in it": lambda body: KNOWN.blanked(body + b" BLU&#69;.music"),
    "blanking a text by value": lambda body: KNOWN.blanked_text(body.decode("latin-1")),
    "blanking elements": lambda body: blank_elements(body, b"pin"),
    "blanking members": lambda body: blank_members(body, PIN),
    "blanking what is no XML": blanked,
    "blanking XML": _within("<a><PIN>x</PIN><b><![CDATA[", "]]></b></a>", _blank_parsed),
    "blanking XML with a comment": _within("<a><PIN>&#65;</PIN><!--", "--></a>", _blank_parsed),
    "reading XML": _read,
    "a form": lambda body: Post("POST", b"", body, secrets=PIN).fields.rest(()),
    "a query": lambda body: Post("GET", body, secrets=PIN, token="token").fields.rest(()),
    "a multipart form": lambda body: Post("POST", b"", body, MULTIPART, secrets=PIN).raw,
    "a multipart's parts": lambda body: list(form_parts(MULTIPART, body)),
    "a multipart envelope": _related,
    "a boundary": lambda body: list(form_parts(f"multipart/x{body.decode('latin-1')}", b"--b")),
    "a charset": lambda body: charset_of.__wrapped__(body.decode("latin-1")),
    "a proxy's header": lambda body: PROXIES.asker(
        "127.0.0.1", [body], [b"for=192.0.2.1, " + body], [body]
    ),
    "a host": lambda body: contract.location(None, "http", body.decode("latin-1"), "x", "/"),
}


def _seconds(function: Callable[[bytes], object], body: bytes, goes: int) -> float:
    times = []
    for _ in range(goes):
        started = process_time()
        function(body)
        times.append(process_time() - started)
    return min(times)


def grows_as_its_input(function: Callable[[bytes], object], shape: str, behind: str = "") -> bool:
    """Whether `function` takes no more than in proportion for more of `shape`."""
    small, large = (
        (shape * (size // len(shape)) + behind).encode("latin-1")
        for size in (SMALL, SMALL * GROWN)
    )
    if _seconds(function, large, 1) < WORTH_A_LOOK:
        return True
    return _seconds(function, large, GOES) < RATIO * _seconds(function, small, GOES)


@pytest.mark.parametrize("function", READERS.values(), ids=READERS)
def test_time_grows_with_the_size_of_the_body(function):
    squares = [
        (shape, behind)
        for shape in SHAPES
        for behind in ("", "\0!")
        if not grows_as_its_input(function, shape, behind)
    ]
    assert squares == []


def test_a_square_would_be_found():
    def square(body: bytes) -> int:
        number = len(body) // 24
        return sum(1 for _ in range(number) for _ in range(number))

    assert not grows_as_its_input(square, "a")
