"""A real HTTP server on this machine that speaks /v1/chat/completions, and remembers what it was asked."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass(frozen=True)
class Asked:
    """One request; `texts` is the user message's JSON."""

    body: dict[str, Any]
    authorization: str

    @property
    def texts(self) -> dict[str, Any]:
        return json.loads(self.body["messages"][-1]["content"])


@dataclass
class Server:
    """`respond(asked, n)` gives status, body and headers of the n-th request, counted from 0.

    Status 0 closes the connection without a reply.
    """

    respond: Callable[[Asked, int], tuple[int, str, dict[str, str]]]
    url: str = ""
    asked: list[Asked] = field(default_factory=list)
    at_once: int = 0
    most_at_once: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def answer(self, asked: Asked) -> tuple[int, str, dict[str, str]]:
        with self.lock:
            n = len(self.asked)
            self.asked.append(asked)
            self.at_once += 1
            self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            return self.respond(asked, n)
        finally:
            with self.lock:
                self.at_once -= 1


def completion(content: str | None, finish: str = "stop", **message: Any) -> tuple[int, str, dict[str, str]]:
    """The body of a chat completion that says `content`."""
    choice = {"index": 0, "finish_reason": finish, "message": {"role": "assistant", "content": content, **message}}
    body = {"id": "c", "object": "chat.completion", "created": 1, "model": "judge-2026-01-01", "choices": [choice]}
    return 200, json.dumps(body), {}


def error(status: int, message: str = "no", **headers: str) -> tuple[int, str, dict[str, str]]:
    return status, json.dumps({"error": {"message": message}}), headers


@contextmanager
def serving(respond: Callable[[Asked, int], tuple[int, str, dict[str, str]]]) -> Iterator[Server]:
    server = Server(respond)

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            data = self.rfile.read(int(self.headers["content-length"]))
            if self.path != "/v1/chat/completions":
                status, body, headers = error(404, "no such path")
            else:
                asked = Asked(json.loads(data), self.headers.get("authorization", ""))
                status, body, headers = server.answer(asked)
            if not status:
                self.close_connection = True
                return
            try:
                self.send_response(status)
                self.send_header("content-type", "application/json")
                self.send_header("content-length", str(len(body.encode())))
                for name, value in headers.items():
                    self.send_header(name.replace("_", "-"), value)
                self.end_headers()
                self.wfile.write(body.encode())
            except (BrokenPipeError, ConnectionResetError):
                pass  # the client did not wait

        def log_message(self, format: str, *args: Any) -> None:
            pass

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    http.daemon_threads = True
    thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    server.url = f"http://127.0.0.1:{http.server_port}/v1"
    try:
        yield server
    finally:
        http.shutdown()
        http.server_close()
        thread.join()
