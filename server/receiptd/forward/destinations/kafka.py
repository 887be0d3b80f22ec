"""Kafka: a record for each event, written by an idempotent producer and acknowledged by all
replicas. Its key is its message, so that one partition has all about it, in order.

librdkafka works in threads of its own. One of ours asks it what has become of records; what it
learns goes over to the reactor's thread.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from threading import Thread
from typing import TYPE_CHECKING, Any, Literal

from confluent_kafka import KafkaError, KafkaException, Producer
from pydantic import Field, StrictBool, field_validator
from twisted.internet.defer import CancelledError, Deferred

from receiptd.config.errors import Misfit
from receiptd.forward.destinations import TAKEN, Destination, Fault, Outcome
from receiptd.forward.destinations.broker import (
    Address,
    TlsOptions,
    check_common,
    in_the_clear,
    key_of,
    messages,
    shown,
)
from receiptd.forward.destinations.connecting import describe
from receiptd.forward.events import Delivery

if TYPE_CHECKING:
    from receiptd.config.forward import Forward

PORT = 9092

ASK = 0.5
"""Seconds after which the thread sees that it has to end."""

LARGEST = 10_000_000
"""Bytes of a record; the broker may take less."""

WAITING_KB = 64 * 1024
"""KiB of records that may wait in librdkafka."""

_OF_THE_EVENT = frozenset(
    {
        KafkaError.MSG_SIZE_TOO_LARGE,
        KafkaError.RECORD_LIST_TOO_LARGE,
        KafkaError.INVALID_MSG,
        KafkaError.INVALID_RECORD,
        KafkaError.POLICY_VIOLATION,
    }
)


class Kafka(Destination):
    """Produces to a topic."""

    extra = "kafka"

    class Options(TlsOptions):
        """Keys of its own."""

        topic: str = Field(default="receipts", description="The topic.")
        tls: StrictBool = Field(default=False, description="Whether TLS is spoken.")
        mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] | None = Field(
            default=None,
            description="How the user and password of the URL are shown (SASL); PLAIN unless "
            "given.",
        )

        @field_validator("topic")
        @classmethod
        def _topic(cls, value: str) -> str:
            legal = value.isascii() and value.replace(".", "").replace("-", "").replace("_", "")
            if not legal or not legal.isalnum() or len(value) > 249:
                raise ValueError(
                    f"{value[:60]!r} is no topic: expected letters, digits, . - and _, at most 249"
                )
            return value

    @classmethod
    def check(cls, config: Forward) -> Sequence[str]:
        """What is doubtful.

        :raises Misfit: where keys do not go together.
        """
        address = _address(config)
        options: Kafka.Options = config.options
        if address.path:
            raise Misfit([(("url",), 'has a path: the topic is given as topic = "..."')])
        if (address.user is None) != (address.password is None):
            raise Misfit([(("url",), "has a user without a password: expected user:password@")])
        if options.mechanism and address.user is None:
            text = "is for a user and password, which the URL has not: kafka://user:password@..."
            raise Misfit([(("mechanism",), text)])
        return () if options.tls else in_the_clear(address)

    def __init__(self, config: Forward, reactor: Any) -> None:
        super().__init__(config, reactor)
        self._address = _address(config)
        self._options: Kafka.Options = config.options
        self._timeout = config.timeout.total_seconds()
        self._producer: Producer | None = None
        self._thread: Thread | None = None
        self._stopping = False
        self._trouble = ""
        """What librdkafka last said of brokers that it cannot reach."""

    async def send(self, delivery: Delivery) -> Sequence[Outcome]:
        """Produce, and wait until all replicas have it."""
        outcomes: list[Outcome | None] = [None] * len(delivery.events)
        done: Deferred[None] = Deferred()
        text = "no acknowledgement within the time"
        try:
            self._produce(delivery, outcomes, done)
            await done.addTimeout(self._timeout, self.reactor)
        except KafkaException as error:
            text = str(error.args[0].str() if error.args else error)
        except (Exception, CancelledError) as error:
            text = describe(error)
        late = Outcome(Fault.DESTINATION, self._said(text))
        return [each or late for each in outcomes]

    def _produce(
        self, delivery: Delivery, outcomes: list[Outcome | None], done: Deferred[None]
    ) -> None:
        producer = self._ready()
        left = len(delivery.events)

        def settled(number: int, error: KafkaError | None) -> None:
            """Called in our thread, or in the reactor's before the record was handed over."""
            nonlocal left
            outcomes[number] = self._outcome(error)
            left -= 1
            if not left:
                self.reactor.callFromThread(_fire, done)

        for number, (event, message) in enumerate(
            zip(delivery.events, messages(self.config, delivery), strict=True)
        ):
            headers = {
                **message.headers,
                "id": message.id,
                "type": message.type,
                "content-type": message.content_type,
            }
            try:
                producer.produce(
                    self._options.topic,
                    value=message.body,
                    key=key_of(event),
                    headers=[(name, value.encode()) for name, value in headers.items()],
                    timestamp=int(event.at.timestamp() * 1000),
                    on_delivery=lambda error, _record, number=number: settled(number, error),
                )
            except KafkaException as error:
                settled(number, error.args[0])

    def _outcome(self, error: KafkaError | None) -> Outcome:
        if error is None:
            self._trouble = ""
            return TAKEN
        if error.fatal():
            # The idempotent producer cannot go on; what was not acknowledged is sent by another.
            self._producer = None
        if error.code() in _OF_THE_EVENT:
            return Outcome(Fault.EVENT, self._said(error.str()))
        return Outcome(Fault.DESTINATION, self._said(error.str()))

    def _said(self, text: str) -> str:
        if self._trouble and self._trouble not in text:
            text = f"{text}: {self._trouble}"
        return shown(text, self._address)

    def _ready(self) -> Producer:
        """The producer; a new one where there is none."""
        producer = self._producer
        if producer is None:
            logger = logging.getLogger("receiptd.kafka")
            logger.setLevel(logging.CRITICAL + 1)  # what it says comes as errors too
            producer = self._producer = Producer(self._settings(), logger=logger)
            thread = Thread(target=self._ask, args=(producer,), name="forward-kafka", daemon=True)
            thread.start()
            self._thread = thread
        return producer

    def _settings(self) -> dict[str, Any]:
        return {
            "bootstrap.servers": ",".join(_host(each) for each in self._address.hosts),
            "client.id": f"receiptd-{self.config.name}",
            "enable.idempotence": True,
            "acks": "all",
            "linger.ms": 1,
            # Somewhat less than we wait ourselves: librdkafka knows better what was wrong.
            "message.timeout.ms": max(int(self._timeout * 900), 100),
            "topic.metadata.propagation.max.ms": max(int(self._timeout * 500), 100),
            "message.max.bytes": LARGEST,
            "queue.buffering.max.kbytes": WAITING_KB,
            "error_cb": self._failing,
            **_security(self._address, self._options),
        }

    def _failing(self, error: KafkaError) -> None:
        """Called in our thread."""
        self._trouble = error.str() or error.name()

    def _ask(self, producer: Producer) -> None:
        """Our thread: until the end, or until there is another producer."""
        while not self._stopping and (self._producer is producer or len(producer)):
            producer.poll(ASK)

    async def close(self) -> None:
        """End; what is under way has ended before."""
        self._stopping = True
        self._producer = None


def _address(config: Forward) -> Address:
    clear = None if config.options.tls else "tls = true speaks it"
    return check_common(config, port=PORT, clear=clear, several=True)


def _fire(done: Deferred[None]) -> None:
    if not done.called:
        done.callback(None)


def _host(host: tuple[str, int]) -> str:
    name, port = host
    return f"[{name}]:{port}" if ":" in name else f"{name}:{port}"


def _security(address: Address, options: Kafka.Options) -> dict[str, Any]:
    """librdkafka's settings of TLS and SASL."""
    found: dict[str, Any] = {}
    protocol = "ssl" if options.tls else "plaintext"
    if address.user is not None:
        protocol = "sasl_ssl" if options.tls else "sasl_plaintext"
        found = {
            "sasl.mechanism": options.mechanism or "PLAIN",
            "sasl.username": address.user,
            "sasl.password": address.password,
        }
    if options.ca:
        found["ssl.ca.location"] = options.ca
    if options.certificate:
        found["ssl.certificate.location"] = options.certificate
        found["ssl.key.location"] = options.key or options.certificate
    return {"security.protocol": protocol, **found}
