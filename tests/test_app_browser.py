"""The page in a real browser, from a real server on loopback, with the bundled model."""

from __future__ import annotations

import csv
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pytest
from PIL import Image

from halp_probe import cli

pytest.importorskip("streamlit")
playwright = pytest.importorskip("playwright.sync_api")

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Locator, Page

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = [pytest.mark.slow, pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed")]
QUIET = "--no-sandbox --disable-gpu --disable-background-networking --disable-component-update --disable-sync"
TESTS = Path(__file__).parent
FIRST, SECOND = "What shape is the orange one?", "How many circles are there?"
PATIENCE = 60_000  # milliseconds


@dataclass(frozen=True)
class Server:
    address: str
    gate: Path  # while a file `closed` lies there, no answer begins

    def close(self) -> None:
        (self.gate / "closed").touch()

    def open(self) -> None:
        (self.gate / "closed").unlink(missing_ok=True)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def started(folder: Path, *arguments: str) -> tuple[subprocess.Popen[bytes], str]:
    """A server that answers, and its address."""
    port = free_port()
    command = [sys.executable, str(TESTS / "app_server.py"), str(folder), "--port", str(port), *arguments]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(TESTS.parent), str(TESTS)])}
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, cwd=folder, env=environment)
    address = f"http://127.0.0.1:{port}"
    for _ in range(600):
        try:
            urllib.request.urlopen(f"{address}/_stcore/health", timeout=5).close()
            return process, address
        except OSError:
            assert process.poll() is None, (folder / "log").read_text()
            time.sleep(0.1)
    raise AssertionError((folder / "log").read_text())


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("server")
    process, address = started(folder)
    yield Server(address, folder)
    process.send_signal(signal.SIGINT)
    assert process.wait(60) in (0, 130)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with playwright.sync_playwright() as play:
        opened = play.chromium.launch(executable_path=CHROMIUM, args=[*QUIET.split(), "--no-first-run"])
        yield opened
        opened.close()


@pytest.fixture
def page(server: Server, browser: Browser) -> Iterator[Page]:
    """A visitor's own page; whatever it asked for must have been asked of the server."""
    server.open()
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    context.set_default_timeout(PATIENCE)
    page = context.new_page()
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.goto(server.address)
    page.get_by_test_id("stChatInputTextArea").wait_for()
    yield page
    elsewhere = [url for url in asked if urlsplit(url).scheme != "data" and urlsplit(url).hostname != "127.0.0.1"]
    assert asked and elsewhere == []
    context.close()


def ask(page: Page, question: str) -> None:
    box = page.get_by_test_id("stChatInputTextArea")
    box.fill(question)
    box.press("Enter")


def messages(page: Page) -> Locator:
    return page.get_by_test_id("stChatMessage")


def replied(page: Page, answer: str, turn: int = 0) -> None:
    """Wait until the given turn's reply holds this answer."""
    exactly = re.compile(f"^{re.escape(answer)}$")
    messages(page).nth(2 * turn + 1).locator(".halp-text").filter(has_text=exactly).wait_for()


def gone(what: Locator) -> None:
    """Wait until there is nothing of it; the page takes away what is stale when its script has ended."""
    playwright.expect(what).to_have_count(0, timeout=PATIENCE)


def never_answer(page: Page) -> None:
    thumb = page.get_by_role("slider", name=re.compile("Stay silent"))
    thumb.focus()
    thumb.press("Home")
    page.locator('[data-testid="stSliderThumbValue"]').filter(has_text=re.compile(r"^0\.0$")).wait_for()


def test_the_risk_is_seen_while_no_token_of_the_answer_is_computed(page: Page, server: Server) -> None:
    server.close()
    page.locator(".st-key-suggestions").get_by_role("button", name=FIRST).click()
    page.locator(".halp-gauge", has_text="likely to be wrong").wait_for()
    page.get_by_role("img", name=re.compile("^Risk by layer.*layer 5, end of the question")).wait_for()
    drawn = page.locator(".halp-chart img").evaluate("image => image.complete && image.naturalWidth > 0")
    assert drawn
    assert messages(page).nth(1).locator(".halp-text").count() == 0  # the answer has not begun
    server.open()
    replied(page, "square")
    reply = messages(page).nth(1).inner_text()
    assert reply.index("likely to be wrong") < reply.index("square")


