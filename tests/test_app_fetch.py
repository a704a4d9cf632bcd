"""The page fetches pictures of the public internet alone: whatever a URL, a name server or a redirect says.

Nothing here leaves this machine. The judgement of addresses is the real one; made-up public addresses lead to servers
of the test, all other ones where they always lead.
"""

from __future__ import annotations

import gzip
import io
import itertools
import ssl
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from ipaddress import ip_address
from pathlib import Path

import pytest
from loopback import ANY_PORT, Internet, Loopback, loopback, redirect, reply
from PIL import Image

from halp_probe.app.uploads import check_image
from halp_probe.errors import InputError
from halp_probe.web import fetch
from halp_probe.web.addresses import is_public, parse_url
from halp_probe.web.fetch import Limits, Network, fetch_image

PUBLIC, OTHER = "93.184.216.34", "2606:4700:4700::1111"
PEM = Path(__file__).parent / "data" / "pictures_example.pem"  # a key of these tests and its certificate, to 2120
QUICK = Limits(bytes=100_000, seconds=1.0)


def picture() -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (8, 6), (10, 200, 30)).save(buffer, format="PNG")
    return buffer.getvalue()


PICTURE = picture()


@pytest.fixture(scope="module")
def private() -> Iterator[list[Loopback]]:
    """Servers that nobody may reach, with a picture for whoever does."""
    with loopback(reply(PICTURE)) as four, loopback(reply(PICTURE), "::1") as six:
        yield [four, six]


def fetched_from(answer: Callable[[str], Iterable[bytes]] | bytes, limits: Limits = QUICK) -> bytes:
    """What is fetched from a public server that answers so."""
    with loopback(answer) as server:
        internet = Internet()
        internet.put("pictures.example", server)
        return fetch_image("http://pictures.example/a.png", limits, internet.network())


