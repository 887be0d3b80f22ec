"""What must lose nothing, over HTTP and with real crashes: short here, long in scripts/torture."""

from __future__ import annotations

import http.client
import random
import threading
import time
from collections import Counter
from contextlib import suppress

from kit.server import Server, stored, wait_until
from kit.statistics import agree

ENVELOPE = (
    '<e:Envelope xmlns:e="http://schemas.xmlsoap.org/soap/envelope/"><e:Body>'
    "<SubmitDeliveryReceipt><Timestamp1>2026-01-31T18:00:00Z</Timestamp1>"
    "<SentTo>447700900123</SentTo><MessageIdentifier>{}</MessageIdentifier><Report>0</Report>"
    "</SubmitDeliveryReceipt></e:Body></e:Envelope>"
)


class Load:
    """Clients that post new receipts as fast as they are answered, until told to stop."""

    def __init__(self, port: int, name: str, clients: int = 8) -> None:
        self._port = port
        self._stop = threading.Event()
        self.acknowledged: list[list[str]] = [[] for _ in range(clients)]
        self.refused: list[str] = []
        """The answers that were no acknowledgement; a connection that breaks is no answer."""
        self._threads = [
            threading.Thread(
                target=self._run, args=(f"{name}-{client}", self.acknowledged[client])
            )
            for client in range(clients)
        ]
        for thread in self._threads:
            thread.start()

    def _run(self, name: str, acknowledged: list[str]) -> None:
        number = 0
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=30)
        while not self._stop.is_set():
            number += 1
            message_id = f"{name}-{number}"
            try:
                connection.request("POST", "/soap", ENVELOPE.format(message_id).encode())
                answer = connection.getresponse().read()
            except (OSError, http.client.HTTPException):
                connection.close()
                if self._stop.wait(0.01):
                    break
                continue
            if b"<Report>0</Report>" in answer:
                acknowledged.append(message_id)
            else:
                self.refused.append(answer.decode())
        connection.close()

    @property
    def count(self) -> int:
        """How many receipts were acknowledged."""
        return sum(map(len, self.acknowledged))

    def stop(self) -> None:
        """Let every client end."""
        self._stop.set()
        for thread in self._threads:
            thread.join(60)
        assert not any(thread.is_alive() for thread in self._threads)


def check(acknowledged: list[list[str]], found: list[str]) -> None:
    """None missing, none twice, and each client's in the order of its posts."""
    times = Counter(found)
    assert [each for each, count in times.items() if count > 1] == [], "stored twice"
    wanted = {each for client in acknowledged for each in client}
    assert wanted - times.keys() == set(), "acknowledged and not stored"
    place = {message_id: index for index, message_id in enumerate(found)}
    for client in acknowledged:
        places = [place[message_id] for message_id in client]
        assert places == sorted(places), "stored in another order"


def test_kill_at_random_moments_under_load(serve, long):
    """`kill -9`, restart, compare; the database and the spool are those of the run before."""
    rounds = 200 if long else 3
    server: Server = serve()
    acknowledged: list[list[str]] = []
    for number in range(rounds):
        load = Load(server.port, f"K{number}")
        wait_until(lambda load=load: load.count > 0, "the first acknowledgement")
        time.sleep(random.uniform(0, 0.3))
        server.kill()
        load.stop()
        acknowledged += load.acknowledged
        assert load.refused == []
        server.start()
    check(acknowledged, stored(f"sqlite:///{server.database}"))
    agree(f"sqlite:///{server.database}")
    print(f"{sum(map(len, acknowledged))} acknowledged in {rounds} rounds: none lost, none twice")


def test_postgresql_stopped_and_started_under_load(serve, own_postgresql, long):
    """No request is refused; all are spooled, and drained in order once it is back."""
    url = own_postgresql.url(own_postgresql.new_database())
    server: Server = serve(options=("--database", url))
    load = Load(server.port, "P", clients=4)
    try:
        for _ in range(10 if long else 1):
            before = load.count
            wait_until(lambda before=before: load.count > before + 50, "receipts in PostgreSQL")
            own_postgresql.stop()
            away = load.count
            wait_until(lambda away=away: load.count > away + 200, "receipts while it is away")
            own_postgresql.start()
    finally:
        load.stop()
    assert load.refused == []
    with suppress(AssertionError):
        wait_until(lambda: len(stored(url)) >= load.count, "the spool is drained")
    check(load.acknowledged, stored(url))
    print(f"{load.count} acknowledged: none refused, none lost, none twice, all in order")


def test_kill_while_postgresql_comes_and_goes(serve, own_postgresql, long):
    """Both at once: the server is killed with PostgreSQL up, away, or on its way, and started
    again without it."""
    url = own_postgresql.url(own_postgresql.new_database())
    server: Server = serve(options=("--database", url))
    acknowledged: list[list[str]] = []
    rounds = 40 if long else 2
    for number in range(rounds):
        load = Load(server.port, f"B{number}", clients=4)
        wait_until(lambda load=load: load.count > 0, "the first acknowledgement")
        if number % 2:
            own_postgresql.start()
        else:
            own_postgresql.stop()
        time.sleep(random.uniform(0, 1.5))  # long enough for the spool to be drained, or not
        server.kill()
        load.stop()
        acknowledged += load.acknowledged
        assert load.refused == []
        server.start()
    own_postgresql.start()
    wanted = sum(map(len, acknowledged))
    with suppress(AssertionError):
        wait_until(lambda: len(stored(url)) >= wanted, "the spool is drained")
    check(acknowledged, stored(url))
    agree(url)
    print(f"{wanted} acknowledged in {rounds} rounds: none refused, none lost, none twice")
