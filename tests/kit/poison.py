"""A process that ends each time it stores a certain record."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

from receiptd.store.database.engine import open_engine
from receiptd.store.matching import Policy
from receiptd.store.recorder import Quota, Recorder
from receiptd.store.spool.drainer import Drainer
from receiptd.store.spool.folder import Spool


def drain_and_die(url: str, folder: Path, log: Path) -> None:
    """In a process of its own: drain, and be killed where the poison is to be stored, noting it in
    `log`."""

    def fault() -> None:
        with log.open("a") as file:
            file.write("x")
        os.kill(os.getpid(), signal.SIGKILL)

    record = Recorder.record

    def failing(self: Any, connection: Any, batch: Any, times: Any, **options: Any) -> Any:
        if any(each.message_id == "poison" for one in batch for each in one.receipts):
            fault()
        return record(self, connection, batch, times, **options)

    Recorder.record = failing  # type: ignore[method-assign]
    engine = open_engine(url)
    spool = Spool(folder)
    spool.open()
    spool.adopt()
    recorder = Recorder(engine, policies={"soap": Policy()}, quota=Quota(1000, 100, 30))

    def transact(work: Any) -> Any:
        with engine.begin() as connection:
            return work(connection)

    drains = Drainer(spool, recorder, transact)
    while drains.step():
        pass
    spool.close()
    os._exit(0)
