"""Taking back receipts that statistics have counted: they have another verdict now."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection

from receiptd.store.database.engine import execute, fetch
from receiptd.store.statistics_labels import Labels

ReceiptKey = tuple[Any, str, str, str, str, str, str, str]
"""What a row of `statistics_receipts` counts: hour, endpoint, provider, kind, network, state, code
and verdict."""


def take_back(
    connection: Connection, labels: Labels, key: ReceiptKey, count: int
) -> list[tuple[str, str, int]]:
    """Take back `count` receipts; under which networks and codes they were counted.

    That is what would count them today, but for a network derived from the number by another
    version of the tables: then others of the same verdict give theirs.
    """
    mark = "?" if connection.dialect.name == "sqlite" else "%s"
    hour, endpoint, provider, kind, network, state, code, verdict = key
    kind, state, verdict = str(kind), str(state), str(verdict)
    network, code = labels.known(
        connection, "statistics_receipts", hour, endpoint, (network, code)
    )
    where = (
        "WHERE hour = {0} AND endpoint = {0} AND provider = {0} AND kind = {0} "
        "AND state = {0} AND verdict = {0} AND count > 0"
    ).replace("{0}", mark)
    base = (hour, endpoint, provider, kind, state, verdict)
    rows = fetch(connection, f"SELECT network, code, count FROM statistics_receipts {where}", base)
    rows.sort(key=lambda row: (row[0] != network, row[1] != code, row[0], row[1]))
    taken: list[tuple[str, str, int]] = []
    for its_network, its_code, available in rows:
        some = min(available, count)
        if not some:
            break
        count -= some
        taken.append((its_network, its_code, some))
        execute(
            connection,
            f"UPDATE statistics_receipts SET count = count - {int(some)} {where} "
            f"AND network = {mark} AND code = {mark}",
            (*base, its_network, its_code),
        )
    return taken
