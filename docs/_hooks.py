"""Hooks of MkDocs: pages that are made of other parts of the project, so that nothing is said twice.

The home page is the README, the pages of changes and of contributing are their files; the commands' page shows what
`--help` prints, the API page the public names. Notebooks that `make docs` has not executed are shown without outputs.
"""

from __future__ import annotations

import argparse
import os
import re
from pathlib import Path

import nbformat
import public_names
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page
from nbconvert import MarkdownExporter

from halp_probe.cli import COMMANDS, module_of

ROOT = Path(__file__).resolve().parents[1]
COPIES = {"index.md": "README.md", "changelog.md": "CHANGELOG.md", "contributing.md": "CONTRIBUTING.md"}
PUBLIC_NAMES = "<!-- the public names -->"
NOT_EXECUTED = "*Not executed where this page was built; `make docs` shows what each cell gives.*\n\n"


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that are made: copies of root files, the commands, notebooks that were not executed."""
    made = {page: for_site((ROOT / source).read_text(encoding="utf-8")) for page, source in COPIES.items()}
    made["index.md"] = "---\nhide: [navigation]\n---\n\n" + made["index.md"]
    made["commands.md"] = commands_page()
    for notebook in sorted((ROOT / "notebooks").glob("*.ipynb")):
        page = f"notebooks/{notebook.stem}.md"
        if files.get_file_from_path(page) is None:
            made[page] = NOT_EXECUTED + MarkdownExporter().from_notebook_node(nbformat.read(notebook, as_version=4))[0]
    for page, content in made.items():
        files.append(File.generated(config, page, content=content))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Put the public names into the API page."""
    if PUBLIC_NAMES not in markdown:
        return markdown
    return markdown.replace(PUBLIC_NAMES, public_names.markdown())


def for_site(markdown: str) -> str:
    """A page of the project's root with the links that it needs among the pages of the site."""
    markdown = re.sub(r"\]\(docs/", "](", markdown)
    markdown = markdown.replace("](CONTRIBUTING.md)", "](contributing.md)").replace(
        "](CHANGELOG.md)", "](changelog.md)"
    )
    markdown = markdown.replace("[CITATION.cff](CITATION.cff)", "`CITATION.cff`")
    return markdown.replace("](notebooks/)", "](notebooks/01_extract_and_inspect.md)")


def commands_page() -> str:
    """All commands with their flags, as `--help` prints them."""
    os.environ["COLUMNS"] = "90"  # argparse wraps at the terminal's width
    parts = [
        "# Commands\n\nWhat `halp-probe COMMAND --help` prints, and the scripts `extract.py`, `train_probes.py` and "
        "`inspect_h5.py` for `extract`, `train-probes` and `inspect`.\n"
    ]
    for name, summary in sorted(COMMANDS.items()):
        parser = argparse.ArgumentParser(prog=f"halp-probe {name}", allow_abbrev=False)
        module_of(name).add_arguments(parser)
        parts.append(f"## {name}\n\n{summary[0].upper()}{summary[1:]}:\n\n```text\n{parser.format_help()}```\n")
    return "\n".join(parts)
