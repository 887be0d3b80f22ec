"""Processes that begin with everything imported, which is most of what a start costs.

One process imports receiptd and then does nothing but fork itself. A fork is a process like any
other: it has its own command line, folder, environment and streams, runs `receiptd` as `python -m`
does, and ends as an interpreter ends.
"""

from __future__ import annotations

import atexit
import gc
import importlib
import json
import os
import pkgutil
import resource
import runpy
import select
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

_MOST = 1 << 20
"""Bytes of a request: arguments and environment."""
_STATUS = struct.Struct("i")


class Process:
    """A process that runs `receiptd ARGUMENTS`, with the methods of `subprocess.Popen` that tests
    use."""

    def __init__(
        self,
        arguments: Sequence[str],
        streams: tuple[int, int, int],
        *,
        cwd: Path | str,
        env: Mapping[str, str],
    ) -> None:
        request = {
            "arguments": list(arguments),
            "cwd": str(cwd),
            "env": dict(env),
            "files": resource.getrlimit(resource.RLIMIT_NOFILE),
        }
        self._status, theirs = os.pipe()
        self.args = ["receiptd", *arguments]
        self.returncode: int | None = None
        socket.send_fds(_parent(), [json.dumps(request).encode()], [*streams, theirs])
        os.close(theirs)
        self.pid = self._read()

    def _read(self) -> int:
        data = os.read(self._status, _STATUS.size)
        if not data:
            raise RuntimeError("the process that forks has gone")
        return int(_STATUS.unpack(data)[0])

    def _ended(self, seconds: float | None) -> bool:
        """Whether it ends within so many seconds."""
        if self.returncode is None and select.select([self._status], [], [], seconds)[0]:
            self.returncode = os.waitstatus_to_exitcode(self._read())
            os.close(self._status)
        return self.returncode is not None

    def poll(self) -> int | None:
        """The exit code; None as long as it runs."""
        self._ended(0)
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Wait for its end; the exit code."""
        if not self._ended(timeout):
            raise subprocess.TimeoutExpired(self.args, timeout or 0)
        assert self.returncode is not None
        return self.returncode

    def send_signal(self, number: int) -> None:
        """Send a signal, unless it has ended."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        """Ask it to end."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """End it at once."""
        self.send_signal(signal.SIGKILL)


@cache
def _parent() -> socket.socket:
    """The socket of this process's own process that forks."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    for end in (ours, theirs):
        end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _MOST)
    environment = {
        key: value for key, value in os.environ.items() if not key.startswith("RECEIPTD_")
    }
    process = subprocess.Popen(
        [sys.executable, __file__, str(theirs.fileno())],
        pass_fds=[theirs.fileno()],
        env=environment,
    )
    theirs.close()

    def end() -> None:
        ours.close()
        process.wait(20)

    atexit.register(end)
    return ours


def _serve(requests: socket.socket) -> Mapping[str, Any] | None:
    """Fork for each request. Returns the request in each fork; None at the end."""
    statuses: dict[int, int] = {}
    own = os.getpid()

    def reap(*_: object) -> None:
        if os.getpid() != own:
            return  # in a fork that has just begun
        for process_id in list(statuses):
            ended, status = os.waitpid(process_id, os.WNOHANG)
            if ended:
                pipe = statuses.pop(process_id)
                with suppress(BrokenPipeError):  # where nobody wants to know
                    os.write(pipe, _STATUS.pack(status))
                os.close(pipe)

    signal.signal(signal.SIGCHLD, reap)
    while True:
        data, descriptors, _, _ = socket.recv_fds(requests, _MOST, 4)
        if not data:
            return None
        *streams, pipe = descriptors
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGCHLD])
        process_id = os.fork()
        if not process_id:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGCHLD])
            requests.close()
            for number, stream in enumerate(streams):
                os.dup2(stream, number)
            for each in (*streams, pipe, *statuses.values()):
                os.close(each)
            return dict(json.loads(data))
        statuses[process_id] = pipe
        os.write(pipe, _STATUS.pack(process_id))
        for each in streams:
            os.close(each)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGCHLD])


def _become(request: Mapping[str, Any]) -> None:
    """Be the process that was asked for."""
    resource.setrlimit(resource.RLIMIT_NOFILE, request["files"])
    os.chdir(request["cwd"])
    os.environ.clear()
    os.environ.update(request["env"])
    time.tzset()
    encoding = os.environ.get("PYTHONIOENCODING", "utf-8")
    sys.stdin = open(0, encoding=encoding)  # noqa: SIM115
    sys.stdout = open(1, "w", encoding=encoding)  # noqa: SIM115
    sys.stderr = open(2, "w", encoding="utf-8", errors="backslashreplace", buffering=1)  # noqa: SIM115
    sys.argv = ["receiptd", *request["arguments"]]
    sys.path[0] = request["cwd"]
    runpy.run_module("receiptd", run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    import receiptd

    for module in pkgutil.walk_packages(receiptd.__path__, "receiptd."):
        if not module.name.endswith(".__main__"):
            importlib.import_module(module.name)
    assert "twisted.internet.reactor" not in sys.modules, "which one it is, each fork decides"
    # Should be as a process is that has just started.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    # No fork looks through all of this for garbage, which would copy its memory.
    gc.collect()
    gc.freeze()
    request = _serve(socket.socket(fileno=int(sys.argv[1])))
    if request is not None:
        _become(request)
