"""The tables of forwarding: what happened (`events`), and how far each destination has come."""

from __future__ import annotations

from sqlalchemy import BigInteger, Boolean, Column, Float, Index, Integer, Table, Text, text

from receiptd.store.schema import Price, Time, metadata

_id = BigInteger().with_variant(Integer(), "sqlite")

STORED, ADOPTED, STATE = 1, 2, 3
"""`events.type`."""

event_log = Table(
    "event_log",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    # random, made with the database: no other store's events have the same names
    Column("store", Text, nullable=False),
    # the id of the newest event
    Column("last", _id, nullable=False),
)
"""One row. Events get their ids here, in the transaction that writes them: no id is left out, and
ids are in the order of the commits."""

events = Table(
    "events",
    metadata,
    Column("id", _id, primary_key=True, autoincrement=False),
    Column("at", Time, nullable=False),
    Column("type", Integer, nullable=False),
    # of receipt.stored and receipt.adopted
    Column("receipt_id", _id),
    # the message that it is about, None where none is registered
    Column("message_ref", _id),
    # the rest is what receipt and message were at the end of the transaction
    Column("verdict", Text),
    Column("state", Text),
    Column("final", Boolean),
    Column("state_at", Time),
    Column("delivered", Integer),
    Column("parts", Integer),
    Column("price", Price),
    Index("events_adopted", "receipt_id", sqlite_where=text("type = 2")),
    Index("events_state", "message_ref", sqlite_where=text("type = 3")),
)
"""What applications are told. What a receipt or a message was that can change later is kept here;
what cannot is read from the receipt and the message."""

forward_destinations = Table(
    "forward_destinations",
    metadata,
    Column("name", Text, primary_key=True),
    # every event up to this one is dealt with, or stands in forward_parked
    Column("position", _id, nullable=False),
    Column("paused", Boolean, nullable=False),
    # why it is paused, for people
    Column("reason", Text),
    # who sends, until when, and for which time
    Column("owner", Text),
    Column("lease", Integer, nullable=False),
    Column("lease_until", Float, nullable=False),
    # as the sender last told
    Column("breaker_open", Boolean, nullable=False),
    Column("last_error", Text),
    Column("last_error_at", Time),
    Column("last_sent_at", Time),
    Column("sent", _id, nullable=False),
    # count the orders that are given (pause, resume, seek, retry, ...), and the seeks among them
    Column("orders", _id, nullable=False),
    Column("seeks", _id, nullable=False),
)
"""How far each destination has come. `lease` counts how often the lease was taken: what the
holder writes counts only as long as it is the same."""

forward_parked = Table(
    "forward_parked",
    metadata,
    Column("destination", Text, primary_key=True),
    Column("event_id", _id, primary_key=True, autoincrement=False),
    # retry: waits for its time; behind: waits for one before it in its lane; dead: for a person
    Column("status", Text, nullable=False),
    # whether a dead one keeps its lane waiting (on_dead = "hold")
    Column("holds", Boolean, nullable=False),
    # JSON: the names of its lanes
    Column("lanes", Text, nullable=False),
    # what the event is about, as retention asks for it
    Column("receipt_id", _id),
    Column("message_ref", _id),
    # failures that count, and all attempts
    Column("failures", Integer, nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("first_failed_at", Time),
    Column("next_at", Time),
    Column("died_at", Time),
    Column("error", Text),
    # what the destination last answered
    Column("answer", Text),
    Index("forward_parked_event", "event_id"),
    Index("forward_parked_receipt", "receipt_id"),
    Index("forward_parked_message", "message_ref"),
)
"""The events that a destination's position has passed by though they are not dealt with."""

forward_replays = Table(
    "forward_replays",
    metadata,
    Column("id", _id, primary_key=True, autoincrement=True),
    Column("destination", Text, nullable=False),
    Column("created_at", Time, nullable=False),
    # JSON: which events are wanted
    Column("wanted", Text, nullable=False),
    Column("position", _id, nullable=False),
    # the last event that it may reach
    Column("until", _id, nullable=False),
    # events per second, 0: as many as are taken
    Column("rate", Float, nullable=False),
    Column("sent", _id, nullable=False),
    Column("failed", _id, nullable=False),
    # running, done or cancelled
    Column("status", Text, nullable=False),
    Column("ended_at", Time),
    sqlite_autoincrement=True,
)
"""What is told again: each goes on where it was, also after a restart."""