def test_it_abstains_and_answers_anyway(page: Page) -> None:
    never_answer(page)
    ask(page, FIRST)
    page.get_by_text("I would rather not answer").wait_for()
    assert page.locator(".halp-text", has_text="square").count() == 0
    button = page.get_by_role("button", name="Answer anyway")
    above_the_input = """() => {
        const [button] = [...document.querySelectorAll('button')].filter(b => b.innerText === 'Answer anyway');
        const place = button.getBoundingClientRect();
        const input = document.querySelector('[data-testid=stBottom]').getBoundingClientRect();
        return place.top > 0 && place.bottom < input.top;
    }"""
    page.wait_for_function(above_the_input)
    button.click()
    replied(page, "square")
    gone(page.get_by_role("button", name="Answer anyway"))


def test_a_second_question_stands_after_the_first(page: Page) -> None:
    ask(page, SECOND)
    replied(page, "1")  # what it says to this question alone
    page.get_by_role("button", name="New conversation").click()
    page.locator(".st-key-suggestions").wait_for()
    ask(page, FIRST)
    replied(page, "square")
    assert page.get_by_text("A follow-up").count() == 0
    ask(page, SECOND)
    page.get_by_text("A follow-up").wait_for()
    replied(page, "0", turn=1)


def test_an_uploaded_picture_begins_a_conversation(page: Page, tmp_path: Path) -> None:
    ask(page, FIRST)
    replied(page, "square")
    Image.new("RGB", (300, 200), "white").save(tmp_path / "mine.png")
    page.get_by_test_id("stButtonGroup").get_by_text("Upload").click()
    page.locator("input[type=file]").set_input_files(tmp_path / "mine.png")
    page.get_by_text("mine.png, 300 × 200 pixels").wait_for()
    gone(messages(page))
    ask(page, SECOND)
    page.locator(".halp-gauge").wait_for()
    assert page.get_by_text("A follow-up").count() == 0
    (tmp_path / "broken.png").write_bytes(b"<html>no picture</html>")
    page.locator("input[type=file]").set_input_files(tmp_path / "broken.png")
    page.get_by_role("alert").filter(has_text="broken.png").wait_for()
    assert page.get_by_text("mine.png, 300 × 200 pixels").count() == 1


def test_a_link_to_this_machine_is_refused(page: Page) -> None:
    page.get_by_test_id("stButtonGroup").get_by_text("Link").click()
    page.get_by_label("Address of a picture").fill(f"http://127.0.0.1:{free_port()}/picture.png")
    page.get_by_role("button", name="Fetch").click()
    page.get_by_role("alert").filter(has_text="127.0.0.1").wait_for()
    assert page.get_by_text("scene 113").count() == 1  # the picture before stays


def test_a_reload_keeps_nothing_and_others_see_nothing(page: Page, browser: Browser, server: Server) -> None:
    ask(page, FIRST)
    replied(page, "square")
    page.get_by_role("button", name="Download history").wait_for()
    page.reload()
    page.locator(".st-key-suggestions").wait_for()
    gone(messages(page))
    gone(page.get_by_role("button", name="Download history"))
    assert page.evaluate("Object.values(localStorage).concat(Object.values(sessionStorage)).join()").count(FIRST) == 0
    other = browser.new_page()
    other.goto(server.address)
    other.locator(".st-key-suggestions").wait_for(timeout=PATIENCE)
    gone(messages(other))
    other.close()


def test_the_history_is_downloaded(page: Page, tmp_path: Path) -> None:
    ask(page, "=1+1 circles?")
    page.get_by_role("button", name="Download history").wait_for()
    with page.expect_download() as download:
        page.get_by_role("button", name="Download history").click()
    download.value.save_as(tmp_path / "history.csv")
    with (tmp_path / "history.csv").open(encoding="utf-8-sig", newline="") as file:
        (row,) = csv.DictReader(file)
    assert row["question"] == "'=1+1 circles?" and row["model"] == "shapes"
    assert 0 <= float(row["risk"]) <= 1 and "scene 113" in row["image"]


def test_a_phone_shows_all_without_scrolling_sideways(page: Page) -> None:
    page.set_viewport_size({"width": 390, "height": 844})
    ask(page, FIRST)
    replied(page, "square")
    page.get_by_text("History: 1 question").click()
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    sideways = """() => [...document.querySelectorAll('.stMainBlockContainer *')]
        .filter(e => e.getBoundingClientRect().right > 391 && !e.closest('.halp-scroll')).length"""
    assert page.evaluate(sideways) == 0


def test_a_taken_port_and_a_wrong_host_are_one_sentence(server: Server, capsys: pytest.CaptureFixture[str]) -> None:
    port = str(urlsplit(server.address).port)
    assert cli.main(["app", "--port", port]) == 2
    assert f"port {port} of 127.0.0.1 is taken; pass another --port" in capsys.readouterr().err
    assert cli.main(["app", "--host", "nowhere.invalid", "--port", port]) == 2
    assert "no such address" in capsys.readouterr().err
