"""Extraction of tables that hold their pictures: to the bit that of our CSV and a folder of files."""

from __future__ import annotations

import base64
import csv
import hashlib
import json
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import openpyxl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from loopback import Internet, loopback, reply

import halp_probe
from halp_probe.cli import main, run_script
from halp_probe.shapes.dataset import write_dataset
from halp_probe.shards.failures import read_failures
from halp_probe.shards.reader import Shards, open_shards
from halp_probe.task_files import table as table_module
from halp_probe.task_files.picture_urls import fetch_pictures
from halp_probe.task_files.table_pictures import collect_pictures
from halp_probe.web.fetch import fetch_image

MODEL: dict[str, Any] = {"model": "shapes", "max_new_tokens": 4, "batch_tokens": 300}

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    write_dataset(folder, n_scenes=4, questions_a_scene=3, seed=700)
    return folder


@pytest.fixture(scope="module")
def rows(data: Path) -> list[dict[str, str]]:
    with (data / "vqa.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def extract(table: Path, output: Path, *more: str) -> int:
    fixed = ("--model", "shapes", "--output-dir", str(output), "--max-new-tokens", "4", "--batch-tokens", "300")
    return run_script("extract", None, ["--vqa-dataset", str(table), *fixed, *more])


@pytest.fixture(scope="module")
def expected(data: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[object]]:
    output = tmp_path_factory.mktemp("expected")
    assert extract(data / "vqa.csv", output, "--images-dir", str(data / "images")) == 0
    return everything(open_shards(output))


def everything(shards: Shards) -> dict[str, list[object]]:
    """All contents by column, but for the pictures' names; vectors as bytes: equal means equal to the last bit."""
    found: dict[str, list[object]] = {name: list(shards.text(name)) for name in shards.text_columns}
    del found["image_id"]
    found |= {name: [value.tobytes() for value in shards.numbers(name)] for name in shards.number_columns}
    return found | {name: [each.tobytes() for each in shards.vectors(name)] for name in shards.representations}


def picture(data: Path, row: dict[str, str]) -> bytes:
    return (data / "images" / row["image_id"]).read_bytes()


def without(row: dict[str, str], **changes: object) -> dict[str, object]:
    return {name: text for name, text in row.items() if name != "image_id"} | changes


def write_parquet(data: Path, rows: Sequence[dict[str, str]], path: Path) -> Sequence[str]:
    """As `datasets` writes a data set with a column of images, under names of another's."""
    renamed = [without(row, image={"bytes": picture(data, row), "path": row["image_id"]}) for row in rows]
    renamed = [{{"question": "text", "answer": "label"}.get(k, k): v for k, v in row.items()} for row in renamed]
    pq.write_table(pa.Table.from_pylist(renamed), path, row_group_size=5)
    return ("--column", "question=text", "--column", "answer=label")


def write_tsv(data: Path, rows: Sequence[dict[str, str]], path: Path) -> Sequence[str]:
    """As VLMEvalKit has its benchmarks: base64 in a column `image`, ids in `index`."""
    with path.open("w", newline="") as file:
        encoded = [without(row, image=base64.b64encode(picture(data, row)).decode()) for row in rows]
        renamed = [{"index" if name == "question_id" else name: v for name, v in row.items()} for row in encoded]
        writer = csv.DictWriter(file, list(renamed[0]), delimiter="\t")
        writer.writeheader()
        writer.writerows(renamed)
    return ("--column", "question_id=index")


def write_lines(data: Path, rows: Sequence[dict[str, str]], path: Path) -> Sequence[str]:
    """Nested, the picture as a data URL."""
    with path.open("w") as file:
        for row in rows:
            url = f"data:image/png;base64,{base64.b64encode(picture(data, row)).decode()}"
            print(json.dumps(without(row, turns=[{"text": row["question"]}], media=[url], question=None)), file=file)
    return ("--column", "question=turns.0.text", "--column", "image_id=media.0")


def write_excel(data: Path, rows: Sequence[dict[str, str]], path: Path) -> Sequence[str]:
    book = openpyxl.Workbook()
    for row in [list(rows[0]), *(list(row.values()) for row in rows)]:
        book.active.append(row)
    book.save(path)
    return ("--images-dir", str(data / "images"))


@pytest.mark.parametrize("name", ["a.parquet", "a.tsv", "a.jsonl", "a.xlsx"])
def test_every_form_is_extracted_to_the_bit_alike(
    data: Path,
    rows: list[dict[str, str]],
    expected: dict[str, list[object]],
    tmp_path: Path,
    name: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    write = {"a.parquet": write_parquet, "a.tsv": write_tsv, "a.jsonl": write_lines, "a.xlsx": write_excel}[name]
    flags = write(data, rows, tmp_path / name)
    output = tmp_path / "out"
    assert extract(tmp_path / name, output, *flags) == 0
    shards = open_shards(output)
    found = everything(shards)
    extra = {"a.jsonl": {"turns", "media"}}.get(name, set()) - {"media"}
    assert {key: values for key, values in found.items() if key not in extra} == expected
    record = json.loads((output / "run.json").read_text())
    assert record["columns"] == (dict(flag.split("=") for flag in flags[1::2]) if flags[0] == "--column" else None)
    if name != "a.xlsx":
        names = {f"{hashlib.sha256(picture(data, row)).hexdigest()}.png" for row in rows}
        assert set(shards.text("image_id")) == names == {path.name for path in (output / "pictures").iterdir()}
        assert record["images_dir"] == str(output / "pictures")
        assert main(["audit", "--shards", str(output), "--images-dir", str(output / "pictures")]) == 0
    capsys.readouterr()
    assert extract(tmp_path / name, output, *flags) == 0
    assert "0 questions captured, 12 were there already" in capsys.readouterr().out


def test_the_library_takes_the_same(data: Path, rows: list[dict[str, str]], expected: object, tmp_path: Path) -> None:
    write_parquet(data, rows, tmp_path / "a.parquet")
    names = {"question": "text", "answer": "label"}
    done = halp_probe.extract(
        tmp_path / "a.parquet",
        None,
        tmp_path / "out",
        columns=names,
        model="shapes",
        max_new_tokens=4,
        batch_tokens=300,
    )
    assert everything(done.shards) == expected
    memory = [without(row, image=picture(data, row)) for row in rows]
    done = halp_probe.extract(memory, None, tmp_path / "two", pictures_dir=tmp_path / "p", **MODEL)
    assert everything(done.shards) == expected and len(list((tmp_path / "p").iterdir())) == 4


def test_a_url_that_fails_is_a_failure_and_tried_again(
    data: Path, rows: list[dict[str, str]], expected: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a.jsonl").write_text(
        "\n".join(json.dumps({**row, "image_id": f"http://pictures.example.org/{row['image_id']}"}) for row in rows)
    )
    broken = rows[0]["image_id"]
    answers = {row["image_id"]: reply(picture(data, row)) for row in rows}
    with loopback(lambda head: [answers[head.split()[1][1:]]]) as server:
        net = Internet()
        net.put("pictures.example.org", server)
        fetch = partial(fetch_pictures, fetch=partial(fetch_image, network=net.network()))
        monkeypatch.setattr(table_module, "collect_pictures", partial(collect_pictures, fetch=fetch))
        output = tmp_path / "out"
        assert extract(tmp_path / "a.jsonl", output) == 1  # nothing may be fetched
        failures = read_failures(output)
        assert len(failures) == len(rows) and {failure.stage for failure in failures} == {"image"}
        assert "pass `allow_urls=True` to fetch" in failures[0].reason and not server.heads
        answers[broken] = reply(b"", status="500 Error")
        assert extract(tmp_path / "a.jsonl", output, "--allow-urls") == 0
        assert {failure.question_id for failure in read_failures(output)} == {
            row["question_id"] for row in rows if row["image_id"] == broken
        }
        answers[broken] = reply(picture(data, rows[0]))
        assert extract(tmp_path / "a.jsonl", output, "--allow-urls") == 0
        assert not read_failures(output) and len(server.heads) == 5  # four pictures, one of them twice
    found = everything(open_shards(output))
    ids = list(open_shards(output).question_ids)
    assert sorted(ids) == sorted(row["question_id"] for row in rows) and set(found) == set(expected)  # type: ignore[call-overload]


def test_a_picture_that_cannot_be_decoded_costs_its_rows(
    data: Path, rows: list[dict[str, str]], tmp_path: Path
) -> None:
    cut = {rows[0]["image_id"]: picture(data, rows[0])[:300], rows[3]["image_id"]: b"none"}
    table = [without(row, image=cut.get(row["image_id"], picture(data, row))) for row in rows]
    done = halp_probe.extract(table, None, tmp_path / "out", model="shapes", answers=False)
    assert {failure.stage for failure in done.failures} == {"image"} and len(done.failures) == 6
    assert done.captured == len(rows) - 6


def test_other_commands_take_such_tables(
    data: Path, rows: list[dict[str, str]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = write_parquet(data, rows, tmp_path / "a.parquet")
    table = ("--vqa-dataset", str(tmp_path / "a.parquet"), *flags, "--max-new-tokens", "4")
    assert main(["vqa", *table, "--model", "shapes", "--output-dir", str(tmp_path / "vqa")]) == 0
    assert len(list((tmp_path / "vqa" / "pictures").iterdir())) == 4
    probe = min(Path(halp_probe.__file__).parent.glob("shapes/probes/*.safetensors"))
    assert main(["score", *table, "--probe", str(probe), "--output-dir", str(tmp_path / "score")]) == 0
    assert len((tmp_path / "score" / "risks.csv").read_text().splitlines()) == len(rows) + 1
    both = ("--model", "shapes", "--model", "shapes", "--output-dir", str(tmp_path / "both"))
    assert main(["compare", *table, *both, "--bootstrap", "10"]) == 0
    assert sorted(path.name for path in (tmp_path / "both").iterdir() if path.is_dir()) == ["a", "b", "pictures"]
    capsys.readouterr()
    assert main(["vqa", *table[:2], "--column", "question=tekst", "--model", "shapes"]) == 2
    assert "has no column 'tekst', which --column names for question; it has" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["vqa", *table[:2], "--column", "question"])
    assert "'question' is not NAME=THEIRS, such as question=text" in capsys.readouterr().err