NOT_PUBLIC = "is not, or not only, on the public internet"
REFUSED = {
    "http://127.0.0.1:{four}/": NOT_PUBLIC,
    "http://127.1.2.3:{four}/": NOT_PUBLIC,
    "HTTP://127.0.0.1:{four}/a.png": NOT_PUBLIC,
    "http://127.0.0.1.:{four}/": NOT_PUBLIC,
    "http://0.0.0.0:{four}/": NOT_PUBLIC,
    "https://127.0.0.1:{four}/": NOT_PUBLIC,
    "http://[::1]:{six}/": NOT_PUBLIC,
    "http://[0:0:0:0:0:0:0:1]:{six}/": NOT_PUBLIC,
    "http://[::]:{six}/": NOT_PUBLIC,
    "http://[::ffff:127.0.0.1]:{four}/": NOT_PUBLIC,
    "http://[::ffff:7f00:1]:{four}/": NOT_PUBLIC,
    "http://[::127.0.0.1]:{four}/": NOT_PUBLIC,
    "http://[64:ff9b::127.0.0.1]:{four}/": NOT_PUBLIC,
    "http://[64:ff9b::a00:1]:{four}/": NOT_PUBLIC,
    "http://[64:ff9b:1::7f00:1]:{four}/": NOT_PUBLIC,
    "http://[2002:7f00:1::]:{four}/": NOT_PUBLIC,
    "http://[2002:c0a8:101::1]:{four}/": NOT_PUBLIC,
    "http://[2001:0:4136:e378:8000:63bf:80ff:fffe]:{four}/": NOT_PUBLIC,
    "http://[2001:2::1]/": NOT_PUBLIC,
    "http://[2001:db8::1]/": NOT_PUBLIC,
    "http://[3fff::1]/": NOT_PUBLIC,
    "http://[fe80::1]/": NOT_PUBLIC,
    "http://[fec0::1]/": NOT_PUBLIC,
    "http://[fc00::1]/": NOT_PUBLIC,
    "http://[fd00:ec2::254]/": NOT_PUBLIC,
    "http://[ff02::1]/": NOT_PUBLIC,
    "http://[100::1]/": NOT_PUBLIC,
    "http://[5f00::1]/": NOT_PUBLIC,
    "http://10.0.0.1/": NOT_PUBLIC,
    "http://172.16.0.1/": NOT_PUBLIC,
    "http://172.31.255.255/": NOT_PUBLIC,
    "http://192.168.1.1/": NOT_PUBLIC,
    "http://169.254.169.254/latest/meta-data/": NOT_PUBLIC,
    "http://168.63.129.16/": NOT_PUBLIC,
    "http://100.64.0.1/": NOT_PUBLIC,
    "http://100.100.100.200/": NOT_PUBLIC,
    "http://192.0.0.192/": NOT_PUBLIC,
    "http://192.0.2.1/": NOT_PUBLIC,
    "http://192.88.99.1/": NOT_PUBLIC,
    "http://198.18.0.1/": NOT_PUBLIC,
    "http://198.51.100.1/": NOT_PUBLIC,
    "http://203.0.113.1/": NOT_PUBLIC,
    "http://224.0.0.1/": NOT_PUBLIC,
    "http://240.0.0.1/": NOT_PUBLIC,
    "http://255.255.255.255/": NOT_PUBLIC,
    "http://private.example:{four}/": NOT_PUBLIC,
    "http://private6.example:{six}/": NOT_PUBLIC,
    "http://mixed.example:{four}/": NOT_PUBLIC,
    "http://scoped.example:{six}/": NOT_PUBLIC,
    "http://zoned.example:{four}/": NOT_PUBLIC,
    "http://mapped.example:{four}/": NOT_PUBLIC,
    "http://odd.example:{four}/": NOT_PUBLIC,
    "http://nowhere.example:{four}/": NOT_PUBLIC,
    "http://localhost.localdomain:{four}/": NOT_PUBLIC,
    "http://127.0.0.1:{four}?@pictures.example/": NOT_PUBLIC,
    "http://127.0.0.1:{four}#@pictures.example/": NOT_PUBLIC,
    "http://localhost:{four}/": "not a name of the public internet",
    "http://LOCALHOST.:{four}/": "not a name of the public internet",
    "http://metadata/": "not a name of the public internet",
    "http://pictures..example/": "not a name of the public internet",
    "http://-pictures.example/": "not a name of the public internet",
    "http://.example/": "not a name of the public internet",
    f"http://{'a.' * 130}example/": "not a name of the public internet",
    "http://127.0.0.1..:{four}/": "not a name of the public internet",
    "http://2130706433:{four}/": "is a number",
    "http://0x7f000001:{four}/": "is a number",
    "http://017700000001:{four}/": "is a number",
    "http://0x7f.1:{four}/": "is a number",
    "http://0x7F.0x0.0x0.0x1:{four}/": "is a number",
    "http://0177.0.0.1:{four}/": "is a number",
    "http://127.1:{four}/": "is a number",
    "http://127.0.1:{four}/": "is a number",
    "http://0:{four}/": "is a number",
    "http://127.0.0.0x1:{four}/": "is a number",
    "http://127.0.0.01:{four}/": "is a number",
    "http://127.0.0.256:{four}/": "is a number",
    "http://pictures.example@127.0.0.1:{four}/": "name or password",
    "http://pictures.example:80@127.0.0.1:{four}/": "name or password",
    "http://user:secret@pictures.example/": "name or password",
    "http://@127.0.0.1:{four}/": "name or password",
    "http://pictures.example%40127.0.0.1:{four}/": "not a host",
    "http://127%2e0.0.1:{four}/": "not a host",
    "http://[fe80::1%25lo]:{six}/": "not a host|not a URL",
    "http://[::1%25lo]:{six}/": "not a host|not a URL",
    "http://[::1%lo]:{six}/": "not a host|not a URL",
    "http://[127.0.0.1]:{four}/": "not an IPv6|not a URL",
    "http://[::1]x:{six}/": "not a host|not a URL",
    "http://[::1:{six}/": "not a URL",
    "http://[1::2::3]/": "not an IPv6|not a URL",
    "http://::1:{six}/": "not a host",
    "http://127.0.0.1:{four}:80/": "not a host",
    "http://pictures.example:x/": "not a host",
    "http://pictures.example:-1/": "not a host",
    "http://pictures.example:٨٠/": "ASCII",
    "http://１２７.０.０.１:{four}/": "ASCII",
    "http://①②⑦.⓪.⓪.①:{four}/": "ASCII",
    "http://127。0。0。1:{four}/": "ASCII",
    "http://ⓛocalhost:{four}/": "ASCII",
    "http://pıctures.example/": "ASCII",
    "http://\N{KELVIN SIGN}elvin.example/": "ASCII",
    "http://pictures.example\\@127.0.0.1:{four}/": "backslash",
    "http:\\\\127.0.0.1:{four}/": "backslash",
    "http://127.0.0.1:{four}/a b": "blank",
    "http://127.0.\t0.1:{four}/": "blank",
    "http://127.0.0.1:{four}/\r\nHost: pictures.example": "blank",
    "http://pictures.example/\x00": "blank",
    "http:///127.0.0.1:{four}/": "not an http",
    "http:127.0.0.1:{four}": "not an http",
    "//127.0.0.1:{four}/": "not an http",
    "127.0.0.1:{four}": "not an http",
    "": "not an http",
    "ftp://127.0.0.1:{four}/": "not an http",
    "file:///etc/hostname": "not an http",
    "file://127.0.0.1/etc/hostname": "not an http",
    "gopher://127.0.0.1:{four}/_GET": "not an http",
    "data:image/png;base64,iVBORw0KGgo=": "not an http",
    "javascript:alert(1)": "not an http",
    "jar:http://127.0.0.1:{four}/!/": "not an http",
    "http://pictures.example/" + "a" * 5000: "5024 characters",
}
NAMES = {
    "private.example": [["127.0.0.1"]],
    "private6.example": [["::1"]],
    "mixed.example": [[PUBLIC, "127.0.0.1", OTHER]],
    "scoped.example": [["fe80::1%lo"]],
    "zoned.example": [[f"{OTHER}%lo"]],
    "mapped.example": [["::ffff:127.0.0.1"]],
    "odd.example": [["0x7f.1"]],
    "localhost.localdomain": [["127.0.0.1"]],
}


