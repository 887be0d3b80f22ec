"""The API about single messages: register some, show one with its receipts."""

from __future__ import annotations

from urllib.parse import quote

from sqlalchemy import Engine

from receiptd.pipeline import Busy, Pipeline
from receiptd.providers import values
from receiptd.store.messages import message_with_receipts
from receiptd.web.api.bodies import encoded, encoded_timeline
from receiptd.web.api.known_names import Names
from receiptd.web.api.parameters import MessageQuery, Query
from receiptd.web.api.registration import read_messages
from receiptd.web.problem import PRIVATE, Problem
from receiptd.web.reader import Reader
from receiptd.web.server.request import Request

MOST_REGISTERING = 20_000
"""Messages that may wait to be registered, of all requests."""

LONGEST_PATH = 1024
"""Characters of a provider's or a message's name in a path: none has so many."""


class MessagesApi:
    """Registers messages, and answers what is asked about one."""

    def __init__(self, reader: Reader, pipeline: Pipeline, names: Names) -> None:
        """
        :param names: see `renew`.
        """
        self._reader = reader
        self._pipeline = pipeline
        self._waiting = 0
        self.renew(names)

    def renew(self, names: Names) -> None:
        """Go by a new configuration: register messages of these providers."""
        self._names = names

    async def register_messages(self, request: Request, _query: Query) -> None:
        """Register the messages in the body."""
        content_type = request.header(b"Content-Type")
        if content_type.partition(";")[0].strip().lower() != "application/json":
            raise Problem(
                415,
                f"the Content-Type is {content_type or 'missing'}: expected application/json",
                headers=(b"Accept: application/json\r\n",),
            )
        messages = read_messages(request.body(), self._names.configured)
        if self._waiting + len(messages) > MOST_REGISTERING:
            raise _busy()
        self._waiting += len(messages)
        try:
            results = await self._pipeline.register(messages) if messages else []
        except Busy:
            raise _busy() from None
        finally:
            self._waiting -= len(messages)
        items = [
            {
                "provider": message.provider,
                "message_id": message.message_id,
                "recipient": message.recipient,
                "result": result,
            }
            for message, result in zip(messages, results, strict=True)
        ]
        request.answer(200, encoded({"items": items}), b"application/json", (PRIVATE,))

    async def show_message(
        self, request: Request, query: MessageQuery, provider: str, message_id: str
    ) -> None:
        """One message, with its receipts."""

        def read(engine: Engine) -> bytes | None:
            with engine.connect() as connection:
                found = message_with_receipts(connection, provider, message_id)
            if found and not query.raw:
                for each in found["receipts"]:
                    del each["raw"]
            return encoded_timeline(found) if found else None

        possible = max(len(provider), len(message_id)) <= LONGEST_PATH
        body = await self._reader.read(read) if possible else None
        if body is None:
            raise Problem(
                404,
                f"no message {values.shown(message_id)} of {values.shown(provider)} is "
                "registered; its receipts, if there are any, are at /api/v1/receipts?message_id="
                + quote(message_id[: values.LONGEST_IDENTIFIER], safe=""),
            )
        request.answer(200, body, b"application/json", (PRIVATE,))


def _busy() -> Problem:
    return Problem.unavailable("too much waits to be stored: send it again later")
