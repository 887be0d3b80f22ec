"""NATS JetStream: a message for each event, that counts as taken once a stream has acknowledged
it. `Nats-Msg-Id` is the event's name, by which the stream drops repetitions.

nats-py works with asyncio, in a thread with a loop of its own.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Coroutine, Sequence
from contextlib import suppress
from threading import Thread
from typing import TYPE_CHECKING, Any

from nats import errors
from nats.aio.client import Client
from nats.js.errors import APIError, NoStreamResponseError
from pydantic import Field, field_validator
from twisted.internet.defer import CancelledError, Deferred

from receiptd.config.errors import Misfit
from receiptd.forward.destinations import TAKEN, Destination, Fault, Outcome
from receiptd.forward.destinations.broker import (
    Address,
    Message,
    TlsOptions,
    check_common,
    check_template,
    context,
    fill,
    in_the_clear,
    messages,
    shown,
)
from receiptd.forward.events import Delivery

if TYPE_CHECKING:
    from receiptd.config.forward import Forward

PORT = 4222

ENDING = 1.0
"""Seconds that a server has to let a connection end."""

_TOO_LARGE = 10054
"""JetStream's err_code where a message is larger than its stream takes."""


class Nats(Destination):
    """Publishes to a subject that a stream listens to."""

    extra = "nats"

    class Options(TlsOptions):
        """Keys of its own."""

        subject: str = Field(
            default="receipts.{provider}.{kind}.{state}",
            max_length=255,
            description="The subject; fields in braces are filled in.",
        )

        @field_validator("subject")
        @classmethod
        def _template(cls, value: str) -> str:
            check_template(value)
            words = value.split(".")
            if (
                not all(words)
                or not (value.isascii() and value.isprintable())
                or set(value) & set(" *>")
                or value.startswith("$")
            ):
                raise ValueError(
                    "is no subject: expected words with dots between them, without spaces, * and >"
                )
            return value

    @classmethod
    def check(cls, config: Forward) -> Sequence[str]:
        """What is doubtful.

        :raises Misfit: where keys do not go together.
        """
        address = _address(config)
        if address.path:
            raise Misfit([(("url",), 'has a path: the subject is given as subject = "..."')])
        for name in config.headers:
            if name.lower().startswith("nats-"):
                raise Misfit([(("headers",), f"{name} is for NATS itself: leave it out")])
        return () if _speaks_tls(config) else in_the_clear(address)

    def __init__(self, config: Forward, reactor: Any) -> None:
        super().__init__(config, reactor)
        self._address = _address(config)
        self._options: Nats.Options = config.options
        self._timeout = config.timeout.total_seconds()
        self._tls = _speaks_tls(config)
        self._client: Client | None = None
        self._connecting: asyncio.Lock | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    async def open(self) -> None:
        """Start the thread; it connects once there is something to send."""
        self._loop = asyncio.new_event_loop()
        Thread(target=self._loop.run_forever, name="forward-nats", daemon=True).start()

    async def send(self, delivery: Delivery) -> Sequence[Outcome]:
        """Publish, and wait for the acknowledgements."""
        outcomes: list[Outcome | None] = [None] * len(delivery.events)
        text = "no acknowledgement within the time"
        try:
            await self._in_loop(
                asyncio.wait_for(self._publish_all(delivery, outcomes), self._timeout)
            )
        except TimeoutError:
            await self._in_loop(self._drop())
        except (Exception, CancelledError) as error:
            text = self._said(error)
        late = Outcome(Fault.DESTINATION, text)
        return [each or late for each in outcomes]

    def _in_loop(self, work: Coroutine[Any, Any, Any]) -> Deferred[Any]:
        """Run `work` in the thread; fires in the reactor's."""
        assert self._loop is not None
        done: Deferred[Any] = Deferred()
        running = asyncio.run_coroutine_threadsafe(work, self._loop)

        def finished() -> None:
            error = running.exception()
            if error is not None:
                done.errback(error)
            else:
                done.callback(running.result())

        running.add_done_callback(lambda _: self.reactor.callFromThread(finished))
        return done

    # --- In the thread

    async def _publish_all(self, delivery: Delivery, outcomes: list[Outcome | None]) -> None:
        client = await self._connected()

        async def publish(number: int, subject: str, message: Message) -> None:
            outcomes[number] = await self._publish(client, subject, message)

        await asyncio.gather(
            *(
                publish(number, fill(self._options.subject, event), message)
                for number, (event, message) in enumerate(
                    zip(delivery.events, messages(self.config, delivery), strict=True)
                )
            )
        )

    async def _publish(self, client: Client, subject: str, message: Message) -> Outcome:
        headers = {
            **message.headers,
            "Nats-Msg-Id": message.id,
            "Content-Type": message.content_type,
            "type": message.type,
        }
        try:
            await client.jetstream().publish(
                subject, message.body, timeout=self._timeout, headers=headers
            )
        except NoStreamResponseError:
            text = f"no stream takes it: none listens to the subject {subject!r}"
            return Outcome(Fault.DESTINATION, text)
        except errors.MaxPayloadError:
            text = f"its {len(message.body)} bytes are more than the server takes"
            return Outcome(Fault.EVENT, text)
        except APIError as error:
            fault = Fault.EVENT if error.err_code == _TOO_LARGE else Fault.DESTINATION
            return Outcome(fault, shown(f"the stream says: {error.description}", self._address))
        return TAKEN

    async def _connected(self) -> Client:
        """The client; a new one where there is none, or its connection broke off."""
        if self._connecting is None:
            self._connecting = asyncio.Lock()
        async with self._connecting:
            client = self._client
            if client is None or not client.is_connected:
                self._client = None
                client = self._client = await self._connect()
            return client

    async def _drop(self) -> None:
        """End the connection, of which nothing is heard: the next attempt makes a new one."""
        client, self._client = self._client, None
        if client is not None:
            await _end(client)

    async def _connect(self) -> Client:
        """Connect to the first of the hosts that can be, in any order."""
        hosts = list(self._address.hosts)
        random.shuffle(hosts)
        share = self._timeout / len(hosts)
        for left, (host, port) in zip(range(len(hosts) - 1, -1, -1), hosts, strict=True):
            try:
                return await self._connect_to(host, port, share)
            except (OSError, errors.Error, TimeoutError):
                if not left:
                    raise
        raise AssertionError("there is no host")

    async def _connect_to(self, host: str, port: int, seconds: float) -> Client:
        client = _Secured() if self._tls else Client()
        name = f"[{host}]" if ":" in host else host
        user, password = self._address.user, self._address.password
        credentials: dict[str, Any] = {}
        if password is not None:
            credentials = {"user": user, "password": password}
        elif user is not None:
            credentials = {"token": user}
        connecting = True

        async def failed(error: Exception) -> None:
            """Otherwise it would try again by itself for minutes."""
            if connecting:
                raise error

        try:
            await client.connect(
                f"{'tls' if self._tls else 'nats'}://{name}:{port}",
                name=f"receiptd forward {self.config.name}",
                # What waits is kept by us, in its order, and not by the library.
                allow_reconnect=False,
                connect_timeout=max(seconds, 0.1),
                error_cb=failed,
                **({"tls": context(self._options), "tls_hostname": host} if self._tls else {}),
                **credentials,
            )
        except BaseException:
            await _end(client)
            raise
        connecting = False
        return client

    def _said(self, error: BaseException) -> str:
        if isinstance(error, errors.TimeoutError | TimeoutError):
            return "no acknowledgement within the time"
        if isinstance(error, ConnectionRefusedError):
            return "the connection is refused"
        return shown(error, self._address)

    async def close(self) -> None:
        """Close the connection and end the thread."""
        loop, self._loop = self._loop, None
        if loop is None:
            return

        async def end() -> None:
            await self._drop()
            loop.stop()

        asyncio.run_coroutine_threadsafe(end(), loop)


def _speaks_tls(config: Forward) -> bool:
    return config.url.startswith("tls:")


def _address(config: Forward) -> Address:
    clear = None if _speaks_tls(config) else "tls://... speaks it"
    return check_common(config, port=PORT, clear=clear, several=True)


class _Secured(Client):
    """One that shows no password, and nothing else, to a server that speaks no TLS: nats-py
    itself goes on without where the server does not ask for it."""

    def _connect_command(self) -> bytes:
        if not self._server_info.get("tls_required"):
            raise errors.Error("the server speaks no TLS: nats://... goes without")
        found: bytes = super()._connect_command()
        return found


async def _end(client: Client) -> None:
    """Close the connection of `client`, as far as that can be done in a moment."""
    with suppress(Exception):
        await asyncio.wait_for(client.close(), ENDING)
