"""Tables of the page as HTML: cells are shown as text, and a wide table scrolls by itself."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from markupsafe import Markup, escape


def table(columns: Sequence[str], rows: Iterable[Sequence[str | Markup]], caption: str = "") -> str:
    """Return HTML of a table.

    Markup is inserted as it is, with its own `<td>` where it begins with one; all else is escaped.
    """
    head = Markup().join(Markup('<th scope="col">{}</th>').format(column) for column in columns)
    body = Markup().join(Markup("<tr>{}</tr>").format(Markup().join(map(_cell, row))) for row in rows)
    caption_html = Markup("<caption>{}</caption>").format(caption) if caption else Markup()
    parts = Markup("<table>{}<thead><tr>{}</tr></thead><tbody>{}</tbody></table>").format(caption_html, head, body)
    return str(Markup('<div class="halp-scroll" tabindex="0">{}</div>').format(parts))


def facts(pairs: Iterable[tuple[str, str]]) -> str:
    """Return HTML of names and their values."""
    items = Markup().join(
        Markup("<div><dt>{}</dt><dd>{}</dd></div>").format(name, value) for name, value in pairs if value
    )
    return str(Markup('<dl class="halp-facts">{}</dl>').format(items))


def _cell(content: str | Markup) -> Markup:
    if isinstance(content, Markup) and content.startswith("<td"):
        return content
    return Markup("<td>{}</td>").format(escape(content))
