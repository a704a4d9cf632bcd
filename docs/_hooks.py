"""Hooks of MkDocs that generate pages from other parts of the project, so that nothing is written twice.

The home page is the README, and CHANGELOG and CONTRIBUTING become pages; the page of commands shows what `--help`
prints, the API page the public names. Notebooks that `make docs` has not executed are shown without outputs.
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
NOT_EXECUTED = "*Not executed where this page was built; `make docs` shows each cell's output.*\n\n"


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the generated pages: copies of root files, the commands, and notebooks that were not executed."""
    pages = {page: for_site((ROOT / source).read_text(encoding="utf-8")) for page, source in COPIES.items()}
    pages["index.md"] = "---\nhide: [navigation]\n---\n\n" + pages["index.md"]
    pages["commands.md"] = commands_page()
    for notebook in sorted((ROOT / "notebooks").glob("*.ipynb")):
        page = f"notebooks/{notebook.stem}.md"
        if files.get_file_from_path(page) is None:
            pages[page] = NOT_EXECUTED + MarkdownExporter().from_notebook_node(nbformat.read(notebook, as_version=4))[0]
    for page, content in pages.items():
        files.append(File.generated(config, page, content=content))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Put the public names into the API page."""
    if PUBLIC_NAMES not in markdown:
        return markdown
    return markdown.replace(PUBLIC_NAMES, public_names.markdown())


def for_site(markdown: str) -> str:
    """Return a page of the project's root with its links changed to the site's pages."""
    markdown = re.sub(r"\]\(docs/", "](", markdown)
    markdown = markdown.replace("](CONTRIBUTING.md)", "](contributing.md)").replace(
        "](CHANGELOG.md)", "](changelog.md)"
    )
    markdown = markdown.replace("[CITATION.cff](CITATION.cff)", "`CITATION.cff`")
    return markdown.replace("](notebooks/)", "](notebooks/01_extract_and_inspect.md)")


def commands_page() -> str:
    """Return the page of all commands with their flags, as `--help` prints them."""
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
