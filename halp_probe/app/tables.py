"""Tables of the page as HTML: whatever a cell holds is shown as it is, and a wide table scrolls by itself."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from markupsafe import Markup, escape


def table(columns: Sequence[str], rows: Iterable[Sequence[str | Markup]], caption: str = "") -> str:
    """HTML of a table; Markup goes in as it is, with a `<td>` of its own where it begins with one, all else as text."""
    head = Markup().join(Markup('<th scope="col">{}</th>').format(column) for column in columns)
    body = Markup().join(Markup("<tr>{}</tr>").format(Markup().join(map(_cell, row))) for row in rows)
    told = Markup("<caption>{}</caption>").format(caption) if caption else Markup()
    parts = Markup("<table>{}<thead><tr>{}</tr></thead><tbody>{}</tbody></table>").format(told, head, body)
    return str(Markup('<div class="halp-scroll" tabindex="0">{}</div>').format(parts))


def facts(pairs: Iterable[tuple[str, str]]) -> str:
    """HTML of names and what they are."""
    told = Markup().join(
        Markup("<div><dt>{}</dt><dd>{}</dd></div>").format(name, value) for name, value in pairs if value
    )
    return str(Markup('<dl class="halp-facts">{}</dl>').format(told))


def _cell(content: str | Markup) -> Markup:
    if isinstance(content, Markup) and content.startswith("<td"):
        return content
    return Markup("<td>{}</td>").format(escape(content))
