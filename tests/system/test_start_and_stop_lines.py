"""What the log says at each start and at the end."""

from __future__ import annotations

import pytest


@pytest.mark.parametrize("workers", [1, 2])
def test_the_log_names_database_and_spool_and_says_that_it_has_stopped(serve, workers):
    server = serve(f"[server]\nworkers = {workers}\n" if workers > 1 else "")
    server.stop()
    log = server.log
    assert f"database: sqlite:///{server.database}, spool: {server.database}-spool" in log
    assert log.rstrip().endswith("stopped")
