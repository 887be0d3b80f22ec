"""Several processes on one database, at once: the rules are the database's, and hold for all."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from random import Random

import pytest
from sqlalchemy import select

from kit.api import call
from kit.server import wait_until
from kit.soap import envelope
from kit.statistics import agree
from kit.wire import get, post
from receiptd.receipt import match_key
from receiptd.store.database.engine import open_engine
from receiptd.store.schema import messages, receipts

CONFIG = '[[endpoint]]\nprovider = "csoft"\npath = "/soap"\nmatch = "always"\n'

COUNT = 60
"""How many messages there are."""

ENDS = {0: ("0", "DELIVERED"), 1: ("27", "EXPIRED"), 2: ("-4", "ENROUTE")}
"""The last code that a message's receipts have, and the state that it makes."""


@pytest.fixture(params=["two workers on SQLite", "two servers on PostgreSQL"])
def servers(request, serve):
    """Servers on a database, and its URL."""
    if "SQLite" in request.param:
        server = serve(CONFIG, options=("--workers", "2"))
        return [server], f"sqlite:///{server.database}"
    url = request.getfixturevalue("new_postgresql_database")()
    return [
        serve(CONFIG, options=("--database", url, "--workers", workers)) for workers in "21"
    ], url


def phone(number):
    return f"447700{number:06d}"


def work(servers):
    """All that is sent: each receipt twice, in any order, the messages anywhere between."""

    def receipt(message_id, report, minute, recipient):
        body = envelope(
            message_id,
            username=None,
            pin=None,
            Report=report,
            SentTo=recipient,
            Timestamp1=f"2026-01-31T18:{minute:02d}:00Z",
        )
        answer = post(RANDOM.choice(servers).port, body)
        assert b"<Report>0</Report>" in answer.body or b"<Report>-1</Report>" in answer.body
        return answer.status == 200

    def register(message_id, recipient):
        message = {"provider": "csoft", "message_id": message_id, "recipient": recipient}
        return call(RANDOM.choice(servers), "/api/v1/messages", "POST", [message]).status == 200

    jobs = []
    for number in range(COUNT):
        report, _ = ENDS[number % 3]
        sent = [
            (f"M{number}", "-4", 1, phone(number)),
            (f"M{number}", report, 2, phone(number)),
            (f"M{number}", "-3", 3, phone(number)),  # late, and of no weight
            (f"M{number}", "0", 4, "15550100"),  # another's phone
            (f"U{number}", "0", 5, phone(number)),  # nobody's message
        ]
        jobs += [(receipt, each) for each in sent] * 2
        jobs += [(register, (f"m{number} ", phone(number)))] * 2
    RANDOM.shuffle(jobs)
    return jobs


RANDOM = Random(5)


def rows(url, table):
    engine = open_engine(url, writes=False)
    with engine.connect() as connection:
        found = list(connection.execute(select(table).order_by(table.c.id)))
    engine.dispose()
    return found


def check(url):
    """Every rule: duplicates, matching, adoption, the messages' states."""
    by_key = {row.message_key: row for row in rows(url, messages)}
    assert len(by_key) == COUNT
    stored = rows(url, receipts)
    distinct = {(row.message_key, row.code, row.reported_at, row.recipient) for row in stored}
    assert len(stored) == len(distinct) == 5 * COUNT
    verdicts = {"M": "accepted", "U": "unknown-message"}
    for row in stored:
        another = row.recipient == "15550100"
        message = by_key.get(row.message_key) if not another else None
        assert row.message_ref == (message.id if message else None)
        assert row.verdict == ("wrong-recipient" if another else verdicts[row.message_id[0]])
    for number in range(COUNT):
        _, state = ENDS[number % 3]
        message = by_key[match_key(f"M{number}")]
        assert (message.state, message.final) == (state, state != "ENROUTE")
    agree(url)
    return stored


def test_every_rule_holds_whoever_takes_what_and_when(servers):
    processes, url = servers
    with ThreadPoolExecutor(12) as clients:
        done = list(clients.map(lambda job: job[0](*job[1]), work(processes)))
    assert all(done)
    stored = check(url)
    assert {row.repeats for row in stored} == {1}


def test_it_does_while_postgresql_cuts_all_connections_again_and_again(
    serve, new_postgresql_database
):
    url = new_postgresql_database()
    processes = [serve(CONFIG, options=("--database", url)) for _ in range(2)]
    engine = open_engine(url, writes=False)
    end = threading.Event()
    done = []

    def cut():
        cuts = 0
        while not end.wait(0.1):
            # After so much was done, not after so long: on a slow machine nothing would be.
            if len(done) < 30 * (cuts + 1):
                continue
            cuts += 1
            with engine.connect() as connection:
                connection.exec_driver_sql(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                    "WHERE pid <> pg_backend_pid() AND datname = current_database()"
                )

    def do(job):
        # Registering is answered 503 meanwhile; whoever does it tries again.
        done.append(wait_until(lambda: job[0](*job[1]), "it is done"))
        return done[-1]

    cutting = threading.Thread(target=cut)
    cutting.start()
    try:
        with ThreadPoolExecutor(12) as clients:
            assert all(clients.map(do, work(processes)))
    finally:
        end.set()
        cutting.join()
        engine.dispose()
    for each in processes:
        wait_until(lambda each=each: get(each.port, "/readyz").text == "ready\n", "all is stored")
    check(url)
    assert any("the database does not store" in each.log for each in processes)
