"""Reads a rejected post again, under today's configuration.

Who asks for it lets the post in: a PIN or a token was blanked before the post was kept, a
signature covers headers that were not kept, and its time has passed. So neither is asked for.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from receiptd.blanking import BLANK_TEXT
from receiptd.blanking.by_value import KnownSecrets
from receiptd.config import Endpoint
from receiptd.providers import Ignored, Invalid, Item, Post, Provider, named
from receiptd.receipt import Receipt, Rejection
from receiptd.web.receiving.auth import TOKEN_FIELD
from receiptd.web.receiving.intake import MISTAKE, NOTHING, SEVERAL, pieces_of

_CUT_OFF = (
    "the request could not be read as HTTP, so the end of the post may be missing: post it by "
    "hand if it is whole, otherwise delete it"
)

_BLANKED = (
    f"what tells which message it is about was blanked ({BLANK_TEXT}), since it is the same as a "
    "secret: only the provider can send it again"
)
_PERHAPS_STORED = (
    "it has items without an identifier and without a time, which may be stored already: post the "
    "others by hand, then delete it"
)


class Kept(NamedTuple):
    """What a rejected post is, read again."""

    row: Mapping[str, Any]
    """The row of `rejected_posts`."""
    receipts: Sequence[Receipt] = ()
    rest: Sequence[Rejection] = ()
    """What goes back to the list, of a post with receipts and with items that are nonsense."""
    text: str = ""
    """Why there is no receipt, or what is wrong with the rest."""
    ignored: bool = False
    """Whether it is no receipt and needs to be none."""


class KeptPosts:
    """Reads posts of the endpoints that are configured now."""

    def __init__(
        self, endpoints: Iterable[Endpoint], public_url: str | None, secrets: KnownSecrets
    ) -> None:
        """
        :param public_url: of the server, for endpoints that have none of their own.
        """
        self._endpoints = {each.name: each for each in endpoints}
        self._public_url = public_url
        self._secrets = secrets
        self._bound: dict[str, Provider] = {}

    def read(self, row: Mapping[str, Any]) -> Kept:
        """What the post in a row of `rejected_posts` is by now. Called in the reactor's thread, or
        where there is no reactor."""
        name = row["endpoint"]
        endpoint = self._endpoints.get(name)
        if endpoint is None:
            return Kept(
                row,
                text=f"no endpoint is called {name!r} any more: configure it again, or delete "
                "the post",
            )
        provider = self._bound.get(name)
        if provider is None:
            provider = self._bound[name] = endpoint.bind(self._public_url)
        post = _post(row, provider, bool(endpoint.token))
        if _may_be_cut_off(row, post):
            return Kept(row, text=_CUT_OFF)
        read = named(provider.reader) if provider.reader else _read
        try:
            items: Sequence[Item] = read(provider, post)
        except Invalid as error:
            return Kept(row, text=self._secrets.blanked_text(error.text))
        except Exception as error:
            text = f"the module of {provider.name} failed: {type(error).__name__}: {error}"
            return Kept(row, text=self._secrets.blanked_text(text))
        return self._kept(row, post, items)

    def _kept(self, row: Mapping[str, Any], post: Post, items: Sequence[Item]) -> Kept:
        blanked = self._secrets.blanked_text
        receipts = [
            self._secrets.receipt(each, self._secrets.blanked(each.raw))
            for each in items
            if isinstance(each, Receipt)
        ]
        invalid = [each for each in items if isinstance(each, Invalid)]
        ignored = [each for each in items if isinstance(each, Ignored)]
        if any(map(_blanked, receipts)):
            return Kept(row, text=_BLANKED)
        if row["field"] == SEVERAL and not all(map(_is_told_apart, receipts)):
            return Kept(row, text=_PERHAPS_STORED)
        text = ""
        if invalid:
            text = blanked(invalid[0].text)
        elif not receipts:
            text = blanked(ignored[0].text if ignored else NOTHING.text)
        rest = self._rest(row, post, invalid) if receipts and invalid else ()
        return Kept(row, receipts, rest, text, bool(ignored and not invalid))

    def _rest(
        self, row: Mapping[str, Any], post: Post, invalid: Sequence[Invalid]
    ) -> list[Rejection]:
        """What goes back to the list, of a post that is nonsense in part."""
        blanked = self._secrets.blanked_text
        whole = Rejection(*(row[name] for name in Rejection._fields))._replace(reason="invalid")
        pieces = pieces_of(post.raw, invalid, several=True)
        if pieces is None:
            return [whole._replace(field=SEVERAL, text=blanked(invalid[0].text))]
        return [
            whole._replace(
                field=blanked(each.field),
                text=blanked(each.text),
                raw=self._secrets.blanked(piece),
            )
            for each, piece in zip(invalid, pieces, strict=True)
        ]


def _read(provider: Provider, post: Post) -> Sequence[Item]:
    return provider.read(post)


def _post(row: Mapping[str, Any], provider: Provider, asks_token: bool) -> Post:
    """The post of a row: see `Post.raw` for how it was kept."""
    query, body = b"", bytes(row["raw"])
    if body.startswith(b"?"):
        query, _, body = body[1:].partition(b"\n")
    methods = provider.methods
    method = "POST" if "POST" in methods and (body or "GET" not in methods) else methods[0]
    return Post(
        method,
        query,
        body,
        row["content_type"] or "",
        charset=provider.charset,
        secrets=provider.secrets,
        token=TOKEN_FIELD if asks_token else None,
        received_at=row["received_at"].timestamp(),
    )


def _may_be_cut_off(row: Mapping[str, Any], post: Post) -> bool:
    """Whether only the beginning of the post may have been kept: then a form would be read as
    another one. XML and JSON would not be read at all."""
    if row["reason"] != "unreadable" or row["text"] == MISTAKE.text:
        return False
    if post.content_type[:40].lower().startswith("multipart/related"):
        return False
    start = post.body[:64].removeprefix(b"\xef\xbb\xbf").lstrip()
    return not start.startswith((b"<", b"{", b"[", b"\xff\xfe", b"\xfe\xff", b"\0<"))


def _blanked(receipt: Receipt) -> bool:
    """Whether what a receipt is found and compared by was blanked in its post."""
    compared = (receipt.message_id, receipt.linked_id, receipt.code, receipt.recipient)
    return any(BLANK_TEXT in each for each in (*compared, receipt.reference) if each)


def _is_told_apart(receipt: Receipt) -> bool:
    """Whether the same receipt again is found to be one."""
    return any(
        each is not None for each in (receipt.message_id, receipt.reported_at, receipt.linked_id)
    )
