"""The socket of an association that nobody blocks on, plain or TLS."""

from __future__ import annotations

import select
import socket
import ssl
from collections.abc import Sequence

from pynetdicom.association import Association
from pynetdicom.transport import AssociationSocket

NOT_YET = (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError)


class Wire(AssociationSocket):
    """Who waits does so with a deadline."""

    def __init__(self, association: Association, client_socket: socket.socket) -> None:
        super().__init__(association, client_socket=client_socket)
        client_socket.setblocking(False)

    @property
    def ready(self) -> bool:
        """Whether there is something to read; select() of pynetdicom's own ends at descriptor 1023."""
        sock = self.socket
        if sock is None:
            return False
        return is_readable(sock)

    def receive(self, into: Sequence[memoryview]) -> int | None:
        """Bytes received into these, one after the other; 0 at the connection's end, None when nothing is there yet."""
        sock = self.socket
        if sock is None:
            return 0
        try:
            if len(into) == 1 or isinstance(sock, ssl.SSLSocket):  # TLS fills one at a time
                return sock.recv_into(into[0])
            return sock.recvmsg_into(into)[0]
        except NOT_YET:
            return None
        except OSError:
            return 0

    @property
    def pending(self) -> bool:
        """Whether there is something to receive of which the socket says nothing."""
        return self.socket is not None and _pending(self.socket)

    def acknowledge(self) -> None:
        """Tell the peer's kernel at once what was received: a sender that leaves Nagle on waits for it (INGEST.md)."""
        if self.socket is not None:
            try:
                # the kernel falls back to delayed ACK by itself, so it is asked again each time
                self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)
            except OSError:  # closed meanwhile
                return

    def send(self, bytestream: bytes) -> None:
        """Everything, or Evt17 (connection closed) in the state machine's queue."""
        left = memoryview(bytestream)
        sock = self.socket
        try:
            while left and sock is not None:
                try:
                    left = left[sock.send(left) :]
                except NOT_YET as error:
                    if not _poll(sock, _direction(error, select.POLLOUT), self.assoc.network_timeout):
                        raise TimeoutError from error
        except OSError:
            self.event_queue.put("Evt17")


def _direction(error: Exception, otherwise: int) -> int:
    """What TLS waits for need not be what was asked of it."""
    if isinstance(error, ssl.SSLWantReadError):
        return select.POLLIN
    return select.POLLOUT if isinstance(error, ssl.SSLWantWriteError) else otherwise


def _pending(sock: socket.socket) -> bool:
    return isinstance(sock, ssl.SSLSocket) and sock.pending() > 0


def is_readable(sock: socket.socket) -> bool:
    """Whether there is something to read; any descriptor will do, unlike with select()."""
    return _pending(sock) or _poll(sock, select.POLLIN, 0)


def _poll(sock: socket.socket, what: int, timeout: float | None) -> bool:
    poller = select.poll()
    try:
        poller.register(sock, what)
    except ValueError:  # closed meanwhile
        return True
    return bool(poller.poll(None if timeout is None else timeout * 1000))
