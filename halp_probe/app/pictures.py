"""Source of the picture: an example, an upload or a link; and its display."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Iterable, Sequence

import streamlit as st
from markupsafe import Markup
from PIL import Image

from halp_probe.app import examples
from halp_probe.app.conversation import Picture, Session
from halp_probe.app.theme import alert
from halp_probe.app.uploads import check_image
from halp_probe.app.wording import plain
from halp_probe.engine.images import LoadedImage
from halp_probe.errors import InputError
from halp_probe.web.fetch import fetch_image

EXAMPLE, UPLOAD, LINK = "Example", "Upload", "Link"
_SHOWN_SIDE = 640  # pixels of the longest side as it is sent to the browser
_THUMBNAIL_SIDE = 96
_LEAST_SIDE = 224  # smaller pictures are enlarged, pixel by pixel


def choose(session: Session) -> None:
    """Let the visitor choose, and show the choice; another picture begins another conversation."""
    if session.picture is None:
        session.show(examples.example(next(iter(examples.SEEDS))))
    left, right = st.columns([2, 3], gap="medium")
    with right:
        source = st.segmented_control("Image", (EXAMPLE, UPLOAD, LINK), default=EXAMPLE, key="source", required=True)
        {EXAMPLE: _example, UPLOAD: _upload, LINK: _link}[source](session)
    if session.picture is not None:
        left.html(_html(session.picture))


def _example(session: Session) -> None:
    names = tuple(examples.SEEDS)
    # None while the visitor's own picture is shown, so that each example can be chosen
    st.session_state.example = next((name for name in names if session.picture is examples.example(name)), None)
    st.pills(
        "A drawn picture of shapes",
        names,
        required=st.session_state.example is not None,
        key="example",
        on_change=lambda: session.show(examples.example(st.session_state.example)),
        help="The harder the picture, the more often the model is wrong: pale, small and overlapping shapes, noise.",
    )


def _upload(session: Session) -> None:
    def take() -> None:
        upload = st.session_state.upload
        if upload is not None:
            _show_picture(session, lambda: Picture(image=check_image(upload.getvalue(), upload.name), name=upload.name))

    types = ["png", "jpg", "jpeg", "webp", "gif", "bmp", "tif", "tiff"]
    st.file_uploader("A picture of yours; it stays in memory", type=types, key="upload", on_change=take)
    _show_refusal()


def _link(session: Session) -> None:
    def take() -> None:
        url = st.session_state.link.strip()
        if url:
            name = url.partition("?")[0].rstrip("/").rsplit("/", 1)[-1] or url
            _show_picture(session, lambda: Picture(image=check_image(fetch_image(url), name), name=name))

    with st.form("links", border=False):
        st.text_input("Address of a picture", key="link", placeholder="https://…", max_chars=2000)
        st.form_submit_button("Fetch", on_click=take)
    _show_refusal()


def _show_picture(session: Session, get: Callable[[], Picture]) -> None:
    """Show the picture that `get` returns; on failure the page shows the reason in this run."""
    try:
        session.show(get())
    except InputError as error:
        st.session_state.refusal = str(error)


def _show_refusal() -> None:
    if refusal := st.session_state.pop("refusal", ""):
        alert(refusal)


def _html(picture: Picture) -> str:
    pixels = picture.image.pixels
    size = f"{pixels.width} × {pixels.height} pixels"
    return (
        f'<div class="halp-picture"><img alt="{plain(picture.name)}" src="{data_url(pixels)}">'
        f'<div class="halp-quiet">{plain(picture.name)}, {size}</div></div>'
    )


def thumbnails(
    question_ids: Iterable[str], get: Callable[[str], Sequence[LoadedImage]], complaints: list[str]
) -> dict[str, Markup]:
    """Return small pictures of questions by id.

    The first failure of `get` is added to `complaints`, with the number of failures.
    """
    found, missing = {}, []
    for question_id in question_ids:
        try:
            images = get(question_id)
        except InputError as error:
            missing.append(str(error))
            continue
        one = Markup('<img class="halp-thumbnail" alt="" src="{}">')
        found[question_id] = Markup().join(one.format(data_url(image.pixels, _THUMBNAIL_SIDE)) for image in images)
    if missing:
        more = f" ({len(missing)} pictures in all)" if len(missing) > 1 else ""
        complaints.append(f"No picture: {missing[0]}{more}")
    return found


def data_url(pixels: Image.Image, side: int = _SHOWN_SIDE) -> str:
    """Return the picture as a data URL: inside the page, so that no other visitor can fetch it by an address."""
    shown = pixels.copy()
    shown.thumbnail((side, side))
    if max(shown.size) < _LEAST_SIDE <= side:
        factor = -(-_LEAST_SIDE // max(shown.size))
        shown = shown.resize((shown.width * factor, shown.height * factor), Image.Resampling.NEAREST)
    file = io.BytesIO()
    shown.save(file, "PNG")
    return f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"
