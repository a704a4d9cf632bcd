"""Records and folders become items; what cannot is named, and nothing is guessed."""

from __future__ import annotations

import json

import pytest
from PIL import ExifTags, Image

from halp_probe.engine.images import load_image, upright_size
from halp_probe.errors import InputError
from halp_probe.task_files.dense_records import read_folder, read_records
from halp_probe.tasks.dense_caption import default_prompt, true_objects
from halp_probe.tasks.geometry import to_pixels


@pytest.fixture
def folder(tmp_path):
    for name, size in {"a.png": (800, 600), "b.jpg": (64, 32), "c.png": (10, 10)}.items():
        Image.new("RGB", size, (90, 120, 150)).save(tmp_path / name)
    return tmp_path


def written(folder, *records, as_list=False):
    path = folder / "records.jsonl"
    texts = [record if isinstance(record, str) else json.dumps(record, ensure_ascii=False) for record in records]
    path.write_text("[" + ", ".join(texts) + "]" if as_list else "\n".join(texts) + "\n", encoding="utf-8")
    return path


def read(folder, *records, as_list=False, prompt=None):
    return read_records(written(folder, *records, as_list=as_list), None, prompt, 0.5)


PIXELS = [
    {"bbox_2d": [80, 60, 400, 300], "desc": "BBU设备/华为"},
    {"line": [0, 0, 800, 600, 799.5, 1], "desc": "光纤"},
    {"quad": [1, 2, 700, 3, 701, 500, 2, 499], "desc": "label"},
    {"line": [5, 5, 6, 7], "line_points": 2, "desc": "wire"},
]


@pytest.mark.parametrize("as_list", [False, True])
def test_objects_in_pixels_become_thousandths_and_back(folder, as_list):
    record = {"images": ["a.png"], "width": 800, "height": 600, "objects": PIXELS, "summary": "BBU设备×1"}
    found = read(folder, record, as_list=as_list)
    assert found.failures == () and found.images_dir == folder
    (item,) = found.items
    assert (item.key, item.images, item.widths, item.heights) == ("a.png", ("a.png",), (800,), (600,))
    objects = true_objects(item)
    assert objects[0].points == ((100, 100), (500, 500))
    back = [[value for point in to_pixels(one.points, 800, 600) for value in point] for one in objects]
    assert back == [next(given[kind] for kind in ("bbox_2d", "quad", "line") if kind in given) for given in PIXELS]
    assert [one.desc for one in objects] == [given["desc"] for given in PIXELS]


def test_grouped_objects_are_thousandths_already(folder):
    grouped = {"图片_1": {"object_1": {"bbox_2d": [0, 0, 1000, 500], "desc": "x"}}, "image_2": {}}
    (item,) = read(folder, {"id": 7, "images": ["a.png", "b.jpg"], "objects": grouped}).items
    assert (item.key, item.widths, item.heights) == ("7", (800, 64), (600, 32))
    assert json.loads(item.truth) == {"图片_1": grouped["图片_1"], "图片_2": {}}
    assert item.prompt == default_prompt(2)


def test_objects_of_several_images_say_which(folder):
    objects = [
        {"bbox_2d": [0, 0, 32, 32], "desc": "x", "image": 2},
        {"bbox_2d": [0, 0, 80, 60], "desc": "y", "image": 1},
    ]
    (item,) = read(folder, {"images": ["a.png", "b.jpg"], "objects": objects}).items
    assert [(one.image, one.index, one.points[1], one.desc) for one in true_objects(item)] == [
        (1, 1, (100, 100), "y"),
        (2, 1, (500, 1000), "x"),
    ]


def test_no_objects_are_not_the_same_as_none_known(folder):
    known, unknown = read(folder, {"images": ["a.png"], "objects": []}, {"images": ["b.jpg"]}).items
    assert (json.loads(known.truth), unknown.truth) == ({"图片_1": {}}, "")


