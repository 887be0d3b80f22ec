"""An example of each answer, for the OpenAPI document."""

from __future__ import annotations

from typing import Any

RECEIPT: dict[str, Any] = {
    "id": 4711,
    "received_at": "2026-01-31T18:00:02.120417Z",
    "endpoint": "soap",
    "provider": "csoft",
    "kind": "delivery",
    "message_id": "4A2E3C10",
    "state": "DELIVERED",
    "code": "0",
    "description": "Accepted by phone",
    "recipient": "447700912345",
    "sender": None,
    "reference": None,
    "reported_at": "2026-01-31T18:00:00Z",
    "part": None,
    "parts": None,
    "price": None,
    "network": None,
    "text": None,
    "extra": {},
    "unread": [],
    "raw": "<SOAP-ENV:Envelope>...</SOAP-ENV:Envelope>",
    "verdict": "accepted",
    "repeats": 0,
}
MESSAGE: dict[str, Any] = {
    "provider": "csoft",
    "message_id": "4A2E3C10",
    "recipient": "447700912345",
    "sender": "ACME",
    "reference": "order 17",
    "parts": 1,
    "delivered": 1,
    "state": "DELIVERED",
    "final": True,
    "state_at": "2026-01-31T18:00:00Z",
    "price": None,
    "registered_at": "2026-01-31T17:59:58.004120Z",
    "sent_at": "2026-01-31T17:59:57Z",
    "gave_up_at": None,
}
REJECTED: dict[str, Any] = {
    "id": 17,
    "received_at": "2026-01-31T18:00:02.120417Z",
    "endpoint": "soap",
    "provider": "csoft",
    "reason": "unauthorized",
    "field": None,
    "text": "the username or the PIN in the post is not the endpoint's",
    "peer": "192.0.2.10",
    "content_type": "text/xml; charset=utf-8",
    "raw": "<SOAP-ENV:Envelope>...<PIN>***</PIN>...</SOAP-ENV:Envelope>",
}
_NEXT = "https://dlr.example.com/api/v1/%s?limit=1&cursor=3mu"
_DEAD: dict[str, Any] = {
    "destination": "app",
    "event": 4711,
    "receipt": 4711,
    "died_at": "2026-01-31T19:00:00Z",
    "first_failed_at": "2026-01-31T18:00:03Z",
    "attempts": 12,
    "holds": False,
    "error": "it answered 422",
    "answer": "unknown order",
}
_ORDERED: dict[str, Any] = {
    "destination": "app",
    "text": "paused",
    "count": None,
    "position": None,
    "replay": None,
}

_SUMS: dict[str, Any] = {
    "receipts": 1200,
    "receipts_delivered": 1104,
    "receipts_failed": 60,
    "receipts_pending": 36,
    "receipts_mismatched": 0,
    "messages": 1000,
    "messages_delivered": 948,
    "messages_given_up": 2,
    "rejected": None,
    "delivery_rate": 0.948,
    "delivery_rate_of": "messages",
    "p50_seconds": 3.2,
    "p95_seconds": 41.0,
    "p99_seconds": 310.0,
}
EXAMPLES: dict[str, Any] = {
    "Statistics": {
        "since": "2026-01-30T18:00:00Z",
        "until": "2026-01-31T18:00:00Z",
        "by": ["provider"],
        "items": [{"provider": "csoft", **_SUMS}],
        "total": _SUMS,
        "complete": True,
    },
    "Receipt": RECEIPT,
    "Receipts": {"items": [RECEIPT], "next": _NEXT % "receipts"},
    "Messages": {"items": [MESSAGE], "next": None},
    "MessageWithReceipts": {
        **MESSAGE,
        "recipients": [
            {key: each for key, each in MESSAGE.items() if key not in ("provider", "message_id")}
        ],
        "receipts_complete": True,
        "receipts": [RECEIPT],
    },
    "Registered": {
        "items": [
            {
                "provider": "csoft",
                "message_id": "4A2E3C10",
                "recipient": "447700912345",
                "result": "registered",
            }
        ]
    },
    "RejectedPost": REJECTED,
    "RejectedPosts": {"items": [REJECTED], "next": _NEXT % "rejected"},
    "Retried": {
        "id": 17,
        "result": "stored",
        "text": "",
        "receipts": [
            {
                "message_id": "4A2E3C10",
                "recipient": "447700912345",
                "state": "DELIVERED",
                "verdict": "accepted",
                "text": "",
            }
        ],
    },
    "Deleted": {"id": 17},
    "Events": {
        "items": [
            {
                "number": 4711,
                "id": "msg_8c1f0e7a.4711",
                "type": "receipt.stored",
                "timestamp": "2026-01-31T18:00:02.120417Z",
                "data": {
                    "receipt": {key: each for key, each in RECEIPT.items() if key != "raw"},
                    "message": MESSAGE,
                },
            }
        ],
        "last": 4711,
        "next": None,
    },
    "ForwardDestinations": {
        "items": [
            {
                "name": "app",
                "state": "sending",
                "reason": None,
                "configured": True,
                "waiting": 0,
                "oldest_at": None,
                "lag_seconds": 0.0,
                "sent": 4711,
                "dead": 0,
                "last_sent_at": "2026-01-31T18:00:02.300000Z",
                "last_error": None,
                "last_error_at": None,
            }
        ]
    },
    "DeadLetters": {"items": [_DEAD], "next": None},
    "Replays": {
        "items": [
            {
                "id": 3,
                "destination": "app",
                "created_at": "2026-01-31T18:00:00Z",
                "ended_at": None,
                "wanted": {},
                "status": "running",
                "position": 100,
                "until": 4711,
                "rate": 0.0,
                "sent": 100,
                "failed": 0,
            }
        ]
    },
    "Ordered": _ORDERED,
    "Tried": {"taken": True, "error": None, "answer": "HTTP 200"},
}
"""By the name of the shape."""

PROBLEM: dict[str, Any] = {
    "type": "about:blank",
    "title": "Unprocessable Entity",
    "status": 422,
    "detail": "stat: is unknown: did you mean 'state'?",
    "errors": [{"parameter": "stat", "detail": "is unknown: did you mean 'state'?"}],
}


def new_message(provider: str) -> dict[str, Any]:
    """A message that is registered.

    :param provider: one that an endpoint is configured for.
    """
    return {
        "provider": provider,
        "message_id": "4A2E3C10",
        "recipient": "447700912345",
        "reference": "order 17",
    }
