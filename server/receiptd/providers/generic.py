"""Any provider, by configuration alone: forms, queries and JSON, one receipt or many in a post.

What it cannot do stays out of it on purpose: a list within a list, arithmetic, XML, and the
signatures that vendors make of sorted fields. Those are for a module.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from receiptd.providers.endpoint import Endpoint, revealed
from receiptd.providers.fields import Ignored, Invalid, Unverified
from receiptd.providers.generic_options import GenericOptions, Signature
from receiptd.providers.json_body import flattened
from receiptd.providers.post import Post
from receiptd.providers.provider import Item, Provider, Reply
from receiptd.providers.signatures import (
    check,
    check_ed25519,
    check_time,
    ed25519_key,
    in_base64,
    in_hex,
    keyed_hash,
    matches,
    require,
    standard_webhooks,
    standard_webhooks_key,
)
from receiptd.providers.sources import Look, at, compiled, in_json, names_in, replaced
from receiptd.providers.times import epoch_time, formatted_time
from receiptd.providers.values import (
    Lenient,
    decimal,
    digits,
    identifier,
    iso_time,
    part,
    phone,
    smpp_time,
    word,
)
from receiptd.receipt import Outcome, Receipt, State, Verdict


class Generic(Provider):
    """What an endpoint's configuration says a provider is."""

    name = "generic"
    title = "Any other, by configuration"
    path = "/generic"
    by_default = False
    Options = GenericOptions

    def __init__(self, endpoint: Endpoint) -> None:
        super().__init__(endpoint)
        options = endpoint.options
        if not isinstance(options, GenericOptions):
            options = GenericOptions()
        self._options = options
        self.name = options.as_
        self.methods = tuple(options.methods)
        self.secrets = frozenset(name.casefold() for name in options.secret)
        self._codes = {code.casefold(): state for code, state in endpoint.codes.items()}
        self._sources = {
            name: compiled(source, self._codes) for name, source in options.fields.items()
        }
        self._kinds = {value.casefold(): kind for value, kind in options.kinds.items()}
        used = [name for source in options.fields.values() for name in names_in(source)]
        self._known = {*used, *options.drop}
        self._known_folded = {name.casefold() for name in self._known}

    def read(self, post: Post) -> Sequence[Item]:
        """A receipt of each item, by the sources of `fields`."""
        options = self._options
        if not (options.body == "json" or (options.body is None and post.is_json)):
            fields = post.fields
            return [self._receipt(post, fields.get, fields.rest(self._known_folded))]
        root = post.json()
        if options.each is None:
            return self.each([root], lambda item: self._item(post, item, root), lambda item: item)
        items = root if options.each == "[]" else at(root, options.each)
        if not isinstance(items, list):
            raise Invalid(options.each, f"{options.each} is no list: it must hold the receipts")
        if not items:
            return [Ignored(f"the list {options.each} is empty")]
        path = "" if options.each == "[]" else options.each
        return self.each(
            items,
            lambda item: self._item(post, item, root),
            lambda item: replaced(root, path, [item]),
        )

    def _item(self, post: Post, item: Any, root: Any) -> Item:
        if not isinstance(item, dict):
            raise Invalid("body", "an item of the body is no object")
        extra = {
            name: value
            for name, value in flattened(item).items()
            if name not in self._known and not self._secret(name)
        }
        return self._receipt(post, in_json(item, root), extra)

    def _secret(self, path: str) -> bool:
        steps = path.replace("[", ".").replace("]", "").casefold().split(".")
        return not self.secrets.isdisjoint(steps)

    def _receipt(self, post: Post, look: Look, extra: Any) -> Item:
        def get(name: str) -> str | None:
            source = self._sources.get(name)
            return source(look) if source else None

        lenient = Lenient()
        kind = self._options.kind
        if self._kinds:
            value = get("kind")
            found = self._kinds.get((value or "").casefold())
            if found is None:
                return Ignored(f"the kind {value!r} is not among the configured `kinds`")
            kind = found
        code = word("code", get("code"))
        error = word("error", get("error"))
        if error is not None:
            extra = {**extra, "error": error}
        linked = get("linked_id")
        return self.receipt(
            post,
            kind=kind,
            code=code,
            error=error,
            lenient=lenient,
            message_id=(
                identifier("message_id", get("message_id"))
                if "message_id" in self._sources
                else None
            ),
            recipient=lenient(phone, "recipient", get("recipient")),
            reported_at=lenient(self._time, "reported_at", get("reported_at")),
            description=get("description") or error,
            sender=get("sender"),
            reference=get("reference"),
            part=lenient(part, "part", get("part")),
            parts=lenient(part, "parts", get("parts")),
            price=lenient(decimal, "price", get("price")),
            network=lenient(digits, "network", get("network")),
            text=get("text"),
            linked_id=identifier("linked_id", linked) if linked else None,
            extra=extra,
        )

    def _time(self, field: str, value: str | None) -> datetime | None:
        form, zone = self._options.time, self.endpoint.timezone
        if form == "epoch":
            return epoch_time(field, value)
        if form == "epoch-ms":
            return epoch_time(field, value, 1000)
        if form == "smpp":
            return smpp_time(field, value, zone)
        if form == "iso":
            empty = value is None or not value.strip("0:-T. Z")
            return None if empty else iso_time(field, value, zone)
        return formatted_time(field, value, zone, form)

    def state(self, code: str | None, error: str | None = None) -> State:
        """As configured in `codes`, without case; `"CODE/ERROR"` goes before `CODE`."""
        if code is None:
            return State.UNKNOWN
        both = f"{code}/{error}".casefold()
        return self._codes.get(both) or self._codes.get(code.casefold(), State.UNKNOWN)

    @property
    def signed(self) -> bool:
        """Whether a signature or a token in a header is configured."""
        options = self._options
        by_key = options.signature is not None and options.signature.type != "none"
        return by_key or options.header_token is not None

    @property
    def signs_url(self) -> bool:  # type: ignore[override]
        """Whether the signature is also of the URL."""
        signature = self._options.signature
        return signature is not None and "{url}" in signature.signed

    def verify(self, post: Post) -> None:
        """Check the signature, or the token in a header, as configured."""
        token = self._options.header_token
        if token is not None:
            given = post.headers.get(token.header.lower(), "")
            if not matches([given], [each.get_secret_value() for each in token.value]):
                said = "wrong" if given else "missing"
                raise Unverified(f"the token in the header {token.header} is {said}")
        signature = self._options.signature
        if signature is not None and signature.type != "none":
            _verify(signature, post)

    def answer(self, receipts: Sequence[Receipt], verdicts: Sequence[Verdict]) -> Reply:
        """As configured."""
        answer = self._options.answer
        return Reply(answer.status, answer.body.encode(), answer.content_type)

    def refuse(self, post: Post, verdict: Verdict) -> Reply:
        """As configured for nonsense, else as usual."""
        refuse = self._options.refuse
        if refuse is None or verdict.outcome is not Outcome.INVALID:
            return super().refuse(post, verdict)
        return Reply(refuse.status, refuse.body.encode(), refuse.content_type)

    def warnings(self) -> list[str]:
        """What of the configuration can hardly be meant."""
        doubts = []
        if "message_id" not in self._sources:
            doubts.append(
                "`fields` has no message_id, so its receipts can never be matched with a message"
            )
        if "code" not in self._sources or not self._codes:
            doubts.append(
                "`fields` has no code, or `codes` is empty, so the state of every receipt is "
                "UNKNOWN: say in `codes` what each code of the provider stands for"
            )
        if self._options.each is not None and "recipient" not in self._sources:
            doubts.append(
                "`fields` has no recipient, so the receipts of one post cannot be told apart"
            )
        return doubts


