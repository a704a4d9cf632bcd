"""Servers on this machine that count who calls, and an internet of made-up names and addresses that leads to them."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

from halp_probe.web.fetch import Network

ANY_PORT = range(1, 65536)


@dataclass
class Loopback:
    """`heads`: what each caller asked, in order; `calls`: connections, also those that asked nothing."""

    host: str
    port: int
    heads: list[str] = field(default_factory=list)
    calls: int = 0

    @property
    def connections(self) -> int:
        """Whoever has called until now: connections are taken in their order, so ours comes behind them."""
        before = self.calls
        with socket.create_connection((self.host, self.port)) as ours:
            ours.sendall(b"\n\n")
            while ours.recv(1024):
                pass
        self.calls -= 1
        assert self.calls >= before
        return self.calls


def reply(body: bytes = b"", *headers: str, status: str = "200 OK", kind: str = "image/png") -> bytes:
    """A whole response with its length."""
    lines = [f"HTTP/1.1 {status}", f"Content-Type: {kind}", f"Content-Length: {len(body)}", *headers]
    return "".join(f"{line}\r\n" for line in (*lines, "")).encode("latin-1") + body


def redirect(to: str, status: str = "302 Found") -> bytes:
    return reply(b"", f"Location: {to}", status=status)


@contextmanager
def loopback(
    answer: Callable[[str], Iterable[bytes]] | bytes = b"", host: str = "127.0.0.1", tls: ssl.SSLContext | None = None
) -> Iterator[Loopback]:
    """A server that sends what `answer` makes of a request's head, piece by piece, until the caller is gone."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family)
    listener.bind((host, 0))
    listener.listen(64)
    server = Loopback(host, listener.getsockname()[1])

    def serve(sock: socket.socket) -> None:
        with suppress(OSError), sock:
            spoken = tls.wrap_socket(sock, server_side=True) if tls else sock
            with spoken:
                head = b""
                while not head.endswith((b"\r\n\r\n", b"\n\n")):
                    if not (piece := spoken.recv(4096)):
                        return
                    head += piece
                if head == b"\n\n":
                    return
                server.heads.append(head.decode())
                for piece in [answer] if isinstance(answer, bytes) else answer(head.decode()):
                    spoken.sendall(piece)

    def accept() -> None:
        with suppress(OSError):
            while True:
                sock, _ = listener.accept()
                server.calls += 1
                threading.Thread(target=serve, args=(sock,), daemon=True).start()

    thread = threading.Thread(target=accept, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        with suppress(OSError):
            listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join()


@dataclass
class Internet:
    """Names with their addresses (the n-th asking gets the n-th list, the last one for ever) and servers at these.

    What no server was given to is dialled for real: judged wrongly, it would be found by whoever counts there.
    """

    names: dict[str, list[list[str]]] = field(default_factory=dict)
    servers: dict[tuple[str, int], Loopback] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    dialled: list[tuple[str, int]] = field(default_factory=list)

    def put(self, name: str, server: Loopback, address: str = "93.184.216.34", port: int = 80) -> None:
        self.names.setdefault(name, [[address]])
        self.servers[address, port] = server

    def resolve(self, host: str, port: int) -> list[str]:
        answers = self.names.get(host, [[]])
        self.asked.append(host)
        return answers[min(self.asked.count(host), len(answers)) - 1]

    def dial(self, address: str, port: int, seconds: float) -> socket.socket:
        self.dialled.append((address, port))
        server = self.servers.get((address, port))
        place = (server.host, server.port) if server else (address, port)
        return socket.create_connection(place, timeout=seconds)

    def network(self, **changes: object) -> Network:
        return Network(**{"resolve": self.resolve, "dial": self.dial, **changes})  # type: ignore[arg-type]
