"""Check of a download: each file that is missing, cut off or something else, each number that differs, by name."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from named_data import coco, read_lines, write_amber, write_mme, write_pope, write_repope, write_vqav2

from halp_probe.catalog.entries import BENCHMARKS, choose
from halp_probe.cli import main
from halp_probe.errors import InputError
from halp_probe.task_files.named_check import Check, check_download
from halp_probe.task_files.named_datasets import dataset
from halp_probe.task_files.named_reading import Reading

LFS = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n"
HTML = "<!DOCTYPE html>\n<html><body>404: Not Found</body></html>"
RANDOM = "output/coco/coco_pope_random.json"


def check(name: str, root: Path) -> Check:
    return check_download(choose(name), root, Reading())


def fact(found: Check, name: str) -> str:
    return next(value for key, value in found.facts if key == name)


def write_whole_pope(root: Path) -> None:
    """3,000 questions in each file, as published, on pictures of which one has no bytes of its own to be told by."""
    for part in ("random", "popular", "adversarial"):
        path = root / f"output/coco/coco_pope_{part}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(
            "\n".join(
                json.dumps({"question_id": n + 1, "image": coco(n // 6), "text": f"Is there {n}?", "label": "yes"})
                for n in range(3000)
            )
        )
    (root / "val2014").mkdir()
    for number in range(500):
        (root / "val2014" / coco(number)).write_bytes(b"%d" % number)


def test_a_whole_download_has_no_warning(tmp_path, capsys):
    write_whole_pope(tmp_path)
    found = check("pope", tmp_path)
    assert (found.warnings, found.errors) == ([], [])
    assert fact(found, RANDOM) == "3,000 of 3,000 rows" and fact(found, "questions") == "9,000 of 9,000"
    assert fact(found, "pictures").startswith("500 of 500")
    assert fact(found, "split") == f"sha256 {dataset('pope', tmp_path).split}"
    assert main(["datasets", "pope", "--data-root", str(tmp_path)]) == 0
    assert f"{tmp_path} is whole" in capsys.readouterr().out


def test_a_slice_is_never_whole(tmp_path, capsys):
    write_pope(tmp_path, scenes=2, parts=["random"], pictures=True)
    found = check("pope:random", tmp_path)
    rows = len(list(read_lines(tmp_path / RANDOM)))
    assert not found.errors
    assert any(f"has {rows} of 3,000 rows" in each for each in found.warnings)
    assert any(f"{rows} questions where the whole has 3,000" in each for each in found.warnings)
    assert main(["datasets", "pope:random", "--data-root", str(tmp_path)]) == 0
    out = capsys.readouterr().out
    assert "can be used, but differs from the whole" in out and "is whole" not in out


def test_parts_that_are_missing_are_a_warning_each(tmp_path):
    write_pope(tmp_path, parts=["random"], pictures=True)
    found = check("pope", tmp_path)
    assert not found.errors
    for part in ("popular", "adversarial"):
        assert any(f"coco_pope_{part}.json is missing; get it from https" in each for each in found.warnings)


@pytest.mark.parametrize("name", [each for each in BENCHMARKS if BENCHMARKS[each].files])
def test_an_empty_folder_lacks_every_file(tmp_path, name, capsys):
    found = check(name, tmp_path)
    chosen = choose(name)
    files = [each for each in chosen.benchmark.files if not each.part or each.part in chosen.parts]
    assert len(found.errors) == len(files)
    assert all(str(tmp_path / file.name) in line for file, line in zip(files, found.errors, strict=True))
    assert all(chosen.benchmark.where in line for line in found.errors)
    assert main(["datasets", name, "--data-root", str(tmp_path)]) == 2
    assert f"cannot be used as {name}" in capsys.readouterr().out
    with pytest.raises(InputError, match="lacks"):
        dataset(name, tmp_path)


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda path: path.write_text(HTML), "is a web page"),
        (lambda path: path.write_text(LFS), "Git LFS"),
        (lambda path: path.write_text(path.read_text()[:-20]), "is cut off"),
        (lambda path: path.write_text(""), ""),
        (lambda path: path.write_text('{"id": 1}'), "has no 'question_id', but 'id': not the file that POPE publishes"),
        (lambda path: path.write_text("[1, 2]"), "row 1 is a number"),
    ],
    ids=["web page", "LFS pointer", "cut off", "empty", "another file", "no rows"],
)
def test_a_broken_file_is_named(tmp_path, spoil, said):
    write_pope(tmp_path, parts=["random"], pictures=True)
    spoil(tmp_path / RANDOM)
    found = check("pope:random", tmp_path)
    assert found.errors and said in found.errors[0]
    assert "coco_pope_random.json" in found.errors[0] or said == ""
    with pytest.raises(InputError):
        dataset("pope:random", tmp_path)


def test_all_broken_files_are_told_at_once(tmp_path):
    write_pope(tmp_path, pictures=True)
    for part in ("random", "adversarial"):
        (tmp_path / f"output/coco/coco_pope_{part}.json").write_text(HTML)
    assert len(check("pope", tmp_path).errors) == 2


def test_an_answers_file_of_other_questions(tmp_path):
    write_amber(tmp_path)
    path = tmp_path / "data/annotations.json"
    path.write_text(json.dumps([{**row, "id": row["id"] + 5000} for row in json.loads(path.read_text())]))
    found = check("amber", tmp_path)
    assert "no question with a picture here" in found.errors[0]
    assert "query without an annotation of its id" in found.errors[0]


def test_a_value_of_another_kind_is_the_files_fault(tmp_path):
    write_vqav2(tmp_path)
    path = tmp_path / "v2_OpenEnded_mscoco_val2014_questions.json"
    content = json.loads(path.read_text())
    content["questions"][1]["image_id"] = "a picture"
    path.write_text(json.dumps(content))
    with pytest.raises(InputError, match=r"row 2: not as VQAv2 is published .*a picture"):
        dataset("vqav2", tmp_path)


def test_missing_and_empty_pictures_are_counted(tmp_path):
    write_pope(tmp_path, scenes=6, parts=["random"], pictures=True)
    (tmp_path / "val2014" / coco(1)).unlink()
    (tmp_path / "val2014" / coco(3)).write_bytes(b"")
    found = check("pope:random", tmp_path)
    warning = next(each for each in found.warnings if "pictures" in each)
    assert warning.startswith("2 of 6 pictures are missing or empty") and f"{coco(1)}, {coco(3)}" in warning


def test_without_any_picture_it_cannot_be_used(tmp_path, capsys):
    write_repope_root(tmp_path)
    assert main(["datasets", "repope:random", "--data-root", str(tmp_path)]) == 2
    out = capsys.readouterr().out
    assert "pass their folder as --images-dir" in out and "without truth" in out


def write_repope_root(root: Path) -> None:
    write_pope(root, parts=["random"])
    write_repope(root, part="random")


def test_pictures_elsewhere_are_found_by_a_flag(tmp_path, capsys):
    write_pope(tmp_path / "a", parts=["random"])
    write_pope(tmp_path / "b", parts=["random"], pictures=True)
    images = str(tmp_path / "b/val2014")
    assert main(["datasets", "pope:random", "--data-root", str(tmp_path / "a"), "--images-dir", images]) == 0
    assert f"3 of 3 in {images}" in capsys.readouterr().out


def test_the_same_file_at_two_places_is_refused(tmp_path):
    write_pope(tmp_path, parts=["random"])
    (tmp_path / "coco_pope_random.json").write_text("{}")
    found = check("pope:random", tmp_path)
    assert "may differ; keep one of them" in found.errors[0]


def test_counts_of_folders_of_texts(tmp_path):
    write_mme(tmp_path)
    found = check("mme:existence,artwork", tmp_path)
    assert fact(found, "MME_Benchmark_release_version/MME_Benchmark/existence") == "4 of 60 rows"
    assert any("has 2 of 400 rows" in each for each in found.warnings) and not found.errors


def test_a_picture_beside_no_text_and_a_text_without_a_picture(tmp_path):
    write_mme(tmp_path)
    (tmp_path / "MME_Benchmark_release_version/MME_Benchmark/existence/000000006040.jpg").unlink()
    warnings = check("mme:existence", tmp_path).warnings
    assert any("1 of 2 pictures are missing" in each and "000000006040.jpg" in each for each in warnings)


def test_the_command_shows_a_card_and_the_list(capsys):
    assert main(["datasets", "amber"]) == 0
    out = " ".join(capsys.readouterr().out.split())
    assert "gives the ground truth away" in out and "arXiv 2311.07397" in out
    assert main(["datasets"]) == 0
    assert "repope" in capsys.readouterr().out
    assert main(["datasets", "--data-root", "."]) == 2
    assert main(["datasets", "nothing"]) == 2