def _verify(signature: Signature, post: Post) -> None:
    """
    :raises Unverified: where the signature is not right.
    """
    headers = post.headers
    if signature.type == "standard-webhooks":
        given = require(headers.get("webhook-signature", ""), "webhook-signature")
        stamp, identifier = headers.get("webhook-timestamp", ""), headers.get("webhook-id", "")
        keys = [standard_webhooks_key(each.get_secret_value()) for each in signature.secret]
        check(
            given.split(" "),
            [standard_webhooks(key, identifier, stamp, post.body) for key in keys],
        )
        check_time(stamp, post.received_at, signature.tolerance)
        return
    given = require(headers.get(signature.header.lower(), ""), signature.header)
    messages = [_filled(signature.signed, post, url) for url in (post.urls or [""])]
    given = given.removeprefix(signature.prefix)
    if signature.type == "ed25519":
        keys_ = [ed25519_key(each) for each in signature.public_key]
        _check_one(keys_, given, messages)
    else:
        write = in_base64 if signature.encoding == "base64" else in_hex
        expected = [
            write(keyed_hash(secret, message, signature.algorithm))
            for secret in revealed(signature.secret)
            for message in messages
        ]
        check([given.lower() if signature.encoding == "hex" else given], expected)
    if signature.timestamp is not None:
        stamp = headers.get(signature.timestamp.removeprefix("header:").lower(), "")
        check_time(stamp, post.received_at, signature.tolerance)


def _check_one(keys: Any, given: str, messages: list[bytes]) -> None:
    for message in messages[:-1]:
        try:
            check_ed25519(keys, given, message)
        except Unverified:
            continue
        return
    check_ed25519(keys, given, messages[-1])


def _filled(template: str, post: Post, url: str) -> bytes:
    """The bytes that are signed."""
    pieces = template.replace("}", "{").split("{")
    filled = [piece.encode() for piece in pieces]
    values = {
        "body": post.body,
        "url": url.encode(),
        "path": post.path,
        "query": post.query,
        "method": post.method.encode(),
    }
    for index in range(1, len(pieces), 2):
        name = pieces[index]
        header = name.removeprefix("header:").lower()
        filled[index] = (
            values[name] if name in values else post.headers.get(header, "").encode("latin-1")
        )
    return b"".join(filled)
