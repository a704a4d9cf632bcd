"""Fetching of a picture by its URL, from the public internet alone.

The address that was checked is the one that is connected to, so that no name can resolve to another one in between;
the name is used in the Host header and in TLS. Proxies, .netrc and cookies are not used.
"""

from __future__ import annotations

import io
import queue
import socket
import ssl
import threading
import time
from collections.abc import Callable, Container, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from http.client import HTTPException, HTTPResponse
from typing import Any, cast

from halp_probe.errors import InputError
from halp_probe.version import __version__
from halp_probe.web.addresses import (
    PORTS,
    REMEDY,
    Address,
    Target,
    follow_redirect,
    is_public,
    literal_address,
    parse_url,
)

MAX_BYTES = 20_000_000  # of a picture
FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF")  # Pillow's names: pictures of the web, whose readers are safe
_REDIRECTS = (301, 302, 303, 307, 308)
_BINARY = ("application/octet-stream", "binary/octet-stream")  # what file stores declare for any file
_BLOCK = 64 * 1024  # bytes


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Limits on what a server may cost."""

    bytes: int = MAX_BYTES
    head_bytes: int = 64 * 1024  # of status and headers
    seconds: float = 15.0  # in total: names, redirects, the picture
    connect_seconds: float = 5.0  # for one address
    redirects: int = 3


def resolve_host(host: str, port: int) -> list[str]:
    """Return the addresses of a name, in the order to try them; [] where it has none."""
    try:
        return [str(found[4][0]) for found in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)]
    except OSError:
        return []


def dial_address(address: str, port: int, seconds: float) -> socket.socket:
    """Connect to an address, which is never a name."""
    return socket.create_connection((address, port), timeout=seconds)


@cache
def make_tls_context() -> ssl.SSLContext:
    """Return a context that trusts the system's authorities, and those that come with requests."""
    from requests.utils import DEFAULT_CA_BUNDLE_PATH

    context = ssl.create_default_context()
    context.load_verify_locations(DEFAULT_CA_BUNDLE_PATH)
    return context


@dataclass(frozen=True, kw_only=True)
class Network:
    """Access to the internet and its restrictions; tests replace parts of it."""

    resolve: Callable[[str, int], Sequence[str]] = resolve_host
    is_public: Callable[[Address], bool] = is_public
    dial: Callable[[str, int, float], socket.socket] = dial_address
    trust: Callable[[], ssl.SSLContext] = make_tls_context
    ports: Container[int] = PORTS


def fetch_image(url: str, limits: Limits | None = None, network: Network | None = None) -> bytes:
    """Return what the URL holds; its server declares it a picture, and `check_image` verifies that.

    Every hop of a redirect is checked like the URL itself, and none may lead from https to http, where the picture
    could be replaced on its way. Raises InputError, with host and reason, where nothing may or can be
    fetched; the message is the same for all hosts without a public address.
    """
    limits, network = limits or Limits(), network or Network()
    deadline = _Deadline(limits.seconds)
    target = first = parse_url(url.strip(), network.ports)
    for _ in range(limits.redirects + 1):
        with _open_response(target, deadline, limits, network) as response:
            if response.status not in _REDIRECTS:
                return _body(response, target.host, limits)
            location = response.headers.get("Location")
        if not location:
            raise InputError(f"{target.host} redirects to nowhere; check the URL")
        onward = parse_url(follow_redirect(target, location), network.ports)
        if target.tls and not onward.tls:
            raise InputError(f"{target.host} redirects from https to http, to {onward.host}; {REMEDY}")
        target = onward
    raise InputError(f"{first.host} redirects more than {limits.redirects} times; open the last URL instead")


class _Deadline:
    """Deadline for all steps of one fetch."""

    def __init__(self, seconds: float) -> None:
        self._end = time.monotonic() + seconds

    def left(self) -> float:
        """Return the seconds that are left, above 0; raise TimeoutError when none are."""
        left = self._end - time.monotonic()
        if left <= 0:
            raise TimeoutError
        return left


class _TooMuchError(OSError):
    """The server sends more bytes than are allowed."""


class _MeteredSocket(io.RawIOBase):
    """Reader of a socket that stops at the deadline, however slowly bytes arrive, and after `allowed` bytes."""

    def __init__(self, sock: socket.socket, deadline: _Deadline, allowed: int) -> None:
        self._sock, self._deadline, self.allowed = sock, deadline, allowed

    def readable(self) -> bool:
        """Return True: HTTPResponse only reads."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Read what has arrived into the buffer; return its size."""
        self._sock.settimeout(self._deadline.left())
        count = self._sock.recv_into(buffer)
        self.allowed -= count
        if self.allowed < 0:
            raise _TooMuchError
        return count

    def makefile(self, mode: str) -> io.BufferedReader:
        """Return a buffered reader, as HTTPResponse asks of a socket."""
        return io.BufferedReader(self)


