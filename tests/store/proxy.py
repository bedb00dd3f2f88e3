"""Bad connections to a Redis server."""

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress


class Proxy:
    """Stands between a store and its server, and cuts answers short, or holds them back.

    Attributes:
        cuts: After how many bytes of answers the next connections break off; those after them hold.
        always_cut: After how many bytes of answers every connection breaks off.
        delay_seconds: How long each piece of an answer is held back.
        piece_bytes: The most that such a piece may have.
        connections: How many there were.
        forwarded_bytes: Bytes of answers that have passed.
    """

    def __init__(self, port: int) -> None:
        self.cuts: list[int] = []
        self.always_cut: int | None = None
        self.delay_seconds = 0.0
        self.piece_bytes = 65536
        self.connections = 0
        self.forwarded_bytes = 0
        self._near: list[socket.socket] = []
        self._server_port = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"redis://127.0.0.1:{self._listener.getsockname()[1]}/0"
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()

    def break_off(self) -> None:
        """End all connections that there are."""
        for near in self._near:
            with suppress(OSError):
                near.shutdown(socket.SHUT_RDWR)
        self._near.clear()

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                near, _ = self._listener.accept()
                self.connections += 1
                self._near.append(near)
                far = socket.create_connection(("127.0.0.1", self._server_port))
                for args in (
                    (near, far, None),
                    (far, near, self.cuts.pop(0) if self.cuts else self.always_cut),
                ):
                    threading.Thread(target=self._pump, args=args, daemon=True).start()

    def _pump(self, source: socket.socket, sink: socket.socket, cut: int | None) -> None:
        with suppress(OSError):
            answers = sink.getpeername()[1] != self._server_port
            while data := source.recv(65536 if cut is None else min(cut, 65536)):
                if answers:
                    self._answer(sink, data)
                else:
                    sink.sendall(data)
                if cut is not None:
                    cut -= len(data)
                    if cut == 0:
                        break
        for end in (source, sink):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()

    def _answer(self, sink: socket.socket, data: bytes) -> None:
        while data:
            time.sleep(self.delay_seconds)
            piece, data = data[: self.piece_bytes], data[self.piece_bytes :]
            sink.sendall(piece)
            self.forwarded_bytes += len(piece)


@contextmanager
def silent_server() -> Iterator[int]:
    """Accept connections, and never answer."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield int(listener.getsockname()[1])
