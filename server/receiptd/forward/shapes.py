"""Dead letters, replays and destinations as people and programs read them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from receiptd.store.forward_status import Status
from receiptd.store.rows import time


def dead_json(row: Mapping[str, Any]) -> dict[str, Any]:
    """A dead letter."""
    return {
        "destination": row["destination"],
        "event": row["event_id"],
        "receipt": row["receipt_id"],
        "died_at": time(row["died_at"]),
        "first_failed_at": time(row["first_failed_at"]),
        "attempts": row["attempts"],
        "holds": bool(row["holds"]),
        "error": row["error"],
        "answer": row["answer"],
    }


def replay_json(row: Mapping[str, Any]) -> dict[str, Any]:
    """A replay."""
    return {
        "id": row["id"],
        "destination": row["destination"],
        "created_at": time(row["created_at"]),
        "ended_at": time(row["ended_at"]),
        "wanted": json.loads(row["wanted"]),
        "status": row["status"],
        "position": row["position"],
        "until": row["until"],
        "rate": row["rate"],
        "sent": row["sent"],
        "failed": row["failed"],
    }


def status_json(status: Status, *, configured: bool) -> dict[str, Any]:
    """How a destination is."""
    oldest = status.oldest_at
    lag = (datetime.now(UTC) - oldest).total_seconds() if oldest is not None else 0.0
    return {
        "name": status.name,
        "state": status.state,
        "reason": status.reason,
        "configured": configured,
        "waiting": status.waiting,
        "oldest_at": time(oldest),
        "lag_seconds": round(max(lag, 0.0), 1),
        "sent": status.sent,
        "dead": status.dead,
        "last_sent_at": time(status.last_sent_at),
        "last_error": status.last_error,
        "last_error_at": time(status.last_error_at),
    }
