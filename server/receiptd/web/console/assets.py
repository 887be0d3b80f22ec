"""The console's own files: style and scripts, each under a URL that names its content.

So a browser may keep one for ever: other content has another URL. `static/VENDORED.md` says where
those come from that are not ours.
"""

from __future__ import annotations

from hashlib import sha256
from importlib.resources import files
from typing import NamedTuple

from receiptd.web.server.request import Request

ROOT = "/console/static/"

_TYPES = {
    "css": b"text/css; charset=utf-8",
    "js": b"text/javascript; charset=utf-8",
    "svg": b"image/svg+xml",
}

_HEADERS = (
    b"Content-Security-Policy: default-src 'none'\r\n",
    b"Cache-Control: public, max-age=31536000, immutable\r\n",
    b"X-Content-Type-Options: nosniff\r\n",
    b"Cross-Origin-Resource-Policy: same-origin\r\n",
)


class Asset(NamedTuple):
    """A file."""

    data: bytes
    content_type: bytes


class Assets:
    """All of them, read once."""

    def __init__(self) -> None:
        self._urls: dict[str, str] = {}
        self._found: dict[str, Asset] = {}
        for file in files("receiptd.web.console").joinpath("static").iterdir():
            stem, _, suffix = file.name.rpartition(".")
            if suffix in _TYPES:
                data = file.read_bytes()
                name = f"{stem}.{sha256(data).hexdigest()[:16]}.{suffix}"
                self._urls[file.name] = ROOT + name
                self._found[name] = Asset(data, _TYPES[suffix])

    def url(self, name: str) -> str:
        """Where the file of this name is served."""
        return self._urls[name]

    def answer(self, request: Request, name: str) -> bool:
        """Answer with a file; whether there is one of this name."""
        asset = self._found.get(name)
        if asset is None:
            return False
        request.answer(200, asset.data, asset.content_type, _HEADERS)
        return True
