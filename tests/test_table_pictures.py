"""Pictures in tables: bytes, base64 and URLs become files of one folder, and all else is as with named files."""

from __future__ import annotations

import base64
import hashlib
import io
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from loopback import Internet, loopback, redirect, reply
from PIL import Image

from halp_probe.datasets import read_table
from halp_probe.errors import InputError
from halp_probe.records import Sample
from halp_probe.tables.picture_folder import PictureFolder
from halp_probe.tables.pictures import PictureError, find_picture, holds_picture
from halp_probe.task_files import table as table_module
from halp_probe.task_files.picture_urls import fetch_pictures
from halp_probe.task_files.table import TableOptions, read_vqa
from halp_probe.task_files.table_pictures import collect_pictures
from halp_probe.tasks.task import TaskInput
from halp_probe.web.fetch import fetch_image


def picture(shade: int = 0, form: str = "PNG", side: int = 24) -> bytes:
    """Noise, so that no format makes it short."""
    pixels = np.random.default_rng(shade).integers(0, 256, (side, side, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, form)
    return file.getvalue()


def row(number: int, image: object, name: str = "image_id") -> dict[str, object]:
    return {"question_id": f"q{number}", name: image, "question": "Why?", "answer": "x"}


def kept_as(data: bytes, ending: str = ".png") -> str:
    return hashlib.sha256(data).hexdigest() + ending


BASE64 = base64.b64encode(picture()).decode()
LINES = "\n".join(BASE64[start : start + 76] for start in range(0, len(BASE64), 76))


@pytest.mark.parametrize(
    "value",
    [
        picture(),
        {"bytes": picture(), "path": "a.png"},
        {"bytes": BASE64, "path": None},
        [{"bytes": picture(), "path": None}],
        BASE64,
        LINES,
        f"data:image/png;base64,{BASE64}",
    ],
)
def test_cells_that_hold_a_picture(value: object) -> None:
    assert holds_picture(value) and find_picture(value) == picture()


@pytest.mark.parametrize(
    ("value", "name"),
    [
        ("a.png", "a.png"),
        (17, "17"),
        ({"bytes": None, "path": "a.png"}, "a.png"),
        ({"url": "https://example.org/a.png"}, "https://example.org/a.png"),
        (["a.png"], "a.png"),
        ("e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855", None),  # the name of a file without ending
        ("Qk/" + "a" * 60, None),
        (f"/9j/{'a' * 150}.jpg", None),
        (None, ""),
        ([], ""),
    ],
)
def test_cells_that_name_a_picture(value: object, name: str | None) -> None:
    assert not holds_picture(value) and find_picture(value) == (value if name is None else name)


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (BASE64[:-7], "no whole base64"),
        ("data:image/svg+xml,<svg/>", "a data URL that is not base64"),
        ("é" * 5000, "no whole base64"),
        ({"bytes": None}, "an object without bytes, path and url"),
        ([b"a", b"b"], "a list of 2"),
    ],
)
def test_cells_that_hold_none(value: object, reason: str) -> None:
    with pytest.raises(PictureError, match=f"its image is {reason}"):
        find_picture(value)


@pytest.mark.parametrize(
    ("form", "ending"),
    [("PNG", ".png"), ("JPEG", ".jpg"), ("WEBP", ".webp"), ("GIF", ".gif"), ("TIFF", ".tif"), ("BMP", ".bmp")],
)
def test_base64_of_every_format_is_told_from_a_name(tmp_path: Path, form: str, ending: str) -> None:
    text = base64.b64encode(picture(form=form)).decode()
    assert holds_picture(text)
    folder = PictureFolder(tmp_path)
    name = folder.keep(find_picture(text))  # type: ignore[arg-type]
    assert name == kept_as(picture(form=form), ending) and (tmp_path / name).read_bytes() == picture(form=form)


