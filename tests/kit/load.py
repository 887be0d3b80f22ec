"""Many clients that post receipts at once, and note what became of each."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from itertools import count

from kit.wire import TIMEOUT

ENVELOPE = (
    b'<e:Envelope xmlns:e="http://schemas.xmlsoap.org/soap/envelope/"><e:Body>'
    b"<SubmitDeliveryReceipt><MessageIdentifier>%s</MessageIdentifier><Report>0</Report>"
    b"</SubmitDeliveryReceipt></e:Body></e:Envelope>"
)


def request(message_id: str, path: str = "/soap", *, close: bool = False) -> bytes:
    """A whole post of a receipt."""
    body = ENVELOPE % message_id.encode()
    return (
        b"POST %b HTTP/1.1\r\nHost: h\r\nContent-Type: text/xml\r\nContent-Length: %d\r\n%b\r\n%b"
        % (path.encode(), len(body), b"Connection: close\r\n" if close else b"", body)
    )


def answers(connection: socket.socket) -> Iterator[tuple[bytes, bytes]]:
    """Head and body of each answer, until the connection ends.

    :raises ConnectionResetError: where it is reset.
    :raises EOFError: where it ends within an answer.
    """
    received = b""
    while True:
        head, end, body = received.partition(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length:")[2].split(b"\r\n")[0] or 0)
        if end and len(body) >= length:
            yield head, body[:length]
            received = body[length:]
            continue
        data = connection.recv(65536)
        if not data and received:
            raise EOFError(received)
        if not data:
            return
        received += data


def flood(connection: socket.socket, goes_on: Callable[[], bool] = lambda: True) -> None:
    """Send requests, and read none of the answers, until the server takes no more of them.

    :raises TimeoutError: when that is so.
    """
    connection.settimeout(1)
    while goes_on():
        connection.sendall(b"GET /soap?wsdl HTTP/1.1\r\nHost: h\r\n\r\n" * 500)


class Load:
    """Clients, each in a thread: half of them with a connection for each post, half of them with
    one for many. They begin at once, and end when nobody listens any more, or when told to."""

    def __init__(
        self,
        port: int,
        clients: int = 16,
        *,
        persevere: bool = False,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        """
        :param persevere: whether a client goes on when its connection breaks.
        :param tls: what the clients speak TLS by.
        """
        self.acknowledged: list[str] = []
        self.unanswered: list[str] = []
        """Whole requests without a whole answer, and what came instead."""
        self.refused: list[str] = []
        """Connections that were not to be had: with `persevere`, and the last ones without."""
        self.closing = 0
        """Answers that said `Connection: close` to a client that would have gone on."""
        self._port = port
        self._persevere = persevere
        self._tls = tls
        self._numbers = count()
        self._end = threading.Event()
        self._threads = [
            threading.Thread(target=self._run, args=(number % 2 == 0,), daemon=True)
            for number in range(clients)
        ]
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Have the clients end, each behind its next answer."""
        self._end.set()
        self.join()

    def join(self, seconds: float = 20.0) -> None:
        """Wait until all clients have ended."""
        for thread in self._threads:
            thread.join(seconds)
            assert not thread.is_alive(), "a client hangs"

    def _run(self, keep_alive: bool) -> None:
        while not self._end.is_set():
            try:
                connection = self._connect()
            except OSError as error:
                self.refused.append(repr(error))
                if self._persevere:
                    continue
                return
            with closing(connection):
                if not self._connected(connection, keep_alive) and not self._persevere:
                    return

    def _connect(self) -> socket.socket:
        connection = socket.create_connection(("127.0.0.1", self._port), TIMEOUT)
        if self._tls is None:
            return connection
        try:
            return self._tls.wrap_socket(connection, server_hostname="localhost")
        except BaseException:
            connection.close()
            raise

    def _connected(self, connection: socket.socket, keep_alive: bool) -> bool:
        """Post on a connection, until it ends; whether it ended well."""
        replies = answers(connection)
        while not self._end.is_set():
            message_id = f"L{next(self._numbers)}"
            try:
                connection.sendall(request(message_id, close=not keep_alive))
                head, body = next(replies)
            except (OSError, EOFError, StopIteration) as error:
                self.unanswered.append(f"{message_id} {error!r}")
                return False
            if b"<Report>0</Report>" in body:
                self.acknowledged.append(message_id)
            else:
                self.unanswered.append(f"{message_id} {head!r}")
            if b"\r\nConnection: close" in head:
                self.closing += keep_alive
                return True
        return True