@pytest.mark.parametrize("url", REFUSED, ids=lambda url: url[:60].encode("ascii", "backslashreplace").decode())
def test_a_url_that_leads_inside_is_refused(url: str, private: list[Loopback]) -> None:
    internet = Internet(names=NAMES)
    written = url.replace("{four}", str(private[0].port)).replace("{six}", str(private[1].port))
    with pytest.raises(InputError, match=REFUSED[url]) as error:
        fetch_image(written, QUICK, internet.network(ports=ANY_PORT))
    assert "secret" not in str(error.value)
    assert not internet.dialled


def test_nobody_has_called_the_servers_that_they_lead_to(private: list[Loopback]) -> None:
    """After all of the table, which the server itself can tell; and it does hear who is let through."""
    assert [server.connections for server in private] == [0, 0]
    with loopback(reply(PICTURE)) as heard:
        everyone = Network(is_public=lambda address: True, ports=ANY_PORT)
        assert fetch_image(f"http://127.0.0.1:{heard.port}/", QUICK, everyone) == PICTURE
        assert heard.connections == 1


@pytest.mark.parametrize("port", [0, 21, 22, 25, 8080, 8501, 65535, 65536, 99999])
def test_other_ports_are_refused(port: int) -> None:
    internet = Internet(names={"pictures.example": [[PUBLIC]]})
    with pytest.raises(InputError, match=f"pictures.example: port {port} is not one of the web's"):
        fetch_image(f"http://pictures.example:{port}/", QUICK, internet.network())
    assert not internet.asked and not internet.dialled


@pytest.mark.parametrize("address", [PUBLIC, "8.8.8.8", "100.128.0.1", "172.32.0.1", OTHER, "64:ff9b::808:808"])
def test_the_public_internet_is_not_refused(address: str) -> None:
    assert is_public(ip_address(address))


def test_a_private_host_is_told_from_no_other(private: list[Loopback]) -> None:
    """Open or closed, there or not: the same words but for the name that the user gave."""
    with loopback() as closed:
        pass  # nobody listens at its port any more
    names = {"open.example": [["127.0.0.1"]], "shut.example": [["127.0.0.1"]], "far.example": [["10.9.8.7"]]}
    told = set()
    for name, port in (("open", private[0].port), ("shut", closed.port), ("far", 80), ("none", 80)):
        with pytest.raises(InputError) as error:
            fetch_image(f"http://{name}.example:{port}/", QUICK, Internet(names=names).network(ports=ANY_PORT))
        told.add(str(error.value).replace(f"{name}.example", "NAME"))
    assert len(told) == 1 and not any(character.isdigit() for character in told.pop())


