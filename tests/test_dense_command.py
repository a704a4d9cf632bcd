"""`halp-probe dense-caption` from records to results, with a server that writes JSON and a model that does not."""

from __future__ import annotations

import base64
import csv
import io
import json

import pytest
from judge_server import completion, serving
from PIL import Image

from halp_probe import cli
from halp_probe.shapes.dataset import write_dataset
from halp_probe.shards.reader import open_shards
from halp_probe.task_files.drawing import FOUND, INVENTED
from halp_probe.tasks.dense_caption import SYSTEM

NAMES = {FOUND: "found", INVENTED: "invented"}
BOX = {"bbox_2d": [100, 100, 500, 500], "desc": "BBU设备/华为"}
LINE = {"line": [0, 0, 500, 500, 1000, 250], "line_points": 3, "desc": "光纤"}
SIZES = {
    "street.jpg": (640, 480),
    "front.png": (200, 100),
    "back.png": (100, 50),
    "cut.png": (300, 300),
    "bad.png": (8, 8),
}
RECORDS = [
    {
        "images": ["street.jpg"],
        "width": 640,
        "height": 480,
        "objects": [{"bbox_2d": [64, 48, 320, 240], "desc": "BBU 设备/华为"}],
    },
    {"id": "pair", "images": ["front.png", "back.png"], "objects": {"图片_1": {"object_1": BOX}, "图片_2": {}}},
    {"images": ["cut.png"]},
    {"images": ["missing.png"]},
    {"images": ["bad.png"], "objects": []},
]
REPLIES = {
    ((640, 480),): f"```json\n{json.dumps({'图片_1': {'object_1': BOX, 'object_2': LINE}}, ensure_ascii=False)}\n```",
    ((200, 100), (100, 50)): json.dumps({"图片_1": {"object_1": BOX}, "图片_2": {"object_1": BOX}}),
    ((300, 300),): '{"object_1": {"bbox_2d": [0, 0, 333.3, 1000], "desc": "door"}, "object_2": {"bbox_2d": [5, 5, 9',
    ((8, 8),): "I see nothing that I could name.",
}


def shown(asked):
    """The sizes of the images that a request shows."""
    content = asked.body["messages"][-1]["content"]
    urls = [part["image_url"]["url"] for part in content if part["type"] == "image_url"]
    return tuple(Image.open(io.BytesIO(base64.b64decode(url.partition(",")[2]))).size for url in urls)


def respond(asked, _n):
    sizes = shown(asked)
    return completion(REPLIES[sizes], "length" if sizes == ((300, 300),) else "stop")


@pytest.fixture
def folder(tmp_path):
    for name, size in SIZES.items():
        Image.new("RGB", size, (100, 120, 140)).save(tmp_path / name)
    (tmp_path / "site.jsonl").write_text("\n".join(json.dumps(record) for record in RECORDS), encoding="utf-8")
    return tmp_path


def dense(server, folder, *flags):
    given = ["--records", str(folder / "site.jsonl"), "--output-dir", str(folder / "out"), "--model", "any"]
    return cli.main(["dense-caption", *given, "--engine", "server", "--base-url", server.url, *flags])


def dates(folder):
    """Key -> when its reply came."""
    lines = (folder / "out" / "site_dense_caption.replies.jsonl").read_text(encoding="utf-8").splitlines()[1:]
    return {line["key"]: line["date"] for line in map(json.loads, lines) if "key" in line}