def test_a_prompt_of_the_user_s_own(folder):
    (item,) = read(folder, {"images": ["a.png"]}, prompt="List all.").items
    assert item.prompt == "List all."


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        ({"images": []}, "`images` must be a list of file names"),
        ({"images": "a.png"}, "`images` must be a list"),
        ({"objects": []}, "`images` must be a list"),
        ([1], "is not a JSON object"),
        ({"images": ["a.png"], "id": True}, "`id` must be a text or a whole number"),
        ({"images": ["a.png"], "id": " "}, "`id` must be"),
        ({"images": ["missing.png"]}, "no file 'missing.png'"),
        ({"images": ["../a.png"]}, "leads out of"),
        ({"images": ["broken.png"]}, "is not an image that Pillow can read"),
        ({"images": ["a.png"], "width": 801, "height": 600}, "says 801 × 600 pixels, but a.png has 800 × 600"),
        ({"images": ["a.png"], "objects": "none"}, "`objects` must be a list"),
        ({"images": ["a.png"], "objects": [{"bbox_2d": [0, 0, 801, 9], "desc": "x"}]}, "object 1 bbox_2d holds 801"),
        ({"images": ["a.png"], "objects": [{"bbox_2d": [9, 0, 1, 9], "desc": "x"}]}, "object 1 bbox_2d has a corner"),
        ({"images": ["a.png"], "objects": [{"poly": [0, 0, 8, 9, 9, 0], "desc": "x"}]}, "has 'poly'"),
        ({"images": ["a.png"], "objects": [{"line": [0, 0, 8, 9], "line_points": 3, "desc": "x"}]}, "line_points 3"),
        ({"images": ["a.png"], "objects": [7]}, "object 1 has no description"),
        (
            {"images": ["a.png"], "objects": {"object_2": {"bbox_2d": [0, 0, 8, 9], "desc": "x"}}},
            "object_2 comes where",
        ),
        ({"images": ["a.png", "b.jpg"], "objects": [{"bbox_2d": [0, 0, 8, 9], "desc": "x"}]}, "must say its `image`"),
        (
            {"images": ["a.png"], "objects": [{"bbox_2d": [0, 0, 8, 9], "desc": "x", "image": 2}]},
            "must say its `image`",
        ),
    ],
)
def test_a_record_that_cannot_be_used_is_a_failure_and_the_others_stay(folder, record, reason):
    (folder / "broken.png").write_bytes(b"no picture")
    found = read(folder, {"images": ["b.jpg"]}, record, {"images": ["c.png"]})
    assert [item.key for item in found.items] == ["b.jpg", "c.png"]
    (failure,) = found.failures
    assert reason in failure.reason and "line 2" in failure.question_id + failure.reason


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "holds no records"),
        ("{", "line 1 is not usable JSON"),
        ('{"images": ["a.png"]}\n{"images": ["b.jpg"],}', "line 2 is not usable JSON"),
        ('{"images": ["a.png"], "images": ["b.jpg"]}', "a name occurs twice"),
        ('{"images": ["a.png"], "objects": [{"desc": "x", "desc": "y"}]}', "a name occurs twice among desc"),
        ('{"images": ["a.png"], "id": "\\ud800"}', "line 1 is not usable JSON"),
        ("[" * 100_000, "is not usable JSON"),
        ('{"images": ["a.png"]}\n\n{"images": ["a.png"]}', "line 1 and line 3 have the key 'a.png'.*`id`"),
        (
            '[{"images": ["a.png"], "id": 1}, {"images": ["b.jpg"], "id": "1"}]',
            "record 1 and record 2 have the key '1'",
        ),
    ],
)
def test_a_file_that_cannot_be_used_is_refused(folder, text, reason):
    with pytest.raises(InputError, match=reason):
        read(folder, text)


def test_missing_and_unreadable_files_are_refused(folder):
    with pytest.raises(InputError, match="cannot be read"):
        read_records(folder / "none.jsonl", None, None, 0.5)
    (folder / "latin.jsonl").write_bytes('{"images": ["é.png"]}'.encode("latin-1"))
    with pytest.raises(InputError, match="not UTF-8"):
        read_records(folder / "latin.jsonl", None, None, 0.5)
    with pytest.raises(InputError, match="is not a folder"):
        read_folder(folder / "none", None, 0.5)
    (folder / "empty").mkdir()
    with pytest.raises(InputError, match="holds no images"):
        read_folder(folder / "empty", None, 0.5)


def test_images_may_lie_elsewhere(folder, tmp_path_factory):
    path = tmp_path_factory.mktemp("records") / "r.json"
    path.write_text('[{"images": ["a.png"]}]')
    found = read_records(path, folder, None, 0.5)
    assert (found.images_dir, [item.widths for item in found.items]) == (folder, [(800,)])


def test_a_folder_s_images_come_in_natural_order(folder):
    for name in ("img10.PNG", "img2.png"):
        Image.new("RGB", (4, 6)).save(folder / name)
    (folder / "z.png").write_bytes(b"")
    (folder / "notes.txt").write_text("no image")
    (folder / ".hidden.png").write_bytes(b"x")
    found = read_folder(folder, None, 0.5)
    assert [item.key for item in found.items] == ["a.png", "b.jpg", "c.png", "img2.png", "img10.PNG"]
    assert [failure.question_id for failure in found.failures] == ["z.png"]
    assert {item.truth for item in found.items} == {""}


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", ["jpg", "png", "tif", "webp"])
def test_size_is_that_of_the_upright_picture(tmp_path, orientation, suffix):
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    path = tmp_path / f"p.{suffix}"
    Image.new("RGB", (30, 20)).save(path, exif=exif)
    assert upright_size(path) == load_image(path).pixels.size
