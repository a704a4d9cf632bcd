"""URLs and addresses: which URLs are accepted, and which addresses belong to the public internet.

Nothing here opens a connection or resolves a name.
"""

from __future__ import annotations

import re
from collections.abc import Container
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import TypeAlias
from urllib.parse import quote, urljoin, urlsplit

from halp_probe.errors import InputError

Address: TypeAlias = IPv4Address | IPv6Address
PORTS = (80, 443)
REMEDY = "save the picture and load the file instead"
_DEFAULT_PORTS = {"http": 80, "https": 443}
_LONGEST = 4000  # characters of a URL
_AUTHORITY = re.compile(r"(?:\[([0-9a-f:.]+)\]|([0-9a-z_.-]+))(?::([0-9]{1,5}))?")  # for lower-case ASCII
_LABEL = r"(?!-)[0-9a-z_-]{1,63}(?<!-)"
_NAME = re.compile(rf"{_LABEL}(?:\.{_LABEL})+")
_NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*")  # a last label that makes many resolvers read an IPv4 address
_IN_PATH = "/%:=&~!$'()*+,;@?"  # what needs no escape after the host, besides letters, digits and -._

# In addition to what Python calls not global, since its lists differ between releases.
_NOT_PUBLIC_4 = tuple(
    map(
        IPv4Network,
        (
            "0.0.0.0/8",
            "10.0.0.0/8",
            "100.64.0.0/10",  # carrier-grade NAT
            "127.0.0.0/8",
            "168.63.129.16/32",  # a public address at which machines on Azure reach their host
            "169.254.0.0/16",  # link-local; clouds serve a machine's credentials at 169.254.169.254
            "172.16.0.0/12",
            "192.0.0.0/24",
            "192.0.2.0/24",  # documentation, as 198.51.100 and 203.0.113
            "192.88.99.0/24",  # 6to4 relays
            "192.168.0.0/16",
            "198.18.0.0/15",  # benchmarks
            "198.51.100.0/24",
            "203.0.113.0/24",
            "224.0.0.0/3",  # multicast, reserved, broadcast
        ),
    )
)
_GLOBAL_UNICAST = IPv6Network("2000::/3")  # all else is local, multicast, mapped IPv4 or not assigned
_NAT64 = IPv6Network("64:ff9b::/96")  # DNS64 maps IPv4 addresses into it
_NOT_PUBLIC_6 = tuple(
    map(
        IPv6Network,
        (
            "2001::/23",  # Teredo, benchmarks, ORCHID
            "2001:db8::/32",  # documentation
            "2002::/16",  # 6to4
            "3ffe::/16",
            "3fff::/20",  # documentation
        ),
    )
)


@dataclass(frozen=True, kw_only=True)
class Target:
    """URL whose parts are harmless as text; its host may still be anywhere."""

    scheme: str  # http or https
    host: str  # lower case, without brackets and final dot
    port: int
    path: str  # with the query; ASCII

    @property
    def tls(self) -> bool:
        """True for https."""
        return self.scheme == "https"

    @property
    def authority(self) -> str:
        """Value of the Host header."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == _DEFAULT_PORTS[self.scheme] else f"{host}:{self.port}"

    @property
    def url(self) -> str:
        """Complete URL."""
        return f"{self.scheme}://{self.authority}{self.path}"


def parse_url(url: str, ports: Container[int] = PORTS) -> Target:
    """Split a URL into its parts; raise InputError for one that is not accepted.

    Accepted is http(s) with a name of several labels or an address in its usual form. Refused are user names and
    passwords, numbers that stand for addresses, zones, characters beyond ASCII, and other ports: a page that opens any
    port of any machine is a port scanner, and can talk to servers other than web servers.
    """
    if len(url) > _LONGEST:
        raise InputError(f"a URL of {len(url)} characters; at most {_LONGEST} are accepted: {REMEDY}")
    if re.search(r"[\x00-\x20\x7f\\]", url):
        raise InputError(f"{_quote(url)} holds a blank, a backslash or a control character; write the URL without it")
    try:
        parts = urlsplit(url)
    except ValueError as error:
        raise InputError(f"{_quote(url)} is not a URL; write it in full, such as https://example.org/a.png") from error
    if parts.scheme not in _DEFAULT_PORTS or not parts.netloc:
        raise InputError(f"{_quote(url)} is not an http(s) URL; write it in full, such as https://example.org/a.png")
    written = parts.netloc.rpartition("@")[2]
    if "@" in parts.netloc:
        raise InputError(f"{_quote(written)}: the URL holds a name or password; write it without, or {REMEDY}")
    if not written.isascii():
        raise InputError(f"{_quote(written)} is not in ASCII; write the host as browsers send it (xn--…)")
    match = _AUTHORITY.fullmatch(written.lower())
    if match is None:
        raise InputError(f"{_quote(written)} is not a host, or its port is not a number; check the URL")
    host = _check_host(match[1], match[2], written)
    port = int(match[3]) if match[3] else _DEFAULT_PORTS[parts.scheme]
    if port not in ports:
        raise InputError(f"{host}: port {port} is not one of the web's (80, 443); {REMEDY}")
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    return Target(scheme=parts.scheme, host=host, port=port, path=quote(path, safe=_IN_PATH, errors="replace"))


def follow_redirect(target: Target, location: str) -> str:
    """Return the URL that a Location header leads to; http.client reads its bytes as Latin-1, whatever they were."""
    return urljoin(target.url, quote(location.encode("latin-1"), safe=_IN_PATH + "#[]"))


def literal_address(host: str) -> Address | None:
    """Return the address that a host is; None for a name."""
    try:
        return ip_address(host)
    except ValueError:
        return None


def is_public(address: Address) -> bool:
    """Return whether the address is on the public internet: no private, local or cloud-internal address."""
    if isinstance(address, IPv4Address):
        return address.is_global and not any(address in network for network in _NOT_PUBLIC_4)
    if address.scope_id is not None:
        return False
    if address in _NAT64:
        return is_public(IPv4Address(int(address) & 0xFFFFFFFF))
    inside = address in _GLOBAL_UNICAST and address.is_global
    return inside and not any(address in network for network in _NOT_PUBLIC_6)


def _check_host(six: str | None, name: str | None, written: str) -> str:
    if six is not None:
        if not isinstance(literal_address(six), IPv6Address):
            raise InputError(f"{_quote(written)} is not an IPv6 address; check the URL")
        return six
    host = (name or "").removesuffix(".")
    if isinstance(literal_address(host), IPv4Address):
        return host
    if _NUMBER.fullmatch(host.rpartition(".")[2]):
        raise InputError(f"{_quote(written)} is a number, not a name; write an address as four numbers, or {REMEDY}")
    if len(host) > 253 or not _NAME.fullmatch(host):
        raise InputError(f"{_quote(written)} is not a name of the public internet, which would have dots; {REMEDY}")
    return host


def _quote(text: str) -> str:
    """Return the beginning of a text, for an error, without the user name and password that a URL may hold."""
    plain = re.sub(r"//[^/?#]*@", "//", text)
    return repr(plain if len(plain) <= 80 else plain[:79] + "…")
