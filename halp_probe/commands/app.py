"""`halp-probe app`: a page in the browser on which a VLM answers questions; its risk of being wrong is shown first."""

from __future__ import annotations

import argparse
import errno
import ipaddress
import socket
from pathlib import Path

from halp_probe.app.settings import Choice, PageSettings
from halp_probe.commands.arguments import positive
from halp_probe.commands.model_flags import add_model_arguments, model_options
from halp_probe.errors import InputError
from halp_probe.models.naming import BUNDLED

PAGE = Path(__file__).parents[1] / "app" / "page.py"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the flags of `app`."""
    add = parser.add_argument
    add_model_arguments(parser, default=BUNDLED)
    add("--probe", help="a saved probe or a folder of them (the bundled model's own; for another model: no probe)")
    add("--port", type=positive, default=8501, help="where the page is served (%(default)s)")
    add("--host", default="127.0.0.1", help="address to serve it on; any but this machine's own lets other people in")


def run(args: argparse.Namespace) -> int:
    """Serve the page until it is interrupted; exit status 0. Raises InputError when it cannot be served."""
    try:
        from streamlit.web import bootstrap
    except ImportError as error:
        raise InputError("the page needs Streamlit: pip install 'halp_probe[app]'") from error
    check_free(args.host, args.port)
    open_to_all = not is_loopback(args.host)
    settings = PageSettings(Choice.of(model_options(args), args.probe), open_to_all)
    if open_to_all:
        print(f"note: whoever reaches {args.host}:{args.port} can ask the model; there is no password")
    options = server_options(args.host, args.port, open_to_all)
    bootstrap.load_config_options(options)
    bootstrap.run(str(PAGE), False, [settings.as_argument()], options)
    return 0


def server_options(host: str, port: int, open_to_all: bool) -> dict[str, object]:
    """Return Streamlit's settings; they take precedence over its configuration files."""
    from halp_probe.web.fetch import MAX_BYTES

    return {
        "server.address": host,
        "server.port": port,
        "server.headless": True,  # it opens no browser and asks no questions
        "server.allowedHosts": [] if open_to_all else [host, "localhost"],  # no other name may lead here
        "server.enableCORS": True,
        "server.enableXsrfProtection": True,
        "server.fileWatcherType": "none",
        "server.maxUploadSize": MAX_BYTES // 1_000_000,
        "browser.gatherUsageStats": False,
        "client.showErrorDetails": "none",
        "client.toolbarMode": "minimal",
        "runner.fastReruns": False,  # a session's scripts run one after the other: they share its conversation
        "runner.magicEnabled": False,
    }


def is_loopback(host: str) -> bool:
    """Return whether the address can be reached from this machine only."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def check_free(host: str, port: int) -> None:
    """Raise InputError when the port is taken or the address cannot be served on."""
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except (socket.gaierror, OverflowError, UnicodeError) as error:
        raise InputError(f"--host {host} --port {port}: no such address ({error})") from error
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise InputError(f"port {port} of {host} is taken; pass another --port") from error
        raise InputError(f"--host {host} --port {port} cannot be served on: {error.strerror}") from error