def test_a_picture_is_fetched(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, private: list[Loopback]) -> None:
    """The request is a plain one: no proxy, no netrc, no cookie, nothing compressed."""
    for name in ("http_proxy", "HTTP_PROXY", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{private[0].port}")
    (tmp_path / "netrc").write_text("default login me password secret\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    with loopback(reply(PICTURE, "Set-Cookie: a=b")) as server:
        internet = Internet()
        internet.put("pictures.example", server)
        url = "  http://Pictures.Example./a/ü%20b.png?q=%2F&ö=1#top "
        for _ in range(2):
            assert fetch_image(url, QUICK, internet.network()) == PICTURE
    assert internet.dialled == [(PUBLIC, 80)] * 2 and private[0].connections == 0
    assert server.heads[0] == server.heads[1]
    first, *lines = server.heads[0].split("\r\n")
    assert first == "GET /a/%C3%BC%20b.png?q=%2F&%C3%B6=1 HTTP/1.1"
    headers = {line.partition(": ")[0]: line.partition(": ")[2] for line in lines if line}
    assert headers["Host"] == "pictures.example" and headers["Accept-Encoding"] == "identity"
    assert set(headers) == {"Host", "User-Agent", "Accept", "Accept-Encoding", "Connection"}
    assert check_image(PICTURE, "a.png").pixels.size == (8, 6)


def test_an_address_may_be_the_host() -> None:
    with loopback(reply(PICTURE)) as server:
        internet = Internet()
        internet.put("", server, OTHER)
        assert fetch_image(f"http://[{OTHER}]/a.png", QUICK, internet.network()) == PICTURE
        assert f"Host: [{OTHER}]\r\n" in server.heads[0] and not internet.asked


def test_the_next_address_is_tried() -> None:
    with loopback() as closed:
        pass
    with loopback(reply(PICTURE)) as server:
        internet = Internet(names={"pictures.example": [[OTHER, PUBLIC]]})
        internet.servers = {(OTHER, 80): closed, (PUBLIC, 80): server}
        assert fetch_image("http://pictures.example/", QUICK, internet.network()) == PICTURE
        assert internet.dialled == [(OTHER, 80), (PUBLIC, 80)]


def test_a_name_that_changes_its_mind_changes_nothing(private: list[Loopback]) -> None:
    """DNS rebinding: the first answer is the one that is connected to, and a redirect is a new question."""
    before = private[0].connections
    port = private[0].port
    names = {"pictures.example": [[PUBLIC], ["127.0.0.1"]]}
    with loopback(reply(PICTURE)) as server:
        internet = Internet(names=dict(names), servers={(PUBLIC, port): server})
        url = f"http://pictures.example:{port}/"
        assert fetch_image(url, QUICK, internet.network(ports=ANY_PORT)) == PICTURE
        assert internet.asked == ["pictures.example"] and internet.dialled == [(PUBLIC, port)]
    with loopback(redirect("/again")) as server:
        internet = Internet(names=dict(names), servers={(PUBLIC, port): server})
        with pytest.raises(InputError, match=f"pictures.example {NOT_PUBLIC}"):
            fetch_image(url, QUICK, internet.network(ports=ANY_PORT))
        assert internet.dialled == [(PUBLIC, port)]
    assert private[0].connections == before


def chain(*locations: str) -> Callable[[str], Iterable[bytes]]:
    """/0 redirects to the first, /1 to the second, …, the last has the picture."""

    def answer(head: str) -> Iterable[bytes]:
        place = int(head.split()[1].lstrip("/") or 0)
        return [redirect(locations[place]) if place < len(locations) else reply(PICTURE)]

    return answer


def test_redirects_are_followed_to_a_limit() -> None:
    with loopback(chain("1", "//other.example/2", "http://pictures.example/3?#a", "4")) as server:
        internet = Internet()
        internet.put("pictures.example", server)
        internet.put("other.example", server, OTHER)
        assert fetch_image("http://pictures.example/1", QUICK, internet.network()) == PICTURE
        assert [address for address, _ in internet.dialled] == [PUBLIC, OTHER, PUBLIC, PUBLIC]
        with pytest.raises(InputError, match=r"pictures.example redirects more than 3 times"):
            fetch_image("http://pictures.example/0", QUICK, internet.network())
        assert len(internet.dialled) == 8


@pytest.mark.parametrize(
    ("location", "reason"),
    [
        ("http://127.0.0.1:{four}/", f"127.0.0.1 {NOT_PUBLIC}"),
        ("//127.0.0.1:{four}/", f"127.0.0.1 {NOT_PUBLIC}"),
        ("http://[::1]:{six}/", f"::1 {NOT_PUBLIC}"),
        ("http://[::ffff:127.0.0.1]:{four}/", NOT_PUBLIC),
        ("http://2130706433:{four}/", "is a number"),
        ("http://localhost:{four}/", "not a name of the public internet"),
        ("http://private.example:{four}/", f"private.example {NOT_PUBLIC}"),
        ("http://mixed.example:{four}/", f"mixed.example {NOT_PUBLIC}"),
        ("http://169.254.169.254/latest/meta-data/", NOT_PUBLIC),
        ("http://me:secret@127.0.0.1:{four}/", "name or password"),
        ("http://pictures.example\\@127.0.0.1:{four}/", "name or password|not a host"),
        ("http://127.0.0.1 :{four}/", "not a host"),
        ("http://１２７.0.0.1:{four}/", "not a host"),
        ("file:///etc/hostname", "not an http"),
        ("ftp://pictures.example/", "not an http"),
        ("", "redirects to nowhere"),
    ],
)
def test_a_redirect_inside_is_refused(location: str, reason: str, private: list[Loopback]) -> None:
    before = [server.connections for server in private]
    to = location.replace("{four}", str(private[0].port)).replace("{six}", str(private[1].port))
    to = to.encode().decode("latin-1")  # the bytes on the line
    for steps in (["/1", to], [to]):  # at once, and behind a harmless one
        with loopback(chain(*steps)) as server:
            internet = Internet(names=dict(NAMES))
            internet.put("pictures.example", server)
            with pytest.raises(InputError, match=reason):
                fetch_image("http://pictures.example/0", QUICK, internet.network(ports=ANY_PORT))
            assert set(internet.dialled) == {(PUBLIC, 80)}
    assert [server.connections for server in private] == before


def test_a_port_is_checked_behind_a_redirect() -> None:
    with pytest.raises(InputError, match="port 22 is not one of the web's"):
        fetched_from(redirect("http://pictures.example:22/"))


@pytest.mark.parametrize(
    "status", ["300 Many", "304 Not Modified", "204 Nothing", "206 Part", "404 Not Found", "500 X"]
)
def test_a_reply_without_a_picture_is_told(status: str) -> None:
    with pytest.raises(InputError, match=f"pictures.example has no picture there .status {status[:3]}"):
        fetched_from(reply(PICTURE, "Location: /a.png", status=status))


def drip(data: bytes) -> Iterable[bytes]:
    """A byte every so often: four seconds and more in all, and every byte comes soon behind the one before."""
    for k in range(len(data)):
        yield data[k : k + 1]
        time.sleep(max(0.02, 4 / len(data)))


CHUNKED = b"HTTP/1.1 200 OK\r\nContent-Type: image/png\r\nTransfer-Encoding: chunked\r\n\r\n"


@pytest.mark.parametrize(
    "pieces",
    [
        lambda head: drip(reply(PICTURE)),
        lambda head: [reply(PICTURE)[: -len(PICTURE)], *drip(PICTURE)],
        lambda head: itertools.chain([reply(PICTURE)[: -len(PICTURE)]], drip(PICTURE)),
        lambda head: itertools.chain([CHUNKED], drip(b"%x\r\n%s\r\n0\r\n\r\n" % (len(PICTURE), PICTURE))),
        lambda head: itertools.chain(
            [CHUNKED + b"%x\r\n%s\r\n0\r\n" % (len(PICTURE), PICTURE)], drip(b"a: b\r\n" * 40)
        ),
        lambda head: drip(b"HTTP/1.1 100 Continue\r\n\r\n" * 20 + reply(PICTURE)),
        lambda head: [b"" if time.sleep(4) else reply(PICTURE)],
    ],
    ids=["all", "late body", "body", "chunk", "trailer", "continue", "silence"],
)
def test_a_server_that_drips_is_left(pieces: Callable[[str], Iterable[bytes]]) -> None:
    """Who waited for it would have the picture in the end."""
    with pytest.raises(InputError, match=r"pictures.example did not send the picture in time"):
        fetched_from(pieces, Limits(seconds=0.5))


def test_a_name_server_that_says_nothing_is_left() -> None:
    go_on, ended = threading.Event(), threading.Event()

    def resolve(host: str, port: int) -> list[str]:
        go_on.wait(20)
        ended.set()
        return [PUBLIC]

    with pytest.raises(InputError, match=r"pictures.example did not send the picture in time"):
        fetch_image("http://pictures.example/", Limits(seconds=0.3), Network(resolve=resolve, dial=Internet().dial))
    assert not ended.is_set()
    go_on.set()


def test_redirects_share_one_deadline() -> None:
    def answer(head: str) -> Iterable[bytes]:
        time.sleep(0.4)
        return chain("/1", "/2", "/3")(head)

    with loopback(answer) as server:
        internet = Internet()
        internet.put("pictures.example", server)
        with pytest.raises(InputError, match="in time"):
            fetch_image("http://pictures.example/0", Limits(seconds=1.0), internet.network())
        assert fetch_image("http://pictures.example/0", Limits(seconds=30.0), internet.network()) == PICTURE


def endless(start: bytes, piece: bytes) -> Callable[[str], Iterable[bytes]]:
    """Until the caller is gone; far beyond every limit there is an end, for one who stays."""
    return lambda head: itertools.chain([start], itertools.repeat(piece, 3000))


PIECE = b"x" * 10_000
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: image/png\r\n"


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (endless(HEAD + b"\r\n", PIECE), "larger than 0.1 MB"),
        (endless(CHUNKED, b"2710\r\n" + PIECE + b"\r\n"), "larger than 0.1 MB"),
        (
            endless(HEAD + b"Content-Length: 5\r\nContent-Length: 7\r\nTransfer-Encoding: chunked\r\n\r\n", PIECE),
            "failed",
        ),
        (reply(PIECE * 11), "larger than 0.1 MB"),
        (HEAD + b"Content-Length: 999999999999999999\r\n\r\n" + PICTURE, "larger than 0.1 MB"),
        (HEAD + b"Content-Length: 99999\r\n\r\n" + PICTURE, "less than it announced"),
        (HEAD + b"Content-Length: -5\r\n\r\n" + PIECE * 11, "larger than 0.1 MB"),
        (CHUNKED + b"ffffffffffffffff\r\n" + PICTURE, "failed"),
        (CHUNKED + b"-5\r\n" + PICTURE, "failed"),
        (CHUNKED + b"x\r\n" + PICTURE, "failed"),
        (CHUNKED + b"400\r\n" + PICTURE, "failed"),
        (endless(CHUNKED + b"1\r\nx\r\n0\r\n", b"a: b\r\n" * 100), "than a picture of the allowed"),
        (endless(HEAD, b"X-Long: " + b"y" * 1000 + b"\r\n"), "than a picture of the allowed"),
        (endless(HEAD, b"X: y\r\n"), "failed"),  # more than a hundred
        (endless(HEAD + b"X-Long: ", PIECE), "than a picture of the allowed|failed"),
        (endless(b"", b"HTTP/1.1 100 Continue\r\n\r\n" * 50), "than a picture of the allowed"),
        (endless(b"", PIECE), "than a picture of the allowed|failed"),
        (reply(gzip.compress(b"\0" * 50_000_000), "Content-Encoding: gzip"), "compressed .'gzip'"),
        (reply(PICTURE, "Content-Encoding: identity", "Content-Encoding: br"), "compressed .'br'"),
        (HEAD + b"Transfer-Encoding: gzip, chunked\r\n\r\n", "compressed"),
        (reply(b"<html>", kind="text/html; charset=utf-8"), "'text/html', not a picture"),
        (reply(b"{}", kind="application/json"), "not a picture"),
        (b"HTTP/1.1 200 OK\r\n\r\n" + PICTURE, "not a picture"),
        (b"SSH-2.0-OpenSSH_9.6\r\n", "failed"),
        (b"220 mail.example ESMTP\r\n", "failed"),
        (b"", "failed"),
        (PICTURE, "failed"),
    ],
)
def test_a_reply_that_is_no_plain_picture_is_refused(
    answer: Callable[[str], Iterable[bytes]] | bytes, reason: str
) -> None:
    with pytest.raises(InputError, match=f"pictures.example.*{reason}"):
        fetched_from(answer, Limits(bytes=100_000, seconds=10))


