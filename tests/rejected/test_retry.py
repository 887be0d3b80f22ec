"""What rejected posts become is stored, and taken off the list, in one transaction."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, select

from kit.store import new_engine, receipt, rejection
from receiptd.receipt import Receipt, Rejection
from receiptd.rejected.reading import Kept, KeptPosts
from receiptd.rejected.retry import Became, Retry, Rules
from receiptd.store.matching import Policy
from receiptd.store.queries import RejectionFilter, each_rejection
from receiptd.store.recorder import Quota, Recorder, Submission
from receiptd.store.rejections import count_rejected, delete_rejected
from receiptd.store.schema import receipts

AT = datetime(2026, 1, 31, 18, 5, 7, tzinfo=UTC)


@pytest.fixture(params=["sqlite", "postgresql"])
def engine(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Engine]:
    if request.param == "sqlite":
        url = f"sqlite:///{tmp_path / 'receipts.db'}"
    else:
        url = request.getfixturevalue("new_postgresql_database")(migrated=True)
    engine = new_engine(url)
    yield engine
    engine.dispose()


RULES = Rules(
    KeptPosts((), None, None),  # type: ignore[arg-type]  # nothing is read here
    {"soap": Policy()},
    Quota(1000, 1000, 36500),
    {"csoft": None},
)


class Rejected:
    """A database, and how posts in it are tried again."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.recorder = Recorder(engine, policies={"soap": Policy()}, quota=RULES.quota)

    def keep(self, *rejections: Rejection) -> None:
        with self.engine.begin() as connection:
            self.recorder.record(
                connection,
                [Submission(None, rejection=each) for each in rejections],
                [each.received_at for each in rejections],
            )

    def rows(self) -> list[Any]:
        return list(each_rejection(self.engine, RejectionFilter(), oldest_first=True))

    def retry(self, *posts: Kept) -> list[Became]:
        return Retry(self.engine, RULES).store(posts)

    def receipts(self) -> list[Any]:
        with self.engine.connect() as connection:
            return list(connection.execute(select(receipts).order_by(receipts.c.id)).mappings())


@pytest.fixture
def rejected(engine: Engine) -> Rejected:
    return Rejected(engine)


def some(count: int = 1) -> list[Rejection]:
    return [rejection(f"post {n}", received_at=AT.replace(second=n)) for n in range(count)]


def test_a_receipt_keeps_its_time_and_its_post_leaves_the_list(rejected):
    rejected.keep(*some(3))
    one, two, three = rejected.rows()
    became = rejected.retry(
        Kept(one, [receipt("1")]), Kept(two, text="it is nonsense"), Kept(three, [receipt("3")])
    )
    assert [(each.id, each.result) for each in became] == [
        (one["id"], "stored"),
        (two["id"], "rejected"),
        (three["id"], "stored"),
    ]
    assert became[1].text == "it is nonsense"
    assert [(each["message_id"], each["received_at"]) for each in rejected.receipts()] == [
        ("1", AT.replace(second=0)),
        ("3", AT.replace(second=2)),
    ]
    assert [each["id"] for each in rejected.rows()] == [two["id"]]


def test_one_that_was_retried_twice_is_stored_once(rejected):
    """Also where nothing in it would tell a repetition."""
    rejected.keep(*some())
    (row,) = rejected.rows()
    nameless = receipt(None, reported_at=None)
    assert [each.result for each in rejected.retry(Kept(row, [nameless]))] == ["stored"]
    (again,) = rejected.retry(Kept(row, [nameless]))
    assert (again.result, len(rejected.receipts())) == ("gone", 1)


def test_a_repetition_of_a_stored_receipt_leaves_the_list_and_is_stored_no_second_time(rejected):
    rejected.keep(*some(2))
    one, two = rejected.rows()
    same = receipt("1")
    became = rejected.retry(Kept(one, [same]), Kept(two, [same]))
    assert [verdict.outcome for each in became for _, verdict in each.receipts] == [
        "accepted",
        "duplicate",
    ]
    assert (len(rejected.receipts()), rejected.rows()) == (1, [])


def test_a_failure_between_storing_and_deleting_changes_nothing(rejected, monkeypatch):
    rejected.keep(*some())
    (row,) = rejected.rows()
    record = Recorder.record

    def failing(self: Any, *arguments: Any, **options: Any) -> Any:
        record(self, *arguments, **options)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Recorder, "record", failing)
        with pytest.raises(KeyboardInterrupt):
            rejected.retry(Kept(row, [receipt("1")]))
    assert (len(rejected.rows()), rejected.receipts()) == (1, [])
    assert [each.result for each in rejected.retry(Kept(row, [receipt("1")]))] == ["stored"]
    assert (rejected.rows(), len(rejected.receipts())) == ([], 1)


def test_one_that_the_database_refuses_takes_no_neighbour_along(rejected):
    rejected.keep(*some(3))
    rows = rejected.rows()
    wrong: list[list[Receipt]] = [
        [receipt("1")],
        [receipt("2", part=2**70)],
        [receipt("3")],
    ]
    became = rejected.retry(*(Kept(row, each) for row, each in zip(rows, wrong, strict=True)))
    assert [each.result for each in became] == ["stored", "rejected", "stored"]
    assert "the database refuses the receipt" in became[1].text
    assert [each["id"] for each in rejected.rows()] == [rows[1]["id"]]


def test_what_is_left_of_a_post_goes_back_to_the_list(rejected):
    rejected.keep(*some())
    (row,) = rejected.rows()
    rest = rejection("no identifier", received_at=row["received_at"], raw=b"{}")
    (became,) = rejected.retry(Kept(row, [receipt("1")], [rest], "no identifier"))
    assert (became.result, became.text) == ("partly", "no identifier")
    (left,) = rejected.rows()
    assert left["id"] != row["id"]
    assert Rejection(*(left[name] for name in Rejection._fields)) == rest


def test_deleting_takes_the_oldest_and_leaves_what_came_meanwhile(rejected):
    rejected.keep(*some(5))
    rejected.keep(rejection("other", endpoint="cdyne", received_at=AT))
    wanted = RejectionFilter(endpoint=("soap",))
    newest = rejected.rows()[4]["id"]
    with rejected.engine.begin() as connection:
        count, last = count_rejected(connection, wanted)
        assert (count, last) == (5, newest)
        assert delete_rejected(connection, wanted, last=last - 1, limit=3) == 3
        assert delete_rejected(connection, wanted, last=last - 1, limit=3) == 1
    assert [each["text"] for each in rejected.rows()] == ["post 4", "other"]
