"""What a webhook's request looks like: its body, its type, and where it goes."""

from __future__ import annotations

import json
from typing import Any, NamedTuple
from urllib.parse import urlencode

from receiptd.config.forward import Forward
from receiptd.forward.destinations import kannel
from receiptd.forward.events import (
    Delivery,
    Event,
    data_json,
    encoded,
    event_json,
    event_name,
    iso,
)


class Content(NamedTuple):
    """A request as far as its events decide it."""

    method: bytes
    url: str
    type: bytes | None
    """Its Content-Type; None without a body."""
    body: bytes


def content(config: Forward, delivery: Delivery) -> Content:
    """The request that tells `delivery`."""
    build = _FORMATS[config.format]
    return build(config, delivery)


def one_event(config: Forward, store: str, event: Event) -> tuple[str, bytes]:
    """The type and the body of a message that tells one event and has no other place for its
    name: JSON with an `id`, as an element of a batch is."""
    if config.format == "cloudevents":
        type = "application/cloudevents+json"
        return type, encoded(_cloud_event(config, store, event))
    named = {"id": event_name(store, event.id), **event_json(event, raw=config.raw)}
    return "application/json", encoded(named)


def _json(config: Forward, delivery: Delivery) -> Content:
    if delivery.batched:
        body = encoded(
            [
                {"id": event_name(delivery.store, each.id), **event_json(each, raw=config.raw)}
                for each in delivery.events
            ]
        )
    else:
        body = encoded(event_json(delivery.events[0], raw=config.raw))
    return Content(b"POST", config.url, b"application/json", body)


def _cloud_event(config: Forward, store: str, event: Event) -> dict[str, Any]:
    # CloudEvents 1.0.2, section 3.1, and its JSON format
    return {
        "specversion": "1.0",
        "id": event_name(store, event.id),
        "source": f"urn:receiptd:{store}",
        "type": event.type,
        "time": iso(event.at),
        "datacontenttype": "application/json",
        "data": data_json(event, raw=config.raw),
    }


def _cloudevents(config: Forward, delivery: Delivery) -> Content:
    found = [_cloud_event(config, delivery.store, each) for each in delivery.events]
    if delivery.batched:
        type = b"application/cloudevents-batch+json"
        return Content(b"POST", config.url, type, encoded(found))
    return Content(b"POST", config.url, b"application/cloudevents+json", encoded(found[0]))


def _form(config: Forward, delivery: Delivery) -> Content:
    """The fields of the receipt, or of the message where there is none; those of the message
    beside a receipt are called message.state and so on."""
    event = delivery.events[0]
    data = data_json(event, raw=config.raw)
    fields: dict[str, Any] = {
        "event": event_name(delivery.store, event.id),
        "type": event.type,
        "timestamp": iso(event.at),
    }
    receipt, message = data["receipt"], data["message"]
    if receipt is not None:
        fields |= {name: value for name, value in receipt.items() if name not in fields}
        fields |= {f"message.{name}": value for name, value in (message or {}).items()}
    else:
        fields |= message or {}
    pairs = [(name, _text(value)) for name, value in fields.items() if value is not None]
    body = urlencode(pairs, errors="replace").encode("ascii")
    return Content(b"POST", config.url, b"application/x-www-form-urlencoded", body)


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return json.dumps(value) if isinstance(value, dict | list) else str(value)


def _url(config: Forward, delivery: Delivery) -> Content:
    url = kannel.fill(config.url, delivery.events[0], delivery.store)
    return Content((config.method or "GET").encode(), url, None, b"")


_FORMATS = {"json": _json, "cloudevents": _cloudevents, "form": _form, "url": _url}