@pytest.mark.parametrize(
    "answer",
    [
        reply(PICTURE, "Content-Encoding: identity"),
        reply(PICTURE, kind="application/octet-stream"),
        reply(PICTURE, kind="binary/octet-stream"),
        HEAD + b"\r\n" + PICTURE,
        CHUNKED
        + b"5;a=b\r\n"
        + PICTURE[:5]
        + b"\r\n%x\r\n" % (len(PICTURE) - 5)
        + PICTURE[5:]
        + b"\r\n0\r\nx: y\r\n\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\n" + reply(PICTURE),
        reply(PICTURE) + b"more than was announced",
        reply(b"z" * 100_000),
    ],
    ids=["identity", "octets", "s3", "no length", "chunks", "continue", "more", "limit"],
)
def test_replies_of_every_honest_kind_are_read(answer: bytes) -> None:
    assert fetched_from(answer) in (PICTURE, b"z" * 100_000)


def test_what_is_said_to_be_a_picture_is_still_looked_at() -> None:
    with pytest.raises(InputError, match="not a picture of"):
        check_image(fetched_from(reply(b"<html><script>alert(1)</script>")), "pictures.example")
    with pytest.raises(InputError, match="cannot be decoded"):
        check_image(fetched_from(HEAD + b"Content-Length: 50\r\n\r\n" + PICTURE), "pictures.example")


