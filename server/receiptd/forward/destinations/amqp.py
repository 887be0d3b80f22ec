"""AMQP 0.9.1 (RabbitMQ): a persistent message for each event, that counts as taken only once the
broker has confirmed it and has not returned it.

A broker confirms what it could not route as well: it returns the message first (`mandatory`),
then confirms it. Which one was returned its message-id says: of several that are under way the
order of the confirms does not tell (RabbitMQ, "Consumer Acknowledgements and Publisher Confirms").
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from pika import BasicProperties, ConnectionParameters, PlainCredentials
from pika.adapters.twisted_connection import TwistedChannel
from pika.exceptions import AMQPError, ChannelClosedByBroker, NackError, UnroutableError
from pydantic import Field, field_validator
from twisted.internet.defer import CancelledError, Deferred, DeferredList, DeferredLock, FirstError
from twisted.python.failure import Failure

from receiptd.config.errors import Misfit
from receiptd.forward.destinations import TAKEN, Destination, Fault, Outcome
from receiptd.forward.destinations.amqp_connection import Connection, connect, why
from receiptd.forward.destinations.broker import (
    Address,
    TlsOptions,
    check_common,
    check_template,
    fill,
    in_the_clear,
    messages,
    shown,
)
from receiptd.forward.destinations.connecting import describe
from receiptd.forward.events import Delivery

if TYPE_CHECKING:
    from receiptd.config.forward import Forward

PLAIN_PORT, TLS_PORT = 5672, 5671

LONGEST_KEY = 255
"""Bytes of a routing key (AMQP 0.9.1, shortstr)."""

PERSISTENT = 2

_TOO_LARGE = 406
"""PRECONDITION_FAILED, with which RabbitMQ closes the channel of a message that is larger than
it takes (`max_message_size`)."""


class Amqp(Destination):
    """Publishes to an exchange."""

    extra = "amqp"

    class Options(TlsOptions):
        """Keys of its own."""

        exchange: str = Field(
            default="amq.topic",
            max_length=127,
            description='The exchange, which must be there. "" is the default exchange: the '
            "routing key is a queue's name.",
        )
        routing_key: str = Field(
            default="{provider}.{kind}.{state}",
            min_length=1,
            max_length=LONGEST_KEY,
            description="The routing key; fields in braces are filled in.",
        )

        @field_validator("routing_key")
        @classmethod
        def _template(cls, value: str) -> str:
            if not (value.isascii() and value.isprintable()):
                raise ValueError("expected printable ASCII")
            check_template(value)
            return value

    @classmethod
    def check(cls, config: Forward) -> Sequence[str]:
        """What is doubtful.

        :raises Misfit: where keys do not go together.
        """
        address = _address(config)
        if "/" in address.path:
            text = (
                "has more than a virtual host behind the host: write a / in its name as %2F, "
                "and the exchange as exchange = "
            )
            raise Misfit([(("url",), f'{text}"..."')])
        return () if _speaks_tls(config) else in_the_clear(address)

    def __init__(self, config: Forward, reactor: Any) -> None:
        super().__init__(config, reactor)
        self._tls = _speaks_tls(config)
        self._address = _address(config)
        self._options: Amqp.Options = config.options
        self._timeout = config.timeout.total_seconds()
        self._parameters = ConnectionParameters(
            virtual_host=unquote(self._address.path) or "/",
            credentials=PlainCredentials(
                "guest" if self._address.user is None else self._address.user,
                "guest" if self._address.password is None else self._address.password,
            ),
            heartbeat=30,
            client_properties={"connection_name": f"receiptd forward {config.name}"},
        )
        self._connection: Connection | None = None
        self._connecting = DeferredLock()
        self._free: list[TwistedChannel] = []
        """Channels that nothing is under way in: what closes one is about its messages alone."""
        # It logs what it raises as well, and messages with all that is in them.
        logging.getLogger("pika").setLevel(logging.CRITICAL + 1)

    async def send(self, delivery: Delivery) -> Sequence[Outcome]:
        """Publish, and wait for the confirms."""
        outcomes: list[Outcome | None] = [None] * len(delivery.events)
        rest = Outcome(Fault.DESTINATION, "the broker has closed the connection")
        publishing = Deferred.fromCoroutine(self._publish(delivery, outcomes))
        try:
            await publishing.addTimeout(self._timeout, self.reactor)
        except ChannelClosedByBroker as error:
            if error.reply_code == _TOO_LARGE:
                # Which one it was is not said: each half is tried by itself.
                return [Outcome(Fault.TOO_LARGE, self._said(error))] * len(outcomes)
            rest = Outcome(Fault.DESTINATION, self._said(error))
        except (Exception, CancelledError) as error:
            rest = Outcome(Fault.DESTINATION, self._gave_up(error))
        return [each or rest for each in outcomes]

    def _gave_up(self, error: BaseException) -> str:
        """In words why nothing came of it."""
        connection = self._connection
        if connection is not None and connection.blocked:
            return _blocked(connection)
        text = self._said(error)
        if connection is not None and not isinstance(error, AMQPError):
            # What it has not confirmed in time must not come later, behind what is sent again.
            self._connection = None
            connection.abort()
        return text

    def _said(self, error: BaseException) -> str:
        text = why(error) if isinstance(error, AMQPError) else describe(error)
        return shown(text, self._address)

    async def _publish(self, delivery: Delivery, outcomes: list[Outcome | None]) -> None:
        connection = await self._connected()
        channel = await self._channel(connection)
        returned: set[str] = connection.returned[channel]
        found: list[Deferred[Any]] = []
        for number, (event, message) in enumerate(
            zip(delivery.events, messages(self.config, delivery), strict=True)
        ):
            routing_key = fill(self._options.routing_key, event)[:LONGEST_KEY]
            confirmed = channel.basic_publish(
                self._options.exchange,
                routing_key,
                message.body,
                BasicProperties(
                    content_type=message.content_type,
                    delivery_mode=PERSISTENT,
                    message_id=message.id,
                    type=message.type,
                    timestamp=int(event.at.timestamp()),
                    app_id="receiptd",
                    headers=dict(message.headers) or None,
                ),
                mandatory=True,
            )
            settle = partial(self._settle, outcomes, number, returned, message.id, routing_key)
            found.append(confirmed.addBoth(settle))
        await DeferredList(found, fireOnOneErrback=True, consumeErrors=True).addErrback(_first)
        if channel.is_open and connection is self._connection:
            self._free.append(channel)

    def _settle(
        self,
        outcomes: list[Outcome | None],
        number: int,
        returned: set[str],
        name: str,
        routing_key: str,
        result: Any,
    ) -> Any:
        """A message was confirmed, returned or refused; a failure of the whole channel goes on."""
        error = getattr(result, "value", None)
        if error is not None and not isinstance(error, UnroutableError | NackError):
            return result
        if isinstance(error, NackError):
            outcome = Outcome(Fault.DESTINATION, "the broker has refused it (basic.nack)")
        elif name in returned:
            where = (
                f"the exchange {self._options.exchange!r}"
                if self._options.exchange
                else ("the default exchange")
            )
            text = f"no queue takes it: in {where} none is bound for {routing_key!r}"
            outcome = Outcome(Fault.DESTINATION, text)
        else:
            # pika holds a confirm that follows a return for its own; the message-id knows better.
            outcome = TAKEN
        returned.discard(name)
        outcomes[number] = outcome
        return None

    async def _connected(self) -> Connection:
        """The connection; a new one where there is none.

        :raises Exception: where it cannot be had, or the broker takes nothing now.
        """
        await self._connecting.acquire()
        try:
            connection = self._connection
            if connection is None or not connection.is_open:
                self._free.clear()
                connection = self._connection = None
                connection = await connect(
                    self.reactor,
                    self._address.hosts[0],
                    self._parameters,
                    tls=self._options if self._tls else None,
                    networks=self.config.networks,
                    timeout=self._timeout,
                )
                self._connection = connection
        finally:
            self._connecting.release()
        if connection.blocked:
            raise Blocked(_blocked(connection))
        return connection

    async def _channel(self, connection: Connection) -> TwistedChannel:
        while self._free:
            channel = self._free.pop()
            if channel.is_open:
                return channel
        channel = await connection.channel()
        await channel.confirm_delivery()
        connection.note_returned(channel)
        return channel

    async def close(self) -> None:
        """Close the connection."""
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.end()


def _speaks_tls(config: Forward) -> bool:
    return config.url.startswith("amqps:")


def _address(config: Forward) -> Address:
    if _speaks_tls(config):
        return check_common(config, port=TLS_PORT, clear=None, networks=True)
    return check_common(config, port=PLAIN_PORT, clear="amqps://... speaks it", networks=True)


def _first(failure: Failure) -> Failure:
    """The failure of the first of several."""
    assert isinstance(failure.value, FirstError)
    return failure.value.subFailure


class Blocked(Exception):
    """The broker takes nothing now."""


def _blocked(connection: Connection) -> str:
    return f"the broker takes nothing now: {connection.blocked}"[:300]