@contextmanager
def _open_response(target: Target, deadline: _Deadline, limits: Limits, network: Network) -> Iterator[HTTPResponse]:
    """Yield the reply with its head read. Raises InputError for all failures inside the context, of the body too."""
    host = target.host
    try:
        addresses = _public_addresses(target, deadline, network)
        with _connect(addresses, target, deadline, limits, network) as sock:
            sock.settimeout(deadline.left())
            sock.sendall(_request(target))
            metered = _MeteredSocket(sock, deadline, limits.head_bytes)
            response = HTTPResponse(cast(socket.socket, metered), method="GET")
            response.begin()
            metered.allowed = 2 * limits.bytes + limits.head_bytes  # chunks have their own heads
            yield response
    except InputError:
        raise
    except TimeoutError as error:
        raise InputError(f"{host} did not send the picture in time ({limits.seconds:g} seconds); {REMEDY}") from error
    except _TooMuchError as error:
        raise InputError(f"{host} sends more than a picture of the allowed size needs; {REMEDY}") from error
    except ssl.SSLCertVerificationError as error:
        raise InputError(f"{host} has no valid certificate for this name; check the URL, or {REMEDY}") from error
    except (OSError, HTTPException, ValueError) as error:  # ValueError: from http.client, on a chunk of negative length
        raise InputError(f"the connection to {host} failed; check the URL, or {REMEDY}") from error


def _public_addresses(target: Target, deadline: _Deadline, network: Network) -> list[str]:
    """Return all addresses of the host. If one is not public, all are refused: the name cannot be trusted."""
    found = [target.host] if literal_address(target.host) else _in_time(target, deadline, network)
    addresses = [literal_address(address) for address in found]
    if not found or not all(address is not None and network.is_public(address) for address in addresses):
        raise InputError(f"{target.host} is not, or not only, on the public internet; {REMEDY}")
    return list(dict.fromkeys(found))


def _in_time(target: Target, deadline: _Deadline, network: Network) -> Sequence[str]:
    """Resolve the name in a thread that nobody waits for, since the system's resolver knows no deadline."""
    answer: queue.SimpleQueue[Sequence[str]] = queue.SimpleQueue()
    threading.Thread(target=lambda: answer.put(network.resolve(target.host, target.port)), daemon=True).start()
    try:
        return answer.get(timeout=deadline.left())
    except queue.Empty:
        raise TimeoutError from None


def _connect(
    addresses: Sequence[str], target: Target, deadline: _Deadline, limits: Limits, network: Network
) -> socket.socket:
    """Connect to the first address that answers, with TLS under the URL's name for https."""
    failure: OSError | None = None
    for address in addresses:
        try:
            sock = network.dial(address, target.port, min(limits.connect_seconds, deadline.left()))
        except OSError as error:
            failure = error
            continue
        if not target.tls:
            return sock
        with sock:  # wrap_socket takes it over on success; on failure it is closed
            sock.settimeout(deadline.left())
            return network.trust().wrap_socket(sock, server_hostname=target.host)
    raise failure or OSError("no address")


def _request(target: Target) -> bytes:
    """Return the request; host and path are ASCII without blanks, so that no line of it can be broken."""
    lines = (
        f"GET {target.path} HTTP/1.1",
        f"Host: {target.authority}",
        f"User-Agent: halp_probe/{__version__}",
        "Accept: image/png, image/jpeg, image/webp, image/gif, image/*;q=0.5",
        "Accept-Encoding: identity",
        "Connection: close",
    )
    return "".join(f"{line}\r\n" for line in (*lines, "")).encode("ascii")


def _body(response: HTTPResponse, host: str, limits: Limits) -> bytes:
    if response.status != 200:
        raise InputError(f"{host} has no picture there (status {response.status}); check the URL")
    kind = response.headers.get_content_type()
    if not kind.startswith("image/") and kind not in _BINARY:
        raise InputError(f"{host} says that this is {kind[:40]!r}, not a picture; pass the URL of the picture itself")
    encodings = [*response.headers.get_all("Content-Encoding", []), *response.headers.get_all("Transfer-Encoding", [])]
    if unknown := [encoding for encoding in encodings if encoding.strip().lower() not in ("", "identity", "chunked")]:
        raise InputError(f"{host} sends the picture compressed ({unknown[0][:40]!r}), unasked; {REMEDY}")
    if (response.length or 0) > limits.bytes:
        raise _too_large(host, limits)
    content = bytearray()
    while block := response.read(_BLOCK):
        content += block
        if len(content) > limits.bytes:
            raise _too_large(host, limits)
    if response.length:
        raise InputError(f"{host} sent less than it announced; try again, or {REMEDY}")
    return bytes(content)


def _too_large(host: str, limits: Limits) -> InputError:
    return InputError(f"the picture at {host} is larger than {limits.bytes / 1e6:g} MB; shrink it and load the file")