def expected(when):
    """The four lines that stand in the output, written by hand."""
    street = json.dumps(REPLIES[((640, 480),)], ensure_ascii=False)
    pair = json.dumps(REPLIES[((200, 100), (100, 50))])
    same_place = '[{"object": "图片_1/object_1", "true": "图片_1/object_1", "iou": 1.0}]'
    box = '{"bbox_2d": [100, 100, 500, 500], "desc": "BBU设备/华为"}'
    return [
        '{"key": "street.jpg", "images": ["street.jpg"], "widths": [640], "heights": [480], '
        '"objects": {"图片_1": '
        f'{{"object_1": {box}, '
        '"object_2": {"line": [0, 0, 500, 500, 1000, 250], "line_points": 3, "desc": "光纤"}}}, '
        '"objects_in_pixels": {"图片_1": {"object_1": {"bbox_2d": [64.0, 48.0, 320.0, 240.0], "desc": "BBU设备/华为"}, '
        '"object_2": {"line": [0.0, 0.0, 320.0, 240.0, 640.0, 120.0], "line_points": 3, "desc": "光纤"}}}, '
        f'"problems": [], "cut_off": false, "finished": true, "matches": {same_place}, '
        '"label": 1, "reason": "1 of 2 objects are not there at IoU 0.5 (first: 图片_1/object_2)", '
        f'"reply": {street}, "timestamp": "{when["street.jpg"]}"}}',
        '{"key": "pair", "images": ["front.png", "back.png"], "widths": [200, 100], "heights": [100, 50], '
        '"objects": '
        f'{{"图片_1": {{"object_1": {box}}}, "图片_2": {{"object_1": {box}}}}}, '
        '"objects_in_pixels": {"图片_1": {"object_1": '
        '{"bbox_2d": [20.0, 10.0, 100.0, 50.0], "desc": "BBU设备/华为"}}, "图片_2": {"object_1": '
        '{"bbox_2d": [10.0, 5.0, 50.0, 25.0], "desc": "BBU设备/华为"}}}, "problems": [], '
        f'"cut_off": false, "finished": true, "matches": {same_place}, "label": 1, '
        '"reason": "1 of 2 objects are not there at IoU 0.5 (first: 图片_2/object_1)", '
        f'"reply": {pair}, "timestamp": "{when["pair"]}"}}',
        '{"key": "cut.png", "images": ["cut.png"], "widths": [300], "heights": [300], '
        '"objects": {"图片_1": {"object_1": '
        '{"bbox_2d": [0, 0, 333.3, 1000], "desc": "door"}}}, "objects_in_pixels": {"图片_1": {"object_1": '
        '{"bbox_2d": [0.0, 0.0, 99.99, 300.0], "desc": "door"}}}, '
        '"problems": [{"place": "object_2", "reason": "cut off"}], '
        '"cut_off": true, "finished": false, "matches": null, "label": null, "reason": "no ground truth", '
        f'"reply": {json.dumps(REPLIES[((300, 300),)])}, "timestamp": "{when["cut.png"]}"}}',
        '{"key": "bad.png", "images": ["bad.png"], "widths": [8], "heights": [8], '
        '"objects": {"图片_1": {}}, '
        '"objects_in_pixels": {"图片_1": {}}, "problems": [{"place": "reply", "reason": "holds no JSON of objects"}], '
        '"cut_off": false, "finished": true, "matches": [], "label": null, '
        '"reason": "not all could be read (first problem: reply holds no JSON of objects)", '
        '"reply": "I see nothing that I could name.", '
        f'"timestamp": "{when["bad.png"]}"}}',
    ]


METRICS = {
    "records": 4,
    "replies": 4,
    "with_ground_truth": 3,
    "without_problem": 2,
    "cut_off": 1,
    "problems": 2,
    "other_units": 0,
    "iou": 0.5,
    "described": 4,
    "true": 2,
    "matched": 2,
    "precision": 0.5,
    "recall": 1.0,
    "f1": 0.6667,
    "mean_iou": 1.0,
    "same_description": 0.5,
    "description_similarity": 0.9706,  # 1 and 2 · 8 / (8 + 9)
    "same_place_and_description": {
        "described": 4,
        "true": 2,
        "matched": 1,
        "precision": 0.25,
        "recall": 0.5,
        "f1": 0.3333,
    },
    "recall_by_geometry": {"bbox_2d": 1.0, "quad": None, "line": None},
    "labels": {"right": 0, "hallucinated": 2, "unknown": 2},
    "failed": 1,
    "unfinished": 1,
    "model": "any",
}


