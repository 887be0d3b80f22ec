"""Stores what rejected posts have become, and takes them off the list in the same transaction.

So a post is on the list or its receipts are stored, whenever the process ends; and of two who
retry it at once, one finds it gone. Its receipts keep its time of receiving.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, cast

from sqlalchemy import Connection, Engine

from receiptd.receipt import ACCEPTED, Receipt, Verdict
from receiptd.rejected.reading import Kept, KeptPosts
from receiptd.store.database.errors import cause, refuses
from receiptd.store.database.write_turns import TURN_TIMEOUT, WriteTurns
from receiptd.store.matching import Policy
from receiptd.store.recorder import Quota, Recorder, Submission
from receiptd.store.rejections import take_out

TOGETHER = 50
"""Posts that are stored in one transaction."""

Word = Literal["stored", "partly", "ignored", "rejected", "gone"]


class Became(NamedTuple):
    """What became of a rejected post that was tried again."""

    id: int
    result: Word
    """`stored`: it is off the list, and its receipts are stored, or were before. `partly`: some
    items are, the others stay on the list, each for itself. `ignored`: it is no receipt, and
    needs to be none; it stays. `rejected`: it is still no receipt; it stays. `gone`: it is not
    on the list any more."""
    text: str = ""
    """Why it, or a part of it, is still rejected."""
    receipts: Sequence[tuple[Receipt, Verdict]] = ()

    def json(self) -> dict[str, Any]:
        """As programs read it."""
        return {
            "id": self.id,
            "result": self.result,
            "text": self.text,
            "receipts": [
                {
                    "message_id": receipt.message_id,
                    "recipient": receipt.recipient,
                    "state": receipt.state.value,
                    "verdict": verdict.outcome.value,
                    "text": verdict.text,
                }
                for receipt, verdict in self.receipts
            ],
        }


@dataclass(frozen=True)
class Rules:
    """What the configuration says of rejected posts that are tried again."""

    posts: KeptPosts
    policies: Mapping[str, Policy]
    quota: Quota
    regions: Mapping[str, str | None]


class Retry:
    """Tries rejected posts again. For one thread at a time."""

    def __init__(self, engine: Engine, rules: Rules, patience: float = TURN_TIMEOUT) -> None:
        """
        :param engine: opened for writing.
        :param patience: seconds to wait for the database's turn to write.
        """
        self._turns = WriteTurns(engine, patience=patience)
        self._recorder = Recorder(
            engine, policies=rules.policies, quota=rules.quota, regions=rules.regions
        )

    def store(self, posts: Sequence[Kept]) -> list[Became]:
        """Store the receipts of `posts`, at most `TOGETHER` of them; what became of each.

        :raises StoreError: where the database does not answer, or stays locked.
        """
        possible = [each for each in posts if each.receipts]
        became = {each.id: each for each in self._store(possible)}
        return [became.get(each.row["id"]) or left(each) for each in posts]

    def _store(self, posts: Sequence[Kept]) -> list[Became]:
        if not posts:
            return []
        try:
            return self._turns.take(lambda connection: self._record(connection, posts))
        except Exception as error:
            if not refuses(error):
                raise
            if len(posts) == 1:
                text = f"the database refuses the receipt: {cause(error)}"
                return [Became(posts[0].row["id"], "rejected", text)]
        # One that the database refuses must not take its neighbours along.
        return [each for post in posts for each in self._store([post])]

    def _record(self, connection: Connection, posts: Sequence[Kept]) -> list[Became]:
        """Take the posts out and store what they are, in the transaction of `connection`."""
        there = take_out(connection, _ids(posts))
        found = [each for each in posts if each.row["id"] in there]
        # The receipts of each post, and behind all of them what goes back to the list.
        batch = [Submission(None, each.receipts).distinct() for each in found]
        times = [each.row["received_at"] for each in found]
        for each in found:
            batch += [Submission(None, rejection=one) for one in each.rest]
            times += [each.row["received_at"]] * len(each.rest)
        stored = self._recorder.record(connection, batch, times) if batch else []
        became = [Became(number, "gone", _GONE) for number in _ids(posts) if number not in there]
        for each, verdicts in zip(found, stored, strict=False):
            became.append(
                Became(
                    each.row["id"],
                    "partly" if each.rest else "stored",
                    each.text if each.rest else "",
                    list(zip(each.receipts, cast(list[Verdict], verdicts), strict=True)),
                )
            )
        return became


_GONE = (
    "it is not on the list any more: it was taken or deleted meanwhile, or made room for others"
)


def would_be(post: Kept) -> Became:
    """What would become of a post, as far as that can be told without storing it."""
    if not post.receipts:
        return left(post)
    result: Word = "partly" if post.rest else "stored"
    return Became(
        post.row["id"], result, post.text, [(receipt, ACCEPTED) for receipt in post.receipts]
    )


def left(post: Kept) -> Became:
    """What became of a post of which nothing is to be stored."""
    return Became(post.row["id"], "ignored" if post.ignored else "rejected", post.text)


def _ids(posts: Sequence[Kept]) -> list[int]:
    return [each.row["id"] for each in posts]
