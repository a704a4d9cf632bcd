"""README, CONTRIBUTING and the pages of docs/ tell the truth about files, links, commands and flags."""

from __future__ import annotations

import argparse
import re
import shlex
import sys
from pathlib import Path

import pytest

from halp_probe.cli import COMMANDS, module_of

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "docs"))
import code_map  # noqa: E402

README = ROOT / "README.md"
PAGES = [README, ROOT / "CONTRIBUTING.md", *sorted(path for path in (ROOT / "docs").rglob("*.md"))]
PAGES = [page for page in PAGES if page.parent.name != "notebooks"]  # made by `make docs`
SCRIPTS = {"extract.py": "extract", "train_probes.py": "train-probes", "inspect_h5.py": "inspect"}
MADE = {"commands.md", "contributing.md", "changelog.md", "index.md"}  # by docs/_hooks.py, for the site
FENCE = re.compile(r"^( *)```(\w*)\n(.*?)^\1```$", re.MULTILINE | re.DOTALL)


def of_page(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def prose(page: Path) -> str:
    return FENCE.sub("", page.read_text(encoding="utf-8"))


def anchors(page: Path) -> set[str]:
    """Those of its headings, as MkDocs and GitHub both make them of plain words."""
    headings = re.findall(r"^#+ (.*)$", prose(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}


def test_the_readme_is_short():
    assert README.stat().st_size <= 10 * 1024


@pytest.mark.parametrize("page", PAGES, ids=of_page)
def test_relative_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)\s]+)\)", prose(page)):
        if re.match(r"[a-z]+:", target):
            continue
        name, _, anchor = target.partition("#")
        path = (page.parent / name).resolve() if name else page
        inside = path.relative_to(ROOT)  # raises for a link that leaves the project
        if inside.parts[:1] == ("docs",) and (inside.name in MADE or inside.parts[1] == "notebooks"):
            made = inside.name in MADE or (ROOT / "notebooks" / f"{inside.stem}.ipynb").exists()
            assert made, f"{target} is made of nothing"
            continue
        assert path.exists(), f"{target} is not there"
        if anchor:
            assert anchor in anchors(path), f"{target}: there is no such heading"


def commands(page: Path) -> list[list[str]]:
    """Every `halp-probe …` and script of ours in the page's bash blocks, as words, the command's name first."""
    found = []
    for _, language, block in FENCE.findall(page.read_text(encoding="utf-8")):
        if language != "bash":
            continue
        for line in block.replace("\\\n", " ").splitlines():
            words = shlex.split(line, comments=True)
            for part in " \0 ".join(words).split(" \0 && \0 "):
                split = part.split(" \0 ")
                if split[0] == "halp-probe":
                    found.append(split[1:])
                elif split[0] == "python" and split[1] in SCRIPTS:
                    found.append([SCRIPTS[split[1]], *split[2:]])
    return found


def parser_of(name: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(allow_abbrev=False, exit_on_error=False)
    module_of(name).add_arguments(parser)
    return parser


@pytest.mark.parametrize("page", PAGES, ids=of_page)
def test_commands_in_blocks_are_ones(page):
    """They parse as they stand. The scripts of slurm.md are run by tests of their own."""
    if page.name == "slurm.md":
        return
    for name, *arguments in commands(page):
        parser_of(name).parse_args(arguments)


@pytest.mark.parametrize("page", PAGES, ids=of_page)
def test_commands_in_a_line_have_the_flags_that_are_named(page):
    for span in re.findall(r"`([^`]+)`", prose(page)):
        words = span.split()
        if words[:1] == ["python"]:
            words = words[1:]
        if len(words) < 2 or not (words[0] == "halp-probe" or words[0] in SCRIPTS):
            continue
        name, rest = (words[1], words[2:]) if words[0] == "halp-probe" else (SCRIPTS[words[0]], words[1:])
        if not name[0].isalnum() or name.isupper():  # a place for one
            continue
        assert name in COMMANDS, f"{span}: there is no such command"
        known = parser_of(name)._option_string_actions
        for flag in (word.strip("[]").split("=")[0] for word in rest if word.strip("[").startswith("--")):
            assert flag in known, f"{span}: {name} has no {flag}"


def test_a_flag_that_is_none_would_be_found(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("```bash\nhalp-probe label --shards output \\\n    --out labels.csv --no-such-flag\n```\n")
    (name, *arguments) = commands(page)[0]
    with pytest.raises(SystemExit):
        parser_of(name).parse_args(arguments)


def test_paths_that_pages_name_are_there():
    missing = {
        f"{of_page(page)}: {path}"
        for page in PAGES
        for path in re.findall(r"`((?:halp_probe|tests|benchmarks|docs|notebooks)/[\w./]*)`", prose(page))
        if not (ROOT / path).exists()
    }
    assert missing == set()


def test_the_readme_names_every_package():
    tree = next(block for _, language, block in FENCE.findall(README.read_text()) if "benchmarks/" in block)
    inside = tree[tree.index("halp_probe/\n") : tree.index("docs/  notebooks/")]
    named = {name for line in inside.splitlines()[1:] for name in re.findall(r"(\w+)/", line[:28])}
    assert named == {path.parent.name for path in (ROOT / "halp_probe").glob("*/__init__.py")}


def test_the_code_map_is_up_to_date():
    """To write it anew: `python docs/code_map.py`."""
    assert code_map.page() == code_map.PAGE.read_text(encoding="utf-8")


def test_the_code_map_has_every_module_by_its_whole_path():
    """Read from the page alone: two modules of one name do not stand for each other."""
    named, folder = set(), ""
    for line in code_map.PAGE.read_text(encoding="utf-8").splitlines():
        if line.startswith("## "):
            folder = "" if line == "## Scripts" else line[3:]
        elif match := re.match(r"\| `([\w.]+\.py)` \| (.*) \|$", line):
            assert match[2], f"{folder}{match[1]} has no first line"
            named.add(folder + match[1])
    there = [path for top in ("halp_probe", "benchmarks") for path in (ROOT / top).rglob("*.py")]
    there = [path for path in (*ROOT.glob("*.py"), *there) if path.name != "__init__.py" or path.read_text()]
    assert named == {path.relative_to(ROOT).as_posix() for path in there}