def test_results_are_those_written_by_hand_byte_for_byte(folder, capsys):
    with serving(respond) as server:
        assert dense(server, folder, "--draw", str(folder / "drawn")) == 0
    out = folder / "out"
    lines = "".join(line + "\n" for line in expected(dates(folder)))
    assert (out / "site_dense_caption.jsonl").read_bytes() == lines.encode()
    metrics = json.dumps(METRICS, ensure_ascii=False, indent=2) + "\n"
    assert (out / "site_dense_caption_metrics.json").read_bytes() == metrics.encode()
    with (out / "site_dense_caption.failures.csv").open(encoding="utf-8", newline="") as file:
        assert [row["question_id"] for row in csv.DictReader(file)] == ["missing.png"]
    drawn = {path.name: Image.open(path).size for path in (folder / "drawn").iterdir()}
    assert {name: size[0] for name, size in drawn.items()} == {
        "0001_street.png": 640,
        "0002_1_front.png": 200,
        "0002_2_back.png": 100,
        "0003_cut.png": 300,
        "0004_bad.png": 8,
    }
    told = capsys.readouterr().out
    assert told.count("4 replies, 2 without a problem, 1 with JSON that was cut off\n") == 1
    assert "at IoU 0.5: precision 0.500, recall 1.000, f1 0.667 (2 of 4 objects are there)" in told
    assert "1 failed (first: 'missing.png'" in told


def test_objects_are_drawn_on_their_own_image_in_the_colour_of_what_they_are(folder):
    with serving(respond) as server:
        assert dense(server, folder, "--draw", str(folder / "drawn")) == 0
    colours = {}
    for path in (folder / "drawn").iterdir():
        picture = Image.open(path)
        height = SIZES[next(name for name in SIZES if name[:-4] in path.name)][1]
        colours[path.name] = {colour for _, colour in picture.crop((0, 0, picture.width, height)).getcolors(10_000)}
    painted = {name: {"found", "invented"} & {NAMES.get(each) for each in all_of} for name, all_of in colours.items()}
    assert painted == {
        "0001_street.png": {"found", "invented"},
        "0002_1_front.png": {"found"},
        "0002_2_back.png": {"invented"},
        "0003_cut.png": {"found"},
        "0004_bad.png": set(),
    }


def test_a_server_is_shown_all_images_in_order_and_the_system_message(folder):
    with serving(respond) as server:
        assert dense(server, folder) == 0
    pair = next(asked for asked in server.asked if len(shown(asked)) == 2)
    assert shown(pair) == ((200, 100), (100, 50))
    assert pair.body["messages"][0] == {"role": "system", "content": SYSTEM}
    assert pair.body["max_tokens"] == 2048


def test_one_s_own_messages_take_the_place_of_the_built_in_ones(folder):
    (folder / "prompt.txt").write_text("List all objects.\n")
    with serving(respond) as server:
        assert dense(server, folder, "--dense-prompt", str(folder / "prompt.txt"), "--system-prompt", "As JSON.") == 0
    for asked in server.asked:
        system, user = asked.body["messages"]
        assert system == {"role": "system", "content": "As JSON."}
        assert user["content"][-1] == {"type": "text", "text": "List all objects."}


def test_a_run_that_goes_on_asks_what_is_left_and_ends_the_same(folder):
    with serving(respond) as server:
        assert dense(server, folder) == 0
        log, output = (folder / "out" / f"site_dense_caption{end}" for end in (".replies.jsonl", ".jsonl"))
        whole, before = log.read_bytes().splitlines(keepends=True), output.read_bytes()
        for kept in range(1, len(whole) + 1):
            log.write_bytes(b"".join(whole[:kept]) + (whole[kept][:40] if kept < len(whole) else b""))
            output.unlink()
            asked = len(server.asked)
            assert dense(server, folder) == 0
            assert len(server.asked) - asked == len(whole) - kept
            lines = [json.loads(line) for line in output.read_text(encoding="utf-8").splitlines()]
            for line, first in zip(lines, map(json.loads, before.decode().splitlines()), strict=True):
                assert {**line, "timestamp": ""} == {**first, "timestamp": ""}
        assert output.read_bytes() == before  # nothing was asked anew


