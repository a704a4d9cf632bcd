"""Fetch a picture by its URL, from the public internet alone.

The address that was judged is the one that is connected to, so no name can change its mind between the two; the name
stays in the Host header and in TLS. Proxies, .netrc and cookies have no part in it.
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

from halp_probe.app.addresses import PORTS, REMEDY, Address, Target, is_public, literal, parsed, redirected
from halp_probe.app.uploads import MAX_BYTES
from halp_probe.errors import InputError
from halp_probe.version import __version__

_REDIRECTS = (301, 302, 303, 307, 308)
_BINARY = ("application/octet-stream", "binary/octet-stream")  # what stores of files say of everything
_BLOCK = 64 * 1024  # bytes


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What a server may cost."""

    bytes: int = MAX_BYTES
    head_bytes: int = 64 * 1024  # of status and headers
    seconds: float = 15.0  # for all: names, redirects, the picture
    connect_seconds: float = 5.0  # for one address
    redirects: int = 3


def resolved(host: str, port: int) -> list[str]:
    """The addresses of a name, in the order to try them; none where it has none."""
    try:
        return [str(found[4][0]) for found in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)]
    except OSError:
        return []


def dialled(address: str, port: int, seconds: float) -> socket.socket:
    """A connection to an address, which is never a name."""
    return socket.create_connection((address, port), timeout=seconds)


@cache
def trusted() -> ssl.SSLContext:
    """The system's authorities, and those that come with requests, for systems without any."""
    from requests.utils import DEFAULT_CA_BUNDLE_PATH

    context = ssl.create_default_context()
    context.load_verify_locations(DEFAULT_CA_BUNDLE_PATH)
    return context


@dataclass(frozen=True, kw_only=True)
class Network:
    """How the internet is reached, and what of it may be; a test puts its own in the place of a part."""

    resolve: Callable[[str, int], Sequence[str]] = resolved
    is_public: Callable[[Address], bool] = is_public
    dial: Callable[[str, int, float], socket.socket] = dialled
    trust: Callable[[], ssl.SSLContext] = trusted
    ports: Container[int] = PORTS


def fetch_image(url: str, limits: Limits | None = None, network: Network | None = None) -> bytes:
    """What the URL holds, said by its server to be a picture; whether it is one is for `checked_image` to find.

    Every hop of a redirect is checked like the URL itself, and none leads from https to http: whoever sits on the line
    could put another picture there. Raises InputError, with host and reason, where nothing may or can be fetched; a
    host without a public address is told from no other such host.
    """
    limits, network = limits or Limits(), network or Network()
    deadline = _Deadline(limits.seconds)
    target = first = parsed(url.strip(), network.ports)
    for _ in range(limits.redirects + 1):
        with _asked(target, deadline, limits, network) as response:
            if response.status not in _REDIRECTS:
                return _body(response, target.host, limits)
            location = response.headers.get("Location")
        if not location:
            raise InputError(f"{target.host} redirects to nowhere; check the URL")
        onward = parsed(redirected(target, location), network.ports)
        if target.tls and not onward.tls:
            raise InputError(f"{target.host} redirects from https to http, to {onward.host}; {REMEDY}")
        target = onward
    raise InputError(f"{first.host} redirects more than {limits.redirects} times; open the last URL instead")


class _Deadline:
    def __init__(self, seconds: float) -> None:
        self._end = time.monotonic() + seconds

    def left(self) -> float:
        """Seconds, above 0; TimeoutError when none are left."""
        left = self._end - time.monotonic()
        if left <= 0:
            raise TimeoutError
        return left


class _TooMuch(OSError):
    """More bytes than were allowed."""


class _Metered(io.RawIOBase):
    """What comes through a socket: nothing after the deadline, however slowly it drips, and no more than is allowed."""

    def __init__(self, sock: socket.socket, deadline: _Deadline, allowed: int) -> None:
        self._sock, self._deadline, self.allowed = sock, deadline, allowed

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        self._sock.settimeout(self._deadline.left())
        count = self._sock.recv_into(buffer)
        self.allowed -= count
        if self.allowed < 0:
            raise _TooMuch
        return count

    def makefile(self, mode: str) -> io.BufferedReader:
        """What HTTPResponse asks a socket for."""
        return io.BufferedReader(self)


@contextmanager
def _asked(target: Target, deadline: _Deadline, limits: Limits, network: Network) -> Iterator[HTTPResponse]:
    """The reply, its head read. Raises InputError for whatever fails before it is left, the reading of the body too."""
    host = target.host
    try:
        addresses = _public_addresses(target, deadline, network)
        with _connected(addresses, target, deadline, limits, network) as sock:
            sock.settimeout(deadline.left())
            sock.sendall(_request(target))
            metered = _Metered(sock, deadline, limits.head_bytes)
            response = HTTPResponse(cast(socket.socket, metered), method="GET")
            response.begin()
            metered.allowed = 2 * limits.bytes + limits.head_bytes  # chunks have heads of their own
            yield response
    except InputError:
        raise
    except TimeoutError as error:
        raise InputError(f"{host} did not send the picture in time ({limits.seconds:g} seconds); {REMEDY}") from error
    except _TooMuch as error:
        raise InputError(f"{host} sends more beside the picture than a picture needs; {REMEDY}") from error
    except ssl.SSLCertVerificationError as error:
        raise InputError(f"{host} has no valid certificate for this name; check the URL, or {REMEDY}") from error
    except (OSError, HTTPException, ValueError) as error:  # ValueError: http.client of a chunk of negative length
        raise InputError(f"the connection to {host} failed; check the URL, or {REMEDY}") from error


def _public_addresses(target: Target, deadline: _Deadline, network: Network) -> list[str]:
    """All addresses of the host. One that is not public condemns the others: the name is not to be trusted."""
    found = [target.host] if literal(target.host) else _in_time(target, deadline, network)
    addresses = [literal(address) for address in found]
    if not found or not all(address is not None and network.is_public(address) for address in addresses):
        raise InputError(f"{target.host} is not, or not only, on the public internet; {REMEDY}")
    return list(dict.fromkeys(found))


def _in_time(target: Target, deadline: _Deadline, network: Network) -> Sequence[str]:
    """The resolver of the system knows no deadline, so it is asked by a thread that nobody waits for."""
    answer: queue.SimpleQueue[Sequence[str]] = queue.SimpleQueue()
    threading.Thread(target=lambda: answer.put(network.resolve(target.host, target.port)), daemon=True).start()
    try:
        return answer.get(timeout=deadline.left())
    except queue.Empty:
        raise TimeoutError from None


def _connected(
    addresses: Sequence[str], target: Target, deadline: _Deadline, limits: Limits, network: Network
) -> socket.socket:
    """To the first address that answers, with TLS under the URL's name where it is https."""
    failed: OSError | None = None
    for address in addresses:
        try:
            sock = network.dial(address, target.port, min(limits.connect_seconds, deadline.left()))
        except OSError as error:
            failed = error
            continue
        if not target.tls:
            return sock
        with sock:  # handed over to the other on success, closed on failure
            sock.settimeout(deadline.left())
            return network.trust().wrap_socket(sock, server_hostname=target.host)
    raise failed or OSError("no address")


def _request(target: Target) -> bytes:
    """No line of it can be broken: host and path are ASCII without blanks."""
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
        raise InputError(f"{host} says that this is {kind[:40]!r}, no picture; pass the URL of the picture itself")
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
