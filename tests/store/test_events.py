"""Events, written in the transaction that stores."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import select

from kit.store import receipt
from receiptd.message import Message
from receiptd.receipt import State
from receiptd.store.event_tables import ADOPTED, STATE, STORED, event_log, events
from receiptd.store.schema import receipts


def written(engine):
    with engine.connect() as connection:
        return connection.execute(select(events).order_by(events.c.id)).all()


def test_a_receipt_that_is_stored_is_an_event_and_a_repetition_is_none(engine, store):
    store.outcomes(receipt("A"), receipt("B"), receipt("A"))
    store.outcomes(receipt("B"))
    store.outcomes(receipt("C"), receipt("A"))
    found = written(engine)
    assert [(each.id, each.type) for each in found] == [(1, STORED), (2, STORED), (3, STORED)]
    rows = {row.id: row for row in store.receipts()}
    assert [rows[each.receipt_id].message_id for each in found] == ["A", "B", "C"]
    assert [rows[each.receipt_id].received_at for each in found] == [each.at for each in found]
    assert {each.verdict for each in found} == {"accepted"}
    assert {each.message_ref for each in found} == {None}


def test_a_state_that_changes_is_told_behind_the_receipts_that_changed_it(engine, store):
    store.register(Message("csoft", "A", "447700912345"))
    assert not written(engine)
    store.outcomes(
        receipt("A", state=State.ENROUTE, code="9", reported_at=None),
        receipt("A", state=State.DELIVERED),
        receipt("B"),
    )
    found = written(engine)
    assert [each.type for each in found] == [STORED, STORED, STORED, STATE]
    assert [(each.state, each.final) for each in found] == [
        ("DELIVERED", True),
        ("DELIVERED", True),
        (None, None),
        ("DELIVERED", True),
    ]
    assert found[2].verdict == "unknown-message"
    assert found[3].delivered == 1


def test_a_state_that_stays_is_not_told_again(engine, store):
    store.register(Message("csoft", "A"))
    store.outcomes(receipt("A"))
    store.outcomes(receipt("A", state=State.ENROUTE, code="7"))
    assert [each.type for each in written(engine)] == [STORED, STATE, STORED]
    # What the event says of the message is what was known then.
    assert [each.state for each in written(engine)] == ["DELIVERED"] * 3


def test_a_receipt_that_finds_its_message_is_told_and_then_the_state(engine, store):
    store.register(Message("csoft", "other"))
    store.outcomes(receipt("A"), receipt("A", code="3", state=State.ENROUTE))
    store.register(Message("csoft", "A"))
    found = written(engine)[2:]
    assert [(each.type, each.verdict, each.state) for each in found] == [
        (ADOPTED, "accepted", "DELIVERED"),
        (ADOPTED, "accepted", "DELIVERED"),
        (STATE, None, "DELIVERED"),
    ]
    assert [each.receipt_id for each in found[:2]] == [row.id for row in store.receipts()]
    assert {each.message_ref for each in found} == {row.id for row in store.messages()[1:]}


def test_what_a_parts_number_changes_is_told(engine, store):
    store.register(Message("csoft", "A"))
    store.outcomes(receipt("A"))
    store.register(Message("csoft", "A", parts=2))
    assert written(engine)[-1].type == STATE


def test_a_transaction_that_fails_takes_no_numbers_along(engine, store):
    """Ids have no gaps: a consumer sees that it has all."""
    store.outcomes(receipt("A"))
    bad = receipt("B\0" if engine.dialect.name == "postgresql" else "B", part=10**30)
    results = store.put([receipt("C")], [bad], [receipt("D")])
    assert isinstance(results[1], Exception)
    store.outcomes(receipt("E"))
    assert [each.id for each in written(engine)] == [1, 2, 3, 4]


def test_many_receipts_and_messages_have_an_event_each(engine, store):
    messages = [Message("csoft", f"m{number}") for number in range(1200)]
    store.put(*([receipt(each.message_id)] for each in messages))
    store.register(*messages)
    found = written(engine)
    assert [each.id for each in found] == list(range(1, 3601))
    assert [each.type for each in found[:1200]] == [STORED] * 1200
    assert sum(each.type == ADOPTED for each in found) == 1200
    assert sum(each.type == STATE for each in found) == 1200


@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(
        st.lists(st.tuples(st.sampled_from("ABCD"), st.sampled_from("012")), max_size=6),
        max_size=6,
    )
)
@pytest.mark.parametrize("engine", ["sqlite"], indirect=True)
def test_every_receipt_has_one_event_whatever_came_together(engine, store, batches):
    for batch in batches:
        if batch:
            at = datetime.now(UTC).replace(microsecond=0)
            store.put(*([receipt(name, code=code, reported_at=at)] for name, code in batch))
    with engine.connect() as connection:
        stored = list(connection.scalars(select(receipts.c.id).order_by(receipts.c.id)))
        told = list(connection.scalars(select(events.c.receipt_id).order_by(events.c.id)))
        last = connection.scalar(select(event_log.c.last))
    assert told == stored
    assert last == len(stored)


def test_each_database_has_a_name_of_its_own(engine):
    with engine.connect() as connection:
        name = connection.scalar(select(event_log.c.store))
    assert len(name) == 12
