"""`mkdocs build --strict` makes the whole site, without a warning, and nothing of it comes from another host."""

from __future__ import annotations

import inspect
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import halp_probe
from halp_probe.cli import COMMANDS

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[1]
LOADED = re.compile(
    r"""<(?:script|img|iframe|source|video|audio|embed)\b[^>]*\bsrc=["']?(?:https?:)?//[^"'> ]+"""
    r"""|<link\b(?=[^>]*\brel=["']?(?:stylesheet|preload|preconnect|prefetch|icon))"""
    r"""[^>]*\bhref=["']?(?:https?:)?//[^"'> ]+"""
    r"""|(?:@import|url\()\s*["']?(?:https?:)?//[^"') ]+""",
    re.IGNORECASE,
)


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("docs") / "site"
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)]
    environment = os.environ | {"NO_MKDOCS_2_WARNING": "1", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0 and "WARNING" not in done.stderr, done.stderr
    return folder


def test_every_page_of_the_navigation_is_there(site):
    pages = re.findall(r": ([\w/.-]+)\.md$", (ROOT / "mkdocs.yml").read_text(), re.MULTILINE)
    assert len(pages) > 20
    assert [page for page in pages if not (site / f"{page}.html").exists()] == []


def test_nothing_is_loaded_from_another_host(site):
    found = {
        (path.relative_to(site).as_posix(), match)
        for path in site.rglob("*")
        if path.suffix in (".html", ".css")
        for match in LOADED.findall(path.read_text(encoding="utf-8"))
    }
    assert found == set()


def test_what_would_be_loaded_is_found():
    assert LOADED.search('<script async src="https://cdn.example/x.js"></script>')
    assert LOADED.search('<link href="//fonts.example/css" rel="stylesheet">')
    assert LOADED.search("@import url(https://fonts.example/css)")
    assert not LOADED.search('<a href="https://arxiv.org/abs/2603.05465">')


def test_the_api_page_has_a_line_and_a_section_for_every_public_name(site):
    page = (site / "api.html").read_text(encoding="utf-8")
    names = [name for name in halp_probe.__all__ if not name.startswith("_")]
    assert names
    for name in names:
        assert f'href="#halp_probe.{name}"><code>{name}</code>' in page, f"{name} has no line in the table"
        section = page.split(f'<h2 id="halp_probe.{name}"')[1].split("<h2")[0]
        assert "&gt;&gt;&gt;" in section, f"{name} has no example"
        assert "Raises" in section or inspect.isclass(getattr(halp_probe, name)), f"{name} says of no error"


def test_the_table_has_no_other_names(site):
    table = (site / "api.html").read_text(encoding="utf-8").split("<h2")[0]
    listed = re.findall(r'<td><a [^>]*href="#halp_probe\.(\w+)"', table)
    assert sorted(listed) == sorted(name for name in halp_probe.__all__ if not name.startswith("_"))


def test_the_commands_page_has_every_command_with_its_flags(site):
    page = (site / "commands.html").read_text(encoding="utf-8")
    assert [name for name in COMMANDS if f'id="{name}"' not in page] == []
    assert "--max-error" in page.split('id="set-threshold"')[1].split("<h2")[0]