def test_equal_pictures_are_one_file_that_is_written_once(tmp_path: Path) -> None:
    rows = [row(0, picture(0)), row(1, picture(1)), row(2, BASE64)]
    read = read_table(rows, keep=PictureFolder(tmp_path).keep)
    assert [sample.image_id for sample in read.samples] == [kept_as(picture(k)) for k in (0, 1, 0)]
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted({sample.image_id for sample in read.samples})
    before = {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    again = read_table(rows, keep=PictureFolder(tmp_path).keep)
    assert again == read and {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()} == before


def test_a_picture_goes_before_the_name_that_it_had(tmp_path: Path) -> None:
    for name in ("image_id", "image_name"):
        given = {**row(0, "a.png", name), "image": {"bytes": picture(), "path": "b.png"}, "thumb": picture(1), "n": 1}
        (sample,) = read_table([given], keep=PictureFolder(tmp_path).keep).samples
        assert sample.image_id == kept_as(picture()) and sample.extra == {"n": "1", "image_name": "a.png"}
        (sample,) = read_table([given], columns={"image_id": name}, keep=PictureFolder(tmp_path).keep).samples
        assert sample.image_id == "a.png" and sample.extra == {"n": "1"}
        (sample,) = read_table([given], columns={"image_id": "thumb"}, keep=PictureFolder(tmp_path).keep).samples
        assert sample.image_id == kept_as(picture(1))
    (sample,) = read_table([{**row(0, "a.png"), "image": "a kind of picture"}]).samples
    assert (sample.image_id, sample.extra["image"]) == ("a.png", "a kind of picture")
    (sample,) = read_table([row(0, "a.png", "image")]).samples
    assert (sample.image_id, dict(sample.extra)) == ("a.png", {})


def test_long_texts_are_no_pictures() -> None:
    """Nor are those that begin as a URL of data does."""
    texts = {"answer": "yes, it is. " * 1000, "a": "x" * 5000, "b": "data: none, base64,", "c": "/9j/ " * 30 + "é"}
    (sample,) = read_table([{**row(0, "a.png"), **texts}]).samples
    assert {"answer": sample.answer, **sample.extra} == texts


def test_a_column_of_pictures_is_none_of_texts_in_other_rows(tmp_path: Path) -> None:
    rows = [{**row(k, "a.png"), "thumb": thumb, "n": k} for k, thumb in enumerate((None, picture(), "x"))]
    rows[1]["image"] = picture()
    read = read_table(rows, keep=PictureFolder(tmp_path).keep)
    expected = [{"n": "0", "image_name": ""}, {"n": "1", "image_name": "a.png"}, {"n": "2", "image_name": ""}]
    assert [dict(sample.extra) for sample in read.samples] == expected


def test_what_is_no_picture_costs_its_row(tmp_path: Path) -> None:
    rows = [row(0, b"nothing"), row(1, picture()), row(2, BASE64[:-7]), row(3, b""), row(4, picture()[:20])]
    read = read_table(rows, keep=PictureFolder(tmp_path).keep)
    assert [sample.question_id for sample in read.samples] == ["q1"]
    assert [(f.question_id, f.stage) for f in read.failures] == [(q, "image") for q in ("q0", "q2", "q3", "q4")]
    assert read.failures[0].reason == "row 1: its image has 7 bytes, which are no image that Pillow can read"
    (failure,) = read_table([row(0, picture())]).failures
    assert failure.reason == "row 1: its image is in the table; pass `pictures_dir`, a folder in which to keep it"


@pytest.fixture
def files(tmp_path: Path) -> Path:
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "a.png").write_bytes(picture(7))
    return tmp_path / "images"


def collect(
    rows: list[dict[str, object]], tmp_path: Path, images: Path | None, **options: object
) -> TaskInput[Sample, str]:
    return read_vqa(rows, images, TableOptions(pictures_dir=tmp_path / "kept", **options))  # type: ignore[arg-type]


def test_named_files_lie_beside_pictures_of_the_table(tmp_path: Path, files: Path) -> None:
    only = collect([row(0, "a.png"), row(1, "gone.png")], tmp_path, files)
    assert only.images_dir == files and [item.image_id for item in only.items] == ["a.png", "gone.png"]
    assert not (tmp_path / "kept").exists()
    mixed = [row(0, "a.png"), row(1, picture(7)), row(2, "gone.png"), row(3, "../a.png"), row(4, "a.png")]
    found = collect(mixed, tmp_path, files)
    assert found.images_dir == tmp_path / "kept"
    assert [item.image_id for item in found.items] == [kept_as(picture(7))] * 3
    assert [(f.question_id, f.stage) for f in found.failures] == [("q2", "image"), ("q3", "image")]
    assert "no file 'gone.png'" in found.failures[0].reason and "leads out of" in found.failures[1].reason
    none = collect(mixed, tmp_path, None)
    assert [item.question_id for item in none.items] == ["q1"]
    assert "is the file 'a.png', and no `images_dir` is given" in none.failures[0].reason


