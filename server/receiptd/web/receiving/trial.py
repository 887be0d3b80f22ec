"""Whether an endpoint would let a request in, and a pipeline that stores nothing: for `receiptd
try`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from urllib.parse import unquote

from twisted.internet.defer import Deferred, succeed

from receiptd.config import Endpoint
from receiptd.providers import Post
from receiptd.receipt import ACCEPTED, Receipt, Rejection, Verdict
from receiptd.web.receiving.auth import TOKEN_FIELD, Gate
from receiptd.web.receiving.intake import INVALID_LOGIN, Intake


class _Nowhere:
    """Accepts what is to be stored, and does not."""

    def accept(self, receipts: Sequence[Receipt]) -> Deferred[list[Verdict]]:
        """At once."""
        return succeed([ACCEPTED] * len(receipts))

    def reject(self, rejection: Rejection) -> Deferred[list[Verdict]]:
        """At once."""
        return succeed([])


def trial_intake(endpoint: Endpoint, public_url: str | None) -> Intake:
    """The endpoint's intake, without a store behind it and without credentials."""
    nowhere: Any = _Nowhere()
    unlocked = endpoint.model_copy(update={"username": None, "pin": []})
    return Intake(unlocked, endpoint.bind(public_url), nowhere)


def refusal(
    endpoint: Endpoint, post: Post, address: str | None, login: tuple[str | None, str | None]
) -> str:
    """Why the endpoint would refuse `post`; empty where it would not.

    :param address: where it comes from; None: from somewhere that is allowed.
    :param login: the username and the PIN in it.
    """
    gate = Gate(endpoint)
    if address is None and endpoint.networks:
        address = str(endpoint.networks[0].network_address)
    tokens = Post("GET", post.query, post.body, post.content_type, token=TOKEN_FIELD).tokens
    path = post.path.decode("latin-1")
    if path.startswith(f"{endpoint.path}/"):
        tokens.append(unquote(path.removeprefix(f"{endpoint.path}/")))
    denied = gate.admit(address, tokens, post.headers.get("authorization", ""))
    if denied is None and not gate.login(*login):
        denied = INVALID_LOGIN
    return denied.text if denied else ""
