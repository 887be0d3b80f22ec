"""Reads Connection Software's posts that were kept, through the same Spyne application."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, cast

from spyne import Fault
from twisted.internet.defer import Deferred, succeed

from receiptd.providers import Invalid, Item, Post, Provider
from receiptd.receipt import ACCEPTED, Receipt
from receiptd.soap.endpoint import is_soap, submitted, transport
from receiptd.soap.service import SoapPost
from receiptd.web.receiving.intake import Intake, Origin, Taken


class _Reading:
    """Stands where the service method expects an `Intake`: reads what that would store. Who posts
    does not matter."""

    def __init__(self, provider: Provider) -> None:
        self.provider = provider
        self.items: Sequence[Item] = ()
        self.error: Exception | None = None

    def take(
        self,
        _origin: Origin,
        _credentials: object,
        _raw: bytes,
        read: Callable[[], Sequence[Item]],
        _denied: object = None,
    ) -> Deferred[Taken]:
        """Read. It does not fail: what Spyne makes of an exception says less than this does."""
        try:
            self.items = read()
        except Exception as error:
            self.error = error
        receipts = cast(Sequence[Receipt], self.items)
        return succeed(Taken(receipts, [ACCEPTED] * max(len(receipts), 1)))


def read_kept(provider: Provider, post: Post) -> Sequence[Item]:
    """The one receipt of a post, SOAP or form.

    :raises Invalid: where it carries none.
    """
    if not post.body or not is_soap(post.content_type, post.body):
        return provider.read(post)
    # A body whose PIN was written in an unusual way was kept in UTF-8, whatever its header says.
    try:
        return _read(provider, post)
    except Fault as fault:
        first = fault
    try:
        return _read(provider, post, "utf-8")
    except Fault:
        raise Invalid("body", str(first.faultstring)) from None


def _read(provider: Provider, kept: Post, charset: str | None = None) -> Sequence[Item]:
    """:raises Fault: where it is no SOAP envelope with one of the operations."""
    reading: Any = _Reading(provider)
    intake: Intake = reading
    post = SoapPost(intake, Origin(None, kept.content_type), None, 0.0)
    faults: list[Fault] = []

    def note(response: Any) -> None:
        if response.fault is not None:
            faults.append(response.fault)

    submitted(transport(), kept.body, post, charset).addCallback(note)
    if reading.error is not None:
        raise reading.error
    if faults:
        raise faults[0]
    items: Sequence[Item] = reading.items
    return items