def test_another_iou_judges_anew_without_asking_again(folder):
    with serving(respond) as server:
        assert dense(server, folder) == 0
        asked = len(server.asked)
        assert dense(server, folder, "--iou", "1") == 0
        assert len(server.asked) == asked
    metrics = json.loads((folder / "out" / "site_dense_caption_metrics.json").read_text(encoding="utf-8"))
    assert (metrics["iou"], metrics["matched"]) == (1.0, 2)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    folder = tmp_path_factory.mktemp("shapes")
    write_dataset(folder, n_scenes=3, questions_a_scene=1, seed=5)
    return folder / "images"


def test_a_model_that_writes_no_json_gives_problems_and_no_objects(pictures, tmp_path):
    where = ["--records-images", str(pictures), "--output-dir", str(tmp_path), "--draw", str(tmp_path / "drawn")]
    assert cli.main(["dense-caption", *where, "--model", "shapes", "--max-tokens", "8"]) == 0
    lines = [json.loads(line) for line in (tmp_path / "images_dense_caption.jsonl").read_text().splitlines()]
    assert [line["key"] for line in lines] == sorted(path.name for path in pictures.iterdir())
    for line in lines:
        assert line["objects"] == {"图片_1": {}}
        assert [problem["reason"] for problem in line["problems"]] == ["holds no JSON of objects"]
    assert len(list((tmp_path / "drawn").iterdir())) == 3


def test_extraction_captures_the_same_prompts_and_labels_by_the_task(pictures, tmp_path):
    one, two, three = sorted(path.name for path in pictures.iterdir())
    box = {"bbox_2d": [0, 0, 50, 50], "desc": "square"}
    records = [{"images": [one], "objects": [box]}, {"id": "pair", "images": [two, three]}]
    (tmp_path / "r.json").write_text(json.dumps(records))
    given = ["--records", str(tmp_path / "r.json"), "--records-images", str(pictures), "--model", "shapes"]
    length = ["--max-new-tokens", "8"]
    assert cli.main(["dense-caption", *given, *length, "--output-dir", str(tmp_path)]) == 0
    lines = [json.loads(line) for line in (tmp_path / "r_dense_caption.jsonl").read_text().splitlines()]
    shards_in = tmp_path / "shards"
    assert cli.main(["extract", "--task", "dense-caption", *given, *length, "--output-dir", str(shards_in)]) == 0
    shards = open_shards(shards_in)
    said = dict(zip(shards.question_ids, shards.text("answer"), strict=True))
    assert said == {line["key"]: line["reply"] for line in lines} and set(said) == {one, "pair"}
    with (shards_in / "labels.csv").open(encoding="utf-8", newline="") as file:
        reasons = {row["question_id"]: row["reason"] for row in csv.DictReader(file)}
    assert reasons == {line["key"]: line["reason"] for line in lines}
    assert reasons["pair"] == "no ground truth" and "holds no JSON of objects" in reasons[one]


@pytest.mark.parametrize(
    ("flags", "reason"),
    [
        ([], "pass --records FILE, or --records-images FOLDER"),
        (["--records", "none.jsonl"], "cannot be read"),
        (["--records-images", "none"], "is not a folder"),
    ],
)
def test_what_is_missing_is_said_before_a_model_is_loaded(flags, reason, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert cli.main(["dense-caption", *flags, "--model", "no such model"]) == 2
    assert reason in capsys.readouterr().err


def test_an_empty_prompt_is_refused(pictures, tmp_path, capsys):
    (tmp_path / "prompt.txt").write_text(" \n")
    flags = ["--records-images", str(pictures), "--dense-prompt", str(tmp_path / "prompt.txt")]
    assert cli.main(["dense-caption", *flags, "--model", "no such model"]) == 2
    assert "is empty" in capsys.readouterr().err
