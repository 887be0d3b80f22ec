"""Real brokers on loopback ports of their own: RabbitMQ, NATS, and librdkafka's Kafka."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from kit.server import wait_until

RABBITMQ = Path("/usr/lib/rabbitmq/bin/rabbitmq-server")
"""The server itself: Debian's wrapper becomes another user first."""

NATS = shutil.which("nats-server")

START = 120.0
"""Seconds that a broker may take to start: RabbitMQ needs ten on a machine that is free."""


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


def answers(port: int) -> bool:
    """Whether somebody listens on it."""
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
    except OSError:
        return False
    return True


class Broker:
    """A process that is started and ended."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.port = free_port()
        self.process: subprocess.Popen[bytes] | None = None

    def command(self) -> tuple[list[str], dict[str, str]]:
        """What starts it, and its environment."""
        raise NotImplementedError

    def start(self) -> None:
        """Start it, and wait until it listens."""
        command, environment = self.command()
        with (self.folder / "output").open("ab") as output:
            self.process = subprocess.Popen(
                command,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        end = time.monotonic() + START
        while not answers(self.port):
            if self.process.poll() is not None or time.monotonic() > end:
                raise AssertionError((self.folder / "output").read_text()[-3000:])
            time.sleep(0.1)

    def tell(self, number: int) -> None:
        """Send a signal to it, and to all that it has started."""
        assert self.process is not None
        os.killpg(self.process.pid, number)

    def stop(self, how: int = signal.SIGTERM) -> None:
        """End it, and all that it has started."""
        process, self.process = self.process, None
        if process is not None:
            os.killpg(process.pid, how)
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait(20)


DEFINITIONS = {
    "rabbit_version": "3.10.0",
    "vhosts": [{"name": "/"}, {"name": "a/b"}, {"name": "closed"}],
    "users": [
        {"name": "guest", "password": "guest", "tags": ["administrator"]},
        {"name": "app", "password": "hush:hush@", "tags": []},
    ],
    "permissions": [
        {"user": user, "vhost": vhost, "configure": ".*", "write": ".*", "read": ".*"}
        for user, vhost in (("guest", "/"), ("guest", "a/b"), ("app", "a/b"))
    ],
}


class RabbitMq(Broker):
    """RabbitMQ, in a folder of its own. Nothing of it outlives `close`."""

    def __init__(self, folder: Path, certificate: tuple[Path, Path] | None = None) -> None:
        super().__init__(folder)
        self.tls_port = free_port()
        self._epmd_port, self._node_port = free_port(), free_port()
        (folder / "definitions.json").write_text(json.dumps(DEFINITIONS))
        lines = [
            f"listeners.tcp.1 = 127.0.0.1:{self.port}",
            f"load_definitions = {folder}/definitions.json",
            "log.console = true",
            "log.file = false",
            "max_message_size = 65536",
            "vm_memory_high_watermark.relative = 0.9",
            "disk_free_limit.absolute = 1MB",
        ]
        if certificate is not None:
            lines += [
                f"listeners.ssl.1 = 127.0.0.1:{self.tls_port}",
                f"ssl_options.certfile = {certificate[0]}",
                f"ssl_options.keyfile = {certificate[1]}",
            ]
        (folder / "rabbitmq.conf").write_text("\n".join(lines) + "\n")
        (folder / "plugins").write_text("[].\n")
        # Erlang would start one that stays.
        self._epmd = subprocess.Popen(
            ["epmd", "-port", str(self._epmd_port), "-address", "127.0.0.1"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        wait_until(lambda: answers(self._epmd_port), "epmd listens")

    def _environment(self) -> dict[str, str]:
        return {
            "PATH": os.environ["PATH"],
            "LANG": "C.UTF-8",
            "HOME": str(self.folder),
            "ERL_EPMD_PORT": str(self._epmd_port),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODENAME": f"test{self.port}@localhost",
            "RABBITMQ_DIST_PORT": str(self._node_port),
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": (
                "-kernel inet_dist_use_interface {127,0,0,1} +S 2:2 +sbwt none"
            ),
            "RABBITMQ_CONFIG_FILE": str(self.folder / "rabbitmq.conf"),
            "RABBITMQ_MNESIA_BASE": str(self.folder / "mnesia"),
            "RABBITMQ_LOG_BASE": str(self.folder / "log"),
            "RABBITMQ_FEATURE_FLAGS_FILE": str(self.folder / "flags"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(self.folder / "plugins"),
            "RABBITMQ_PID_FILE": str(self.folder / "pid"),
        }

    def command(self) -> tuple[list[str], dict[str, str]]:
        return [str(RABBITMQ)], self._environment()

    def control(self, *arguments: str) -> None:
        """What `rabbitmqctl` does."""
        subprocess.run(
            [RABBITMQ.parent / "rabbitmqctl", *arguments],
            env=self._environment(),
            capture_output=True,
            check=True,
            timeout=60,
        )

    @property
    def url(self) -> str:
        return f"amqp://127.0.0.1:{self.port}"

    def close(self) -> None:
        """End it for good."""
        self.stop()
        self._epmd.kill()
        self._epmd.wait(20)


class NatsServer(Broker):
    """A NATS server with JetStream.

    :param more: lines of its configuration.
    """

    def __init__(self, folder: Path, more: str = "") -> None:
        super().__init__(folder)
        (folder / "nats.conf").write_text(
            f'listen: "127.0.0.1:{self.port}"\n'
            f'jetstream {{ store_dir: "{folder}/data", max_mem: 64MB, max_file: 256MB }}\n{more}\n'
        )

    def command(self) -> tuple[list[str], dict[str, str]]:
        assert NATS is not None
        return [NATS, "-c", str(self.folder / "nats.conf")], {"PATH": os.environ["PATH"]}

    @property
    def url(self) -> str:
        return f"nats://127.0.0.1:{self.port}"


CLUSTER = """
import sys
from confluent_kafka import Producer
cluster = Producer({"test.mock.num.brokers": int(sys.argv[1])})
brokers = cluster.list_topics(timeout=20).brokers.values()
print(",".join(f"{each.host}:{each.port}" for each in brokers), flush=True)
sys.stdin.read()
"""


class KafkaCluster:
    """librdkafka's own mock cluster, in a process of its own: it ends as its input does."""

    def __init__(self, brokers: int = 1) -> None:
        self.process: Any = subprocess.Popen(
            [sys.executable, "-c", CLUSTER, str(brokers)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        self.servers: str = self.process.stdout.readline().strip()
        assert self.servers

    @property
    def url(self) -> str:
        return f"kafka://{self.servers}"

    def close(self) -> None:
        self.process.stdin.close()
        self.process.wait(20)
        self.process.stdout.close()
