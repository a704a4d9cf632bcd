"""Fetching of a table's pictures by their URLs: several at once, each once, kept with the URL that it came from."""

from __future__ import annotations

import hashlib
import logging
import threading
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlsplit

from halp_probe.errors import InputError
from halp_probe.json_files import read_json, write_json
from halp_probe.plain_text import shorten
from halp_probe.tables.picture_folder import PictureFolder
from halp_probe.tables.pictures import PictureError
from halp_probe.web.fetch import FORMATS, fetch_image

_URLS = "urls"  # the folder, in that of the pictures, with a file for each URL
_AT_ONCE = 8
_MOST_FAILURES = 5  # of one host, one after the other; then it is not asked again in this run
_log = logging.getLogger(__name__)


def fetch_pictures(
    urls: Sequence[str], folder: PictureFolder, fetch: Callable[[str], bytes] = fetch_image
) -> Mapping[str, str | InputError]:
    """Return for each URL the name of its picture in the folder, or why there is none.

    What an earlier run fetched is not fetched again. A URL is tried once; a host that fails too often in a row is not
    asked again. Raises InputError where the folder cannot be written.
    """
    run = _Run(folder, fetch)
    if missing := [url for url in urls if run.kept(url) is None]:
        _log.info("Fetching %d of %d images by their URLs into %s.", len(missing), len(urls), folder.path)
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        try:
            return dict(zip(urls, pool.map(run.name, urls), strict=True))
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


class _Run:
    """One run over the URLs; several threads call it."""

    def __init__(self, folder: PictureFolder, fetch: Callable[[str], bytes]) -> None:
        self._folder, self._fetch = folder, fetch
        self._failures: Counter[str] = Counter()  # host -> failures since its last picture
        self._lock = threading.Lock()

    def kept(self, url: str) -> str | None:
        """Return the name of the picture that an earlier run fetched; None if there is none."""
        record = self._record(url)
        if not record.is_file():
            return None
        name = read_json(record, "remove it, and it is fetched again").get("picture")
        return name if isinstance(name, str) and self._folder.adopt(name) else None

    def name(self, url: str) -> str | InputError:
        """Return the picture's name, or why there is none."""
        if (name := self.kept(url)) is not None:
            return name
        host = urlsplit(url).netloc.lower()
        with self._lock:
            if self._failures[host] >= _MOST_FAILURES:
                return InputError(f"{host} failed {_MOST_FAILURES} times in a row, and is not asked again in this run")
        try:
            data = self._fetch(url)
        except InputError as error:
            with self._lock:
                self._failures[host] += 1
            return InputError(f"its image {shorten(url, 200)} cannot be fetched: {error}")
        with self._lock:
            self._failures[host] = 0
            try:
                name = self._folder.keep(data, FORMATS)
            except PictureError as error:
                return InputError(f"its image {shorten(url, 200)} cannot be used: {error}")
        write_json(self._record(url), {"url": url, "picture": name})
        return name

    def _record(self, url: str) -> Path:
        return self._folder.path / _URLS / f"{hashlib.sha256(url.encode(errors='replace')).hexdigest()}.json"