def test_names_need_a_folder(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="`images_dir` FOLDER is needed: the table names files"):
        collect([row(0, "a.png")], tmp_path, None)
    with pytest.raises(InputError, match="nowhere is not a folder"):
        collect([row(0, picture())], tmp_path, tmp_path / "nowhere")
    with pytest.raises(InputError, match="`vqa_dataset` FILE is needed"):
        read_vqa(None, tmp_path, TableOptions(pictures_dir=tmp_path))


def urls_through(monkeypatch: pytest.MonkeyPatch, net: Internet) -> None:
    fetch = partial(fetch_pictures, fetch=partial(fetch_image, network=net.network()))
    monkeypatch.setattr(table_module, "collect_pictures", partial(collect_pictures, fetch=fetch))


def test_urls_are_fetched_only_where_that_is_allowed(
    tmp_path: Path, files: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [row(k, f"http://pictures.example.org/{k % 2}.png") for k in range(4)] + [row(4, "a.png")]
    with loopback(lambda head: [reply(picture(int(head.split("/")[1][0])))]) as server:
        net = Internet()
        net.put("pictures.example.org", server)
        urls_through(monkeypatch, net)
        refused = collect(rows, tmp_path, files)
        assert [item.question_id for item in refused.items] == ["q4"] and server.heads == []
        assert {f.stage for f in refused.failures} == {"image"} and len(refused.failures) == 4
        reason = "its image is the URL http://pictures.example.org/0.png; pass `allow_urls=True` to fetch such images"
        assert refused.failures[0].reason == reason
        found = collect(rows, tmp_path, files, allow_urls=True)
        assert [item.image_id for item in found.items] == [kept_as(picture(k)) for k in (0, 1, 0, 1, 7)]
        assert refused.items[0] == found.items[-1]  # so that the run goes on where it was
        assert len(server.heads) == 2  # each once
        assert collect(rows, tmp_path, files, allow_urls=True) == found and len(server.heads) == 2
    (tmp_path / "kept" / kept_as(picture(0))).unlink()  # gone from the cache: asked for again, in vain
    again = collect(rows, tmp_path, files, allow_urls=True)
    assert [item.question_id for item in again.items] == ["q1", "q3", "q4"]


def test_what_a_url_lacks_is_named_and_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    answers: dict[str, bytes] = {
        "good": reply(picture()),
        "gone": reply(b"", status="404 Not Found"),
        "page": reply(b"<html>", kind="text/html"),
        "lies": reply(b"no picture"),
        "away": redirect("http://10.0.0.1/a.png"),
        "ppm": reply(b"P6 1 1 255\n\0\0\0"),
        "late": reply(b"", status="503 Busy"),
    }
    rows = [row(k, f"http://pictures{k}.example.org/{name}") for k, name in enumerate(answers)]
    with loopback(lambda head: [answers[head.split()[1][1:]]]) as server:
        net = Internet()
        for k in range(len(answers)):
            net.put(f"pictures{k}.example.org", server)
        urls_through(monkeypatch, net)
        found = collect(rows, tmp_path, None, allow_urls=True)
        assert [item.question_id for item in found.items] == ["q0"]
        reasons = [failure.reason for failure in found.failures]
        for part, reason in zip(
            ("status 404", "'text/html'", "are no image", "public internet", "are no image of", "503"),
            reasons,
            strict=True,
        ):
            assert part in reason and reason.startswith("its image http://pictures")
        answers["late"] = reply(picture(1))
        later = collect(rows, tmp_path, None, allow_urls=True)
        assert [item.question_id for item in later.items] == ["q0", "q6"]


def test_a_host_that_only_fails_is_not_asked_for_ever(tmp_path: Path) -> None:
    asked = []

    def fetch(url: str) -> bytes:
        asked.append(url)
        if "dead" in url:
            raise InputError("no")
        return picture()

    urls = [f"http://dead.example.org/{k}" for k in range(100)] + ["http://live.example.org/a"]
    found = fetch_pictures(urls, PictureFolder(tmp_path), fetch)
    assert found[urls[-1]] == kept_as(picture())
    assert len(asked) < 20 and "failed 5 times in a row" in str(found[urls[99]])


def test_an_error_on_disk_is_none_of_a_row(tmp_path: Path) -> None:
    (tmp_path / "kept").write_text("a file")
    with pytest.raises(InputError, match="cannot be written"):
        collect([row(0, picture())], tmp_path, None)
    with pytest.raises(InputError, match="cannot be written"):
        fetch_pictures(["http://a.example.org/a"], PictureFolder(tmp_path / "kept"), lambda url: picture())
