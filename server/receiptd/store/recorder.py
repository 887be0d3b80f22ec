"""What one transaction stores: receipts and what they are about, rejected posts, messages.

Used by whoever has a transaction open: the writer, and the drainer of the spool.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from sqlalchemy import Connection, Engine

from receiptd.message import Message
from receiptd.receipt import ACCEPTED, Outcome, Receipt, Rejection, Verdict, distinct
from receiptd.store.candidates import report_of
from receiptd.store.database.errors import cause
from receiptd.store.matching import Match, Policy
from receiptd.store.posts import PostWriter, Shared
from receiptd.store.registering import Registering
from receiptd.store.rows import RECEIPT_COLUMNS, receipt_row
from receiptd.store.schema import iso
from receiptd.store.statements import Statements
from receiptd.store.verdicts import verdict_of


class Submission(NamedTuple):
    """What one request brings, stored together or not at all: receipts, a post that was
    rejected, or messages to register.

    `ticket` is the submitter's own; the writer gives it back with the result.
    """

    ticket: Any
    receipts: Sequence[Receipt] = ()
    rejection: Rejection | None = None
    messages: Sequence[Message] = ()

    @property
    def endpoint(self) -> str:
        """The name of the endpoint that it came to, empty for messages."""
        if self.receipts:
            return self.receipts[0].endpoint
        return self.rejection.endpoint if self.rejection else ""

    @property
    def size(self) -> int:
        """How many bytes of posts it holds."""
        if self.receipts:
            return len(self.receipts[0].raw)
        return len(self.rejection.raw) if self.rejection else 0

    def distinct(self) -> Submission:
        """This one, its receipts told from others where their posts do not: see
        `receipt.distinct`."""
        if all(each.message_id is not None for each in self.receipts):
            return self
        return self._replace(receipts=[distinct(each) for each in self.receipts])


Stored = list[Verdict] | list[str]
"""A verdict for each receipt; for each message what became of it (see `Registering.register`)."""


class Quota(NamedTuple):
    """How many rejected posts of an endpoint are kept of a reason, and for how long."""

    invalid: int
    unreadable: int
    days: int
    size: int = 64 * 1024 * 1024
    """How many bytes the posts may have together."""


TRIMS = 64
"""Rejected posts are counted each time that a 64th of their quota has come, not with each of them:
counting takes time in proportion to what is kept. So there may be a 64th more."""


class Recorder:
    """Stores submissions in transactions of others. For one thread at a time."""

    def __init__(
        self,
        engine: Engine,
        *,
        policies: Mapping[str, Policy],
        quota: Quota,
        regions: Mapping[str, str | None] | None = None,
    ) -> None:
        """
        :param policies: by endpoint name. One that is not among them has the default policy:
            what was spooled may be of an endpoint that is not configured any more.
        :param regions: by whose national forms a provider's phone numbers are read where
            messages are registered.
        """
        self._policies = defaultdict(Policy, policies)
        self._regions = regions or {}
        self._matching = Registering(engine, policies)
        self._quota = quota
        # How many rejected posts, and bytes of them, have come since they were counted.
        self._uncounted: dict[tuple[str, str], tuple[int, int]] = {}
        self._statements = Statements(engine)
        self._posts = PostWriter(engine)

    def record(
        self,
        connection: Connection,
        batch: Sequence[Submission],
        times: Sequence[datetime],
        *,
        again: bool = False,
    ) -> list[Stored]:
        """Store `batch`; returns for each submission what became of it.

        :param times: when each submission was received (aware, UTC).
        :param again: whether it may have been stored before, by a transaction of which nobody
            knows whether it was committed. What was is then neither stored nor counted twice.
        """
        self._matching.begin(max(times))
        registered = [
            self._matching.register(connection, each.messages, at, self._regions)
            if each.messages
            else []
            for each, at in zip(batch, times, strict=True)
        ]
        verdicts = self._receipts(
            connection,
            [receipt for submission in batch for receipt in submission.receipts],
            [at for each, at in zip(batch, times, strict=True) for _ in each.receipts],
            self._posts.shared(connection, [each.receipts for each in batch]),
            again,
        )
        rejections = [each.rejection for each in batch if each.rejection is not None]
        if again:
            rejections = self._missing(connection, rejections)
        if rejections:
            self._rejections(connection, rejections, max(times))
        self._matching.statistics.flush(connection)
        results: list[Stored] = []
        start = 0
        for submission, texts in zip(batch, registered, strict=True):
            end = start + len(submission.receipts)
            results.append(texts or verdicts[start:end])
            start = end
        return results

    def _receipts(
        self,
        connection: Connection,
        batch: list[Receipt],
        times: list[datetime],
        posts: Shared,
        again: bool,
    ) -> list[Verdict]:
        if not batch:
            return []
        statements = self._statements
        text_types = statements.text_types
        reports = [
            report_of(receipt, self._policies, at)
            for receipt, at in zip(batch, times, strict=True)
        ]
        matches, messages = self._matching.match(connection, reports)
        written = {at: self._time(at) for at in set(times)}  # most often there is but one
        rows = [
            receipt_row(receipt, report, match, written[at], text_types, post)
            for receipt, report, match, at, post in zip(
                batch, reports, matches, times, posts.numbers, strict=True
            )
        ]
        stored = connection.exec_driver_sql(statements.insert_receipt, rows).rowcount
        if stored == len(rows):
            verdicts = [
                ACCEPTED
                if match.outcome is Outcome.ACCEPTED
                else verdict_of(match.outcome, receipt.message_id, receipt.recipient)
                for receipt, match in zip(batch, matches, strict=True)
            ]
        else:
            verdicts = self._find_duplicates(connection, batch, rows, matches, stored, again)
        if posts.raws:
            self._posts.store(connection, posts, [written[at] for at in times], verdicts)
        self._matching.add(
            connection,
            messages,
            (
                (report, match.message_ref)
                for report, match, verdict in zip(reports, matches, verdicts, strict=True)
                if match.message_ref is not None and verdict.outcome is not Outcome.DUPLICATE
            ),
        )
        others = self._matching.save(connection, messages.values())
        at = [row[_RECEIVED_AT] for row in rows]
        self._matching.statistics.receipts(batch, reports, matches, verdicts, at)
        events = self._matching.events
        events.stored(connection, stored)
        events.states(connection, others, self._time(max(times)))
        return verdicts

    def _find_duplicates(
        self,
        connection: Connection,
        batch: list[Receipt],
        rows: list[tuple[object, ...]],
        matches: list[Match],
        stored: int,
        again: bool,
    ) -> list[Verdict]:
        """The verdicts of a batch of which some were stored before or came twice in it.

        :param stored: how many of them are new.
        """
        statements = self._statements
        # Nobody else writes meanwhile, so the new ones are those with the highest numbers.
        ours = frozenset(connection.exec_driver_sql(statements.newest, (stored,)).scalars())
        new = set(ours)
        verdicts = []
        for receipt, row, match in zip(batch, rows, matches, strict=True):
            found = connection.exec_driver_sql(statements.find, statements.key_of(row)).one()
            if found.id in new:
                new.remove(found.id)  # should it come again in this batch
                verdicts.append(verdict_of(match.outcome, receipt.message_id, receipt.recipient))
                continue
            # Received at the same microsecond, it is this very one, stored by another attempt.
            itself = again and found.received_at == row[_RECEIVED_AT] and found.id not in ours
            if not itself:
                connection.exec_driver_sql(statements.count_repeat, (found.id,))
            standing = verdict_of(Outcome(found.verdict), receipt.message_id, receipt.recipient)
            verdicts.append(Verdict(Outcome.DUPLICATE, standing.text, standing.standing))
        return verdicts

    def _rejections(
        self, connection: Connection, rejections: list[Rejection], now: datetime
    ) -> None:
        """Keep `rejections` and, of their endpoints, no more than the quota allows."""
        statements = self._statements
        rows = [(self._time(each.received_at), *each[1:]) for each in rejections]
        connection.exec_driver_sql(statements.insert_rejection, rows)
        for each in rejections:
            self._matching.statistics.rejection(each)
        oldest = self._time(now - timedelta(days=self._quota.days))
        come: defaultdict[tuple[str, str], list[int]] = defaultdict(list)
        for each in rejections:
            come[each.endpoint, each.reason].append(len(each.raw))
        for key, sizes in come.items():
            kept = self._quota.invalid if key[1] == "invalid" else self._quota.unreadable
            count, size = self._uncounted.get(key, (kept, 0))
            count, size = count + len(sizes), size + sum(sizes)
            if count > kept // TRIMS or size > self._quota.size // TRIMS:
                connection.exec_driver_sql(
                    statements.trim_rejections, (*key, *key, kept, *key, self._quota.size, oldest)
                )
                count, size = 0, 0
            self._uncounted[key] = count, size

    def _missing(self, connection: Connection, rejections: Sequence[Rejection]) -> list[Rejection]:
        """Those of `rejections` that are not stored yet. The database does not know them by
        anything of their own, so they are told by their time and what they say."""
        groups: dict[tuple[str, str], list[Rejection]] = {}
        for each in rejections:
            groups.setdefault((each.endpoint, each.reason), []).append(each)
        missing: list[Rejection] = []
        for (endpoint, reason), some in groups.items():
            oldest = min(each.received_at for each in some)
            found = connection.exec_driver_sql(
                self._statements.rejections_since, (endpoint, reason, self._time(oldest))
            )
            stored = {tuple(row) for row in found}
            missing += [
                each
                for each in some
                if (self._time(each.received_at), each.text, each.raw) not in stored
            ]
        return missing

    def _time(self, at: datetime) -> object:
        return iso(at) if self._statements.text_types else at


_RECEIVED_AT = RECEIPT_COLUMNS.index("received_at")


def as_rejections(
    submission: Submission, received_at: datetime, error: Exception
) -> list[Rejection]:
    """What is kept of receipts that the database refuses: their posts, and why."""
    text = f"the database refuses the receipt: {cause(error)}".replace("\0", "\\0")
    return [
        Rejection(received_at, endpoint, provider, "invalid", None, text, None, None, raw)
        for endpoint, provider, raw in dict.fromkeys(
            (each.endpoint, each.provider, each.raw) for each in submission.receipts
        )
    ]
