"""`GET /api/v1/statistics` on a real server."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from kit.api import call, deliver

STATISTICS = "/api/v1/statistics"


def test_statistics_are_added_up_by_what_is_asked_for(pooled):
    server = pooled(registers=True)
    message = {
        "provider": "csoft",
        "message_id": "S1",
        "recipient": "447700912345",
        "sent_at": (datetime.now(UTC) - timedelta(hours=2)).isoformat(),
    }
    assert call(server, "/api/v1/messages", "POST", message).status == 200
    deliver(server, "S1")
    deliver(server, "S2")
    reply = call(server, f"{STATISTICS}?by=provider,verdict&provider=csoft")
    assert reply.status == 200
    found = {each["verdict"]: each["receipts"] for each in reply.json["items"]}
    assert found == {"accepted": 1, "unknown-message": 1}
    total = call(server, f"{STATISTICS}?provider=csoft").json["total"]
    assert (total["receipts"], total["messages"], total["messages_delivered"]) == (2, 1, 1)
    assert total["p50_seconds"] == pytest.approx(7200, rel=0.1)


@pytest.mark.parametrize(
    ("query", "parameter", "said"),
    [
        ("by=providr", "by", "did you mean 'provider'?"),
        ("by=", "by", "is nothing to add up by"),
        ("by=provider&by=hour", "by", "more than once"),
        ("since=yesterday", "since", "no time such as"),
        ("state=GONE", "state", "GONE"),
        ("provider=csofd", "provider", "did you mean 'csoft'?"),
        ("endpoint=sope", "endpoint", "did you mean 'soap'?"),
        ("reason=bad", "reason", "bad"),
        ("colour=red", "colour", "is unknown"),
        ("code=%00", "code", "NUL"),
    ],
)
def test_a_parameter_that_is_no_good_is_named(shared_default, query, parameter, said):
    reply = call(shared_default, f"{STATISTICS}?{query}")
    assert reply.status == 422
    (error,) = reply.problem["errors"]
    assert error["parameter"] == parameter
    assert said in error["detail"]


def test_times_that_leave_nothing_are_an_empty_answer(shared_default):
    reply = call(shared_default, f"{STATISTICS}?since=2001-01-01&until=0001-01-01&by=hour")
    assert (reply.status, reply.json["items"]) == (200, [])


@pytest.mark.parametrize("sent_at", ["soon", 5, "", "9" * 100, "0001-01-01T00:00:00+14:00", []])
def test_a_message_with_a_time_that_is_none_is_refused(shared_default, sent_at):
    message = {"provider": "csoft", "message_id": "S3", "sent_at": sent_at}
    reply = call(shared_default, "/api/v1/messages", "POST", message)
    assert reply.status == 422
    assert reply.problem["errors"][0]["pointer"] == "#/sent_at"
