"""Figures of our own in matplotlib, as SVG text or as PNG bytes; the user's are left alone. Sizes in inches.

The same calls give the same bytes, whatever style a notebook has chosen and whatever other threads draw.
"""

from __future__ import annotations

import io
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from xml.dom import Node, minidom

from markupsafe import Markup
from matplotlib import style
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

# What neither XML nor a UTF-8 file can hold.
UNPRINTABLE = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")

UNIT = 1 / 72  # inches: of an SVG
_MEASURED = "DejaVu Sans"  # comes with matplotlib, so that places do not depend on the machine's fonts …
_SHOWN = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif"  # … which show the text
_QUOTED = f"'{_MEASURED}'"
_STYLE = {"font.family": [_MEASURED], "svg.fonttype": "none", "svg.hashsalt": "halp_probe"}
_METADATA = dict.fromkeys(("Creator", "Date", "Format", "Type"))
_LOCK = threading.RLock()  # matplotlib's style is one for all threads
_NUMBERED = re.compile(r"[A-Za-z0-9.]+_\d+")  # names that matplotlib gives by itself, such as line2d_1
_REFERENCE = re.compile(r"url\(#([^)]+)\)|^#(.+)")


@contextmanager
def new_figure(width: float, height: float, background: str = "none") -> Iterator[Figure]:
    """Yield a figure to draw and write inside the block, where matplotlib's own defaults hold.

    The user's style, backend and pyplot figures stay as they are; one thread at a time is let in.
    """
    with _LOCK, style.context(["default", _STYLE]):
        figure = Figure(figsize=(width, height), dpi=1 / UNIT, facecolor=background)
        figure.patch.set_visible(background != "none")
        FigureCanvasAgg(figure)  # replaced by the SVG one where that is written; no pyplot
        yield figure


def png(figure: Figure, dpi: int = 150) -> bytes:
    """Return the picture's file, inside the block of `new_figure`."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=dpi)
    return buffer.getvalue()


def svg(figure: Figure, label: str | None, css_class: str = "") -> Markup:
    """Return an <svg> element for a page or a file, inside the block of `new_figure`; a unit is 1/72 inch.

    `label` describes the picture to readers who cannot see it; None if it only repeats the text beside it. An
    artist's gid becomes the class of its group. There are no ids unless something is repeated or clipped, no style
    sheet that would reach the page around it, and no width: the picture is as wide as its place.
    """
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", metadata=_METADATA)
    root = minidom.parseString(UNPRINTABLE.sub("\N{REPLACEMENT CHARACTER}", buffer.getvalue())).documentElement
    assert root is not None
    references = {name for element in root.getElementsByTagName("*") for name in _references(element)}
    _tidy(root, references)
    for name in ("width", "height", "version", *(() if references else ("xmlns:xlink",))):
        root.removeAttribute(name)
    root.setAttribute("stroke-linejoin", "round")  # set by the style sheet that was removed
    if css_class:
        root.setAttribute("class", css_class)
    if label is None:
        root.setAttribute("aria-hidden", "true")
    else:
        root.setAttribute("role", "img")
        root.setAttribute("aria-label", label)
    return Markup(root.toxml())


def svg_file(picture: Markup) -> bytes:
    """Return a file that holds the <svg> element alone."""
    return b'<?xml version="1.0" encoding="utf-8"?>\n' + picture.encode() + b"\n"


def _references(element: minidom.Element) -> list[str]:
    values = [element.getAttribute(name) for name in ("clip-path", "xlink:href", "style")]
    return [name for value in values for names in _REFERENCE.findall(value) for name in names if name]


def _tidy(parent: minidom.Element, references: set[str]) -> None:
    """Remove what has no effect: line breaks, comments, the style sheet, ids, groups without a name."""
    for node in list(parent.childNodes):
        if not isinstance(node, minidom.Element):
            if node.nodeType == Node.COMMENT_NODE or (parent.tagName != "text" and not str(node.nodeValue).strip()):
                parent.removeChild(node)
            continue
        if node.tagName == "style":
            parent.removeChild(node)
            continue
        _name(node, references)
        _tidy(node, references)
        bare = node.tagName == "g" and not node.hasAttributes()
        if bare or (node.tagName == "defs" and not node.childNodes):
            for child in list(node.childNodes):
                parent.insertBefore(child, node)
            parent.removeChild(node)


def _name(element: minidom.Element, references: set[str]) -> None:
    name = element.getAttribute("id")
    if name and name not in references:
        element.removeAttribute("id")
        if not _NUMBERED.fullmatch(name):
            element.setAttribute("class", name)
    if element.tagName == "text":
        element.setAttribute("style", element.getAttribute("style").replace(_QUOTED, _SHOWN))
        if element.getAttribute("transform").startswith("rotate(-0 "):
            element.removeAttribute("transform")
    if element.tagName == "path" and not element.getAttribute("id"):
        element.setAttribute("d", " ".join(element.getAttribute("d").split()))
