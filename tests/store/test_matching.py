"""Receipts and registered messages find each other, and a message's state is what they say."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import count, permutations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kit.store import AT, Store, count_on, on_sqlite, receipt
from receiptd.message import WHOLE, Message, Part, Standing, progress
from receiptd.receipt import Kind, Receipt, State, distinct
from receiptd.store.matching import Policy
from receiptd.store.recorder import Quota, Recorder, Submission
from receiptd.store.schema import iso

SENT_TO = "447700912345"


def message(message_id: str = "4A2E3C10", recipient: str | None = SENT_TO, **more) -> Message:
    """A message as an application registers it."""
    return Message(more.pop("provider", "csoft"), message_id, recipient, **more)


def linked(store: Store) -> list[int | None]:
    return [row.message_ref for row in store.receipts()]


def test_nothing_is_checked_before_any_message_is_registered(store):
    assert store.outcomes(receipt()) == ["accepted"]


def test_once_one_is_registered_all_receipts_of_the_provider_are_checked(store):
    store.register(message("other"))
    assert store.outcomes(receipt(), receipt(provider="seeme")) == ["unknown-message", "accepted"]


def test_a_registration_that_is_undone_turns_nothing_on(engine):
    recorder = Recorder(engine, policies={"soap": Policy()}, quota=Quota(1, 1, 1))

    def outcomes(connection, *submissions):
        stored = recorder.record(connection, submissions, [AT] * len(submissions))
        return [each.outcome for each in stored[-1]]

    registering = Submission(None, messages=[message("other")])
    with engine.connect() as connection:
        with connection.begin() as transaction:
            found = outcomes(connection, registering, Submission(None, [receipt("A")]))
            assert found == ["unknown-message"]
            transaction.rollback()
        with connection.begin():
            assert outcomes(connection, Submission(None, [receipt("A")])) == ["accepted"]
        with connection.begin():
            outcomes(connection, registering, Submission(None, [receipt("B")]))
        with connection.begin():
            found = outcomes(connection, Submission(None, [receipt("C")]))
            assert found == ["unknown-message"]


def test_matching_stays_on_when_the_messages_are_gone(open_store):
    store = open_store()
    store.register(message())
    with store.engine.begin() as connection:
        connection.exec_driver_sql("DELETE FROM messages")
    assert open_store().outcomes(receipt()) == ["unknown-message"]


@pytest.mark.parametrize(
    ("match", "registered", "outcome"),
    [
        ("always", False, "unknown-message"),
        ("always", True, "unknown-message"),
        ("never", False, "accepted"),
        ("never", True, "accepted"),
        ("auto", False, "accepted"),
        ("auto", True, "unknown-message"),
    ],
)
def test_policies(open_store, match, registered, outcome):
    store = open_store(policies={"soap": Policy(match), "cdyne": Policy()})
    if registered:
        store.register(message("other"))
    assert store.outcomes(receipt()) == [outcome]


def test_another_endpoints_always_is_not_this_ones(open_store):
    store = open_store(policies={"soap": Policy("auto"), "cdyne": Policy("always")})
    assert store.outcomes(receipt("A"), receipt("B", endpoint="cdyne")) == [
        "accepted",
        "unknown-message",
    ]


def test_a_matched_receipt_makes_the_messages_state(store):
    store.register(message(parts=1))
    assert store.message().state == "ENROUTE"
    assert store.message().state_at is None

    assert store.outcomes(receipt()) == ["accepted"]
    row = store.message()
    assert (row.state, row.final, row.state_at, row.delivered) == ("DELIVERED", True, AT, 1)
    assert linked(store) == [row.id]


@pytest.mark.parametrize(
    ("registered", "sent"),
    [
        (message(" 4a2e3c10 "), receipt("4A2E3C10")),
        (message(recipient="+44 7700 912345"), receipt()),
        (message(recipient="00447700912345"), receipt(recipient="+44 (7700) 912345")),
        (
            message(provider="cdyne", recipient="+1 757-237-3369"),
            receipt(provider="cdyne", endpoint="cdyne", recipient="7572373369"),
        ),
        (message(recipient=None), receipt()),
        (message(), receipt(recipient=None)),
    ],
)
def test_identifiers_and_numbers_compare_in_any_form(store, registered, sent):
    store.register(registered)
    assert store.outcomes(sent) == ["accepted"]
    assert store.message().state == "DELIVERED"


def test_a_mismatch_is_stored_and_says_which(store):
    store.register(message())
    ((unknown,),) = store.put([receipt("NONE")])
    ((wrong,),) = store.put([receipt(recipient="447700999999")])

    assert (unknown.outcome, wrong.outcome) == ("unknown-message", "wrong-recipient")
    assert unknown.mismatch
    assert "NONE" in unknown.text
    assert "447700999999" in wrong.text
    assert [row.verdict for row in store.receipts()] == ["unknown-message", "wrong-recipient"]
    assert linked(store) == [None, None]
    assert store.message().state == "ENROUTE"


def test_a_mismatch_again_is_answered_alike(store):
    store.register(message())
    ((first,),) = store.put([receipt("NONE")])
    ((again,),) = store.put([receipt("NONE")])
    assert (again.outcome, again.text) == ("duplicate", first.text)
    assert again.mismatch


def test_one_identifier_may_have_several_recipients(store):
    numbers = ["447700900001", "447700900002", "447700900003"]
    assert store.register(*(message(recipient=each) for each in numbers)) == ["registered"] * 3
    assert store.outcomes(
        receipt(recipient=numbers[0]),
        receipt(recipient=numbers[1], state=State.EXPIRED, code="27"),
        receipt(recipient="447700900009"),
        receipt(recipient=None, code="x"),
    ) == ["accepted", "accepted", "wrong-recipient", "accepted"]
    assert [row.state for row in store.messages()] == ["DELIVERED", "EXPIRED", "ENROUTE"]


# --- Registering


def test_registering_again_changes_nothing_or_what_differs(store):
    assert store.register(message(reference="r1"), message("B")) == ["registered"] * 2
    store.outcomes(receipt())
    assert store.register(message(reference="r1"), message()) == ["unchanged"] * 2
    assert store.register(message(reference="r2", sender="ACME")) == ["updated"]
    row = store.messages()[0]
    assert (row.reference, row.sender, row.state) == ("r2", "ACME", "DELIVERED")


def test_the_same_message_twice_in_one_request(store):
    assert store.register(message(), message(), message(reference="r")) == [
        "registered",
        "unchanged",
        "updated",
    ]
    assert store.message().reference == "r"


def test_more_parts_than_thought_undo_the_end(store):
    store.register(message())
    store.outcomes(receipt(part=1))
    assert store.message().final
    store.register(message(parts=2))
    assert not store.message().final
    store.outcomes(receipt(part=2))
    assert store.message().state == "DELIVERED"
    assert store.message().delivered == 2


# --- Adoption


def test_a_receipt_before_its_message_is_adopted(store):
    store.register(message("other"))
    store.outcomes(receipt(), receipt(code="-4", state=State.ENROUTE))
    assert [row.verdict for row in store.receipts()] == ["unknown-message"] * 2

    store.register(message())
    row = store.messages()[1]
    assert [each.verdict for each in store.receipts()] == ["accepted"] * 2
    assert linked(store) == [row.id] * 2
    assert (row.state, row.final, row.state_at) == ("DELIVERED", True, AT)


def test_a_receipt_that_was_not_checked_is_adopted_too(store):
    store.outcomes(receipt())
    store.register(message())
    assert store.message().state == "DELIVERED"
    assert linked(store) == [store.message().id]


def test_another_recipient_makes_an_unknown_message_a_wrong_recipient(store):
    store.register(message("other"))
    store.outcomes(receipt())
    store.register(message(recipient="447700999999"))
    assert [row.verdict for row in store.receipts()] == ["wrong-recipient"]
    store.register(message())
    assert [row.verdict for row in store.receipts()] == ["accepted"]


def test_what_is_adopted_keeps_its_time(store):
    # On PostgreSQL it is read again, in a session whose zone may be any.
    iso.cache_clear()
    store.outcomes(receipt(state=State.UNDELIVERABLE))
    store.register(message())
    assert store.message().state_at == AT
    store.outcomes(receipt(reported_at=AT + timedelta(minutes=30)))
    assert store.message().state == "DELIVERED", "the later one"


def test_adoption_reaches_receipts_far_back(store):
    store.outcomes(receipt())
    count_on(store.engine, 3_000_000)  # so that the receipt lies in another bucket of the index
    store.outcomes(receipt("later"))
    store.register(message())
    assert store.message().state == "DELIVERED"


@on_sqlite
def test_adopting_uses_the_index(store):
    with store.engine.connect() as connection:
        plan = connection.exec_driver_sql(
            "EXPLAIN QUERY PLAN SELECT id FROM receipts WHERE (id >> 17) IN (0, 1) "
            "AND message_key IN ('a', 'b') AND provider = 'csoft' AND message_ref IS NULL"
        ).all()
    assert "receipts_by_message" in str(plan)


# --- Replies, calls, second identifiers


def test_a_reply_links_to_the_message_that_it_answers(store):
    store.register(message("M1", recipient=SENT_TO))
    reply = receipt(
        "R1", kind=Kind.REPLY, linked_id="m1", sender=SENT_TO, recipient="447700000000", code=None
    )
    unlinked = reply._replace(message_id="R2", linked_id=None)
    stranger = reply._replace(message_id="R3", linked_id="nobody's")
    assert store.outcomes(reply, unlinked, stranger) == ["accepted"] * 3
    assert linked(store) == [store.message().id, None, None]
    assert store.message().state == "ENROUTE", "what somebody answers is no state"


def test_a_reply_before_its_message_is_linked_too(store):
    store.outcomes(receipt("R1", kind=Kind.REPLY, linked_id="M1", sender=SENT_TO))
    store.register(message("M1"))
    assert linked(store) == [store.message().id]
    assert store.message().state_at is None


def test_a_call_is_never_a_mismatch(store):
    store.register(message())
    assert store.outcomes(receipt("Q1", kind=Kind.CALL)) == ["accepted"]


def test_a_second_identifier_finds_the_message(store):
    store.register(message("ORIGINAL"))
    assert store.outcomes(receipt("BACKUP", linked_id="ORIGINAL")) == ["accepted"]
    assert store.message().state == "DELIVERED"


# --- Other names of a message

GUID = "5d3f3b0e-0f0e-4f0a-9c8e-111111111111"
SPELLINGS = [GUID, GUID.upper(), GUID.replace("-", ""), f"{{{GUID}}}", f" \ufeff{GUID}\u200b\x07"]


@pytest.mark.parametrize("first", ["message", "receipt"])
@pytest.mark.parametrize("registered", SPELLINGS)
def test_a_guid_is_the_same_in_all_spellings(store, registered, first):
    if first == "message":
        assert store.register(message(registered)) == ["registered"]
    sent = [receipt(each, code=str(number)) for number, each in enumerate(SPELLINGS)]
    assert store.outcomes(*sent) == ["accepted"] * len(sent)
    if first == "receipt":
        store.register(message(registered))
    assert store.register(*map(message, SPELLINGS)) == ["unchanged"] * len(SPELLINGS)
    assert linked(store) == [store.message().id] * len(sent)


def test_a_guid_that_an_earlier_version_registered_in_braces_is_found(store):
    store.register(message(GUID))
    with store.engine.begin() as connection:
        connection.exec_driver_sql(f"UPDATE messages SET message_key = '{{{GUID}}}'")
    assert store.outcomes(receipt(GUID), receipt(f"{{{GUID}}}", code="1")) == ["accepted"] * 2


def test_a_number_that_an_earlier_version_read_otherwise_is_found(store):
    store.register(message(recipient="447700900123"))
    with store.engine.begin() as connection:
        connection.exec_driver_sql("UPDATE messages SET recipient_key = '4407700900123'")
    assert store.outcomes(receipt(recipient="447700900123")) == ["accepted"]
    assert store.register(message(recipient="+44 (0)7700 900123")) == ["unchanged"]


def backup(message_id="A", linked_id="B", **more) -> Receipt:
    fields = {"state": State.REJECTED, "code": "091", "backup": True}
    return receipt(message_id, linked_id=linked_id, **fields | more)


@pytest.mark.parametrize("order", list(permutations(range(3))))
def test_a_backup_routes_receipts_are_the_messages_in_any_order(store, order):
    def register():
        store.register(message("A", provider="csoft"))

    def fail():
        store.outcomes(backup())

    def deliver():
        store.outcomes(receipt("b", reported_at=LATER))

    store.register(message("other"))
    for step in order:
        (register, fail, deliver)[step]()
    row = store.messages()[-1]
    assert (row.state, row.final) == ("DELIVERED", True)
    assert linked(store) == [row.id] * 2
    assert [each.verdict for each in store.receipts()] == ["accepted"] * 2


def test_a_backup_route_may_have_a_backup_route(store):
    store.register(message("A"))
    store.outcomes(backup("A", "B"), backup("B", "C"), receipt("C", reported_at=LATER))
    assert store.message().state == "DELIVERED"
    assert linked(store) == [store.message().id] * 3


def test_a_backup_that_is_registered_itself_is_a_message_of_its_own(store):
    store.register(message("A"), message("B"))
    store.outcomes(backup(), receipt("B", reported_at=LATER))
    assert [row.state for row in store.messages()] == ["REJECTED", "DELIVERED"]


def test_names_that_go_round_in_a_circle_end(store):
    store.register(message("other"))
    assert store.outcomes(backup("A", "B"), backup("B", "A")) == ["unknown-message"] * 2
    store.register(message("A"))
    assert store.message_of("a").state == "REJECTED"


# --- A recipient that is told later


def test_a_message_that_is_registered_again_with_its_recipient_is_one(store):
    assert store.register(message(recipient=None)) == ["registered"]
    assert store.register(message(recipient=SENT_TO)) == ["updated"]
    assert store.register(message(recipient=None), message()) == ["unchanged"] * 2
    assert store.outcomes(receipt(), receipt(recipient="1")) == ["accepted", "wrong-recipient"]
    row = store.message()
    assert (row.recipient, row.recipient_key, row.state) == (SENT_TO, SENT_TO, "DELIVERED")


def test_so_it_is_in_one_request(store):
    messages = [message(recipient=None), message(), message(recipient=None, reference="r")]
    assert store.register(*messages) == ["registered", "updated", "updated"]
    assert (store.message().recipient, store.message().reference) == (SENT_TO, "r")


def test_receipts_of_others_go_to_their_own_message_once_it_has_one(store):
    store.register(message(recipient=None))
    store.outcomes(receipt(recipient="1"), receipt(recipient="2", state=State.EXPIRED, code="27"))
    store.register(message(recipient="1"))
    assert store.message().state == "DELIVERED"
    store.register(message(recipient="2"))
    assert [row.state for row in store.messages()] == ["DELIVERED", "EXPIRED"]
    assert linked(store) == [row.id for row in store.messages()]


# --- What makes two receipts the same


def test_receipts_that_differ_in_their_state_are_two(store):
    same = {"code": "001"}
    found = store.outcomes(
        receipt(state=State.ACCEPTED, **same),
        receipt(state=State.DELIVERED, **same),
        receipt(state=State.ACCEPTED, **same),
    )
    assert found == ["accepted", "accepted", "duplicate"]


def test_receipts_that_differ_in_what_could_not_be_read_are_two(store):
    sent = [
        receipt(reported_at=None, unread=("t",), extra={"t": each}) for each in ("x", "y", "x")
    ]
    assert store.outcomes(*sent) == ["accepted", "accepted", "duplicate"]
    assert [row.unread for row in store.receipts()] == ['["t"]'] * 2


def test_with_neither_identifier_nor_time_no_two_are_the_same(store):
    sent = [distinct(receipt(None, reported_at=None)) for _ in range(3)]
    assert store.outcomes(*sent) == ["accepted"] * 3
    assert store.outcomes(*sent) == ["duplicate"] * 3, "the very same, spooled and stored again"
    same = receipt(None, reported_at=None)
    assert store.outcomes(same, same) == ["accepted"] * 2
    assert store.outcomes(same) == ["accepted"]
    assert distinct(receipt("A", reported_at=None)).nonce == ""
    assert distinct(receipt(None)).nonce == ""


# --- What ends a message


def test_the_third_failed_try_ends_a_message_also_if_it_is_registered_later(store):
    tries = [
        receipt(
            kind=Kind.SENT,
            state=State.ENROUTE,
            last_try=3,
            reported_at=AT + timedelta(minutes=minute),
        )
        for minute in range(3)
    ]
    store.outcomes(tries[0], tries[0])
    store.outcomes(tries[1])
    store.register(message())
    assert not store.message().final
    store.outcomes(tries[2])
    assert (store.message().state, store.message().final) == ("REJECTED", True)
    store.register(message("B"))
    store.outcomes(*(each._replace(message_id="C") for each in tries))
    store.register(message("C"))
    assert store.message_of("c").final


@pytest.mark.parametrize("first", ["message", "receipts"])
def test_a_registered_call_has_the_state_of_its_last_stage(store, first):
    if first == "message":
        store.register(message("Q1", None))
    store.outcomes(receipt("Q1", kind=Kind.CALL, state=State.ENROUTE, code="2"))
    store.outcomes(receipt("Q1", kind=Kind.CALL, state=State.UNDELIVERABLE, code="2"))
    if first == "receipts":
        store.register(message("Q1", None))
    assert (store.message().state, store.message().final) == ("UNDELIVERABLE", True)


# --- Parts of a number that nobody has


def test_a_number_of_parts_that_cannot_be_costs_nothing(store):
    huge = 999_999_999
    store.register(message())
    assert store.outcomes(receipt(parts=huge), receipt(code="2", part=huge)) == ["accepted"] * 2
    assert (store.message().state, store.message().parts) == ("DELIVERED", None)
    with store.engine.begin() as connection:
        connection.exec_driver_sql(f"UPDATE messages SET parts = {huge}")
    store.outcomes(receipt(code="3", reported_at=LATER))
    assert store.message().final


def test_progress_does_not_look_at_each_part():
    known = Part(Standing(State.DELIVERED, AT))
    found = progress({1: known, 10**15: known}, 10**15)
    assert (found.expected, found.delivered, found.final) == (10**15, 2, False)
    found = progress({WHOLE: known}, 10**15)
    assert (found.delivered, found.final) == (10**15, True)


# --- State

LATER = AT + timedelta(minutes=5)


def sent(state: State, at: datetime | None = AT, **more) -> Receipt:
    return receipt(state=state, code=state.value, reported_at=at, **more)


@pytest.mark.parametrize(
    ("reports", "state"),
    [
        ([sent(State.DELIVERED), sent(State.ENROUTE, LATER)], "DELIVERED"),
        ([sent(State.ENROUTE, LATER), sent(State.ACCEPTED)], "ENROUTE"),
        ([sent(State.ENROUTE), sent(State.ACCEPTED)], "ACCEPTED"),
        ([sent(State.DELIVERED), sent(State.EXPIRED, LATER)], "EXPIRED"),
        ([sent(State.EXPIRED), sent(State.DELIVERED, LATER)], "DELIVERED"),
        ([sent(State.EXPIRED), sent(State.DELIVERED)], "DELIVERED"),
        ([sent(State.UNKNOWN, LATER), sent(State.REJECTED)], "REJECTED"),
        ([sent(State.ENROUTE, None), sent(State.ACCEPTED)], "ENROUTE"),
        ([sent(State.DELIVERED, part=1), sent(State.ENROUTE, part=2)], "ENROUTE"),
        ([sent(State.DELIVERED, part=2)], "ENROUTE"),
        ([sent(State.DELIVERED, part=1), sent(State.DELIVERED, part=2)], "DELIVERED"),
        ([sent(State.DELIVERED, part=1), sent(State.EXPIRED, part=2)], "EXPIRED"),
        ([sent(State.DELIVERED, parts=3)], "DELIVERED"),
        ([sent(State.ENROUTE), sent(State.DELIVERED, LATER, part=1)], "DELIVERED"),
    ],
)
def test_the_state_is_the_best_known(store, reports, state):
    store.register(message())
    store.outcomes(*reports)
    assert store.message().state == state
    for report in reversed(reports):
        store.outcomes(report)
    assert store.message().state == state


def test_the_price_of_all_parts(store):
    store.register(message(parts=2))
    store.outcomes(
        sent(State.ENROUTE, part=1, price=Decimal("0.010")),
        sent(State.DELIVERED, LATER, part=1, price=Decimal("0.045")),
        sent(State.DELIVERED, part=2, price=Decimal("0.045")),
    )
    row = store.message()
    assert (row.price, row.delivered, row.parts) == (Decimal("0.090"), 2, 2)


moments = st.none() | st.integers(0, 3).map(lambda hours: AT + timedelta(hours=hours))
reports = st.lists(
    st.builds(
        receipt,
        state=st.sampled_from(State),
        code=st.sampled_from(["0", "1", "2"]),
        reported_at=moments,
        part=st.none() | st.integers(1, 3),
        parts=st.none() | st.integers(1, 3),
        price=st.none() | st.sampled_from([Decimal("1.0"), Decimal("2.50")]),
        kind=st.sampled_from([Kind.SENT, Kind.DELIVERY]),
    ),
    min_size=1,
    max_size=8,
    unique_by=lambda each: (each.code, each.reported_at, each.part, each.kind),
)

_names = count()


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(reports=reports, data=st.data())
def test_order_grouping_repetition_and_adoption_change_nothing(open_store, reports, data):
    """The same receipts, in another order, in other transactions, some of them twice, the
    message registered before, between or after them, and the writer restarted: one end."""
    # One clock for all: a receipt without a time counts by when it came.
    store = open_store(now=lambda: datetime(2026, 1, 1, tzinfo=UTC))
    ends = []
    for shuffled in (reports, data.draw(st.permutations(reports)), [*reports[::-1], *reports]):
        name = f"M{next(_names)}"
        registered_at = data.draw(st.integers(0, len(shuffled)))
        for index, report in enumerate(shuffled):
            if index == registered_at:
                store.register(message(name))
            group = data.draw(st.integers(1, 3)) if index % 3 == 0 else 1
            batch = [each._replace(message_id=name) for each in shuffled[index : index + group]]
            assert not any(isinstance(result, Exception) for result in store.put(batch))
            assert report is shuffled[index]
        if registered_at == len(shuffled):
            store.register(message(name))
        row = next(each for each in store.messages() if each.message_id == name)
        ends.append((row.state, row.final, row.state_at, row.delivered, row.price, row.parts))
    store.writer.stop()
    assert len(set(ends)) == 1


@given(
    st.dictionaries(
        st.integers(0, 4),
        st.builds(
            Part,
            st.builds(
                Standing,
                st.sampled_from(State),
                st.integers(0, 9).map(lambda hours: AT + timedelta(hours=hours)),
            ),
            st.none(),
        ),
    ),
    st.none() | st.integers(1, 4),
)
def test_a_message_is_delivered_only_if_all_its_parts_are(parts, registered):
    end = progress(parts, registered)
    if end.state is State.DELIVERED:
        assert end.final
        assert end.delivered == end.expected
    assert end.final == (end.state.final)
    assert 0 <= end.delivered <= end.expected
    if not parts:
        assert end == progress({}, registered)
    whole = parts.get(WHOLE)
    if whole and set(parts) == {WHOLE} and whole.standing:
        assert end.state is whole.standing.state
