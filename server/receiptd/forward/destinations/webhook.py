"""Webhooks by Standard Webhooks 1.0.0: one HTTP request for an event, or for a batch of them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from receiptd import __version__
from receiptd.config.errors import Misfit
from receiptd.forward.destinations import Destination, Fault, Outcome, kannel
from receiptd.forward.events import Delivery

if TYPE_CHECKING:
    from receiptd.config.forward import Forward


class Webhook(Destination):
    """Posts to an application's URL."""

    @classmethod
    def check(cls, config: Forward) -> Sequence[str]:
        """What is doubtful.

        :raises Misfit: where keys do not go together.
        """
        _check_url(config)
        if config.format == "url":
            try:
                kannel.check(config.url)
            except ValueError as error:
                raise Misfit([(("url",), str(error))]) from None
        elif config.method == "GET":
            raise Misfit([(("method",), 'GET is for format = "url" alone: others are POST')])
        if config.format in ("url", "form") and config.batch > 1:
            raise Misfit(
                [(("batch",), f'format = "{config.format}" tells one event in a request')]
            )
        if config.format == "url" and config.raw:
            raise Misfit([(("raw",), 'format = "url" has no place for it')])
        return ()

    def __init__(self, config: Forward, reactor: Any) -> None:
        super().__init__(config, reactor)
        # These take a while to import, and check-config needs none of them.
        from standardwebhooks import Webhook as Signer

        from receiptd.config.forward_values import secret_key
        from receiptd.forward.destinations.http_client import Client

        self._signers = [Signer(secret_key(each)) for each in config.secret]
        self._headers = {
            b"User-Agent": f"receiptd/{__version__}".encode(),
            **{
                name.encode("ascii"): value.get_secret_value().encode("ascii")
                for name, value in config.headers.items()
            },
        }
        self._client = Client(
            reactor,
            networks=config.networks,
            concurrency=config.concurrency,
            timeout=config.timeout.total_seconds(),
        )

    async def send(self, delivery: Delivery) -> Sequence[Outcome]:
        """Make the request; its answer is about all of its events."""
        from receiptd.forward.destinations.connecting import describe
        from receiptd.forward.destinations.faults import judge
        from receiptd.forward.destinations.formats import content

        what = content(self.config, delivery)
        now = datetime.now(UTC)
        headers = {
            **self._headers,
            b"webhook-id": delivery.name.encode(),
            b"webhook-timestamp": str(int(now.timestamp())).encode(),
        }
        if self._signers:
            text = what.body.decode("utf-8", "surrogateescape")
            headers[b"webhook-signature"] = " ".join(
                each.sign(delivery.name, now, text) for each in self._signers
            ).encode()
        if what.type is not None:
            headers[b"Content-Type"] = what.type
        if delivery.attempt > 1:
            headers[b"receiptd-attempt"] = str(delivery.attempt).encode()
        if delivery.replay is not None:
            headers[b"receiptd-replay"] = str(delivery.replay).encode()
        try:
            answer = await self._client.request(what.method, what.url, headers, what.body)
        except Exception as error:
            outcome = Outcome(Fault.DESTINATION, describe(error))
        else:
            outcome = judge(answer, self.config.expect_body, now)
        return [outcome] * len(delivery.events)

    async def close(self) -> None:
        """Close its connections."""
        await self._client.close()


def _check_url(config: Forward) -> None:
    """
    :raises Misfit: where the URL cannot be connected to.
    """
    text = ""
    try:
        parts = urlsplit(config.url)
        _ = parts.port
        if not parts.hostname:
            text = "has no host: expected one such as https://app.example.com/receipts"
        elif parts.username is not None or parts.password is not None:
            text = (
                "has credentials in it: give them as headers = "
                '{ Authorization = "Basic ..." } instead'
            )
        elif parts.fragment:
            text = "has a fragment (#...), which is never sent: leave it out"
    except ValueError as error:
        text = f"is no URL: {error}"
    if not text and not (
        config.url.isascii() and config.url.isprintable() and " " not in config.url
    ):
        text = "has characters that a URL cannot have: percent-encode them"
    if text:
        raise Misfit([(("url",), text)])