def tls_network(server: Loopback, *names: str) -> Internet:
    internet = Internet()
    for name in names:
        internet.put(name, server, port=443)
    return internet


def client() -> ssl.SSLContext:
    """Trusts the certificate of pictures.example, and no other."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(PEM)
    return context


def test_tls_asks_for_the_name_of_the_url() -> None:
    """Not for the address that is connected to; a certificate of another name, or of nobody, is refused."""
    asked = []
    server_side = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server_side.load_cert_chain(PEM)
    server_side.sni_callback = lambda sock, name, context: asked.append(name)
    with loopback(reply(PICTURE), tls=server_side) as server:
        internet = tls_network(server, "pictures.example", "other.example")
        network = internet.network(trust=client)
        assert fetch_image("https://pictures.example/a.png", QUICK, network) == PICTURE
        assert asked == ["pictures.example"] and internet.dialled == [(PUBLIC, 443)]
        assert "Host: pictures.example\r\n" in server.heads[0]
        for url, trust in (("https://other.example/", client), ("https://pictures.example/", fetch.make_tls_context)):
            with pytest.raises(InputError, match=r"(other|pictures).example has no valid certificate"):
                fetch_image(url, QUICK, internet.network(trust=trust))
        assert len(server.heads) == 1
        with pytest.raises(InputError, match=f"{PUBLIC} has no valid certificate"):
            fetch_image(f"https://{PUBLIC}/", QUICK, network)


def test_https_does_not_become_http() -> None:
    server_side = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server_side.load_cert_chain(PEM)
    with loopback(redirect("http://pictures.example/a.png"), tls=server_side) as server:
        internet = tls_network(server, "pictures.example")
        with pytest.raises(InputError, match=r"pictures.example redirects from https to http, to pictures.example"):
            fetch_image("https://pictures.example/", QUICK, internet.network(trust=client))
        assert internet.dialled == [(PUBLIC, 443)]


def test_http_may_become_https() -> None:
    server_side = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server_side.load_cert_chain(PEM)
    with (
        loopback(reply(PICTURE), tls=server_side) as safe,
        loopback(redirect("https://pictures.example/a")) as plain,
    ):
        internet = tls_network(safe, "pictures.example")
        internet.put("pictures.example", plain)
        assert fetch_image("http://pictures.example/", QUICK, internet.network(trust=client)) == PICTURE


@pytest.mark.parametrize("answer", [lambda head: [], b"HTTP/1.1 200 OK\r\n\r\n"], ids=["silent", "no tls"])
def test_a_server_without_tls_is_left(answer: Callable[[str], Iterable[bytes]] | bytes) -> None:
    with loopback(answer) as server, pytest.raises(InputError, match=r"pictures.example (did|has)|to pictures.example"):
        internet = tls_network(server, "pictures.example")
        fetch_image("https://pictures.example/", Limits(seconds=0.5), internet.network(trust=client))


def test_the_parts_of_a_url() -> None:
    target = parse_url("https://Example.ORG:443/a/../b%2Fc?x=%41&y#z")
    assert (target.scheme, target.host, target.port, target.path) == (
        "https",
        "example.org",
        443,
        "/a/../b%2Fc?x=%41&y",
    )
    assert target.url == "https://example.org/a/../b%2Fc?x=%41&y" and target.tls
    assert parse_url("http://example.org?q").path == "/?q"
    assert parse_url("http://example.org:443/").authority == "example.org:443"
